"""urls: what is to become of every URL. add, claim, release."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast

from sqlalchemy import Connection, bindparam, exists, func, or_, select, update

from scraper.database.connection import Db
from scraper.database.models import hosts, pages, runs, urls
from scraper.records import Claim, Known, Link
from scraper.states import RunState, UrlState
from scraper.urls import fingerprint, host_of

# A URL on whose page the scraper died so often is not visited again.
POISON = 2
# A host that is to be left alone for longer is not waited for.
REST = timedelta(seconds=15)
IN_MOST = 500  # values in one IN: databases have a limit


def row_of(
    run_id: int, source: str, link: Link, depth: int, state: UrlState = UrlState.QUEUED
) -> dict[str, Any] | None:
    """Return a link as a row of the frontier, or None if it has no host."""
    try:
        host = host_of(link.url)
    except ValueError:
        return None
    return {
        "source": source,
        "fingerprint": fingerprint(link.url),
        "url": link.url,
        "host": host,
        "kind": link.kind,
        "rank": -link.priority,
        "depth": depth,
        "run_id": run_id,
        "state": state,
        "attempts": 0,
    }


def add(
    db: Db, connection: Connection, rows: Sequence[dict[str, Any]], room: int, *, unknown_only: bool = False
) -> tuple[int, set[str]]:
    """Enter rows of one run that it has not seen. room: how many at the most. unknown_only: only what no run has seen.

    Returns how many were new, and their hosts.
    """
    if not rows or room <= 0:
        return 0, set()
    if len(rows) > room:
        rows = _unseen(connection, rows)[:room]
        if not rows:
            return 0, set()
    statement = db.upsert(urls)
    if unknown_only:
        statement = statement.on_conflict_do_nothing(index_elements=["source", "fingerprint"])
    else:
        statement = _taken_over(statement)
    result = connection.execute(statement, list(rows), execution_options={"preserve_rowcount": True})
    return max(result.rowcount, 0), {str(row["host"]) for row in rows}


def _taken_over(statement: Any) -> Any:
    """URLs of earlier runs belong to this one now, save those that are set aside."""
    names = ("run_id", "rank", "depth", "kind", "state", "attempts")
    return statement.on_conflict_do_update(
        index_elements=["source", "fingerprint"],
        set_={name: statement.excluded[name] for name in names} | {"not_before": None, "claimed_by": None},
        where=(urls.c.run_id < statement.excluded.run_id) & (urls.c.crashes < POISON),
    )


def set_aside(db: Db, connection: Connection, row: dict[str, Any]) -> int | None:
    """Enter a URL that is not visited; return its id, or None if this run has it already."""
    statement = _taken_over(db.upsert(urls).values(**row)).returning(urls.c.id)
    found: int | None = connection.scalar(statement)
    return found


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


def _unseen(connection: Connection, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    seen: set[bytes] = set()
    for start in range(0, len(rows), IN_MOST):
        found = connection.scalars(
            select(urls.c.fingerprint).where(
                urls.c.source == rows[0]["source"],
                urls.c.run_id == rows[0]["run_id"],
                urls.c.fingerprint.in_([row["fingerprint"] for row in rows[start : start + IN_MOST]]),
            )
        )
        seen.update(found)
    return list({row["fingerprint"]: row for row in rows if row["fingerprint"] not in seen}.values())


@dataclass(slots=True)
class Due:
    """A host with URLs to visit now: whether it may be leased, and the runs that they belong to."""

    free: bool
    runs: set[int]


def hosts_due(connection: Connection, at: datetime, active: Sequence[int], owner: str) -> dict[str, Due]:
    """Return the hosts at which these runs have URLs to visit now, in order. owner: for whom they are free or not.

    By leaps over the index, from host to host: a long queue at one costs no more than a short one.
    """
    found: dict[str, Due] = {}
    for run_id in active:
        rows = connection.execute(_DUE, {"run": run_id, "at": at, "rest": at + REST, "owner": owner})
        for host, free in rows.all():
            found.setdefault(host, Due(bool(free), set())).runs.add(run_id)
    return dict(sorted(found.items()))


def _due() -> Any:
    at, run, rest, owner = (cast(Any, bindparam(name)) for name in ("at", "run", "rest", "owner"))
    queued = (urls.c.run_id == run) & (urls.c.state == UrlState.QUEUED)
    leap = select(func.min(urls.c.host).label("host")).where(queued).cte("leap", recursive=True)
    further = select(func.min(urls.c.host)).where(queued, urls.c.host > leap.c.host).scalar_subquery()
    leap = leap.union_all(select(further).where(leap.c.host.is_not(None)))
    ripe = or_(urls.c.not_before.is_(None), urls.c.not_before <= at)
    ready = exists().where(queued, urls.c.host == leap.c.host, ripe)
    resting = exists().where(hosts.c.host == leap.c.host, hosts.c.next_at > rest)
    others = (hosts.c.lease_owner != owner) & (hosts.c.lease_until >= at)
    taken = exists().where(hosts.c.host == leap.c.host, others)
    return select(leap.c.host, ~taken).where(leap.c.host.is_not(None), ready, ~resting)


_DUE = _due()


def next_retry(connection: Connection, at: datetime) -> datetime | None:
    """Return when the next URL that waits at this moment may be tried again."""
    found: datetime | None = connection.scalar(
        select(func.min(urls.c.not_before))
        .where(urls.c.not_before > at, urls.c.state == UrlState.QUEUED)
        .where(urls.c.run_id.in_(select(runs.c.id).where(runs.c.state == RunState.RUNNING)))
    )
    return found


def claim(
    connection: Connection,
    host: str,
    owner: str,
    limit: int,
    at: datetime,
    runs_there: Collection[int],
    budgets: dict[int, int],
) -> list[Claim]:
    """Take URLs of a host: those of a high priority first, then shallow ones, each run in its turn.

    runs_there: those that have URLs at the host. budgets: by run, how many pages it may still visit; what is taken is taken off.
    """
    able = [run_id for run_id in sorted(runs_there) if budgets.get(run_id, 0) > 0]
    queues = [found for run_id in able if (found := _waiting(connection, host, run_id, limit, at))]
    taken: list[int] = []
    for place in range(max(map(len, queues), default=0)):
        for queue in queues:
            if place >= len(queue) or len(taken) >= limit:
                continue
            url_id, run_id, kind = queue[place]
            if kind == "page" and budgets[run_id] <= 0:
                continue
            budgets[run_id] -= kind == "page"
            taken.append(url_id)
    return _take(connection, taken, owner) if taken else []


# Built once: they are run for every host, time and again.
_WAITING = (
    select(urls.c.id, urls.c.run_id, urls.c.kind)
    .where(urls.c.run_id == bindparam("run"), urls.c.state == UrlState.QUEUED, urls.c.host == bindparam("at_host"))
    .where(or_(urls.c.not_before.is_(None), urls.c.not_before <= bindparam("at")))
    .order_by(urls.c.rank, urls.c.depth, urls.c.id)
    .limit(bindparam("most"))
)
_TAKE = (
    update(urls)
    .where(urls.c.id.in_(bindparam("taken", expanding=True)))
    .values(state=UrlState.CLAIMED, claimed_by=bindparam("owner"))
)
_TAKEN = (
    select(urls, pages.c.id.label("page_id"), pages.c.final_url, pages.c.headers)
    .add_columns(pages.c.rules, pages.c.links, pages.c.item_count)
    .outerjoin(pages, (pages.c.source == urls.c.source) & (pages.c.fingerprint == urls.c.fingerprint))
    .where(urls.c.id.in_(bindparam("taken", expanding=True)))
)


def _waiting(connection: Connection, host: str, run_id: int, limit: int, at: datetime) -> list[tuple[int, int, str]]:
    rows = connection.execute(_WAITING, {"run": run_id, "at_host": host, "at": at, "most": limit})
    return [(row.id, row.run_id, row.kind) for row in rows]


def _take(connection: Connection, taken: Sequence[int], owner: str) -> list[Claim]:
    connection.execute(_TAKE, {"taken": list(taken), "owner": owner})
    rows = connection.execute(_TAKEN, {"taken": list(taken)}).all()
    place = {url_id: number for number, url_id in enumerate(taken)}
    return [_claim(row) for row in sorted(rows, key=lambda row: place[row.id])]


def _claim(row: Any) -> Claim:
    known = None
    if row.page_id is not None:
        headers = row.headers or {}
        validators = headers.get("etag"), headers.get("last-modified")
        known = Known(row.page_id, row.final_url, *validators, row.rules, row.links or b"", row.item_count)
    return Claim(row.id, row.run_id, row.source, row.url, row.host, row.depth, row.kind, row.attempts, known)


def claimed(connection: Connection) -> dict[int, int]:
    """Return how many pages of each run are being visited."""
    rows = connection.execute(
        select(urls.c.run_id, func.count())
        .where(urls.c.claimed_by.is_not(None), urls.c.kind == "page")
        .group_by(urls.c.run_id)
    )
    return {run_id: count for run_id, count in rows.all()}


def release(connection: Connection, owner: str) -> None:
    """Give back URLs that were claimed by this owner and not visited."""
    connection.execute(update(urls).where(urls.c.claimed_by == owner).values(state=UrlState.QUEUED, claimed_by=None))


def unclaim(connection: Connection, owner: str, ids: Sequence[int]) -> None:
    """Give back these URLs of an owner, which were not visited."""
    for start in range(0, len(ids), IN_MOST):
        mine = urls.c.id.in_(ids[start : start + IN_MOST]) & (urls.c.claimed_by == owner)
        connection.execute(update(urls).where(mine).values(state=UrlState.QUEUED, claimed_by=None))


def release_lost(connection: Connection, at: datetime) -> None:
    """Give back what was claimed by workers that hold no lease any more."""
    living = select(hosts.c.lease_owner).where(hosts.c.lease_until > at, hosts.c.lease_owner.is_not(None))
    connection.execute(
        update(urls)
        .where(urls.c.claimed_by.is_not(None), urls.c.claimed_by.not_in(living))
        .values(state=UrlState.QUEUED, claimed_by=None)
    )


def strangers(connection: Connection, instance: str) -> list[str]:
    """Return the owners of claims and leases that belong to another instance than this one."""
    claimed_by = select(urls.c.claimed_by).where(urls.c.claimed_by.is_not(None)).distinct()
    leased = select(hosts.c.lease_owner).where(hosts.c.lease_owner.is_not(None)).distinct()
    owners = {*connection.scalars(claimed_by), *connection.scalars(leased)} - {None}
    return sorted(owner for owner in owners if not owner.endswith(f"@{instance}"))


def count(connection: Connection, run_id: int, state: UrlState) -> int:
    """Return how many URLs of a run are in a state."""
    return int(connection.scalar(select(func.count()).where(urls.c.run_id == run_id, urls.c.state == state)) or 0)
