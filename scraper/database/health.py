"""How sources are doing: what fails, what slows them down, what they brought lately."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache, lru_cache
from operator import itemgetter
from typing import Any, NamedTuple

from sqlalchemy import (
    BindParameter,
    Connection,
    Row,
    Select,
    Text,
    bindparam,
    case,
    cast,
    func,
    not_,
    null,
    or_,
    select,
    true,
    type_coerce,
    union_all,
)
from sqlalchemy.types import NullType

from scraper.config import allowance
from scraper.config.masking import masked
from scraper.config.settings import Source
from scraper.config.shape import build
from scraper.database import alarms
from scraper.database.bulk import IN_MOST
from scraper.database.connection import now
from scraper.database.hosts import robots_of as stored_robots
from scraper.database.models import OWNERS, failures, hosts, is_owners, runs, sources, usage
from scraper.database.models import alarms as alarm_rows
from scraper.database.sources import definition as of_name
from scraper.database.sources import tag
from scraper.errors import NotFound
from scraper.states import RunKind, RunState
from scraper.urls import Scope, canonical

PENALTY_TOLD_S = 0.1
OUTCOMES, OUTCOMES_LISTED = 30, 20
STATES = ("ok", "failing", "degraded", "paused", "disabled", "new")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which sources: in one of STATES, with a text in name or address, with a tag; in which order, which part of them."""

    state: str | None = None
    q: str | None = None
    tag: str | None = None
    origin: str | None = None
    sort: str = "name"
    after: str | None = None
    limit: int = 100


class Summary(NamedTuple):
    """One source, and how it is doing. The rest is there where sources are chosen by it, its instants as the driver gives them."""

    name: str
    health: str
    origin: str
    tags: str
    last_run_at: Any
    next_at: Any


def _last_run(column: Any) -> Any:
    """A column of the last run of a source that came to its end; what was tried again, or stopped by hand, says nothing of it."""
    ended = select(column).where(
        runs.c.source == sources.c.name,
        runs.c.state.in_([RunState.DONE, RunState.FAILED]),
        runs.c.kind != RunKind.RETRY,
    )
    return ended.order_by(runs.c.id.desc()).limit(1).correlate(sources).scalar_subquery()


# failing: the last run brought nothing. Whether one that is ok is degraded rather, see _health().
_STATE = case(
    (not_(sources.c.enabled), "disabled"),
    (sources.c.paused_at.is_not(None), "paused"),
    (sources.c.last_run_at.is_(None), "new"),
    (_last_run(runs.c.state) == RunState.FAILED, "failing"),
    else_="ok",
)
_ILL = union_all(
    select(failures.c.source).where(is_owners).distinct(),
    select(alarm_rows.c.source).where(alarm_rows.c.resolved_at.is_(None), alarm_rows.c.accepted_at.is_(None)),
)


def _health(state: str, ill: bool) -> str:
    """degraded: what its owner can mend fails."""
    return "degraded" if ill and state == "ok" else state


def summaries(connection: Connection, *lists: Wanted) -> list[Summary]:
    """Return all sources with their health, by name. lists: what will be chosen from them; no more is read."""
    ill = set(connection.scalars(_ILL).all())
    rows = connection.execute(_few(frozenset(name for wanted in lists for name in _columns(wanted)))).all()
    found = [
        Summary(name, _health(state, name in ill), origin, tags, last, due)
        for name, state, origin, tags, last, due in rows
    ]
    found.sort(key=_by_name)
    return found


_by_name = itemgetter(0)
_SORTED_BY = {"last": "last_run_at", "next": "next_at"}


def _columns(wanted: Wanted) -> Iterator[str]:
    """By which columns sources are chosen, beside their names and their health."""
    if wanted.origin is not None:
        yield "origin"
    if wanted.tag is not None or wanted.q is not None:
        yield "tags"
    if wanted.sort in _SORTED_BY:
        yield _SORTED_BY[wanted.sort]


@cache
def _few(needed: frozenset[str]) -> Select[Any]:
    """Of all sources only what is needed: that they are a thousand shows in each column."""
    rest = [type_coerce(sources.c[name], NullType()) if name in needed else null() for name in Summary._fields[2:]]
    return select(sources.c.name, _STATE, *rest)


