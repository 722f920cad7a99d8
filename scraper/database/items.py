"""items, item_versions, changes: what was extracted, every version of it, and what changed."""

from typing import Any

from sqlalchemy import Connection, Row, insert, select, tuple_, update

from scraper.database.connection import made_id
from scraper.database.models import changes, item_versions, items
from scraper.errors import NotFound
from scraper.records import Item, Visit


def put(connection: Connection, visit: Visit, page_id: int) -> int:
    """Store the items of a visit: new, changed, back, or as they were. Returns how many there were.

    An item that this run has seen on another page already stays as it was seen first.
    """
    found = {(item.kind, item.key): item for item in visit.reading.items}
    if not found:
        return 0
    claim = visit.claim
    keys = list(found)
    known: dict[tuple[str, str], Row[Any]] = {}
    for start in range(0, len(keys), 200):
        rows = connection.execute(
            select(items).where(
                items.c.source == claim.source, tuple_(items.c.kind, items.c.key).in_(keys[start : start + 200])
            )
        )
        known.update({(row.kind, row.key): row for row in rows})
    for key, item in found.items():
        row = known.get(key)
        if row is None:
            _create(connection, visit, page_id, item)
        elif row.run_id < claim.run_id or row.page_id == page_id:
            _see(connection, visit, page_id, item, row)
    return len(found)


def _create(connection: Connection, visit: Visit, page_id: int, item: Item) -> None:
    claim = visit.claim
    made = connection.execute(
        insert(items).values(
            source=claim.source,
            kind=item.kind,
            key=item.key,
            url=_url(visit),
            page_id=page_id,
            run_id=claim.run_id,
            data=item.data,
            first_seen=visit.at,
            last_seen=visit.at,
            changed_at=visit.at,
        )
    )
    item_id = made_id(made)
    fields = {name: [None, value] for name, value in item.data.items()}
    _note(connection, visit, page_id, item_id, item, "created", fields)


def _see(connection: Connection, visit: Visit, page_id: int, item: Item, row: Row[Any]) -> None:
    fields = difference(row.data, item.data)
    values: dict[str, Any] = {
        "run_id": visit.claim.run_id,
        "page_id": page_id,
        "url": _url(visit),
        "last_seen": visit.at,
        "removed_at": None,
    }
    if fields:
        values |= {"data": item.data, "changed_at": visit.at}
    connection.execute(update(items).where(items.c.id == row.id).values(**values))
    if row.removed_at is not None:
        _note(connection, visit, page_id, row.id, item, "returned", fields)
    elif fields:
        _note(connection, visit, page_id, row.id, item, "changed", fields)


def _note(
    connection: Connection, visit: Visit, page_id: int, item_id: int, item: Item, change: str, fields: dict[str, Any]
) -> None:
    if fields:
        connection.execute(
            insert(item_versions).values(item_id=item_id, run_id=visit.claim.run_id, at=visit.at, data=item.data)
        )
    connection.execute(
        insert(changes).values(
            at=visit.at,
            source=visit.claim.source,
            of="item",
            kind=item.kind,
            change=change,
            item_id=item_id,
            page_id=page_id,
            fields=fields,
        )
    )


def _url(visit: Visit) -> str:
    assert visit.fetched is not None
    return visit.fetched.final_url


def difference(old: Any, new: Any) -> dict[str, list[Any]]:
    """Return the fields that differ, as {name: [old, new]}."""
    return {
        name: [old.get(name), new.get(name)]
        for name in (*old, *(n for n in new if n not in old))
        if old.get(name) != new.get(name)
    }


def public(row: Row[Any]) -> dict[str, Any]:
    """Return an item as the API tells it."""
    names = (
        "id",
        "source",
        "kind",
        "key",
        "url",
        "data",
        "first_seen",
        "last_seen",
        "changed_at",
        "removed_at",
        "page_id",
    )
    return {name: getattr(row, name) for name in names}


def one(connection: Connection, item_id: int) -> dict[str, Any]:
    """Return one item as the API tells it. Raises NotFound."""
    row = connection.execute(select(items).where(items.c.id == item_id)).first()
    if row is None:
        raise NotFound(f"there is no item {item_id}")
    return public(row)


def history(connection: Connection, item_id: int) -> list[dict[str, Any]]:
    """Return the versions of an item, the newest first. Raises NotFound."""
    one(connection, item_id)
    rows = connection.execute(
        select(item_versions).where(item_versions.c.item_id == item_id).order_by(item_versions.c.id.desc())
    )
    return [{"id": row.id, "at": row.at, "run_id": row.run_id, "data": row.data} for row in rows]


def change(row: Row[Any]) -> dict[str, Any]:
    """Return a change as the API tells it."""
    names = ("id", "at", "source", "of", "kind", "change", "item_id", "page_id", "fields")
    return {name: getattr(row, name) for name in names}


def newest_changes(connection: Connection, limit: int) -> list[dict[str, Any]]:
    """Return the last changes of items, each with the item's key, url and data."""
    rows = connection.execute(
        select(changes, items.c.key, items.c.url, items.c.data)
        .join(items, items.c.id == changes.c.item_id)
        .order_by(changes.c.id.desc())
        .limit(limit)
    ).all()
    return [change(row) | {"key": row.key, "url": row.url, "data": row.data} for row in rows]
