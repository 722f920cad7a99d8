"""How sources are doing: what fails, what slows them down, what they brought lately."""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Row, Select, func, or_, select, type_coerce
from sqlalchemy.types import NullType

from scraper.config import allowance, secrets
from scraper.config.settings import Source
from scraper.config.shape import build
from scraper.database import alarms
from scraper.database.bulk import IN_MOST
from scraper.database.connection import now
from scraper.database.hosts import robots_of as stored_robots
from scraper.database.models import alarms as alarm_rows
from scraper.database.models import changes as changes_of
from scraper.database.models import failures, hosts, runs, sources, urls, usage
from scraper.database.models import items as items_of
from scraper.database.models import pages as pages_of
from scraper.database.sources import definition as of_name
from scraper.database.sources import tag
from scraper.errors import BadConfig, Failure, NotFound, Problem
from scraper.states import RunState
from scraper.urls import canonical, host_of

HOSTS_MOST = 10_000
PENALTY_TOLD_S = 0.1
OUTCOMES, OUTCOMES_LISTED = 30, 20
# What fails for reasons of ours, or of the user's own parser, and not of the site.
OWNERS = (Failure.EXTRACT, Failure.PARSE_LIMIT, Failure.POISON, Failure.STORE)
STATES = ("ok", "failing", "degraded", "paused", "disabled", "new")
HIDDEN = "***"


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


# Of all sources only what is sorted and chosen by is read, its instants as the driver gives them.
_FEW: tuple[Any, ...] = (
    *(sources.c[name] for name in ("name", "origin", "enabled", "tags")),
    *(type_coerce(sources.c[name], NullType()).label(name) for name in ("last_run_at", "next_at", "paused_at")),
)


def _summaries(where: Collection[Any] = (), columns: Sequence[Any] = tuple(sources.c)) -> Select[Any]:
    """Of each source its last run that ended, by a leap each over the index."""
    last = (
        select(runs.c.id)
        .where(runs.c.source == sources.c.name, runs.c.finished_at.is_not(None))
        .order_by(runs.c.id.desc())
        .limit(1)
        .correlate(sources)
        .scalar_subquery()
    )
    seen = select(*columns, last.label("last_id")).where(*where).subquery()
    told = [column for column in seen.c if column.name != "definition"]
    return select(*told, runs.c.state, runs.c.message).outerjoin(runs, runs.c.id == seen.c.last_id)


@dataclass(frozen=True, slots=True)
class Summary:
    """One source, and how it is doing. row: its name, origin, tags and the message of its last run; more only from one()."""

    row: Row[Any]
    health: str


def summaries(connection: Connection) -> list[Summary]:
    """Return all sources with their health, by name."""
    owners = select(failures.c.source).where(failures.c.resolved_at.is_(None), failures.c.reason.in_(OWNERS)).distinct()
    alarmed = select(alarm_rows.c.source).where(alarm_rows.c.resolved_at.is_(None)).distinct()
    ill = {*connection.scalars(owners), *connection.scalars(alarmed)}
    rows = connection.execute(_summaries(columns=_FEW)).all()
    return sorted((Summary(row, _health(row, row.name in ill)) for row in rows), key=lambda found: found.row.name)


def _health(row: Any, ill: bool) -> str:
    """new, disabled, paused, failing (the last run brought nothing), degraded (what its owner can mend fails), ok."""
    if not row.enabled:
        return "disabled"
    if row.paused_at is not None:
        return "paused"
    if row.last_run_at is None:
        return "new"
    if row.state == RunState.FAILED:
        return "failing"
    return "degraded" if ill else "ok"


def counts(found: Sequence[Summary]) -> dict[str, int]:
    """Return how many sources are in each of STATES."""
    return {state: sum(1 for one in found if one.health == state) for state in STATES}


_WORST = {state: place for place, state in enumerate(("failing", "degraded", "new", "ok", "paused", "disabled"))}
SORTS: dict[str, Callable[[Summary], Any]] = {
    "name": lambda one: 0,
    "health": lambda one: _WORST[one.health],
    "last": lambda one: (one.row.last_run_at is not None, one.row.last_run_at),
    "next": lambda one: (one.row.next_at is None, one.row.next_at),
}


