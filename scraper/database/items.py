"""items, item_versions, changes: what was extracted, what it was before, and what changed."""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from sqlalchemy import Connection, Row, Select, bindparam, delete, func, insert, select, update

from scraper.database import changes
from scraper.database.among import Among
from scraper.database.bulk import Bulk, given, reserve, upsert
from scraper.database.models import also_on, item_versions, items, pages
from scraper.errors import NotFound
from scraper.records import Item, Visit

Name = tuple[str, str, str]

SHOWN = 50

_SEEN: dict[Any, Any] = {
    items.c.page_id: bindparam("page"),
    items.c.run_id: bindparam("run"),
    items.c.last_seen: bindparam("at"),
    items.c.url: bindparam("where"),
    items.c.removed_at: None,
    items.c.left_page_id: bindparam("left"),
    items.c.left_url: bindparam("from_where"),
}
_ALTERED = _SEEN | {items.c.data: bindparam("what"), items.c.changed_at: bindparam("at")}
_HUSHED = _SEEN | {items.c.data: bindparam("what")}
_CREATE = Bulk(lambda _: insert(items))
_SEE = Bulk(lambda _: update(items).where(items.c.id == bindparam("item")).values(_SEEN))
_ALTER = Bulk(lambda _: update(items).where(items.c.id == bindparam("item")).values(_ALTERED))
_HUSH = Bulk(lambda _: update(items).where(items.c.id == bindparam("item")).values(_HUSHED))
# Those that were on the page when it was read last: what was missing then, and is kept for an alarm, is missing still.
_THERE = (
    (items.c.page_id == bindparam("page"))
    & (items.c.run_id == select(pages.c.run_id).where(pages.c.id == bindparam("page")).scalar_subquery())
    & (items.c.run_id < bindparam("run"))
    & items.c.removed_at.is_(None)
)
_TOUCH = Bulk(lambda _: update(items).where(_THERE).values(run_id=bindparam("run"), last_seen=bindparam("at")))
_KEEP = Bulk(lambda _: insert(item_versions))
_LISTED = Among(lambda _: select(also_on).where(also_on.c.page_id.in_(bindparam("some", expanding=True))))
_UNSEEN = (items.c.id == bindparam("item")) & (items.c.run_id < bindparam("run")) & items.c.removed_at.is_(None)
_TOUCH_TOO = Bulk(lambda _: update(items).where(_UNSEEN).values(run_id=bindparam("run"), last_seen=bindparam("at")))
_PASS_TOO = Bulk(lambda _: update(items).where(_UNSEEN).values(run_id=bindparam("run")))
_PASS = Bulk(lambda _: update(items).where(_THERE).values(run_id=bindparam("run")))


@dataclass(slots=True)
class _Batch:
    """What storing items amounts to, each kind of statement gathered."""

    made: list[dict[str, Any]] = field(default_factory=list)
    made_of: list[tuple[Visit, int, Item]] = field(default_factory=list)
    seen: list[dict[str, Any]] = field(default_factory=list)
    altered: list[dict[str, Any]] = field(default_factory=list)
    hushed: list[dict[str, Any]] = field(default_factory=list)  # other data, and no news
    versions: list[dict[str, Any]] = field(default_factory=list)
    told: list[dict[str, Any]] = field(default_factory=list)
    also: list[tuple[int, Name]] = field(default_factory=list)  # pages that list an item which is at home elsewhere
    homes: Mapping[int, tuple[int, bool]] = field(default_factory=dict)


@dataclass(slots=True)
class _Stored:
    """An item as far as it is known while a batch is gathered."""

    run_id: int
    page_id: int
    row: Row[Any] | None


Standing = Callable[[Connection, Collection[int]], Mapping[int, tuple[int, bool]]]


