"""sources: what is watched, and when it is due."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, or_, select, update

from scraper.config import allowance
from scraper.config.settings import Source, plain
from scraper.config.shape import build
from scraper.database.bulk import SOURCES, in_turn
from scraper.database.connection import now
from scraper.database.models import failures, hosts, runs, sources, usage
from scraper.errors import Failure, NotFound
from scraper.urls import canonical, host_of

HOSTS_MOST = 10_000
PENALTY_TOLD_S = 0.1
# What fails for reasons of ours, or of the user's own parser, and not of the site.
OWNERS = (Failure.EXTRACT, Failure.PARSE_LIMIT, Failure.POISON, Failure.STORE)

NextDue = Callable[[Source, datetime | None], datetime | None]


def sync(connection: Connection, wanted: Sequence[Source], next_due: NextDue) -> None:
    """Make the file's sources in the database those of the file; what was scraped of others stays."""
    in_turn(connection, SOURCES)
    known = {row.name: row for row in connection.execute(select(sources)).all()}
    names = {source.name for source in wanted}
    for source in wanted:
        definition = plain(source)
        row = known.get(source.name)
        values: dict[str, Any] = {"definition": definition, "origin": "file", "enabled": source.enabled}
        if row is None:
            values.update(name=source.name, next_at=next_due(source, None))
            connection.execute(insert(sources).values(**values))
        elif row.definition != definition or row.origin != "file":
            values.update(next_at=next_due(source, row.last_run_at))
            connection.execute(update(sources).where(sources.c.name == source.name).values(**values))
    stale = [name for name, row in known.items() if row.origin == "file" and name not in names]
    if stale:
        connection.execute(delete(sources).where(sources.c.name.in_(stale)))


def spread(connection: Connection, at: datetime, each_s: float, most_s: float) -> None:
    """Have sources that are overdue begin one after the other, not all at once."""
    overdue = connection.execute(
        select(sources.c.name, sources.c.next_at)
        .where(sources.c.enabled, sources.c.next_at < at)
        .order_by(sources.c.next_at, sources.c.name)
    ).all()
    each_s = min(each_s, most_s / max(1, len(overdue)))
    for place, row in enumerate(overdue[1:], 1):
        later = at + timedelta(seconds=place * each_s)
        connection.execute(update(sources).where(sources.c.name == row.name).values(next_at=later))


def definitions(connection: Connection) -> dict[str, dict[str, Any]]:
    """Return the definitions of all sources, by name."""
    rows = connection.execute(select(sources.c.name, sources.c.definition))
    return {row.name: row.definition for row in rows}


def started(connection: Connection, name: str, at: datetime, next_at: datetime | None) -> None:
    """Note that a run of a source began, and when the next one is due."""
    connection.execute(update(sources).where(sources.c.name == name).values(last_run_at=at, next_at=next_at))


def checked(connection: Connection, names: set[str], at: datetime) -> None:
    """Note that pages of these sources were just looked at."""
    connection.execute(update(sources).where(sources.c.name.in_(sorted(names))).values(checked_at=at))


def last_check(connection: Connection) -> datetime | None:
    """Return when any source was looked at last."""
    return connection.scalar(
        select(sources.c.checked_at)
        .where(sources.c.checked_at.is_not(None))
        .order_by(sources.c.checked_at.desc())
        .limit(1)
    )


def next_due_at(connection: Connection) -> datetime | None:
    """Return when the next source comes due."""
    return connection.scalar(
        select(sources.c.next_at)
        .where(sources.c.enabled, sources.c.next_at.is_not(None))
        .order_by(sources.c.next_at)
        .limit(1)
    )


def listed(connection: Connection) -> list[dict[str, Any]]:
    """Return all sources as the API tells them."""
    rows = connection.execute(select(sources).order_by(sources.c.name)).all()
    known = _Known.of(connection, now())
    return [public(connection, row, known) for row in rows]


def one(connection: Connection, name: str) -> dict[str, Any]:
    """Return one source as the API tells it. Raises NotFound."""
    row = connection.execute(select(sources).where(sources.c.name == name)).first()
    if row is None:
        raise NotFound(f"there is no source {name!r}; `bowerbird sources list` names them")
    return public(connection, row, _Known.of(connection, now()))


@dataclass(frozen=True, slots=True)
class _Known:
    """What else is known of all sources at this moment."""

    at: datetime
    troubles: dict[str, list[dict[str, Any]]]
    hosts: dict[str, Row[Any]]
    used: dict[str, tuple[int, int]]

    @classmethod
    def of(cls, connection: Connection, at: datetime) -> "_Known":
        slow = or_(hosts.c.crawl_delay_s > 0, hosts.c.penalty_s > 0, hosts.c.why.is_not(None))
        found = connection.execute(select(hosts).where(slow).limit(HOSTS_MOST)).all()
        return cls(at, _troubles(connection), {row.host: row for row in found}, _used(connection, at))


def _used(connection: Connection, at: datetime) -> dict[str, tuple[int, int]]:
    today = select(usage).where(usage.c.day == at.date().isoformat())
    return {row.source: (row.pages, row.bytes) for row in connection.execute(today)}


def _troubles(connection: Connection) -> dict[str, list[dict[str, Any]]]:
    """What fails at present, by source: each reason with how often, and the last URL and message."""
    grouped = (
        select(failures.c.source, failures.c.reason, func.count().label("count"), func.max(failures.c.id).label("last"))
        .where(failures.c.resolved_at.is_(None))
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
        told = {
            "reason": row.reason,
            "count": row.count,
            "url": row.url,
            "message": row.message,
            "last_at": row.last_at,
        }
        found.setdefault(row.source, []).append(told)
    return found


def _slowed(source: Source, known: _Known) -> list[dict[str, Any]]:
    """What keeps a source from being visited as fast as its delay allows, each with why."""
    found: list[dict[str, Any]] = []
    if (opens := allowance.opens_at(source, known.at)) is not None:
        found.append({"what": "window", "until": opens, "why": f"outside its window {', '.join(source.window)}"})
    if (spent := allowance.spent(source, known.used.get(source.name, (0, 0)))) is not None:
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


def public(connection: Connection, row: Row[Any], known: _Known) -> dict[str, Any]:
    """Return a source as the API tells it."""
    last = connection.execute(
        select(runs.c.state, runs.c.failures, runs.c.message)
        .where(runs.c.source == row.name, runs.c.finished_at.is_not(None))
        .order_by(runs.c.id.desc())
        .limit(1)
    ).first()
    definition = row.definition
    source = build(Source, definition, (), [])
    troubles = known.troubles.get(row.name, [])
    return {
        "name": row.name,
        "start": definition.get("start", []),
        "enabled": row.enabled,
        "every": definition.get("every"),
        "cron": definition.get("cron"),
        "origin": row.origin,
        "last_run": row.last_run_at,
        "checked_at": row.checked_at,
        "next_at": row.next_at if row.enabled else None,
        "health": _health(row, last, troubles),
        "message": last.message if last else None,
        "troubles": troubles,
        "slowed_by": _slowed(source, known) if source is not None else [],
        "definition": definition,
    }


def _health(row: Row[Any], last: Any, troubles: list[dict[str, Any]]) -> str:
    """new, disabled, failing (the last run brought nothing), degraded (what its owner can mend fails), ok."""
    if not row.enabled:
        return "disabled"
    if row.last_run_at is None:
        return "new"
    if last is not None and last.state == "failed":
        return "failing"
    return "degraded" if any(trouble["reason"] in OWNERS for trouble in troubles) else "ok"
