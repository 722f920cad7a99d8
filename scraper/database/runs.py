"""runs: one crawl of one source, from request to end."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, Select, bindparam, exists, func, insert, literal, or_, select, update

from scraper.database import alarms, changes, frontier, homes
from scraper.database import items as items_of
from scraper.database.among import Among
from scraper.database.bulk import IN_MOST, RUNS, in_turn
from scraper.database.connection import made_id
from scraper.database.models import UNREAD, Instant, also_on, failures, in_state, items, pages, runs, sources, urls
from scraper.errors import Failure, NotFound
from scraper.records import RunCount, RunTally
from scraper.states import LastLook, RunKind, RunState, UrlState

# What stands in lists, some of which a run did not read, is gone when so many runs, over so long, have not seen it.
MISSED_BY, MISSED_FOR = 3, timedelta(days=1)
REMOVED_AT_ONCE = 20_000  # items in one transaction, which holds them in memory, and others up
ACTIVE = (RunState.QUEUED, RunState.RUNNING)


def request(connection: Connection, source: str, at: datetime) -> int:
    """Ask for a crawl of a source; return the id of the one that is active already, or of a new queued one."""
    in_turn(connection, RUNS)
    active = connection.scalar(_active(source).where(runs.c.kind == RunKind.CRAWL))
    return int(active) if active is not None else _queue(connection, source, RunKind.CRAWL, at)


def request_retry(connection: Connection, source: str, at: datetime) -> int:
    """Return the id of a run that URLs to be tried again can join: an active one, or a new queued one for them alone."""
    in_turn(connection, RUNS)
    active = connection.scalar(_active(source).order_by(runs.c.state.desc()))  # a running one first
    return int(active) if active is not None else _queue(connection, source, RunKind.RETRY, at)


def _active(source: str) -> Select[Any]:
    return select(runs.c.id).where(runs.c.source == source, runs.c.state.in_(ACTIVE)).limit(1)


def _queue(connection: Connection, source: str, kind: RunKind, at: datetime) -> int:
    values = {"source": source, "state": RunState.QUEUED, "kind": kind, "queued_at": at}
    return made_id(connection.execute(insert(runs).values(**values)))


def request_due(connection: Connection, names: Sequence[str], at: datetime) -> None:
    """Ask for a run of each of these sources that is due and has none."""
    in_turn(connection, RUNS)
    active = exists().where(runs.c.source == sources.c.name, runs.c.state.in_(ACTIVE))
    due = (
        select(sources.c.name, literal(str(RunState.QUEUED)), literal(at, Instant()))
        .where(
            sources.c.name.in_(names),
            sources.c.enabled,
            sources.c.paused_at.is_(None),
            sources.c.next_at <= at,
            ~active,
        )
        .order_by(sources.c.next_at)
    )
    connection.execute(insert(runs).from_select(["source", "state", "queued_at"], due))


def queued(
    connection: Connection, names: Sequence[str], only: Sequence[int] | None, limit: int
) -> list[tuple[int, str, RunKind]]:
    """Return runs of these sources that wait to be opened, the first asked for first, as (id, source, kind).

    A source has one open run at a time; those that were asked for by number do not wait for others. Until the transaction ends
    nobody else opens them.
    """
    in_turn(connection, RUNS)
    statement = select(runs.c.id, runs.c.source, runs.c.kind).where(
        runs.c.state == RunState.QUEUED, runs.c.source.in_(names)
    )
    if only is not None:
        statement = statement.where(runs.c.id.in_(only))
    else:
        others = runs.alias()
        statement = statement.where(
            ~exists().where(others.c.source == runs.c.source, others.c.state == RunState.RUNNING)
        )
    found = connection.execute(statement.order_by(runs.c.id).limit(limit))
    return [(row.id, row.source, RunKind(row.kind)) for row in found]


def start(connection: Connection, run_id: int, max_pages: int, known: int, at: datetime) -> None:
    """Open a queued run."""
    connection.execute(
        update(runs)
        .where(runs.c.id == run_id)
        .values(state=RunState.RUNNING, started_at=at, max_pages=max_pages, known=known)
    )


def running(connection: Connection, only: Sequence[int] | None = None) -> list[Row[Any]]:
    """Return the rows of the open runs, and whether each has URLs queued and claimed."""
    waits = exists().where(urls.c.run_id == runs.c.id, in_state(UrlState.QUEUED)).label("queued")
    taken = runs.c.id.in_(select(urls.c.run_id).where(urls.c.claimed_by.is_not(None))).label("claimed")
    statement = select(runs, waits, taken).where(runs.c.state == RunState.RUNNING)
    if only is not None:
        statement = statement.where(runs.c.id.in_(only))
    return list(connection.execute(statement).all())


def counts(connection: Connection, only: Collection[int] | None = None) -> list[RunCount]:
    """Return how far each open run is."""
    rows = connection.execute(_COUNTS) if only is None else _COUNTS_OF.rows(connection, list(only))
    return [RunCount(*row) for row in rows]


_COUNTS = select(runs.c.id, runs.c.source, runs.c.max_pages, runs.c.pages).where(runs.c.state == RunState.RUNNING)
_COUNTS_OF = Among(lambda _: _COUNTS.where(runs.c.id.in_(bindparam("ids", expanding=True))))


def look_once_more(connection: Connection, run: Row[Any], most: int) -> bool:
    """Have a run that saw all that its source leads to ask for what it did not come upon, so many at most. Returns whether it does."""
    return _read_all(connection, run) and frontier.look_once_more(connection, run.id, run.source, most)


def _is_complete(connection: Connection, run: Row[Any]) -> bool:
    """Whether a run that no limit cut short saw all that its source leads to."""
    return run.message is None and _read_all(connection, run)


def _read_all(connection: Connection, run: Row[Any]) -> bool:
    """Whether a run read all pages that it came upon, as far as they had been read before."""
    crawled = run.kind == RunKind.CRAWL and run.pages > 0
    return crawled and connection.scalar(_LOST_SIGHT, {"run": run.id}) is None


# URLs that failed in a run, though they, or what they lead to by redirect, are stored and not gone; and sitemaps.
_THERE = pages.c.gone_at.is_(None) & (pages.c.source == urls.c.source)
_ITSELF = exists().where(_THERE, pages.c.fingerprint == urls.c.fingerprint)
_ELSEWHERE = exists().where(_THERE, pages.c.url == urls.c.url, pages.c.url != pages.c.final_url)
_FAILED = select(urls.c.id).where(urls.c.run_id == bindparam("run"), in_state(UrlState.FAILED)).limit(1)
_LOST_SIGHT = _FAILED.where(or_(_ITSELF, _ELSEWHERE, urls.c.kind == "sitemap"))
_LISTS = pages.c.item_count > 1
_HIDDEN_LISTS = _FAILED.where(or_(_ITSELF.where(_LISTS), _ELSEWHERE.where(_LISTS)))


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended: its state, what changed by it, what is alarming."""

    state: RunState
    told: Sequence[dict[str, Any]]
    alarms: Sequence[str]


