"""urls: what is to become of every URL. add, claim, release."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import itemgetter
from typing import Any, cast

from sqlalchemy import Connection, Row, Text, bindparam, exists, func, literal_column, or_, select, text, update

from scraper.database.among import Among
from scraper.database.bulk import IN_MOST, Bulk, upsert
from scraper.database.models import hosts, in_state, pages, runs, urls
from scraper.records import Claim, Known, Link
from scraper.states import LastLook, RunState, UrlState
from scraper.urls import fingerprint, host_of

# A URL on whose page the scraper died so often is not visited again.
POISON = 2
# A host that is to be left alone for longer is not waited for.
REST = timedelta(seconds=15)
LOOKS_AT_ONCE = 1000


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
        "crashes": 0,
        "modified_at": link.modified_at,
        "last_look": LastLook.NONE,
    }


@dataclass(frozen=True, slots=True)
class Room:
    """How many URLs a run may still get to know. unknown_only: only such that no run has seen."""

    left: int
    unknown_only: bool = False


def add(
    connection: Connection, rows: Sequence[dict[str, Any]], rooms: Mapping[int, Room]
) -> dict[int, list[dict[str, Any]]]:
    """Enter rows of runs that these have not seen, each run as many as it has room for; return those, by run.

    What earlier runs knew is theirs now, save what is set aside.
    """
    named: dict[tuple[str, bytes], dict[str, Any]] = {}
    for row in rows:
        named.setdefault((row["source"], row["fingerprint"]), row)
    known = _known(connection, list(named), whole=not all(room.unknown_only for room in rooms.values()))
    taken: dict[int, list[dict[str, Any]]] = {run_id: [] for run_id in rooms}
    for name, row in named.items():
        run_id, there = row["run_id"], known.get(name)
        if len(taken[run_id]) < rooms[run_id].left and (there is None or _is_free(there, run_id, rooms[run_id])):
            taken[run_id].append(row)
    found = [row for wanted in taken.values() for row in wanted]
    new = [row for row in found if (row["source"], row["fingerprint"]) not in known]
    if connection.dialect.name != "sqlite":  # two who enter the same ones in another order would wait for each other
        new.sort(key=itemgetter("fingerprint"))
    _ADD.run(connection, new)
    _TAKE_OVER.run(
        connection,
        [
            {f"new_{name}": row[name] for name in TAKEN_OVER} | {"there": known[name].id}
            for row in found
            if (name := (row["source"], row["fingerprint"])) in known
        ],
    )
    return taken


def _is_free(there: Row[Any], run_id: int, room: Room) -> bool:
    return not room.unknown_only and there.run_id < run_id and there.crashes < POISON


def _known(
    connection: Connection, names: Sequence[tuple[str, bytes]], *, whole: bool
) -> dict[tuple[str, bytes], Row[Any]]:
    """What is known of URLs. whole: of what run they are too, which is not in the index."""
    statement = _KNOWN if whole else _NAMED
    return {(row.source, row.fingerprint): row for row in statement.rows(connection, [mark for _, mark in names])}


def _taken_over(statement: Any) -> Any:
    """URLs of earlier runs belong to this one now, save those that are set aside."""
    return statement.on_conflict_do_update(
        index_elements=["source", "fingerprint"],
        set_={name: statement.excluded[name] for name in TAKEN_OVER} | {"not_before": None, "claimed_by": None},
        where=(urls.c.run_id < statement.excluded.run_id) & (urls.c.crashes < POISON),
    )


TAKEN_OVER = ("run_id", "rank", "depth", "kind", "state", "attempts", "modified_at", "last_look")
_KNOWN = Among(
    lambda _: select(urls.c.id, urls.c.source, urls.c.fingerprint, urls.c.run_id, urls.c.crashes).where(
        urls.c.fingerprint.in_(bindparam("marks", expanding=True))
    )
)
_NAMED = Among(
    lambda _: select(urls.c.id, urls.c.source, urls.c.fingerprint).where(
        urls.c.fingerprint.in_(bindparam("marks", expanding=True))
    )
)
# Whether a run's source has URLs of earlier runs, by an index whose second column is the look. In words, as in in_state().
OLDER = exists().where(
    urls.c.source == runs.c.source,
    text(f"urls.last_look IN ({', '.join(str(look) for look in range(LastLook.HAD + 1))})"),
    urls.c.run_id < runs.c.id,
)
_ADD = Bulk(lambda dialect: _taken_over(upsert(dialect, urls)))  # another process may have entered it meanwhile
_TAKE_OVER = Bulk(
    lambda _: (
        update(urls)
        .where(urls.c.id == bindparam("there"))
        .values({name: bindparam(f"new_{name}") for name in TAKEN_OVER} | {"not_before": None, "claimed_by": None})
    )
)


def set_aside(connection: Connection, row: dict[str, Any]) -> int | None:
    """Enter a URL that is not visited; return its id, or None if this run has it already."""
    statement = _taken_over(upsert(connection.dialect.name, urls).values(**row)).returning(urls.c.id)
    found: int | None = connection.scalar(statement)
    return found


_OPEN_RUNS = select(runs.c.id).where(runs.c.state.in_([RunState.QUEUED, RunState.RUNNING]))


def look_once_more(connection: Connection, run_id: int, source: str, most: int) -> bool:
    """Have a run that came to its end ask for pages of its source that it did not come upon: are they still there?

    most: how many, at most a portion; what is left is for the next run. Returns whether there are any.
    """
    which = {"of": source, "run": run_id}
    if most <= 0 or connection.scalar(_UNDER_WAY, which) is not None:
        return False
    found = connection.execute(_UNLOOKED, which | {"portion": LOOKS_AT_ONCE}).all()
    wanted = [row.id for row in found if row.there][:most]
    asked = {"run_id": run_id, "state": UrlState.QUEUED, "attempts": 0, "not_before": None, "claimed_by": None}
    _LOOK.run(connection, wanted, **asked)
    nothing = [row.id for row in found if not row.there]
    _LOOKED.run(connection, nothing)
    return bool(wanted)


_UNDER_WAY = (
    select(urls.c.id)
    .where(urls.c.source == bindparam("of"), urls.c.run_id == bindparam("run"), urls.c.last_look > LastLook.NONE)
    .limit(1)
)
_SAME_PAGE = (pages.c.fingerprint == urls.c.fingerprint) & (pages.c.source == urls.c.source)
_IS_THERE = exists().where(_SAME_PAGE, pages.c.gone_at.is_(None)) & (urls.c.kind == "page") & (urls.c.crashes < POISON)
_UNLOOKED = (
    select(urls.c.id, _IS_THERE.label("there"))
    .where(urls.c.source == bindparam("of"), urls.c.last_look < LastLook.HAD, urls.c.run_id < bindparam("run"))
    .where(urls.c.run_id.not_in(_OPEN_RUNS))
    .order_by(urls.c.last_look, urls.c.run_id)
    .limit(bindparam("portion"))
)
_LOOK = Among(
    lambda _: (
        update(urls)
        .where(urls.c.id.in_(bindparam("some", expanding=True)))
        .values(
            {name: bindparam(name) for name in ("run_id", "state", "attempts", "not_before", "claimed_by")}
            | {"last_look": urls.c.last_look + 1, "modified_at": None}
        )
    )
)
_LOOKED = Among(
    lambda _: update(urls).where(urls.c.id.in_(bindparam("some", expanding=True))).values(last_look=LastLook.HAD)
)


def looked(connection: Connection, ids: Sequence[int]) -> None:
    """Note of URLs that their last look was had."""
    _LOOKED.run(connection, ids)


def leave_queued(connection: Connection, run_id: int) -> None:
    """Have what a run has not visited not be visited any more."""
    waiting = (urls.c.run_id == run_id) & in_state(UrlState.QUEUED)
    connection.execute(update(urls).where(waiting).values(state=UrlState.DONE, not_before=None))


def again(connection: Connection, ids: Sequence[int], run_id: int) -> None:
    """Have URLs visited again as part of a run, as if nothing had ever gone wrong with them."""
    waiting = urls.c.state.in_([UrlState.QUEUED, UrlState.CLAIMED]) & urls.c.run_id.in_(_OPEN_RUNS)
    connection.execute(
        update(urls)
        .where(urls.c.id.in_(ids), ~waiting)
        .values(run_id=run_id, state=UrlState.QUEUED, attempts=0, crashes=0, not_before=None, claimed_by=None)
        .values(last_look=LastLook.NONE)
    )
    connection.execute(  # what waits for its next try need not wait any longer
        update(urls)
        .where(urls.c.id.in_(ids), in_state(UrlState.QUEUED))
        .values(not_before=None, last_look=LastLook.NONE)
    )


@dataclass(slots=True)
class Due:
    """A host with URLs to visit now: whether it may be leased, and the runs that they belong to."""

    free: bool
    runs: set[int]


def hosts_due(
    connection: Connection, at: datetime, active: Sequence[int], owner: str, lapsed: datetime | None = None
) -> dict[str, Due]:
    """Return the hosts at which these runs have URLs to visit now, in order. owner: for whom they are free or not.

    lapsed: as for hosts.lease().
    By leaps over the index, from host to host: a long queue at one costs no more than a short one.
    """
    found: dict[str, Due] = {}
    for run_id, host, free in _DUE.rows(connection, active, at=at, lapsed=lapsed or at, rest=at + REST, owner=owner):
        found.setdefault(host, Due(bool(free), set())).runs.add(run_id)
    return dict(sorted(found.items()))


def _due() -> Any:
    at, lapsed, rest, owner = (cast(Any, bindparam(name)) for name in ("at", "lapsed", "rest", "owner"))
    first = select(func.min(urls.c.host)).where(urls.c.run_id == runs.c.id, in_state(UrlState.QUEUED))
    active = runs.c.id.in_(bindparam("runs", expanding=True))
    start = select(runs.c.id.label("run_id"), first.scalar_subquery().label("host")).where(active)
    leap = start.cte("leap", recursive=True)
    queued = (urls.c.run_id == leap.c.run_id) & (in_state(UrlState.QUEUED))
    further = select(func.min(urls.c.host)).where(queued, urls.c.host > leap.c.host).scalar_subquery()
    leap = leap.union_all(select(leap.c.run_id, further).where(leap.c.host.is_not(None)))
    queued = (urls.c.run_id == leap.c.run_id) & (in_state(UrlState.QUEUED))
    ripe = or_(urls.c.not_before.is_(None), urls.c.not_before <= at)
    ready = exists().where(queued, urls.c.host == leap.c.host, ripe)
    resting = exists().where(hosts.c.host == leap.c.host, hosts.c.next_at > rest)
    others = (hosts.c.lease_owner != owner) & (hosts.c.lease_until >= lapsed)
    taken = exists().where(hosts.c.host == leap.c.host, others)
    return select(leap.c.run_id, leap.c.host, ~taken).where(leap.c.host.is_not(None), ready, ~resting)


_DUE = Among(lambda _: _due())


def next_retry(connection: Connection, at: datetime) -> datetime | None:
    """Return when the next URL that waits at this moment may be tried again."""
    found: datetime | None = connection.scalar(_NEXT_RETRY, {"at": at})
    return found


# Along the index of what waits, to the first that is wanted: a list of runs would be taken as a way to all that is queued.
_NEXT_RETRY = (
    select(urls.c.not_before)
    .where(urls.c.not_before > bindparam("at"), in_state(UrlState.QUEUED))
    .where(exists().where(runs.c.id == urls.c.run_id, runs.c.state == RunState.RUNNING))
    .order_by(urls.c.not_before)
    .limit(1)
)


def claim(
    connection: Connection,
    wanted: Sequence[tuple[str, int]],
    owner: str,
    at: datetime,
    runs_at: Mapping[str, Collection[int]],
    budgets: dict[int, int],
) -> dict[str, list[Claim]]:
    """Take URLs of hosts: those of a high priority first, then shallow ones, each run in its turn. Returns them by host.

    wanted: the hosts, and of each how many at most. runs_at: those that have URLs at a host. budgets: by run, how many pages
    it may still visit; what is taken is taken off.
    """
    chosen = [
        url_id
        for host, most in wanted
        for url_id in _choose(connection, host, most, at, runs_at.get(host, ()), budgets)
    ]
    found: dict[str, list[Claim]] = {host: [] for host, _ in wanted}
    for taken in _take(connection, chosen, owner):
        found[taken.host].append(taken)
    return found


def _choose(
    connection: Connection, host: str, limit: int, at: datetime, runs_there: Collection[int], budgets: dict[int, int]
) -> list[int]:
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
    return taken


# Built once: they are run for every host, time and again.
_WAITING = (
    select(urls.c.id, urls.c.run_id, urls.c.kind)
    .where(urls.c.run_id == bindparam("run"), in_state(UrlState.QUEUED), urls.c.host == bindparam("at_host"))
    .where(or_(urls.c.not_before.is_(None), urls.c.not_before <= bindparam("at")))
    .order_by(urls.c.rank, urls.c.depth, urls.c.id)
    .limit(bindparam("most"))
)
_TAKE = Among(
    lambda _: (
        update(urls)
        .where(urls.c.id.in_(bindparam("taken", expanding=True)), in_state(UrlState.QUEUED))
        .values(state=UrlState.CLAIMED, claimed_by=bindparam("owner"))
    )
)
_TAKEN = Among(
    lambda _: (
        select(urls, pages.c.id.label("page_id"), pages.c.final_url, pages.c.headers)
        .add_columns(pages.c.rules, pages.c.links, pages.c.item_count, pages.c.stored_bytes, pages.c.content_hash)
        .add_columns(pages.c.fetched_at, pages.c.check_every_s, pages.c.check_after)
        .outerjoin(pages, (pages.c.source == urls.c.source) & (pages.c.fingerprint == urls.c.fingerprint))
        .where(urls.c.id.in_(bindparam("taken", expanding=True)), urls.c.claimed_by == bindparam("owner"))
    )
)


def _waiting(connection: Connection, host: str, run_id: int, limit: int, at: datetime) -> list[tuple[int, int, str]]:
    rows = connection.execute(_WAITING, {"run": run_id, "at_host": host, "at": at, "most": limit})
    return [(row.id, row.run_id, row.kind) for row in rows]


def _take(connection: Connection, taken: Sequence[int], owner: str) -> list[Claim]:
    _TAKE.run(connection, taken, owner=owner)
    rows = _TAKEN.rows(connection, taken, owner=owner)
    place = {url_id: number for number, url_id in enumerate(taken)}
    return [_claim(row) for row in sorted(rows, key=lambda row: place[row.id])]


def _claim(row: Any) -> Claim:
    known = None
    if row.page_id is not None:
        headers = row.headers or {}
        validators = headers.get("etag"), headers.get("last-modified")
        known = Known(
            row.page_id,
            row.final_url,
            *validators,
            row.rules,
            row.links or b"",
            row.item_count,
            row.stored_bytes > 0,
            row.content_hash,
            row.fetched_at,
            row.check_every_s,
            row.check_after,
        )
    named = row.id, row.run_id, row.source, row.url, row.host, row.depth, row.kind, row.attempts
    return Claim(*named, known, row.modified_at, row.last_look != LastLook.NONE)


def claimed(connection: Connection) -> dict[int, int]:
    """Return how many pages of each run are being visited."""
    return {run_id: count for run_id, count in connection.execute(_CLAIMED).all()}


_CLAIMED = (
    select(urls.c.run_id, func.count())
    .where(urls.c.claimed_by.is_not(None), urls.c.kind == "page")
    .group_by(urls.c.run_id)
)


def release(connection: Connection, owner: str) -> None:
    """Give back URLs that were claimed by this owner and not visited."""
    mine = urls.c.claimed_by == owner
    connection.execute(update(urls).where(mine, _OVER).values(state=UrlState.DONE, claimed_by=None))
    connection.execute(update(urls).where(mine).values(state=UrlState.QUEUED, claimed_by=None))


# What a run that is over has left is visited by nobody.
_ENDED = [literal_column(f"'{state}'", Text) for state in (RunState.DONE, RunState.FAILED, RunState.STOPPED)]
_OVER = exists().where(runs.c.id == urls.c.run_id, or_(*(runs.c.state == state for state in _ENDED)))


def claimed_by(connection: Connection, owner: str) -> set[int]:
    """Return the URLs that an owner has claimed."""
    return set(connection.scalars(select(urls.c.id).where(urls.c.claimed_by == owner)))


def unclaim(connection: Connection, owner: str, ids: Sequence[int]) -> None:
    """Give back these URLs of an owner, which were not visited; those of a run that is over will not be."""
    for start in range(0, len(ids), IN_MOST):
        mine = urls.c.id.in_(ids[start : start + IN_MOST]) & (urls.c.claimed_by == owner)
        connection.execute(update(urls).where(mine, _OVER).values(state=UrlState.DONE, claimed_by=None))
        connection.execute(update(urls).where(mine).values(state=UrlState.QUEUED, claimed_by=None))


def take_back(connection: Connection, former: Mapping[str, str]) -> None:
    """Give back what workers had claimed at hosts that they have lost, by host: what they bring of it is refused from now on."""
    rows = [{"at_host": host, "owner": owner} for host, owner in former.items()]
    _END_OVER.run(connection, rows)
    _TAKE_BACK.run(connection, rows)


_THEIRS = (urls.c.claimed_by == bindparam("owner")) & (urls.c.host == bindparam("at_host"))
_END_OVER = Bulk(lambda _: update(urls).where(_THEIRS, _OVER).values(state=UrlState.DONE, claimed_by=None))
_TAKE_BACK = Bulk(lambda _: update(urls).where(_THEIRS).values(state=UrlState.QUEUED, claimed_by=None))


def release_lost(connection: Connection, at: datetime) -> None:
    """Give back what was claimed by workers that hold no lease any more."""
    living = select(hosts.c.lease_owner).where(hosts.c.lease_until > at, hosts.c.lease_owner.is_not(None))
    lost = urls.c.claimed_by.is_not(None) & urls.c.claimed_by.not_in(living)
    connection.execute(update(urls).where(lost, _OVER).values(state=UrlState.DONE, claimed_by=None))
    connection.execute(update(urls).where(lost).values(state=UrlState.QUEUED, claimed_by=None))


def strangers(connection: Connection, instance: str) -> list[str]:
    """Return the owners of claims and leases that belong to another instance than this one."""
    claimed_by = select(urls.c.claimed_by).where(urls.c.claimed_by.is_not(None)).distinct()
    leased = select(hosts.c.lease_owner).where(hosts.c.lease_owner.is_not(None)).distinct()
    owners = {*connection.scalars(claimed_by), *connection.scalars(leased)} - {None}
    return sorted(owner for owner in owners if not owner.endswith(f"@{instance}"))


def listed(connection: Connection, state: str, source: str | None, limit: int) -> list[dict[str, Any]]:
    """Return URLs of the open runs: "due" ones that are visited next, those in "flight", those that wait for a next try."""
    wanted = {
        "flight": urls.c.claimed_by.is_not(None),
        "retrying": urls.c.not_before.is_not(None) & in_state(UrlState.QUEUED),
    }.get(state, in_state(UrlState.QUEUED) & urls.c.not_before.is_(None))
    open_runs = select(runs.c.id).where(runs.c.state == RunState.RUNNING)
    statement = select(urls).where(wanted, urls.c.run_id.in_(open_runs)).limit(limit)
    if source is not None:
        statement = statement.where(urls.c.source == source)
    order = (
        (urls.c.not_before,)
        if state == "retrying"
        else (urls.c.run_id, urls.c.host, urls.c.rank, urls.c.depth, urls.c.id)
    )
    names = ("id", "source", "url", "host", "kind", "depth", "attempts", "not_before", "claimed_by")
    return [{name: getattr(row, name) for name in names} for row in connection.execute(statement.order_by(*order))]


def count(connection: Connection, run_id: int, state: UrlState) -> int:
    """Return how many URLs of a run are in a state."""
    return int(connection.scalar(select(func.count()).where(urls.c.run_id == run_id, in_state(state))) or 0)