def chosen(found: Sequence[Summary], wanted: Wanted) -> tuple[list[Summary], bool]:
    """Return the part of the sources that is wanted, and whether there is more."""
    kept = [one for one in found if _is_wanted(one, wanted)]
    kept.sort(key=lambda one: one.row.name)
    kept.sort(key=SORTS[wanted.sort], reverse=wanted.sort == "last")
    names = [one.row.name for one in kept]
    start = names.index(wanted.after) + 1 if wanted.after in names else 0
    if wanted.after is not None and not start and wanted.sort == "name":
        start = sum(1 for name in names if name <= wanted.after)
    return kept[start : start + wanted.limit], len(kept) > start + wanted.limit


def _is_wanted(one: Summary, wanted: Wanted) -> bool:
    row = one.row
    return (
        (wanted.state is None or one.health == wanted.state)
        and (wanted.origin is None or row.origin == wanted.origin)
        and (wanted.tag is None or f" {wanted.tag} " in row.tags)
        and (wanted.q is None or wanted.q.lower() in row.name or wanted.q.lower() in row.tags)
    )


def listed(connection: Connection, wanted: Wanted | None = None) -> tuple[list[dict[str, Any]], str | None]:
    """Return sources as the API tells them, and the name after which there are more."""
    part, more = chosen(summaries(connection), wanted or Wanted(limit=1_000_000))
    return told(connection, part), part[-1].row.name if more else None


def one(connection: Connection, name: str) -> dict[str, Any]:
    """Return one source as the API tells it. Raises NotFound."""
    row = connection.execute(_summaries([sources.c.name == name])).first()
    if row is None:
        raise NotFound(f"there is no source {name!r}; `bowerbird sources list` names them")
    ill = bool(alarms.standing(connection, name)) or bool(
        connection.scalar(
            select(failures.c.id)
            .where(failures.c.source == name, failures.c.resolved_at.is_(None), failures.c.reason.in_(OWNERS))
            .limit(1)
        )
    )
    return _told(connection, [Summary(row, _health(row, ill))])[0]


def told(connection: Connection, part: Sequence[Summary]) -> list[dict[str, Any]]:
    """Return sources as the API tells them."""
    rows: dict[str, Row[Any]] = {}
    for start in range(0, len(part), IN_MOST):
        names = [one.row.name for one in part[start : start + IN_MOST]]
        rows |= {row.name: row for row in connection.execute(_summaries([sources.c.name.in_(names)]))}
    return _told(connection, [Summary(rows[one.row.name], one.health) for one in part if one.row.name in rows])


def _told(connection: Connection, part: Sequence[Summary]) -> list[dict[str, Any]]:
    known = _Known.of(connection, [one.row.name for one in part], now())
    return [_public(one, known) for one in part]


@dataclass(frozen=True, slots=True)
class _Known:
    """What else is known of some sources at this moment."""

    at: datetime
    definitions: dict[str, dict[str, Any]]
    troubles: dict[str, list[dict[str, Any]]]
    alarms: dict[str, list[dict[str, Any]]]
    hosts: dict[str, Row[Any]]
    used: dict[str, Row[Any]]

    @classmethod
    def of(cls, connection: Connection, names: Sequence[str], at: datetime) -> "_Known":
        slow = or_(hosts.c.crawl_delay_s > 0, hosts.c.penalty_s > 0, hosts.c.why.is_not(None))
        found = connection.execute(select(hosts).where(slow).limit(HOSTS_MOST)).all()
        ours = sources.c.name.in_(names)
        made = {
            row.name: row.definition
            for row in connection.execute(select(sources.c.name, sources.c.definition).where(ours))
        }
        raised: dict[str, list[dict[str, Any]]] = {}
        for alarm in alarms.standing(connection):
            raised.setdefault(alarm["source"], []).append(alarm)
        day = (usage.c.day == at.date().isoformat()) & usage.c.source.in_(names)
        used = {row.source: row for row in connection.execute(select(usage).where(day))}
        return cls(at, made, _troubles(connection, names), raised, {row.host: row for row in found}, used)