def put(connection: Connection, visits: Sequence[tuple[Visit, int]], standing: Standing) -> list[dict[str, Any]]:
    """Store the items of visits, each visit with the id of its page: new, changed, moved, back, or as they were.

    An item that this run has seen on another page already stays as it was seen first. standing: says of pages when they were
    seen last, and whether they are gone: an item that is elsewhere now has moved only if it can be where it was no more.
    Returns what there is to tell.
    """
    found = [
        (visit, page_id, {(visit.claim.source, item.kind, item.key): item for item in visit.reading.items})
        for visit, page_id in visits
    ]
    known = _known(connection, list({name for _, _, named in found for name in named}))
    elsewhere = {
        row.page_id
        for _, page_id, named in found
        for name in named
        if (stored := known.get(name)) is not None and (row := stored.row) is not None and row.page_id != page_id
    }
    batch = _Batch(homes=standing(connection, elsewhere) if elsewhere else {})
    for visit, page_id, named in found:
        for name, item in named.items():
            before = known.get(name)
            if before is None:
                _create(batch, visit, page_id, item)
                known[name] = _Stored(visit.claim.run_id, page_id, None)
            elif before.row is not None and (before.run_id < visit.claim.run_id or before.page_id == page_id):
                _see(batch, visit, page_id, item, before.row)
                if before.page_id != page_id and _is_to_be_seen(batch.homes.get(before.page_id), visit.claim.run_id):
                    batch.also.append((before.page_id, name))
                known[name] = _Stored(visit.claim.run_id, page_id, before.row)
            else:
                batch.also.append((page_id, name))
    made = _write(connection, batch)
    there = made | {name: stored.row.id for name, stored in known.items() if stored.row is not None}
    _ALONE.run(connection, [page_id for _, page_id in visits])
    _ALSO.run(connection, [{"page_id": page_id, "item_id": there[name]} for page_id, name in batch.also])
    _rehome(connection, {page_id: named for _, page_id, named in found})
    return batch.told


def _rehome(connection: Connection, found: Mapping[int, Collection[Name]]) -> None:
    """Have items that are on their home page no more be at home on another one that lists them. found: what pages list now."""
    left = [
        {"item": row.id, "to": row.other}
        for row in _ELSEWHERE.rows(connection, list(found))
        if (row.source, row.kind, row.key) not in found[row.page_id]
    ]
    _REHOME.run(connection, left)
    _AT_HOME.run(connection, left)


_ELSEWHERE = Among(
    lambda _: (
        select(items.c.id, items.c.source, items.c.kind, items.c.key, items.c.page_id)
        .add_columns(func.min(also_on.c.page_id).label("other"))
        .join(also_on, (also_on.c.item_id == items.c.id) & (also_on.c.page_id != items.c.page_id))
        .where(items.c.page_id.in_(bindparam("some", expanding=True)))
        .group_by(items.c.id)
    )
)
_ADDRESS = select(pages.c.final_url).where(pages.c.id == bindparam("to")).scalar_subquery()
_REHOME = Bulk(
    lambda _: update(items).where(items.c.id == bindparam("item")).values(page_id=bindparam("to"), url=_ADDRESS)
)
_AT_HOME = Bulk(
    lambda _: delete(also_on).where(also_on.c.page_id == bindparam("to"), also_on.c.item_id == bindparam("item"))
)


def _is_to_be_seen(home: tuple[int, bool] | None, run_id: int) -> bool:
    """Whether a page is there, and this run has not come to it yet: it may list still what it listed."""
    return home is not None and home[0] < run_id and not home[1]


_ALONE = Among(lambda _: delete(also_on).where(also_on.c.page_id.in_(bindparam("some", expanding=True))))
_ALSO = Bulk(lambda dialect: upsert(dialect, also_on).on_conflict_do_nothing())


def urls_of(connection: Connection, names: Sequence[Name]) -> dict[Name, str]:
    """Return the URL of each of these items that is there: by its source, its kind and its key."""
    found = _known(connection, names)
    return {name: str(stored.row.url) for name, stored in found.items() if stored.row is not None}


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
    """Note that the items of pages that are as they were are still there; before the pages themselves are touched."""
    of_page = {v.claim.known.page_id: v for v in visits if v.claim.known is not None}
    listed = [(row.item_id, of_page[row.page_id]) for row in _LISTED.rows(connection, list(of_page))]
    _TOUCH_TOO.run(connection, [{"item": n, "run": v.claim.run_id, "at": v.at} for n, v in listed if not v.skipped])
    _PASS_TOO.run(connection, [{"item": n, "run": v.claim.run_id} for n, v in listed if v.skipped])
    _TOUCH.run(
        connection,
        [
            {"page": v.claim.known.page_id, "run": v.claim.run_id, "at": v.at}
            for v in visits
            if v.claim.known is not None and not v.skipped
        ],
    )
    _PASS.run(
        connection,
        [
            {"page": v.claim.known.page_id, "run": v.claim.run_id}
            for v in visits
            if v.claim.known is not None and v.skipped
        ],
    )