def counts(found: Iterable[Summary]) -> dict[str, int]:
    """Return how many sources are in each of STATES."""
    there = Counter([one.health for one in found])
    return {state: there[state] for state in STATES}


_WORST = {state: place for place, state in enumerate(("failing", "degraded", "new", "ok", "paused", "disabled"))}
SORTS: dict[str, Callable[[Summary], Any]] = {
    "health": lambda one: _WORST[one.health],
    "last": lambda one: (one.last_run_at is not None, one.last_run_at),
    "next": lambda one: (one.next_at is None, one.next_at),
}


def chosen(found: Sequence[Summary], wanted: Wanted) -> tuple[list[Summary], bool]:
    """Return the part of the sources that is wanted, and whether there is more. found: by name."""
    kept = [one for one in found if one.health == wanted.state] if wanted.state is not None else list(found)
    if wanted.origin is not None or wanted.tag is not None or wanted.q is not None:
        kept = [one for one in kept if _is_wanted(one, wanted)]
    if wanted.sort in SORTS:
        kept.sort(key=SORTS[wanted.sort], reverse=wanted.sort == "last")
    start = _start([one.name for one in kept], wanted.after, wanted.sort) if wanted.after is not None else 0
    return kept[start : start + wanted.limit], len(kept) > start + wanted.limit


def _start(names: Sequence[str], after: str, sort: str) -> int:
    """The place after the source after which the part begins, which by name need not be there any more."""
    if after in names:
        return names.index(after) + 1
    return sum(1 for name in names if name <= after) if sort == "name" else 0


def _is_wanted(one: Summary, wanted: Wanted) -> bool:
    return (
        (wanted.origin is None or one.origin == wanted.origin)
        and (wanted.tag is None or f" {wanted.tag} " in one.tags)
        and (wanted.q is None or wanted.q.lower() in one.name or wanted.q.lower() in one.tags)
    )


def listed(connection: Connection, wanted: Wanted | None = None) -> tuple[list[dict[str, Any]], str | None]:
    """Return sources as the API tells them, and the name after which there are more."""
    wanted = wanted or Wanted(limit=1_000_000)
    part, more = chosen(summaries(connection, wanted), wanted)
    return told(connection, part), part[-1].name if more else None


def one(connection: Connection, name: str) -> dict[str, Any]:
    """Return one source as the API tells it. Raises NotFound."""
    found = _told(connection, [name], now())
    if not found:
        raise NotFound(f"there is no source {name!r}; `bowerbird sources list` names them")
    return found[name]


def told(connection: Connection, part: Sequence[Summary]) -> list[dict[str, Any]]:
    """Return sources as the API tells them."""
    at, names, rows = now(), [one.name for one in part], dict[str, dict[str, Any]]()
    for start in range(0, len(names), IN_MOST):
        rows |= _told(connection, names[start : start + IN_MOST], at)
    return [rows[name] for name in names if name in rows]


def _told(connection: Connection, names: Sequence[str], at: datetime) -> dict[str, dict[str, Any]]:
    rows = connection.execute(_WHOLE, {"names": names, "day": at.date().isoformat()}).all()
    defined = {row.name: _defined(row.definition) for row in rows}
    known = _Known(at, _troubles(connection, names), alarms.by_source(connection, names), _slow(connection, defined))
    return {row.name: _public(row, defined[row.name], known) for row in rows}


_NAMES: BindParameter[Any] = bindparam("names", expanding=True)
_DEFINITION = cast(sources.c.definition, Text).label("definition")  # by its text it is known again
_MESSAGE = _last_run(runs.c.message).label("message")
# Of each source all that is in one row somewhere.
_WHOLE: Select[Any] = (
    select(
        *(column for column in sources.c if column is not sources.c.definition),
        *(_DEFINITION, _STATE.label("state"), _MESSAGE),
        *(func.coalesce(usage.c[name], 0).label(f"{name}_today") for name in ("pages", "bytes", "changes")),
    )
    .select_from(sources.outerjoin(usage, (usage.c.source == sources.c.name) & (usage.c.day == bindparam("day"))))
    .where(sources.c.name.in_(_NAMES))
)


