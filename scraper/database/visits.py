"""finish(): page, items, links and frontier state of visits, in one transaction."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection, select, update

from scraper.database import failures, frontier, hosts, items, pages, sources
from scraper.database import runs as runs_of
from scraper.database.connection import Db
from scraper.database.models import runs, urls
from scraper.errors import Failure
from scraper.records import Claim, HostTimes, Visit
from scraper.states import RunKind, UrlState
from scraper.urls import fingerprint, host_of

# How many URLs a run may know for each page that it may visit; beyond that the frontier of an endless site would
# grow without bound.
KNOWN_PER_PAGE = 3
KNOWN_AT_LEAST = 1000


@dataclass(slots=True)
class Finished:
    """What storing some visits did: hosts that have new URLs now."""

    hosts: set[str] = field(default_factory=set)


def finish(
    db: Db,
    connection: Connection,
    visits: Sequence[Visit],
    owner: str,
    depths: dict[str, int],
    states: Sequence[HostTimes],
) -> Finished:
    """Store visits, each whole or not at all.

    owner: the worker that claimed the URLs; a visit whose URL it does not hold any more is dropped, for it was
    finished by another one. depths: max_depth by source. states: the hosts' next times, kept in the same transaction.
    """
    done = Finished()
    checked: dict[str, Visit] = {}
    for visit in visits:
        if not _settle(connection, visit, owner):
            continue
        checked[visit.claim.source] = visit
        if visit.failure is None:
            failures.resolve(connection, visit.claim.url_id, visit.at)
            _keep(db, connection, visit, depths.get(visit.claim.source, 0), done)
        else:
            _fail(db, connection, visit)
    hosts.record(connection, states)
    if checked:
        sources.checked(connection, set(checked), max(visit.at for visit in checked.values()))
    return done


def retry(connection: Connection, failure_ids: Sequence[int], at: datetime) -> dict[str, int]:
    """Have URLs that failed, the poisonous ones too, visited again. Returns the run of each source that does it."""
    found = failures.of(connection, failure_ids)
    asked = {}
    for source in sorted({row.source for row in found}):
        asked[source] = runs_of.request_retry(connection, source, at)
        ids = [row.url_id for row in found if row.source == source]
        for start in range(0, len(ids), 500):
            frontier.again(connection, ids[start : start + 500], asked[source])
    return asked


def crashed_on(db: Db, connection: Connection, url_id: int, at: datetime) -> bool:
    """Note that a worker died while it read a URL's page. Returns whether that makes it poison, and sets it aside."""
    row = connection.execute(
        update(urls).where(urls.c.id == url_id).values(crashes=urls.c.crashes + 1).returning(*urls.c)
    ).first()
    if row is None or row.crashes < frontier.POISON or row.state == UrlState.FAILED:
        return False
    claim = Claim(row.id, row.run_id, row.source, row.url, row.host, row.depth, row.kind, row.attempts)
    connection.execute(update(urls).where(urls.c.id == url_id).values(state=UrlState.FAILED, claimed_by=None))
    message = f"the scraper died {row.crashes} times while it read this page; it is not tried again"
    _fail(db, connection, Visit(claim, at, failure=Failure.POISON, message=message))
    return True


def _settle(connection: Connection, visit: Visit, owner: str) -> bool:
    retry = visit.retry_at is not None
    state = UrlState.QUEUED if retry else UrlState.FAILED if visit.failure else UrlState.DONE
    result = connection.execute(
        update(urls)
        .where(urls.c.id == visit.claim.url_id, urls.c.state == UrlState.CLAIMED, urls.c.claimed_by == owner)
        .values(state=state, attempts=visit.claim.attempts + 1, not_before=visit.retry_at, claimed_by=None)
    )
    return result.rowcount == 1


def _keep(db: Db, connection: Connection, visit: Visit, max_depth: int, done: Finished) -> None:
    claim, fetched = visit.claim, visit.fetched
    assert fetched is not None
    counts = {"bytes": runs.c.bytes + fetched.wire_bytes}
    if claim.kind == "page":
        if fetched.final_url != claim.url:
            if pages.seen_in(connection, claim.source, fetched.final_url, claim.run_id):
                return
            _settle_target(db, connection, visit)
        stored = pages.put(connection, visit)
        counts["pages"] = runs.c.pages + 1
        counts["items"] = runs.c["items"] + items.put(connection, visit, stored.id)
    depth = claim.depth + (claim.kind == "page")
    if visit.reading.links and depth <= max_depth:
        run = connection.execute(
            select(runs.c.known, runs.c.max_pages, runs.c.kind).where(runs.c.id == claim.run_id)
        ).one()
        room = max(KNOWN_AT_LEAST, run.max_pages * KNOWN_PER_PAGE) - run.known
        retry = run.kind == RunKind.RETRY
        added, touched = frontier.add(
            db, connection, claim.run_id, claim.source, visit.reading.links, depth, room, unknown_only=retry
        )
        if added:
            counts["known"] = runs.c.known + added
            done.hosts |= touched
    connection.execute(update(runs).where(runs.c.id == claim.run_id).values(**counts))


def _settle_target(db: Db, connection: Connection, visit: Visit) -> None:
    """The target of a redirect was visited with its source: it is not to be visited again in this run."""
    claim, fetched = visit.claim, visit.fetched
    assert fetched is not None
    statement = db.upsert(urls).values(
        source=claim.source,
        fingerprint=fingerprint(fetched.final_url),
        url=fetched.final_url,
        host=host_of(fetched.final_url),
        kind=claim.kind,
        depth=claim.depth,
        run_id=claim.run_id,
        state=UrlState.DONE,
        attempts=1,
    )
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["source", "fingerprint"],
            set_={"run_id": claim.run_id, "state": UrlState.DONE, "not_before": None, "claimed_by": None},
        )
    )


def _fail(db: Db, connection: Connection, visit: Visit) -> None:
    failures.note(db, connection, visit)
    if visit.retry_at is None:
        connection.execute(update(runs).where(runs.c.id == visit.claim.run_id).values(failures=runs.c.failures + 1))
    if visit.gone:
        pages.mark_gone(connection, visit)