def _write(connection: Connection, batch: _Batch) -> dict[Name, int]:
    """Returns the ids of those that are new."""
    made: dict[Name, int] = {}
    if batch.made:
        ids = reserve(connection, items, len(batch.made))
        for item_id, row, (visit, page_id, item) in zip(ids, batch.made, batch.made_of, strict=True):
            row["id"] = made[row["source"], item.kind, item.key] = item_id
            fields = {name: [None, value] for name, value in item.data.items()}
            _tell(batch, visit, page_id, item_id, item, "created", fields)
        _CREATE.run(connection, batch.made)
    _SEE.run(connection, batch.seen)
    _ALTER.run(connection, batch.altered)
    _HUSH.run(connection, batch.hushed)
    _KEEP.run(connection, batch.versions)
    return made


def _create(batch: _Batch, visit: Visit, page_id: int, item: Item) -> None:
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
            "first_seen": visit.at,
            "last_seen": visit.at,
            "changed_at": visit.at,
        }
    )


def _see(batch: _Batch, visit: Visit, page_id: int, item: Item, row: Row[Any]) -> None:
    every = difference(row.data, item.data)
    fields = {name: pair for name, pair in every.items() if name not in item.quiet}
    has_moved = row.page_id != page_id and batch.homes.get(row.page_id, (0, False))[1]
    left = (row.left_page_id, row.left_url) if row.page_id == page_id else (row.page_id, row.url)
    left_page_id, left_url = (None, None) if has_moved or row.removed_at is not None else left
    values = {"item": row.id, "run": visit.claim.run_id, "page": page_id, "where": _url(visit), "at": visit.at}
    values |= {"left": left_page_id, "from_where": left_url}
    if fields:
        batch.altered.append(values | {"what": item.data})
        batch.versions.append(
            {"item_id": row.id, "source": row.source, "at": row.changed_at, "until": visit.at, "data": row.data}
        )
    elif every:
        batch.hushed.append(values | {"what": item.data})
    else:
        batch.seen.append(values)
    if row.removed_at is not None:
        _tell(batch, visit, page_id, row.id, item, "returned", fields)
    elif has_moved:
        _tell(batch, visit, page_id, row.id, item, "moved", {"url": [row.url, _url(visit)]} | fields)
    elif fields:
        _tell(batch, visit, page_id, row.id, item, "changed", fields)


def _tell(
    batch: _Batch, visit: Visit, page_id: int, item_id: int, item: Item, change: str, fields: dict[str, Any]
) -> None:
    source, kind = visit.claim.source, item.kind
    told = changes.row(visit.at, source, "item", change, kind=kind, item_id=item_id, page_id=page_id, fields=fields)
    batch.told.append(told)


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


def count(connection: Connection, filters: Mapping[str, Any], most: int) -> int:
    """Return how many items of a source and a kind there are, or `most` if there are more."""
    wanted = [items.c[name] == filters[name] for name in ("source", "kind") if filters.get(name) is not None]
    if (since := filters.get("changed_since")) is not None:
        wanted.append(items.c.changed_at >= since)
    gone = items.c.removed_at.is_not(None) if filters.get("removed") else items.c.removed_at.is_(None)
    some = select(items.c.id).where(*wanted, gone).limit(most).subquery()
    return int(connection.scalar(select(func.count()).select_from(some)) or 0)


def on_page(connection: Connection, page_id: int) -> list[dict[str, Any]]:
    """Return the items that were seen on a page, the first fifty."""
    rows = connection.execute(select(items).where(items.c.page_id == page_id).order_by(items.c.id).limit(SHOWN))
    return [public(row) for row in rows]


def history(connection: Connection, item_id: int) -> list[dict[str, Any]]:
    """Return the versions of an item, the newest first: what it is now, and what it was before. Raises NotFound."""
    item = one(connection, item_id)
    rows = connection.execute(
        select(item_versions).where(item_versions.c.item_id == item_id).order_by(item_versions.c.id.desc())
    )
    present = {"id": None, "at": item["changed_at"], "until": item["removed_at"], "data": item["data"]}
    return [present, *({"id": row.id, "at": row.at, "until": row.until, "data": row.data} for row in rows)]