@dataclass(frozen=True, slots=True)
class _Known:
    """What else is known of some sources at this moment: by their names, and of the hosts that are slow by theirs."""

    at: datetime
    troubles: Mapping[str, list[dict[str, Any]]]
    alarms: Mapping[str, list[dict[str, Any]]]
    hosts: Mapping[str, Row[Any]]


@dataclass(frozen=True, slots=True)
class _Defined:
    """What a definition says. shown: without secrets; source: nothing where it is of a version that knew other settings."""

    shown: dict[str, Any]
    source: Source | None
    hosts: tuple[str, ...]
    tag: str


@lru_cache(maxsize=4096)
def _defined(text: str) -> _Defined:
    """Read a definition. A thousand sources are shown more often than one is changed."""
    definition = json.loads(text)
    source = build(Source, definition, (), [])
    starts = (*source.start, *source.sitemaps) if source is not None else ()
    asked = sorted(Scope.around(url for text in starts if (url := canonical(text))).hosts)  # with and without www
    return _Defined(masked(definition), source, tuple(asked), tag(definition))


def _slow(connection: Connection, defined: Mapping[str, _Defined]) -> dict[str, Row[Any]]:
    """The hosts at which some sources start, and where something slows them down."""
    names = sorted({host for one in defined.values() for host in one.hosts})
    found: dict[str, Row[Any]] = {}
    for start in range(0, len(names), IN_MOST):
        rows = connection.execute(_SLOW, {"names": names[start : start + IN_MOST]}).all()
        found |= {row.host: row for row in rows}
    return found


_SLOW = select(*(hosts.c[name] for name in ("host", "crawl_delay_s", "penalty_s", "why", "next_at"))).where(
    hosts.c.host.in_(_NAMES), or_(hosts.c.crawl_delay_s > 0, hosts.c.penalty_s > 0, hosts.c.why.is_not(None))
)