def finish(connection: Connection, run_id: int, at: datetime, dropped: int) -> Ended:
    """Close a run: say how it ended, mark the items that are gone, and see whether what it brought is plausible.

    dropped: how many URLs a limit left unvisited. An item is gone when the run read its page and did not see it, when its
    page is gone, or when the run saw everything and not the item. A run that a limit cut short, or that could not
    read a page which had been read before, did not see everything: that page may lead to the item; or list it, if it is a
    list, from one page of which items slip to the next: then three runs have to miss it, over a day. Where half of a source's
    items are gone at once, the site has changed rather than what it offers: that is an alarm, and they stay.

    Where very many are gone, some are marked, and the run stays open: it is to be finished again.
    """
    run = connection.execute(select(runs).where(runs.c.id == run_id)).one()
    complete = not dropped and _is_complete(connection, run)
    told: list[dict[str, Any]] = []
    raised: list[str] = []
    if run.known:
        told, vanished = _remove_unseen(connection, run_id, run.source, at, complete=complete)
        if len(told) >= REMOVED_AT_ONCE:
            connection.execute(update(runs).where(runs.c.id == run_id).values(changes=runs.c.changes + len(told)))
            return Ended(RunState.RUNNING, told, [])
        if complete:
            _forget_unlinked(connection, run_id, run.source, at)
        if run.kind == RunKind.CRAWL and run.pages:
            raised = _settle(connection, run_id, run.source, at, vanished, complete=complete)
            lost = homes.lost(connection, run_id, run.source, complete=complete)
            told = items_of.adopt(connection, lost, at) + told
        alarms.forget_runs(connection, run.source)
    state, message = _outcome(connection, run, dropped)
    ended = {"state": state, "finished_at": at, "message": message}
    connection.execute(update(runs).where(runs.c.id == run_id).values(**ended, changes=runs.c.changes + len(told)))
    if dropped:
        frontier.leave_queued(connection, run_id)
    return Ended(state, told, raised)


