"""finish(): pages, items, links and frontier state of visits, in one transaction."""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Integer, bindparam, exists, func, select, update

from scraper.database import alarms, failures, frontier, hosts, items, pages, sources, usage
from scraper.database import runs as runs_of
from scraper.database.among import Among
from scraper.database.bulk import IN_MOST, Bulk, upsert
from scraper.database.models import hosts as hosts_of
from scraper.database.models import in_state, runs, urls
from scraper.database.models import sources as sources_of
from scraper.errors import BowerbirdError, Conflict, Failure, NotFound
from scraper.records import Claim, HostTimes, Link, Visit
from scraper.states import LastLook, RunKind, RunState, UrlState
from scraper.urls import fingerprint

# How many URLs a run may know for each page that it may visit; beyond that the frontier of an endless site would
# grow without bound.
KNOWN_PER_PAGE = 3
KNOWN_AT_LEAST = 1000
GIVE_UP_AT_ONCE = 1000
SKEW = timedelta(minutes=1)
PATIENCE = timedelta(minutes=1)  # what comes within it is waited for, though a source be due again
LONGEST_WAIT = timedelta(hours=25)  # a host is obeyed for a day at most
DEEPER_MOST = 100
GUARD_DEPTH = 10  # so deep a limit is a guard, the default one; a smaller one says what the source is
INDEX_DEPTH = 3  # sitemaps that lead to sitemaps

Counts = defaultdict[int, defaultdict[str, int]]


