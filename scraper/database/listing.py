"""Lists of rows, the newest first, paged by keyset: no page gets slower than the first."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, String, and_, cast, func, or_, select

from scraper.database import changes, enrichments, events, failures, folded, items, jobs, notices, pages, runs
from scraper.database.connection import Db, now
from scraper.database.models import changes as change_table
from scraper.database.models import deliveries as delivery_table
from scraper.database.models import enrichments as enrichment_table
from scraper.database.models import events as event_table
from scraper.database.models import failures as failure_table
from scraper.database.models import is_news
from scraper.database.models import items as item_table
from scraper.database.models import jobs as job_table
from scraper.database.models import pages as page_table
from scraper.database.models import runs as run_table
from scraper.urls import canonical, fingerprint

EXPORT_ROWS = 500

Made = dict[str, Any]
_LISTS: dict[str, tuple[Any, list[Any], Callable[[Row[Any]], Made]]] = {
    "runs": (run_table, list(run_table.c), lambda row: runs.public(row, now())),
    "pages": (page_table, pages.BRIEF, pages.public),
    "items": (item_table, list(item_table.c), items.public),
    "changes": (change_table, list(change_table.c), changes.public),
    "events": (event_table, list(event_table.c), events.public),
    "deliveries": (delivery_table, list(delivery_table.c), notices.public),
    "failures": (failure_table, list(failure_table.c), failures.public),
    "enrichments": (enrichment_table, list(enrichment_table.c), enrichments.public),
    "jobs": (job_table, list(job_table.c), jobs.public),
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


def newest(connection: Connection, name: str) -> int:
    """Return the id of the newest row of a list, 0 if there is none."""
    return connection.scalar(select(func.max(_LISTS[name][0].c.id))) or 0


def count(connection: Connection, name: str, filters: dict[str, Any]) -> int:
    """Return how many rows a list has."""
    table = _LISTS[name][0]
    return int(connection.scalar(select(func.count()).select_from(table).where(*_conditions(table, filters))) or 0)


def _made(statement: Select[Any], public: Callable[[Row[Any]], Made], connection: Connection) -> list[Made]:
    return [public(row) for row in connection.execute(statement)]


def _moment(columns: Any) -> Any:
    """What counts as the time of a row."""
    return next(columns[name] for name in ("at", "changed_at", "last_at", "queued_at", "created_at") if name in columns)


# What a filter means that is not just a column and a value.
_FILTERS: dict[str, Callable[[Any, Any], ColumnElement[bool]]] = {
    "changed_since": lambda c, value: c.changed_at >= value,
    "address": lambda c, value: c.id.in_(_at(c, value)),
    "fetched_since": lambda c, value: c.fetched_at >= value,
    "kinds": lambda c, value: c.kind.in_(sorted(value)),
    "after": lambda c, value: c.id > value,
    "since": lambda c, value: _moment(c) >= value,
    "until": lambda c, value: _moment(c) < value,
    "q": lambda c, value: folded.holds(cast(c.data, String), value),
    "present": lambda c, value: c.removed_at.is_(None),
    "page_id_of": lambda c, value: (c.of == "page") & (c.subject_id == value),
    "item_id_of": lambda c, value: (c.of == "item") & (c.subject_id == value),
    "unresolved": lambda c, value: c.resolved_at.is_(None),
    "removed": lambda c, value: c.removed_at.is_not(None) if value else c.removed_at.is_(None),
    "gone": lambda c, value: c.gone_at.is_not(None) if value else c.gone_at.is_(None),
    "unread": lambda c, value: c.read_at.is_(None) if value else c.read_at.is_not(None),
    "news": lambda c, value: is_news,
    "change": lambda c, value: (c.change == value) & is_news if value != "created" else c.change == value,
    "final_url": lambda c, value: _answered_at(c, value),
}


def _answered_at(columns: Any, url: str) -> ColumnElement[bool]:
    """Pages that a URL is the last address of: its own, or those that led there, each by an index."""
    itself = and_(columns.fingerprint == fingerprint(url), columns.final_url == url)
    return or_(itself, and_(columns.url != columns.final_url, columns.final_url == url))


def _conditions(table: Any, filters: dict[str, Any]) -> list[ColumnElement[bool]]:
    given = {name: value for name, value in filters.items() if value is not None}
    return [
        _FILTERS[name](table.c, value) if name in _FILTERS else table.c[name] == value for name, value in given.items()
    ]


def _at(page: Any, url: str) -> Any:
    """The pages that live at a URL, or were asked for by it."""
    asked = canonical(url) or url
    lives = select(page.id).where(page.fingerprint == fingerprint(asked))
    return lives.union(select(page.id).where(page.url == asked, page.url != page.final_url))