def _outcome(connection: Connection, run: Row[Any], dropped: int) -> tuple[RunState, str | None]:
    """How a run ended, and what there is to say of that."""
    # A run that knew nothing had only start pages that are set aside.
    if run.pages == 0 and (run.failures > 0 or run.known == 0):
        reasons = connection.execute(
            select(failures.c.reason, failures.c.message)
            .where(failures.c.source == run.source, failures.c.resolved_at.is_(None))
            .order_by(failures.c.last_at.desc())
            .limit(1)
        ).first()
        return RunState.FAILED, f"{reasons.reason}: {reasons.message.partition(chr(10))[0]}" if reasons else None
    if dropped:
        return RunState.DONE, f"max_pages = {run.max_pages} was reached; {dropped} known URLs were not visited"
    if run.kind == RunKind.CRAWL and run.pages == 0:
        return RunState.DONE, "no page was found: what its sitemaps and feeds name is not on its hosts, or is excluded"
    return RunState.DONE, run.message  # a limit that was met on the way


def _forget_unlinked(connection: Connection, run_id: int, source: str, at: datetime) -> None:
    """Note of what failed in earlier runs, and is linked no more, that it fails no more; what is set aside fails still."""
    connection.execute(_FORGET_UNLINKED, {"run": run_id, "of": source, "at": at})


_FORMER = (
    select(urls.c.id)
    .where(urls.c.source == bindparam("of"), urls.c.crashes == 0)
    .where(or_(urls.c.run_id < bindparam("run"), urls.c.last_look > LastLook.NONE))
)
_FORGET_UNLINKED = (
    update(failures)
    .where(failures.c.source == bindparam("of"), failures.c.resolved_at.is_(None), failures.c.url_id.in_(_FORMER))
    .where(failures.c.reason.not_in([Failure.CRAWL_LIMIT, Failure.POISON]))
    .values(resolved_at=bindparam("at"))
)


def _settle(
    connection: Connection, run_id: int, source: str, at: datetime, vanished: str, *, complete: bool
) -> list[str]:
    """Open and end the alarms of a source by what a run saw. Returns what is alarming and was not yet."""
    definition = connection.scalar(select(sources.c.definition).where(sources.c.name == source)) or {}
    fields = alarms.fields(connection, run_id, source, by_rules=bool(definition.get("item")))
    found = {("field", name): said for name, said in fields.lost.items()}
    mended = {("field", name) for name in fields.there}
    read = connection.scalar(select(runs.c.pages).where(runs.c.id == run_id))
    ever = connection.scalar(select(items.c.id).where(items.c.source == source).limit(1))
    if vanished:
        found["items", ""] = vanished
    elif definition.get("item") and read and ever is None:
        found["items", ""] = f"no item was found on {read} pages: the selectors of its items match nothing"
    elif complete or not _is_half_unseen(connection, run_id, source):
        mended.add(("items", ""))
    return alarms.settle(connection, source, found, mended, at)


def _is_half_unseen(connection: Connection, run_id: int, source: str) -> bool:
    there = select(func.count()).where(items.c.source == source, items.c.removed_at.is_(None))
    unseen = connection.scalar(there.where(items.c.run_id < run_id)) or 0
    return unseen * 2 > int(connection.scalar(there) or 0)


