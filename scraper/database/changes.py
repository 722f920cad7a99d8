"""changes: what was created, changed, removed, returned and moved."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, bindparam, delete, func, insert, or_, select, update

from scraper.database import numbers
from scraper.database.among import Among
from scraper.database.bulk import CHANGES, IN_MOST, Bulk, in_turn
from scraper.database.models import changes, is_news, is_unread, items, pages
from scraper.errors import NotFound

NAMES = ("id", "at", "source", "of", "kind", "change", "item_id", "page_id", "fields")
KINDS = ("created", "changed", "removed", "returned", "moved")
COUNTED_MOST = 1000
VERSIONS_MOST = 500  # at once, if nothing else is asked for
HORIZON = "changes_horizon"
NONE: Mapping[str, Any] = {}

_TELL = Bulk(lambda _: insert(changes))
_UNTELL = Among(lambda _: delete(changes).where(changes.c.item_id.in_(bindparam("some", expanding=True)), ~is_news))


def tell(connection: Connection, told: Sequence[dict[str, Any]]) -> None:
    """Keep changes; the last thing that a transaction does, for others wait for their turn to tell theirs.

    So their ids grow in the order of their commits: who has seen one has seen all before it.
    """
    if told:
        in_turn(connection, CHANGES)
        _TELL.run(connection, told)


def row(
    at: datetime,
    source: str,
    of: str,
    change: str,
    *,
    kind: str | None = None,
    item_id: int | None = None,
    page_id: int | None = None,
    fields: Mapping[str, Any] = NONE,
) -> dict[str, Any]:
    """Return a change as it is kept."""
    return {
        "at": at,
        "source": source,
        "of": of,
        "kind": kind,
        "change": change,
        "item_id": item_id,
        "page_id": page_id,
        "fields": fields,
    }


def public(row: Row[Any]) -> dict[str, Any]:
    """Return a change as the API tells it."""
    return {name: getattr(row, name) for name in NAMES} | {"read": row.read_at is not None}


def untell_created(connection: Connection, item_ids: Sequence[int]) -> None:
    """Take back that items were created: they are known better now, and that is told in its place."""
    _UNTELL.run(connection, item_ids)


def newest(connection: Connection) -> int:
    """Return the id of the last change, 0 if there is none."""
    return int(connection.scalar(select(func.max(changes.c.id))) or 0)


def forget(connection: Connection, ids: Sequence[int]) -> None:
    """Drop changes; who has not seen them yet is told that they are gone."""
    connection.execute(delete(changes).where(changes.c.id.in_(ids)))
    numbers.keep(connection, HORIZON, max([*ids, horizon(connection)]))


def horizon(connection: Connection) -> int:
    """Return the id up to which some changes are there no more, 0 if all are."""
    return numbers.kept(connection, HORIZON)


def after(connection: Connection, last: int, limit: int) -> list[dict[str, Any]]:
    """Return the changes that came after an id, the oldest first."""
    statement = select(changes).where(changes.c.id > last).order_by(changes.c.id).limit(limit)
    return [public(row) for row in connection.execute(statement)]


def one(connection: Connection, change_id: int) -> dict[str, Any]:
    """Return one change, with the page or item that it is of. Raises NotFound."""
    found = connection.execute(select(changes).where(changes.c.id == change_id)).first()
    if found is None:
        raise NotFound(f"there is no change {change_id}")
    return with_subjects(connection, [public(found)])[0]


def with_subjects(connection: Connection, found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return changes, each with what it is of: `key`, `url`, `data` of an item, `url` and `title` of a page."""
    of_items: dict[int, Row[Any]] = {}
    of_pages: dict[int, Row[Any]] = {}
    for start in range(0, len(found), IN_MOST):
        part = found[start : start + IN_MOST]
        ids = {change["item_id"] for change in part if change["item_id"] is not None}
        named = select(items.c.id, items.c.key, items.c.url, items.c.data)
        of_items |= {row.id: row for row in connection.execute(named.where(items.c.id.in_(ids)))} if ids else {}
        ids = {change["page_id"] for change in part if change["item_id"] is None and change["page_id"] is not None}
        named = select(pages.c.id, pages.c.final_url, pages.c.title)
        of_pages |= {row.id: row for row in connection.execute(named.where(pages.c.id.in_(ids)))} if ids else {}
    made = []
    for change in found:
        subject: dict[str, Any] = {"key": None, "url": None, "data": None, "title": None}
        if (item := of_items.get(change["item_id"] or 0)) is not None:
            subject |= {"key": item.key, "url": item.url, "data": item.data}
        elif (page := of_pages.get(change["page_id"] or 0)) is not None:
            subject |= {"url": page.final_url, "title": page.title}
        made.append(change | subject)
    return made


def of_subject(connection: Connection, change: dict[str, Any], limit: int = 50) -> list[dict[str, Any]]:
    """Return the changes of the page or item that one change is of, without its creation, the newest first."""
    statement = select(changes).where(_same(change), is_news)
    return [public(row) for row in connection.execute(statement.order_by(changes.c.id.desc()).limit(limit))]


def _same(change: dict[str, Any]) -> Any:
    if change["item_id"] is not None:
        return changes.c.item_id == change["item_id"]
    return changes.c.item_id.is_(None) & (changes.c.page_id == change["page_id"])


def neighbours(connection: Connection, change_id: int, source: str | None) -> tuple[int | None, int | None]:
    """Return the ids of the change before and the one after, of the same source if one is named, creations left out."""
    wanted = [is_news] + ([changes.c.source == source] if source is not None else [])
    before = select(func.max(changes.c.id)).where(changes.c.id < change_id, *wanted)
    after = select(func.min(changes.c.id)).where(changes.c.id > change_id, *wanted)
    return connection.scalar(before), connection.scalar(after)


def mark_read(connection: Connection, at: datetime, ids: Sequence[int] = (), up_to: int | None = None) -> int:
    """Note that a person saw changes: these, and all up to an id. Returns how many were new to him."""
    wanted: list[ColumnElement[bool]] = [changes.c.id.in_(list(ids)[:IN_MOST])] if ids else []
    if up_to is not None:  # what was created is never shown as new, and there may be millions of it
        wanted.append((changes.c.id <= up_to) & is_news)
    if not wanted:
        return 0
    return connection.execute(
        update(changes).where(or_(*wanted), changes.c.read_at.is_(None)).values(read_at=at)
    ).rowcount


def unread(connection: Connection) -> int:
    """Return how many of the last COUNTED_MOST changes nobody has seen yet, creations left out."""
    last = select(changes.c.id).where(is_news).order_by(changes.c.id.desc()).limit(1).offset(COUNTED_MOST - 1)
    new = select(func.count()).where(is_unread, changes.c.id >= func.coalesce(last.scalar_subquery(), 0))
    return int(connection.scalar(new) or 0)