def _troubles(connection: Connection, names: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """What fails at present, by source: each reason with how often, and the last URL and message."""
    grouped = connection.execute(_GROUPED, {"names": names}).all()
    last: dict[int, Row[Any]] = {}
    for start in range(0, len(grouped), IN_MOST):
        ids = [row.last for row in grouped[start : start + IN_MOST]]
        last |= {row.id: row for row in connection.execute(_LAST, {"ids": ids}).all()}
    found: dict[str, list[dict[str, Any]]] = {}
    for source, reason, count, number in grouped:
        of = last[number]
        facts = {"reason": reason, "count": count, "url": of.url, "message": of.message, "last_at": of.last_at}
        found.setdefault(source, []).append(facts)
    return found


# Not joined: a server that thinks the groups are many goes through the whole table.
_GROUPED = (
    select(failures.c.source, failures.c.reason, func.count().label("count"), func.max(failures.c.id).label("last"))
    .where(failures.c.resolved_at.is_(None), failures.c.source.in_(_NAMES))
    .group_by(failures.c.source, failures.c.reason)
    .order_by(func.count().desc())
)
_LAST: Select[Any] = select(failures.c.id, failures.c.url, failures.c.message, failures.c.last_at).where(
    failures.c.id.in_(bindparam("ids", expanding=True))
)


def _slowed(row: Row[Any], defined: _Defined, known: _Known) -> list[dict[str, Any]]:
    """What keeps a source from being visited as fast as its delay allows, each with why."""
    source = defined.source
    if source is None:
        return []
    found: list[dict[str, Any]] = []
    if (opens := allowance.opens_at(source, known.at)) is not None:
        found.append({"what": "window", "until": opens, "why": f"outside its window {', '.join(source.window)}"})
    if (spent := allowance.spent(source, (row.pages_today, row.bytes_today))) is not None:
        found.append({"what": "budget", "until": allowance.midnight(known.at), "why": spent})
    for host in defined.hosts:
        if (slow := known.hosts.get(host)) is not None:
            found += _slow_host(slow, known.at)
    return found


def _slow_host(row: Row[Any], at: datetime) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    if row.crawl_delay_s:
        why = f"its robots.txt asks for {row.crawl_delay_s:g} s between requests"
        found.append({"what": "crawl_delay", "host": row.host, "seconds": row.crawl_delay_s, "why": why})
    if row.penalty_s > PENALTY_TOLD_S:
        why = f"it failed or was slow lately: {row.penalty_s:.1f} s are added between requests, less with each good answer"
        found.append({"what": "penalty", "host": row.host, "seconds": round(row.penalty_s, 1), "why": why})
    if row.why and row.next_at is not None and row.next_at > at:
        found.append({"what": "pause", "host": row.host, "until": row.next_at, "why": row.why})
    return found


def _public(row: Row[Any], defined: _Defined, known: _Known) -> dict[str, Any]:
    shown, visited = defined.shown, row.enabled and row.paused_at is None
    troubles, raised = known.troubles.get(row.name, []), known.alarms.get(row.name, [])
    ill = bool(raised) or any(trouble["reason"] in OWNERS for trouble in troubles)
    return {
        "name": row.name,
        "start": shown.get("start", []),
        "enabled": visited,
        "every": shown.get("every"),
        "cron": shown.get("cron"),
        "origin": row.origin,
        "tags": row.tags.split(),
        "last_run": row.last_run_at,
        "run_id": row.run_id,
        "checked_at": row.checked_at,
        "next_at": row.next_at if visited else None,
        "paused_at": row.paused_at,
        "health": _health(row.state, ill),
        "message": row.message,
        "troubles": troubles,
        "alarms": raised,
        "slowed_by": _slowed(row, defined, known),
        "pages_today": row.pages_today,
        "bytes_today": row.bytes_today,
        "changes_today": row.changes_today,
        "tag": defined.tag,
        "definition": dict(shown),
    }


def robots_of(connection: Connection, name: str) -> list[dict[str, Any]]:
    """Return what the robots.txt of the hosts that a source starts at said last. Raises NotFound."""
    definition = of_name(connection, name)
    starts = [
        url for text in (*definition.get("start", ()), *definition.get("sitemaps", ())) if (url := canonical(text))
    ]
    origins = sorted({"/".join(url.split("/")[:3]) for url in starts})
    found = stored_robots(connection, origins)
    return [
        {"origin": origin, "status": told.status, "fetched_at": told.fetched_at, "text": told.text}
        for origin, told in found.items()
    ]


def messages(connection: Connection, names: Sequence[str]) -> dict[str, str | None]:
    """Return what the last run of each source that ended said."""
    found: dict[str, str | None] = {}
    for start in range(0, len(names), IN_MOST):
        rows = connection.execute(_SAID, {"names": names[start : start + IN_MOST]}).all()
        found |= {row.name: row.message for row in rows}
    return found


_SAID = select(sources.c.name, _MESSAGE).where(sources.c.name.in_(_NAMES))


def outcomes(connection: Connection, names: Sequence[str], most: int = OUTCOMES) -> dict[str, list[dict[str, Any]]]:
    """Return the last runs of each source, save those that only try again what failed: the oldest first, at most so many."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    statement = _outcomes(connection.dialect.name, most)
    for start in range(0, len(names), IN_MOST):
        rows = connection.execute(statement, {"names": names[start : start + IN_MOST]}).all()
        for source, number, state, pages, failed, began, ended in rows:
            facts = {"id": number, "state": state, "pages": pages, "failures": failed}
            found[source].append(facts | {"started_at": began, "finished_at": ended})
    for told in found.values():
        told.sort(key=_by_id)
    return found


_by_id = itemgetter("id")


@cache
def _outcomes(dialect: str, most: int) -> Select[Any]:
    """Of each source its last runs, by a leap over an index. What PostgreSQL has for that, SQLite has not: it leaps twice."""
    facts = [runs.c[name] for name in ("id", "state", "pages", "failures", "started_at", "finished_at")]
    whole = runs.c.kind != RunKind.RETRY
    last = select(*facts).where(runs.c.source == sources.c.name, whole).order_by(runs.c.id.desc()).limit(most)
    ours = sources.c.name.in_(_NAMES)
    if dialect != "sqlite":
        each = last.correlate(sources).lateral()
        return select(sources.c.name, *each.c).select_from(sources.join(each, true())).where(ours)
    first = last.with_only_columns(runs.c.id).limit(1).offset(most - 1).correlate(sources).scalar_subquery()
    begin = select(sources.c.name, func.coalesce(first, 0).label("first")).where(ours).subquery()
    return select(begin.c.name, *facts).join(
        runs, (runs.c.source == begin.c.name) & (runs.c.id >= begin.c.first) & whole
    )