def _remove_unseen(
    connection: Connection, run_id: int, source: str, at: datetime, *, complete: bool
) -> tuple[list[dict[str, Any]], str]:
    """Mark items that are gone. Returns what there is to tell, or why they are not taken for gone."""
    unseen = (
        select(items.c.id, items.c.kind, items.c.page_id, pages.c.run_id.label("seen_in"))
        .join(pages, pages.c.id == items.c.page_id)
        .where(items.c.source == source, items.c.run_id < run_id, items.c.removed_at.is_(None))
    )
    read = or_(pages.c.run_id == run_id, pages.c.gone_at.is_not(None))
    if complete:  # a page that was asked for, and led elsewhere for now, was not read
        read = or_(read, ~homes.asked_for(pages, run_id))
    unseen = unseen.where(read)
    if not complete:  # it may be on another page still, which could not be read
        other = pages.alias()
        unread = (other.c.run_id < run_id) & other.c.gone_at.is_(None) & homes.asked_for(other, run_id)
        elsewhere = select(also_on.c.item_id).join(other, other.c.id == also_on.c.page_id)
        unseen = unseen.where(~elsewhere.where(also_on.c.item_id == items.c.id, unread).exists())
    others = items.alias()
    beside = (others.c.page_id == items.c.page_id) & (others.c.kind == items.c.kind) & (others.c.id != items.c.id)
    alone = ~exists().where(beside, others.c.removed_at.is_(None))
    missed = items.c.run_id < (_missed_since(connection, run_id, source, at) or 0)
    held = unseen.where(or_(alone, missed))
    chosen = unseen if complete or not _may_hide_lists(connection, run_id) else held
    gone = connection.execute(chosen.limit(REMOVED_AT_ONCE)).all()
    if gone and complete and _has_passed_lists(connection, run_id, source):
        chosen = held
        gone = connection.execute(chosen.limit(REMOVED_AT_ONCE)).all()
    if not gone:
        return [], ""
    least = min(alarms.ITEMS_LEAST, REMOVED_AT_ONCE)
    if len(gone) >= least and not alarms.is_accepted(connection, source, "items", ""):
        there = connection.scalar(select(func.count()).where(items.c.source == source, items.c.removed_at.is_(None)))
        count = int(connection.scalar(select(func.count()).select_from(chosen.subquery())) or 0)
        if count >= alarms.ITEMS_LEAST and count * 2 > int(there or 0):
            return [], f"{count} of {there} items were not seen any more; they are kept until that is accepted"
    _read_anew(connection, sorted({row.page_id for row in gone if row.seen_in < run_id}))
    _read_anew(connection, homes.listing(connection, [row.id for row in gone]))
    told = [
        changes.row(at, source, "item", "removed", kind=row.kind, item_id=row.id, page_id=row.page_id) for row in gone
    ]
    for start_at in range(0, len(gone), IN_MOST):
        ids = [row.id for row in gone[start_at : start_at + IN_MOST]]
        connection.execute(update(items).where(items.c.id.in_(ids)).values(removed_at=at))
    return told, ""


def _missed_since(connection: Connection, run_id: int, source: str, at: datetime) -> int | None:
    """The run since which enough runs, over so long, have not seen what was seen before it, so that nobody waits for it any more."""
    before = select(runs.c.id).where(
        runs.c.source == source, runs.c.kind == RunKind.CRAWL, runs.c.state == RunState.DONE, runs.c.id < run_id
    )
    last = connection.scalar(before.order_by(runs.c.id.desc()).offset(MISSED_BY - 2).limit(1))
    if last is None:
        return None
    old = before.where(runs.c.id <= last, runs.c.finished_at <= at - MISSED_FOR).order_by(runs.c.id.desc()).limit(1)
    return connection.scalar(old)


def _may_hide_lists(connection: Connection, run_id: int) -> bool:
    """Whether a run that did not see everything may have missed pages that list several items."""
    run = connection.execute(select(runs).where(runs.c.id == run_id)).one()
    if run.kind != RunKind.CRAWL or run.message is not None or run.pages >= run.max_pages:
        return True
    return connection.scalar(_HIDDEN_LISTS, {"run": run_id}) is not None