@dataclass(slots=True)
class Finished:
    """What storing some visits did: hosts that have new URLs now, which links each run is known to have, what changed."""

    hosts: set[str] = field(default_factory=set)
    known: dict[int, list[str]] = field(default_factory=dict)
    told: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Bounds:
    """How deep links are followed, by source; which links each run has already, as far as is remembered."""

    depths: Mapping[str, int]
    known: Mapping[int, Collection[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Batch:
    """Visits that are to be stored together, with all that can be made ready before the database is ours.

    pages: by the number of the URL. links: the rows of each run, by address; the shallow ones first. deeper: marks of some links
    of each run that are too deep to be followed. filled: of the items.
    """

    visits: Sequence[Visit]
    bounds: Bounds
    pages: Mapping[int, pages.Ready]
    links: Mapping[int, Mapping[str, dict[str, Any]]]
    deeper: Mapping[int, Collection[bytes]]
    filled: alarms.Filled


def prepare(visits: Sequence[Visit], bounds: Bounds) -> Batch:
    """Make visits ready to be stored."""
    ready = {visit.claim.url_id: pages.ready(visit) for visit in visits if _is_fresh(visit)}
    filled = alarms.count([visit for visit in visits if _is_fresh(visit)])
    return Batch(visits, bounds, ready, _links(visits, bounds), _deeper(visits, bounds), filled)


def finish(connection: Connection, batch: Batch, owner: str, states: Sequence[HostTimes]) -> Finished:
    """Store visits, each whole or not at all.

    owner: the worker that claimed the URLs; a visit whose URL it does not hold any more is dropped, for it was
    finished by another one. states: the hosts' next times, kept in the same transaction. What changed is told by changes.tell(),
    the last thing in the transaction.
    """
    done = Finished()
    counts: Counts = defaultdict(lambda: defaultdict(int))
    kept = _settle(connection, batch.visits, owner)
    frontier.looked(connection, [visit.claim.url_id for visit in kept if visit.looked])
    if len(kept) < len(batch.visits):  # what a dropped one links to may be what another one links to as well
        batch = prepare(kept, batch.bounds)
    well = [visit for visit in kept if visit.failure is None and not visit.dropped]
    if well:
        failures.resolve(connection, [visit.claim.url_id for visit in well], max(visit.at for visit in well))
        _keep(connection, well, batch.pages, counts, done.told)
        alarms.add(connection, batch.filled)
    for visit in kept:
        if visit.put_off and visit.failure is Failure.CANCELLED:
            continue
        if visit.failure is not None:
            done.told += _fail(connection, visit, counts)
        elif visit.looked and visit.gone:
            done.told += _note_end(connection, visit)
        for url, reason in visit.reading.refused:
            _refuse(connection, visit, url, reason, counts)
    _enter(connection, batch.links, counts, done)
    _note_depth(connection, batch)
    run_of = {visit.claim.source: visit.claim.run_id for visit in kept}
    for change in done.told:
        counts[run_of[change["source"]]]["changes"] += 1
    _count(connection, counts)
    usage.add(connection, kept, Counter({source: counts[run_id]["changes"] for source, run_id in run_of.items()}))
    hosts.record(connection, owner, states)
    if kept:
        sources.checked(connection, {visit.claim.source for visit in kept}, max(visit.at for visit in kept))
    return done


def set_right(connection: Connection, at: datetime) -> None:
    """Take back what a clock that was ahead has put off: runs, hosts and URLs would wait until that time came."""
    ahead, latest = at + SKEW, at + LONGEST_WAIT
    late = sources_of.c.last_run_at > ahead
    connection.execute(update(sources_of).where(late).values(last_run_at=at, next_at=at))
    connection.execute(update(hosts_of).where(hosts_of.c.next_at > latest).values(next_at=None))
    connection.execute(update(hosts_of).where(hosts_of.c.lease_until > latest).values(lease_until=at))
    waits = in_state(UrlState.QUEUED) & (urls.c.not_before > latest)
    connection.execute(update(urls).where(waits).values(not_before=None))


def retry(connection: Connection, failure_ids: Sequence[int], at: datetime) -> dict[str, int]:
    """Have URLs that failed, the poisonous ones too, visited again. Returns the run of each source that does it.

    Where several sources are meant, those that are not visited, or are there no more, are left out. Raises NotFound for a
    failure that is not there; NotFound, Conflict for sources none of which is visited.
    """
    found = failures.of(connection, failure_ids)
    asked = {}
    refused: BowerbirdError | None = None
    for source in sorted({row.source for row in found}):
        try:
            sources.runnable(connection, source)
        except (NotFound, Conflict) as error:
            refused = refused or error
            continue
        asked[source] = runs_of.request_retry(connection, source, at)
        ids = [row.url_id for row in found if row.source == source]
        for start in range(0, len(ids), IN_MOST):
            frontier.again(connection, ids[start : start + IN_MOST], asked[source])
    if refused is not None and not asked:
        raise refused
    return asked


def crashed_on(connection: Connection, url_id: int, at: datetime) -> bool:
    """Note that a worker died while it read a URL's page. Returns whether that makes it poison, and sets it aside."""
    row = connection.execute(
        update(urls).where(urls.c.id == url_id).values(crashes=urls.c.crashes + 1).returning(*urls.c)
    ).first()
    if row is None or row.crashes < frontier.POISON or row.state == UrlState.FAILED:
        return False
    claim = Claim(row.id, row.run_id, row.source, row.url, row.host, row.depth, row.kind, row.attempts)
    if row.last_look != LastLook.NONE:
        ended = {"state": UrlState.DONE, "last_look": LastLook.HAD}
        connection.execute(update(urls).where(urls.c.id == url_id).values(claimed_by=None, **ended))
        return False
    connection.execute(update(urls).where(urls.c.id == url_id).values(state=UrlState.FAILED, claimed_by=None))
    message = f"the scraper died {row.crashes} times while it read this page; it is not tried again"
    counts: Counts = defaultdict(lambda: defaultdict(int))
    _fail(connection, Visit(claim, at, failure=Failure.POISON, message=message), counts)
    _count(connection, counts)
    return True


def give_up(connection: Connection, host: str, at: datetime) -> None:
    """End what open runs still want of a host that has only failed for long, each URL with the failure that it had last."""
    open_runs = select(runs.c.id).where(runs.c.state == RunState.RUNNING)
    wanted = urls.c.run_id.in_(open_runs) & (urls.c.host == host)
    _count(connection, _end_queued(connection, wanted, at, Failure.CONNECT, "it failed for long"))


def _end_queued(
    connection: Connection, wanted: ColumnElement[bool], at: datetime, failure: Failure, otherwise: str
) -> Counts:
    """End URLs that wait to be visited, some at once, each with why its host is left alone. otherwise: where nobody has kept that."""
    counts: Counts = defaultdict(lambda: defaultdict(int))
    waiting = select(urls).where(in_state(UrlState.QUEUED), wanted).limit(GIVE_UP_AT_ONCE)
    for row in connection.execute(waiting).all():
        free = (urls.c.id == row.id) & in_state(UrlState.QUEUED)  # another worker may be at the same
        state = UrlState.FAILED if row.last_look == LastLook.NONE else UrlState.DONE
        ended = connection.execute(update(urls).where(free).values(state=state, not_before=None))
        if not ended.rowcount or state is UrlState.DONE:
            continue
        why = connection.scalar(select(hosts_of.c.why).where(hosts_of.c.host == row.host)) or otherwise
        claim = Claim(row.id, row.run_id, row.source, row.url, row.host, row.depth, row.kind, row.attempts)
        message = f"not asked: {row.host} is left alone, {why}"
        _fail(connection, Visit(claim, at, failure=failure, message=message), counts)
    return counts


def end_waiting(connection: Connection, at: datetime) -> None:
    """End what runs only wait for, if their source is due again: hosts that ask to be left alone for long hold up no others.

    Each URL fails as rate_limited, and is asked for by the next run when its time has come.
    """
    due = exists().where(sources_of.c.name == runs.c.source, sources_of.c.next_at <= at)
    running = select(runs.c.id).where(runs.c.state == RunState.RUNNING, runs.c.kind == RunKind.CRAWL, due)
    for run_id in connection.scalars(running).all():
        if not _goes_on(connection, run_id, at + PATIENCE):
            mine, otherwise = urls.c.run_id == run_id, "it is to be tried later, and the next run of the source is due"
            _count(connection, _end_queued(connection, mine, at, Failure.RATE_LIMITED, otherwise))


def _goes_on(connection: Connection, run_id: int, until: datetime) -> bool:
    """Whether a run has something in hand, or something to visit until a moment."""
    in_hand = select(urls.c.id).where(urls.c.claimed_by.is_not(None), urls.c.run_id == run_id).limit(1)
    if connection.scalar(in_hand) is not None:
        return True
    return bool(frontier.hosts_due(connection, until, [run_id], owner=""))


def _settle(connection: Connection, visits: Sequence[Visit], owner: str) -> list[Visit]:
    """Give each URL its state; return the visits whose URLs we still held."""
    alike: defaultdict[tuple[UrlState, datetime | None, int], list[int]] = defaultdict(list)
    put_off = {visit.claim.run_id for visit in visits if visit.put_off}
    is_over = runs.c.id.in_(put_off) & (runs.c.state != RunState.RUNNING)
    over = set(connection.scalars(select(runs.c.id).where(is_over))) if put_off else set()
    for visit in visits:
        if visit.put_off and visit.claim.run_id in over:  # it was stopped meanwhile
            alike[UrlState.DONE, None, 0].append(visit.claim.url_id)
            continue
        state = UrlState.QUEUED if visit.retry_at else UrlState.FAILED if visit.failure else UrlState.DONE
        alike[state, visit.retry_at, int(not visit.put_off)].append(visit.claim.url_id)
    held = {
        row.id
        for (state, later, tries), ids in alike.items()
        for row in _SETTLE.rows(connection, ids, to=state, later=later, tries=tries, owner=owner)
    }
    kept = []
    for visit in visits:
        if visit.claim.url_id in held:  # once: it may have been claimed and visited again meanwhile
            held.remove(visit.claim.url_id)
            kept.append(visit)
    return kept


_SETTLE = Among(
    lambda _: (
        update(urls)
        .where(urls.c.id.in_(bindparam("ids", expanding=True)), urls.c.claimed_by == bindparam("owner"))
        .values(
            state=bindparam("to"),
            attempts=urls.c.attempts + bindparam("tries", type_=Integer),
            not_before=bindparam("later"),
            claimed_by=None,
        )
        .returning(urls.c.id)
    )
)


def _is_fresh(visit: Visit) -> bool:
    """Whether there is a page to store."""
    return visit.failure is None and visit.claim.kind == "page" and not visit.unchanged and not visit.dropped


def _keep(
    connection: Connection,
    well: Sequence[Visit],
    ready: Mapping[int, pages.Ready],
    counts: Counts,
    told: list[dict[str, Any]],
) -> None:
    for visit in well:
        counts[visit.claim.run_id]["bytes"] += _wire_bytes(visit)
    stored = [visit for visit in well if visit.claim.kind == "page"]
    same = [visit for visit in stored if visit.unchanged]
    told += items.touch(connection, same)
    pages.touch(connection, same)
    for visit in same:
        counts[visit.claim.run_id]["pages"] += 1
        counts[visit.claim.run_id]["items"] += visit.claim.known.items if visit.claim.known else 0
    fresh = [visit for visit in stored if _is_fresh(visit)]
    direct = [visit for visit in fresh if not _redirected(visit)]
    _put(connection, direct, ready, counts, told)
    for visit in fresh:  # one by one: some may lead to the same page
        if not _redirected(visit):
            continue
        seen = pages.seen_in(connection, visit.claim.source, _final_url(visit), visit.claim.run_id)
        if seen is not None:
            told += pages.mark_moved(connection, visit, seen)
        else:
            _settle_target(connection, visit)
            _put(connection, [visit], ready, counts, told)


def _put(
    connection: Connection,
    visits: Sequence[Visit],
    ready: Mapping[int, pages.Ready],
    counts: Counts,
    told: list[dict[str, Any]],
) -> None:
    if not visits:
        return
    ids = pages.put(connection, [ready[visit.claim.url_id] for visit in visits], told)
    for visit, page_id in zip(visits, ids, strict=True):
        moved = pages.mark_moved(connection, visit, page_id)
        for change in moved:
            told += items.follow(connection, visit, page_id, change["fields"]["url"][0])
        told += moved
    anew = items.put(connection, list(zip(visits, ids, strict=True)), pages.standing, told)
    for run_id, count in anew.items():
        counts[run_id]["changes"] -= count
    for visit in visits:
        counts[visit.claim.run_id]["pages"] += 1
        counts[visit.claim.run_id]["items"] += len({(item.kind, item.key) for item in visit.reading.items})


def _redirected(visit: Visit) -> bool:
    return (
        fingerprint(_final_url(visit)) != fingerprint(visit.claim.url)
        if _final_url(visit) != visit.claim.url
        else False
    )


def _final_url(visit: Visit) -> str:
    assert visit.fetched is not None
    return visit.fetched.final_url


def _wire_bytes(visit: Visit) -> int:
    return visit.fetched.wire_bytes if visit.fetched is not None else 0


def _settle_target(connection: Connection, visit: Visit) -> None:
    """The target of a redirect was visited with its source: it is not to be visited again in this run."""
    claim = visit.claim
    row = frontier.row_of(claim.run_id, claim.source, Link(_final_url(visit), claim.kind), claim.depth, UrlState.DONE)
    if row is None:
        return
    url_id = connection.scalar(
        upsert(connection.dialect.name, urls)
        .values(**row)
        .on_conflict_do_update(
            index_elements=["source", "fingerprint"],
            set_={name: row[name] for name in ("run_id", "state", "last_look")}
            | {"not_before": None, "claimed_by": None},
        )
        .returning(urls.c.id)
    )
    failures.resolve(connection, [int(url_id or 0)], visit.at)


def _links(visits: Sequence[Visit], bounds: Bounds) -> dict[int, dict[str, dict[str, Any]]]:
    """The rows of what the pages link to, each once, as near to a start as it is linked."""
    by_run: dict[int, dict[str, dict[str, Any]]] = {}
    for visit in sorted(visits, key=lambda visit: visit.claim.depth):
        claim = visit.claim
        known = bounds.known.get(claim.run_id, ())
        wanted = by_run.setdefault(claim.run_id, {})
        most = bounds.depths.get(claim.source, 0)
        for link in [link for link in visit.reading.links if link.url not in known and link.url not in wanted]:
            depth = _depth(claim, link)
            if depth <= (INDEX_DEPTH if link.kind == "sitemap" else most):
                row = frontier.row_of(claim.run_id, claim.source, link, depth)
                if row is not None:
                    wanted[link.url] = row
    return {run_id: found for run_id, found in by_run.items() if found}


def _deeper(visits: Sequence[Visit], bounds: Bounds) -> dict[int, set[bytes]]:
    """Some of the links that are too deep to be followed, by run."""
    found: dict[int, set[bytes]] = defaultdict(set)
    for visit in visits:
        marks, most = found[visit.claim.run_id], bounds.depths.get(visit.claim.source, 0)
        at_guard = visit.claim.kind == "page" and visit.claim.depth >= most >= GUARD_DEPTH
        if at_guard and len(marks) < DEEPER_MOST:
            marks.update(fingerprint(link.url) for link in visit.reading.links[:DEEPER_MOST] if link.kind == "page")
    return {run_id: marks for run_id, marks in found.items() if marks}


def _note_depth(connection: Connection, batch: Batch) -> None:
    """Have runs say that there is more, deeper than they go."""
    source_of = {visit.claim.run_id: visit.claim.source for visit in batch.visits}
    for run_id, marks in batch.deeper.items():
        if run_id not in source_of or connection.scalar(select(runs.c.message).where(runs.c.id == run_id)) is not None:
            continue
        there = (urls.c.source == source_of[run_id]) & urls.c.fingerprint.in_(marks) & (urls.c.run_id == run_id)
        if (connection.scalar(select(func.count()).where(there)) or 0) < len(marks):
            most = batch.bounds.depths.get(source_of[run_id], 0)
            said = f"max_depth = {most} was reached; what is linked from there was not visited"
            connection.execute(update(runs).where(runs.c.id == run_id).values(message=said))


def _depth(claim: Claim, link: Link) -> int:
    """How far from where a run starts: pages that a sitemap names are starts themselves."""
    if claim.kind == "sitemap":
        return claim.depth + 1 if link.kind == "sitemap" else 0
    return claim.depth + 1


def _enter(
    connection: Connection, found: Mapping[int, Mapping[str, dict[str, Any]]], counts: Counts, done: Finished
) -> None:
    if not found:
        return
    rows = [row for links in found.values() for row in links.values()]
    rooms = {
        run.id: frontier.Room(
            max(KNOWN_AT_LEAST, run.max_pages * KNOWN_PER_PAGE) - run.known,
            unknown_only=run.kind == RunKind.RETRY or not run.takes_over,
        )
        for run in _OPEN.rows(connection, list(found))
    }
    for run_id, entered in frontier.add(connection, rows, rooms).items():
        done.hosts |= {row["host"] for row in entered}
        counts[run_id]["known"] += len(entered)
        if len(entered) < rooms[run_id].left:
            done.known[run_id] = list(found[run_id])


_OPEN = Among(
    lambda _: select(runs.c.id, runs.c.known, runs.c.max_pages, runs.c.kind, frontier.OLDER.label("takes_over")).where(
        runs.c.id.in_(bindparam("ids", expanding=True))
    )
)


def _refuse(connection: Connection, visit: Visit, url: str, reason: str, counts: Counts) -> None:
    """Name a link that is taken for a trap; its like are not named again."""
    claim = visit.claim
    row = frontier.row_of(claim.run_id, claim.source, Link(url), claim.depth + 1, UrlState.FAILED)
    url_id = frontier.set_aside(connection, row) if row is not None else None
    if url_id is None:
        return
    refused = Claim(url_id, claim.run_id, claim.source, url, claim.host, claim.depth + 1, "page", 0)
    _fail(connection, Visit(refused, visit.at, failure=Failure.CRAWL_LIMIT, message=reason), counts)


def _count(connection: Connection, counts: Counts) -> None:
    _COUNT.run(
        connection,
        [
            {"run": run_id} | {f"more_{name}": found[name] for name in COUNTED}
            for run_id, found in sorted(counts.items())
            if any(found.values())
        ],
    )


COUNTED = ("known", "pages", "items", "bytes", "failures", "changes")
_COUNT = Bulk(
    lambda _: (
        update(runs)
        .where(runs.c.id == bindparam("run"))
        .values({runs.c[name]: runs.c[name] + bindparam(f"more_{name}", type_=runs.c[name].type) for name in COUNTED})
    )
)


def _note_end(connection: Connection, visit: Visit) -> list[dict[str, Any]]:
    """Note that a page to which nothing leads any more is no more, or is another one by now. Returns what there is to tell."""
    if visit.fetched is not None and visit.fetched.moved:
        other = pages.seen_in(connection, visit.claim.source, _final_url(visit), visit.claim.run_id)
        if other is not None:
            return pages.mark_moved(connection, visit, other)
    return pages.mark_gone(connection, visit)


def _fail(connection: Connection, visit: Visit, counts: Counts) -> list[dict[str, Any]]:
    """Keep a failure. Returns what there is to tell of its page."""
    failures.note(connection, visit)
    if visit.retry_at is None:
        counts[visit.claim.run_id]["failures"] += 1
    if visit.failure is Failure.POISON:
        connection.execute(update(urls).where(urls.c.id == visit.claim.url_id).values(crashes=frontier.POISON))
    return pages.mark_gone(connection, visit) if visit.gone else []
