"""events: what happened to the machinery; a bounded list, in the order in which it was told."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, Select, Text, cast, delete, func, insert, select

from scraper.database import numbers
from scraper.database.bulk import EVENTS, in_turn
from scraper.database.models import events
from scraper.records import Event, Level

KEPT = 5000  # of each level: routine must not push out what matters
PRUNED_EACH = 100
LEVELS: tuple[Level, ...] = ("info", "warning", "error")
HORIZON = "events_pruned_to"


def add(connection: Connection, batch: Sequence[Event]) -> None:
    """Keep events. Their ids grow in the order of their commits: who has seen one has seen all before it."""
    in_turn(connection, EVENTS)  # a sequence of PostgreSQL gives ids before the commit
    rows = [
        {"at": e.at, "kind": e.kind, "name": e.name, "event": e.event, "level": e.level, "facts": _clean(e.facts)}
        for e in batch
    ]
    connection.execute(insert(events), rows)
    last = newest(connection)
    if last % PRUNED_EACH < len(batch):
        for level in LEVELS:
            _prune(connection, level)


def _prune(connection: Connection, level: Level) -> None:
    of_level = select(events.c.id).where(events.c.level == level)
    limit = connection.scalar(of_level.order_by(events.c.id.desc()).offset(KEPT).limit(1))
    if limit is None:
        return
    connection.execute(delete(events).where(events.c.level == level, events.c.id <= limit))
    numbers.keep(connection, HORIZON, max(limit, _horizon(connection)))


def _horizon(connection: Connection) -> int:
    """The id up to which some events are there no more."""
    return numbers.kept(connection, HORIZON)


def _clean(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts that every database takes: no lone surrogates, no NUL."""
    return {
        name: value.encode(errors="replace").decode().replace("\0", "\ufffd") if isinstance(value, str) else value
        for name, value in facts.items()
    }


def newest(connection: Connection) -> int:
    """Return the id of the last event, 0 if there is none."""
    return int(connection.scalar(select(func.max(events.c.id))) or 0)


def after(last: int, limit: int, connection: Connection) -> list[dict[str, Any]]:
    """Return the events that came after an id, the oldest first.

    If some of them are there no more, or the id is none of this database's, one row of the kind "resync" with the newest
    id: what was seen so far is not the whole.
    """
    horizon, end = _horizon(connection), newest(connection)
    if last < horizon or last > max(horizon, end):
        return [{"id": max(horizon, end), "kind": "resync", "level": "warning"}]
    statement = select(events).where(events.c.id > last).order_by(events.c.id).limit(limit)
    return [public(row) for row in connection.execute(statement)]


def brief(connection: Connection, kind: str, limit: int) -> Iterator[Row[Any]]:
    """Yield the last events of a kind, the newest first. Their facts are texts: who shows few of many reads few, by told()."""
    columns = [column for column in events.c if column is not events.c.facts]
    statement: Select[Any] = select(*columns, cast(events.c.facts, Text).label("facts")).where(events.c.kind == kind)
    yield from connection.execute(statement.order_by(events.c.id.desc()).limit(limit))


def told(row: Row[Any]) -> dict[str, Any]:
    """Return one of them as the API tells it."""
    return public(row) | {"facts": json.loads(row.facts)}


def public(row: Row[Any]) -> dict[str, Any]:
    """Return an event as the API tells it."""
    names = ("id", "at", "kind", "name", "event", "level", "facts")
    return {name: getattr(row, name) for name in names}