def _has_passed_lists(connection: Connection, run_id: int, source: str) -> bool:
    """Whether a run left pages with several items as they were, for it was too early to ask for them again."""
    definition = connection.scalar(select(sources.c.definition).where(sources.c.name == source)) or {}
    if not definition.get("recheck"):
        return False
    began = select(runs.c.started_at).where(runs.c.id == run_id).scalar_subquery()
    passed = (pages.c.source == source) & (pages.c.run_id == run_id) & (pages.c.fetched_at < began)
    return connection.scalar(select(pages.c.id).where(passed, pages.c.item_count > 1).limit(1)) is not None


def _read_anew(connection: Connection, ids: Sequence[int]) -> None:
    """Have pages be read when they are seen again, though they be as they are stored: their items are to return."""
    for start_at in range(0, len(ids), IN_MOST):
        part = pages.c.id.in_(ids[start_at : start_at + IN_MOST])
        connection.execute(update(pages).where(part).values(rules=UNREAD))


def stop(connection: Connection, run_id: int, at: datetime) -> bool:
    """End a run before it is done: what is in flight is stored, nothing more is visited. Returns whether it was active.

    Raises NotFound.
    """
    in_turn(connection, RUNS)
    row = connection.execute(select(runs.c.state).where(runs.c.id == run_id)).first()
    if row is None:
        raise NotFound(f"there is no run {run_id}")
    if row.state not in ACTIVE:
        return False
    values = {"state": RunState.STOPPED, "finished_at": at, "message": "stopped by hand"}
    connection.execute(update(runs).where(runs.c.id == run_id).values(**values))
    frontier.leave_queued(connection, run_id)
    return True


def pulse(connection: Connection) -> dict[str, int]:
    """Return numbers that are others when anything moved: what the active runs did, and which run is the last."""
    done = func.coalesce(func.sum(runs.c.pages + runs.c.failures), 0)
    found = connection.execute(select(func.count(), done).where(runs.c.state.in_(ACTIVE))).one()
    return {"runs": int(connection.scalar(select(func.max(runs.c.id))) or 0), "active": found[0], "done": int(found[1])}


def waiting(connection: Connection) -> int:
    """Return how many URLs the open runs know and have not visited."""
    left = func.sum(runs.c.known - runs.c.pages - runs.c.failures)
    return max(0, int(connection.scalar(select(left).where(runs.c.state == RunState.RUNNING)) or 0))


def stop_strangers(connection: Connection, known: Sequence[str], at: datetime) -> None:
    """End the runs of sources that are there no more."""
    connection.execute(
        update(runs)
        .where(runs.c.state.in_(ACTIVE), runs.c.source.not_in(known))
        .values(state=RunState.STOPPED, finished_at=at, message="the source was removed")
    )


def tallies(connection: Connection, ids: Sequence[int]) -> list[RunTally]:
    """Return the counts of these runs, as they stand."""
    rows = connection.execute(select(runs).where(runs.c.id.in_(ids)).order_by(runs.c.id)).all()
    return [RunTally(r.id, r.source, r.state, r.pages, r.known, r.items, r.bytes, r.failures, r.message) for r in rows]


def one(connection: Connection, run_id: int, at: datetime) -> dict[str, Any]:
    """Return one run as the API tells it. Raises NotFound."""
    row = connection.execute(select(runs).where(runs.c.id == run_id)).first()
    if row is None:
        raise NotFound(f"there is no run {run_id}")
    return public(row, at)


def public(row: Row[Any], at: datetime) -> dict[str, Any]:
    """Return a run as the API tells it."""
    seconds = ((row.finished_at or at) - row.started_at) / timedelta(seconds=1) if row.started_at else 0.0
    return {
        "id": row.id,
        "source": row.source,
        "kind": row.kind,
        "state": row.state,
        "queued_at": row.queued_at,
        "started_at": row.started_at,
        "finished_at": row.finished_at,
        "pages": row.pages,
        "known": row.known,
        "items": row.items,
        "bytes": row.bytes,
        "failures": row.failures,
        "changes": row.changes,
        "pages_per_s": round(row.pages / seconds, 2) if seconds > 0 else 0.0,
        "message": row.message,
    }
