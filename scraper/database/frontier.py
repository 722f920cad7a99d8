"""urls: what is to become of every URL. add, claim, release."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, or_, select, update

from scraper.database.connection import Db
from scraper.database.models import hosts, pages, runs, urls
from scraper.records import Claim, Link
from scraper.states import RunState, UrlState
from scraper.urls import fingerprint, host_of

# A URL on whose page the scraper died so often is not visited again.
POISON = 2


def add(
    db: Db,
    connection: Connection,
    run_id: int,
    source: str,
    links: Sequence[Link],
    depth: int,
    room: int,
    *,
    unknown_only: bool = False,
) -> tuple[int, set[str]]:
    """Enter URLs that this run has not seen. room: how many at the most. unknown_only: only what no run has seen.

    Returns how many were new, and their hosts.
    """
    rows = []
    for link in links:
        try:
            host = host_of(link.url)
        except ValueError:
            continue
        rows.append(
            {
                "source": source,
                "fingerprint": fingerprint(link.url),
                "url": link.url,
                "host": host,
                "kind": link.kind,
                "depth": depth,
                "run_id": run_id,
                "state": UrlState.QUEUED,
                "attempts": 0,
            }
        )
    if not rows or room <= 0:
        return 0, set()
    if len(rows) > room:
        rows = _unseen(connection, run_id, source, rows)[:room]
        if not rows:
            return 0, set()
    statement = db.upsert(urls)
    if unknown_only:
        statement = statement.on_conflict_do_nothing(index_elements=["source", "fingerprint"])
    else:
        statement = _taken_over(statement)
    result = connection.execute(statement, rows, execution_options={"preserve_rowcount": True})
    return max(result.rowcount, 0), {str(row["host"]) for row in rows}


def _taken_over(statement: Any) -> Any:
    """URLs of earlier runs belong to this one now, save those that are set aside."""
    return statement.on_conflict_do_update(
        index_elements=["source", "fingerprint"],
        set_={
            "run_id": statement.excluded.run_id,
            "depth": statement.excluded.depth,
            "kind": statement.excluded.kind,
            "state": UrlState.QUEUED,
            "attempts": 0,
            "not_before": None,
            "claimed_by": None,
        },
        where=(urls.c.run_id < statement.excluded.run_id) & (urls.c.crashes < POISON),
    )


def again(connection: Connection, ids: Sequence[int], run_id: int) -> None:
    """Have URLs visited again as part of a run, as if nothing had ever gone wrong with them."""
    open_runs = select(runs.c.id).where(runs.c.state.in_([RunState.QUEUED, RunState.RUNNING]))
    waiting = urls.c.state.in_([UrlState.QUEUED, UrlState.CLAIMED]) & urls.c.run_id.in_(open_runs)
    connection.execute(
        update(urls)
        .where(urls.c.id.in_(ids), ~waiting)
        .values(run_id=run_id, state=UrlState.QUEUED, attempts=0, crashes=0, not_before=None, claimed_by=None)
    )
    connection.execute(  # what waits for its next try need not wait any longer
        update(urls).where(urls.c.id.in_(ids), urls.c.state == UrlState.QUEUED).values(not_before=None)
    )


def _unseen(connection: Connection, run_id: int, source: str, rows: list[dict[str, object]]) -> list[dict[str, object]]:
    prints = [row["fingerprint"] for row in rows]
    seen: set[bytes] = set()
    for start in range(0, len(prints), 500):
        found = connection.scalars(
            select(urls.c.fingerprint).where(
                urls.c.source == source, urls.c.run_id == run_id, urls.c.fingerprint.in_(prints[start : start + 500])
            )
        )
        seen.update(found)
    return list({row["fingerprint"]: row for row in rows if row["fingerprint"] not in seen}.values())


def hosts_due(connection: Connection, at: datetime, only: Sequence[int] | None) -> list[str]:
    """Return the hosts that have URLs to visit now. only: the runs that count, None: all."""
    active = select(runs.c.id).where(runs.c.state == RunState.RUNNING)
    if only is not None:
        active = active.where(runs.c.id.in_(only))
    return list(
        connection.scalars(
            select(urls.c.host)
            .where(
                urls.c.state == UrlState.QUEUED,
                urls.c.run_id.in_(active),
                or_(urls.c.not_before.is_(None), urls.c.not_before <= at),
            )
            .distinct()
        )
    )


def next_retry(connection: Connection) -> datetime | None:
    """Return when the next URL that waits may be tried again."""
    found: datetime | None = connection.scalar(
        select(func.min(urls.c.not_before))
        .where(urls.c.state == UrlState.QUEUED, urls.c.not_before.is_not(None))
        .where(urls.c.run_id.in_(select(runs.c.id).where(runs.c.state == RunState.RUNNING)))
    )
    return found


def claim(
    db: Db, connection: Connection, host: str, owner: str, limit: int, at: datetime, only: Sequence[int] | None
) -> list[Claim]:
    """Take URLs of a host, shallow ones first, never more than a run may still visit."""
    budgets = _budgets(connection, only)
    if not budgets:
        return []
    candidates = connection.execute(
        select(urls.c.id, urls.c.run_id, urls.c.kind)
        .where(
            urls.c.state == UrlState.QUEUED,
            urls.c.host == host,
            urls.c.run_id.in_(budgets),
            or_(urls.c.not_before.is_(None), urls.c.not_before <= at),
        )
        .order_by(urls.c.depth, urls.c.id)
        .limit(limit)
    ).all()
    taken = []
    for row in candidates:
        if row.kind == "page":
            if budgets[row.run_id] <= 0:
                continue
            budgets[row.run_id] -= 1
        taken.append(row.id)
    if not taken:
        return []
    connection.execute(update(urls).where(urls.c.id.in_(taken)).values(state=UrlState.CLAIMED, claimed_by=owner))
    rows = connection.execute(
        select(urls, pages.c.headers)
        .outerjoin(pages, (pages.c.source == urls.c.source) & (pages.c.fingerprint == urls.c.fingerprint))
        .where(urls.c.id.in_(taken))
        .order_by(urls.c.depth, urls.c.id)
    ).all()
    return [
        Claim(
            url_id=row.id,
            run_id=row.run_id,
            source=row.source,
            url=row.url,
            host=row.host,
            depth=row.depth,
            kind=row.kind,
            attempts=row.attempts,
            etag=(row.headers or {}).get("etag"),
            last_modified=(row.headers or {}).get("last-modified"),
        )
        for row in rows
    ]


def _budgets(connection: Connection, only: Sequence[int] | None) -> dict[int, int]:
    claimed = (
        select(urls.c.run_id, func.count().label("n"))
        .where(urls.c.state == UrlState.CLAIMED, urls.c.kind == "page")
        .group_by(urls.c.run_id)
        .subquery()
    )
    statement = (
        select(runs.c.id, runs.c.max_pages - runs.c.pages - func.coalesce(claimed.c.n, 0))
        .outerjoin(claimed, claimed.c.run_id == runs.c.id)
        .where(runs.c.state == RunState.RUNNING)
    )
    if only is not None:
        statement = statement.where(runs.c.id.in_(only))
    return {run_id: left for run_id, left in connection.execute(statement).all()}


def release(connection: Connection, owner: str, ids: Sequence[int] | None = None) -> None:
    """Give back URLs that were claimed and not visited; ids None: all of this owner."""
    statement = update(urls).where(urls.c.state == UrlState.CLAIMED, urls.c.claimed_by == owner)
    if ids is not None:
        statement = statement.where(urls.c.id.in_(ids))
    connection.execute(statement.values(state=UrlState.QUEUED, claimed_by=None))


def release_lost(connection: Connection, at: datetime) -> None:
    """Give back what was claimed by workers that hold no lease any more."""
    living = select(hosts.c.lease_owner).where(hosts.c.lease_until > at, hosts.c.lease_owner.is_not(None))
    connection.execute(
        update(urls)
        .where(urls.c.state == UrlState.CLAIMED, urls.c.claimed_by.not_in(living))
        .values(state=UrlState.QUEUED, claimed_by=None)
    )


def strangers(connection: Connection, instance: str) -> list[str]:
    """Return the owners of claims and leases that belong to another instance than this one."""
    claimed = select(urls.c.claimed_by).where(urls.c.state == UrlState.CLAIMED).distinct()
    leased = select(hosts.c.lease_owner).where(hosts.c.lease_owner.is_not(None)).distinct()
    owners = {*connection.scalars(claimed), *connection.scalars(leased)} - {None}
    return sorted(owner for owner in owners if not owner.endswith(f"@{instance}"))


def count(connection: Connection, run_id: int, state: UrlState) -> int:
    """Return how many URLs of a run are in a state."""
    return int(connection.scalar(select(func.count()).where(urls.c.run_id == run_id, urls.c.state == state)) or 0)