def _troubles(connection: Connection, names: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """What fails at present, by source: each reason with how often, and the last URL and message."""
    grouped = (
        select(failures.c.source, failures.c.reason, func.count().label("count"), func.max(failures.c.id).label("last"))
        .where(failures.c.resolved_at.is_(None), failures.c.source.in_(names))
        .group_by(failures.c.source, failures.c.reason)
        .subquery()
    )
    rows = connection.execute(
        select(grouped, failures.c.url, failures.c.message, failures.c.last_at)
        .join(failures, failures.c.id == grouped.c.last)
        .order_by(grouped.c.count.desc())
    ).all()
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        facts = {"reason": row.reason, "count": row.count, "url": row.url, "message": row.message}
        found.setdefault(row.source, []).append(facts | {"last_at": row.last_at})
    return found


@lru_cache(maxsize=4096)
def _built(text: str) -> Source | None:
    return build(Source, json.loads(text), (), [])


def _slowed(source: Source, known: _Known) -> list[dict[str, Any]]:
    """What keeps a source from being visited as fast as its delay allows, each with why."""
    found: list[dict[str, Any]] = []
    if (opens := allowance.opens_at(source, known.at)) is not None:
        found.append({"what": "window", "until": opens, "why": f"outside its window {', '.join(source.window)}"})
    if (spent := allowance.spent(source, _used(known, source.name))) is not None:
        found.append({"what": "budget", "until": allowance.midnight(known.at), "why": spent})
    for host in sorted({host_of(url) for text in (*source.start, *source.sitemaps) if (url := canonical(text))}):
        if (row := known.hosts.get(host)) is not None:
            found += _slow_host(row, known.at)
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


def _used(known: _Known, name: str) -> tuple[int, int]:
    row = known.used.get(name)
    return (row.pages, row.bytes) if row is not None else (0, 0)


def _public(found: Summary, known: _Known) -> dict[str, Any]:
    row = found.row
    definition = known.definitions.get(row.name, {})
    source = _built(json.dumps(definition, sort_keys=True, default=str))
    used = known.used.get(row.name)
    return {
        "name": row.name,
        "start": definition.get("start", []),
        "enabled": row.enabled and row.paused_at is None,
        "every": definition.get("every"),
        "cron": definition.get("cron"),
        "origin": row.origin,
        "tags": row.tags.split(),
        "last_run": row.last_run_at,
        "run_id": row.run_id,
        "checked_at": row.checked_at,
        "next_at": row.next_at if row.enabled and row.paused_at is None else None,
        "paused_at": row.paused_at,
        "health": found.health,
        "message": row.message,
        "troubles": known.troubles.get(row.name, []),
        "alarms": known.alarms.get(row.name, []),
        "slowed_by": _slowed(source, known) if source is not None else [],
        "pages_today": used.pages if used is not None else 0,
        "bytes_today": used.bytes if used is not None else 0,
        "changes_today": used.changes if used is not None else 0,
        "tag": tag(definition),
        "definition": masked(definition),
    }


def masked(definition: Mapping[str, Any]) -> dict[str, Any]:
    """Return a definition without the values of secrets; names of variables stay."""
    made = _covered(definition, lambda _, value: value if not secrets.says(value) else HIDDEN)
    proxy = made.get("http", {}).get("proxy", "") if isinstance(made.get("http"), Mapping) else ""
    if "@" in str(proxy):
        made["http"] = {**made["http"], "proxy": f"{proxy.partition('://')[0]}://{HIDDEN}@{proxy.rpartition('@')[2]}"}
    return made


def unmasked(given: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """Return a definition with the secrets that were hidden from who gives it back.

    They stay with the hosts that they were given for: who may write, but not read them, sends them nowhere else. Raises BadConfig.
    """
    there = {path: value for path, value in _secrets(before)}
    elsewhere = sorted(_hosts(given) - _hosts(before))

    def kept(path: tuple[str, ...], value: str) -> str:
        if value != HIDDEN or path not in there:
            return value
        if elsewhere:
            said = f"was hidden from you, and is not for {', '.join(elsewhere)[:200]}: give it again"
            raise BadConfig([Problem(".".join(path), said)])
        return there[path]

    return _covered(given, kept)


def _hosts(definition: Mapping[str, Any]) -> set[str]:
    """The hosts that a definition asks first, each with its scheme and port: its secrets are for them."""
    login = definition.get("login")
    lists = [texts for key in ("start", "sitemaps") if isinstance(texts := definition.get(key), list)]
    found = [text for texts in lists for text in texts] + [login.get("url") if isinstance(login, Mapping) else None]
    urls = [url for text in found if isinstance(text, str) and (url := canonical(text))]
    return {"/".join(url.split("/")[:3]) for url in urls}


def _secrets(definition: Mapping[str, Any]) -> list[tuple[tuple[str, ...], str]]:
    found: list[tuple[tuple[str, ...], str]] = []

    def note(path: tuple[str, ...], value: str) -> str:
        found.append((path, value))
        return value

    _covered(definition, note)
    return found


def _covered(definition: Mapping[str, Any], each: Callable[[tuple[str, ...], str], str]) -> dict[str, Any]:
    """A copy of a definition in which each secret is what a function makes of it."""
    made = dict(definition)
    for key in ("headers", "cookies"):
        if isinstance(table := made.get(key), Mapping):
            made[key] = {
                name: each((key, name), value) if isinstance(value, str) else value for name, value in table.items()
            }
    login = made.get("login")
    if isinstance(login, Mapping) and isinstance(login.get("form"), Mapping):
        form = {name: each(("login", name), v) if isinstance(v, str) else v for name, v in login["form"].items()}
        made["login"] = {**login, "form": form}
    return made


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


def hosts_told(connection: Connection, limit: int) -> list[dict[str, Any]]:
    """Return how hosts are treated: those first that are left alone for longest."""
    last = hosts.c.next_at.is_(None), hosts.c.next_at.desc(), hosts.c.host
    names = ("host", "delay_s", "crawl_delay_s", "penalty_s", "latency_s", "strikes", "next_at", "why", "lease_owner")
    rows = connection.execute(select(hosts).order_by(*last).limit(limit))
    return [{name: getattr(row, name) for name in names} for row in rows]


def reasons(connection: Connection, source: str | None) -> dict[str, int]:
    """Return how many URLs fail at present, by the name of the failure."""
    statement = select(failures.c.reason, func.count()).where(failures.c.resolved_at.is_(None))
    if source is not None:
        statement = statement.where(failures.c.source == source)
    rows = connection.execute(statement.group_by(failures.c.reason).order_by(func.count().desc())).all()
    return {str(reason): int(count) for reason, count in rows}


def sizes(connection: Connection) -> list[dict[str, Any]]:
    """Return how many rows the larger tables have, about: by their last number."""
    named = (
        ("pages", pages_of),
        ("items", items_of),
        ("changes", changes_of),
        ("urls", urls),
        ("runs", runs),
        ("failures", failures),
    )
    return [{"name": name, "rows": int(connection.scalar(select(func.max(t.c.id))) or 0)} for name, t in named]


def outcomes(connection: Connection, names: Sequence[str], most: int = OUTCOMES) -> dict[str, list[dict[str, Any]]]:
    """Return the last runs of each source, the oldest first, at most so many."""
    found = {}
    for name in names:
        rows = connection.execute(
            select(runs.c.id, runs.c.state, runs.c.pages, runs.c.failures, runs.c.started_at, runs.c.finished_at)
            .where(runs.c.source == name)
            .order_by(runs.c.id.desc())
            .limit(most)
        ).all()
        found[name] = [row._asdict() for row in reversed(rows)]
    return found
