"""items, item_versions, changes: what was extracted, every version of it, and what changed."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, bindparam, insert, select, tuple_, update

from scraper.database.connection import Db
from scraper.database.models import changes, item_versions, items
from scraper.errors import NotFound
from scraper.records import Item, Visit


@dataclass(slots=True)
class _Batch:
    """What storing items amounts to, each kind of statement gathered."""

    made: list[dict[str, Any]] = field(default_factory=list)
    made_of: list[tuple[Visit, int, Item]] = field(default_factory=list)
    seen: list[dict[str, Any]] = field(default_factory=list)
    altered: list[dict[str, Any]] = field(default_factory=list)
    versions: list[dict[str, Any]] = field(default_factory=list)
    told: list[dict[str, Any]] = field(default_factory=list)


@dataclass(slots=True)
class _Stored:
    """An item as far as it is known while a batch is gathered."""

    run_id: int
    page_id: int
    row: Row[Any] | None


def put(db: Db, connection: Connection, source: str, visits: Sequence[tuple[Visit, int]]) -> None:
    """Store the items of visits of one source, each with the id of its page: new, changed, back, or as they were.

    An item that this run has seen on another page already stays as it was seen first.
    """
    keys = list({(item.kind, item.key) for visit, _ in visits for item in visit.reading.items})
    if not keys:
        return
    known: dict[tuple[str, str], _Stored] = {}
    for start in range(0, len(keys), 200):
        rows = connection.execute(
            select(items).where(
                items.c.source == source, tuple_(items.c.kind, items.c.key).in_(keys[start : start + 200])
            )
        )
        known |= {(row.kind, row.key): _Stored(row.run_id, row.page_id, row) for row in rows}
    batch = _Batch()
    for visit, page_id in visits:
        for key, item in {(item.kind, item.key): item for item in visit.reading.items}.items():
            before = known.get(key)
            if before is None:
                _create(batch, visit, page_id, item)
            elif before.row is not None and (before.run_id < visit.claim.run_id or before.page_id == page_id):
                _see(batch, visit, page_id, item, before.row)
            else:
                continue
            known[key] = _Stored(visit.claim.run_id, page_id, None)
    _write(db, connection, batch)


def touch(connection: Connection, visits: Sequence[Visit]) -> None:
    """Note that the items of pages that are as they were are still there."""
    rows = [
        {"page": v.claim.known.page_id, "run": v.claim.run_id, "at": v.at} for v in visits if v.claim.known is not None
    ]
    if rows:
        connection.execute(
            update(items)
            .where(
                items.c.page_id == bindparam("page"), items.c.removed_at.is_(None), items.c.run_id < bindparam("run")
            )
            .values(run_id=bindparam("run"), last_seen=bindparam("at")),
            rows,
        )


def _write(db: Db, connection: Connection, batch: _Batch) -> None:
    if batch.made:
        ids = db.reserve(connection, items, len(batch.made))
        connection.execute(insert(items), [{"id": n} | row for n, row in zip(ids, batch.made, strict=True)])
        for item_id, (visit, page_id, item) in zip(ids, batch.made_of, strict=True):
            fields = {name: [None, value] for name, value in item.data.items()}
            _note(batch, visit, page_id, item_id, item, "created", fields)
    named = {"page": items.c.page_id, "run": items.c.run_id, "at": items.c.last_seen, "where": items.c.url}
    values: dict[Any, Any] = {column: bindparam(name) for name, column in named.items()} | {items.c.removed_at: None}
    if batch.seen:
        connection.execute(update(items).where(items.c.id == bindparam("item")).values(values), batch.seen)
    if batch.altered:
        values |= {items.c.data: bindparam("what"), items.c.changed_at: bindparam("at")}
        connection.execute(update(items).where(items.c.id == bindparam("item")).values(values), batch.altered)
    if batch.versions:
        connection.execute(insert(item_versions), batch.versions)
    if batch.told:
        connection.execute(insert(changes), batch.told)


def _create(batch: _Batch, visit: Visit, page_id: int, item: Item) -> None:
    moments = {"first_seen": visit.at, "last_seen": visit.at, "changed_at": visit.at}
    batch.made_of.append((visit, page_id, item))
    batch.made.append(
        {
            "source": visit.claim.source,
            "kind": item.kind,
            "key": item.key,
            "url": _url(visit),
            "page_id": page_id,
            "run_id": visit.claim.run_id,
            "data": item.data,
            **moments,
        }
    )


def _see(batch: _Batch, visit: Visit, page_id: int, item: Item, row: Row[Any]) -> None:
    fields = difference(row.data, item.data)
    values = {"item": row.id, "run": visit.claim.run_id, "page": page_id, "where": _url(visit), "at": visit.at}
    if fields:
        batch.altered.append(values | {"what": item.data})
    else:
        batch.seen.append(values)
    if row.removed_at is not None:
        _note(batch, visit, page_id, row.id, item, "returned", fields)
    elif fields:
        _note(batch, visit, page_id, row.id, item, "changed", fields)


def _note(
    batch: _Batch, visit: Visit, page_id: int, item_id: int, item: Item, change: str, fields: dict[str, Any]
) -> None:
    if fields:
        batch.versions.append({"item_id": item_id, "run_id": visit.claim.run_id, "at": visit.at, "data": item.data})
    told = {"at": visit.at, "source": visit.claim.source, "of": "item", "kind": item.kind, "change": change}
    batch.told.append(told | {"item_id": item_id, "page_id": page_id, "fields": fields})


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
