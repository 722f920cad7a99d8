"""items, item_versions, changes: what was extracted, what it was before, and what changed."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from sqlalchemy import Connection, Row, Select, bindparam, insert, select, update

from scraper.database.bulk import Bulk, given, reserve
from scraper.database.models import changes, item_versions, items
from scraper.errors import NotFound
from scraper.records import Item, Visit

Name = tuple[str, str, str]

_SEEN: dict[Any, Any] = {
    items.c.page_id: bindparam("page"),
    items.c.run_id: bindparam("run"),
    items.c.last_seen: bindparam("at"),
    items.c.url: bindparam("where"),
    items.c.removed_at: None,
}
_ALTERED = _SEEN | {items.c.data: bindparam("what"), items.c.changed_at: bindparam("at")}
_CREATE = Bulk(lambda _: insert(items))
_SEE = Bulk(lambda _: update(items).where(items.c.id == bindparam("item")).values(_SEEN))
_ALTER = Bulk(lambda _: update(items).where(items.c.id == bindparam("item")).values(_ALTERED))
_TOUCH = Bulk(
    lambda _: (
        update(items)
        .where(items.c.page_id == bindparam("page"), items.c.removed_at.is_(None), items.c.run_id < bindparam("run"))
        .values(run_id=bindparam("run"), last_seen=bindparam("at"))
    )
)
_KEEP = Bulk(lambda _: insert(item_versions))
_TELL = Bulk(lambda _: insert(changes))


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


def put(connection: Connection, visits: Sequence[tuple[Visit, int]]) -> None:
    """Store the items of visits, each visit with the id of its page: new, changed, back, or as they were.

    An item that this run has seen on another page already stays as it was seen first.
    """
    found = [
        (visit, page_id, {(visit.claim.source, item.kind, item.key): item for item in visit.reading.items})
        for visit, page_id in visits
    ]
    known = _known(connection, list({name for _, _, named in found for name in named}))
    batch = _Batch()
    for visit, page_id, named in found:
        for name, item in named.items():
            before = known.get(name)
            if before is None:
                _create(batch, visit, page_id, item)
            elif before.row is not None and (before.run_id < visit.claim.run_id or before.page_id == page_id):
                _see(batch, visit, page_id, item, before.row)
            else:
                continue
            known[name] = _Stored(visit.claim.run_id, page_id, None)
    _write(connection, batch)


def _known(connection: Connection, names: Sequence[Name]) -> dict[Name, _Stored]:
    """What is stored under names: of a source, its kind and its key."""
    rows = connection.execute(_stored_as(connection.dialect.name), {"rows": json.dumps(names)}) if names else ()
    return {(row.source, row.kind, row.key): _Stored(row.run_id, row.page_id, row) for row in rows}


@cache
def _stored_as(dialect: str) -> Select[Any]:
    names = given(dialect, ("source", "kind", "key"))
    same = (items.c.key == names.c.key) & (items.c.source == names.c.source) & (items.c.kind == names.c.kind)
    return select(items).join(names, same)


def touch(connection: Connection, visits: Sequence[Visit]) -> None:
    """Note that the items of pages that are as they were are still there."""
    _TOUCH.run(
        connection,
        [
            {"page": v.claim.known.page_id, "run": v.claim.run_id, "at": v.at}
            for v in visits
            if v.claim.known is not None
        ],
    )


def _write(connection: Connection, batch: _Batch) -> None:
    if batch.made:
        ids = reserve(connection, items, len(batch.made))
        _CREATE.run(connection, [{"id": n} | row for n, row in zip(ids, batch.made, strict=True)])
        for item_id, (visit, page_id, item) in zip(ids, batch.made_of, strict=True):
            fields = {name: [None, value] for name, value in item.data.items()}
            _tell(batch, visit, page_id, item_id, item, "created", fields)
    _SEE.run(connection, batch.seen)
    _ALTER.run(connection, batch.altered)
    _KEEP.run(connection, batch.versions)
    _TELL.run(connection, batch.told)


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
        batch.versions.append(
            {"item_id": row.id, "source": row.source, "at": row.changed_at, "until": visit.at, "data": row.data}
        )
    else:
        batch.seen.append(values)
    if row.removed_at is not None:
        _tell(batch, visit, page_id, row.id, item, "returned", fields)
    elif fields:
        _tell(batch, visit, page_id, row.id, item, "changed", fields)


def _tell(
    batch: _Batch, visit: Visit, page_id: int, item_id: int, item: Item, change: str, fields: dict[str, Any]
) -> None:
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
    """Return the versions of an item, the newest first: what it is now, and what it was before. Raises NotFound."""
    item = one(connection, item_id)
    rows = connection.execute(
        select(item_versions).where(item_versions.c.item_id == item_id).order_by(item_versions.c.id.desc())
    )
    present = {"id": None, "at": item["changed_at"], "until": item["removed_at"], "data": item["data"]}
    return [present, *({"id": row.id, "at": row.at, "until": row.until, "data": row.data} for row in rows)]


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
