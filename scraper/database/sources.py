"""sources: what is watched, and when it is due."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from scraper.config.settings import Source, plain
from scraper.database.models import runs, sources
from scraper.errors import NotFound

NextDue = Callable[[Source, datetime | None], datetime | None]


def sync(connection: Connection, wanted: Sequence[Source], next_due: NextDue) -> None:
    """Make the file's sources in the database those of the file; what was scraped of others stays."""
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
    return [public(connection, row) for row in rows]


def one(connection: Connection, name: str) -> dict[str, Any]:
    """Return one source as the API tells it. Raises NotFound."""
    row = connection.execute(select(sources).where(sources.c.name == name)).first()
    if row is None:
        raise NotFound(f"there is no source {name!r}; `bowerbird sources list` names them")
    return public(connection, row)


def public(connection: Connection, row: Row[Any]) -> dict[str, Any]:
    """Return a source as the API tells it."""
    last = connection.execute(
        select(runs.c.state, runs.c.failures, runs.c.message)
        .where(runs.c.source == row.name, runs.c.finished_at.is_not(None))
        .order_by(runs.c.id.desc())
        .limit(1)
    ).first()
    health = "new" if row.last_run_at is None else "failing" if last is not None and last.state == "failed" else "ok"
    definition = row.definition
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
        "health": health if row.enabled else "disabled",
        "message": last.message if last else None,
        "definition": definition,
    }
