"""Lists of rows, the newest first, paged by keyset: no page gets slower than the first."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, String, cast, func, select

from scraper.database import events, failures, items, pages, runs
from scraper.database.connection import Db, now
from scraper.database.models import changes as change_table
from scraper.database.models import events as event_table
from scraper.database.models import failures as failure_table
from scraper.database.models import items as item_table
from scraper.database.models import pages as page_table
from scraper.database.models import runs as run_table

EXPORT_ROWS = 500

# What counts as the time of a row, where it has no `at`.
_MOMENTS = {"items": "changed_at", "pages": "changed_at", "failures": "last_at", "runs": "queued_at"}

Made = dict[str, Any]
_LISTS: dict[str, tuple[Any, list[Any], Callable[[Row[Any]], Made]]] = {
    "runs": (run_table, list(run_table.c), lambda row: runs.public(row, now())),
    "pages": (page_table, pages.BRIEF, pages.public),
    "items": (item_table, list(item_table.c), items.public),
    "changes": (change_table, list(change_table.c), items.change),
    "events": (event_table, list(event_table.c), events.public),
    "failures": (failure_table, list(failure_table.c), failures.public),
}


def rows(connection: Connection, name: str, filters: dict[str, Any], before: int | None, limit: int) -> list[Made]:
    """Return rows of a list, the newest first, older than the id `before`."""
    table, columns, public = _LISTS[name]
    statement = select(*columns).where(*_conditions(table, filters)).order_by(table.c.id.desc()).limit(limit)
    if before is not None:
        statement = statement.where(table.c.id < before)
    return [public(row) for row in connection.execute(statement)]


def stream(db: Db, name: str, filters: dict[str, Any]) -> Iterator[Made]:
    """Yield all rows of a list, the oldest first, in short reads: memory stays flat and nothing is held open."""
    table, columns, public = _LISTS[name]
    after = 0
    while True:
        statement = select(*columns).where(table.c.id > after, *_conditions(table, filters))
        statement = statement.order_by(table.c.id).limit(EXPORT_ROWS)
        found = db.read(partial(_made, statement, public))
        yield from found
        if len(found) < EXPORT_ROWS:
            return
        after = found[-1]["id"]


def count(connection: Connection, name: str, filters: dict[str, Any]) -> int:
    """Return how many rows a list has."""
    table = _LISTS[name][0]
    return int(connection.scalar(select(func.count()).select_from(table).where(*_conditions(table, filters))) or 0)


def changes_told(connection: Connection, filters: dict[str, Any], limit: int) -> list[Made]:
    """Return the newest changes, each with the key, url and data of its item, or the url and title of its page."""
    newest = rows(connection, "changes", filters, None, limit)
    of_items = _by_id(connection, item_table, ("key", "url", "data"), [row["item_id"] for row in newest])
    of_pages = _by_id(connection, page_table, ("final_url", "title"), [row["page_id"] for row in newest])
    for row in newest:
        if row["item_id"] in of_items:
            key, url, data = of_items[row["item_id"]]
            row |= {"key": key, "url": url, "data": data}
        elif row["page_id"] in of_pages:
            url, title = of_pages[row["page_id"]]
            row |= {"url": url, "title": title}
    return newest


def _by_id(
    connection: Connection, table: Any, names: tuple[str, ...], ids: list[int | None]
) -> dict[int, tuple[Any, ...]]:
    wanted = sorted({one for one in ids if one is not None})
    found = connection.execute(select(table.c.id, *(table.c[name] for name in names)).where(table.c.id.in_(wanted)))
    return {row[0]: tuple(row[1:]) for row in found}


def _made(statement: Select[Any], public: Callable[[Row[Any]], Made], connection: Connection) -> list[Made]:
    return [public(row) for row in connection.execute(statement)]


def _conditions(table: Any, filters: dict[str, Any]) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    for name, value in filters.items():
        if value is None:
            continue
        if name == "changed_since":
            conditions.append(table.c.changed_at >= value)
        elif name == "since":
            conditions.append(table.c[_MOMENTS.get(table.name, "at")] >= value)
        elif name == "q":
            conditions.append(cast(table.c.data, String).icontains(value, autoescape=True))
        elif name == "present":
            conditions.append(table.c.removed_at.is_(None))
        elif name == "unresolved":
            conditions.append(table.c.resolved_at.is_(None))
        else:
            conditions.append(table.c[name] == value)
    return conditions
