"""items, item_versions, changes: what was extracted, what it was before, and what changed."""

import itertools
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import Connection, Row, Select, bindparam, func, insert, select, update

from scraper.database import changes, homes
from scraper.database.bulk import IN_MOST, Bulk, given, reserve
from scraper.database.homes import Left, Name, Shown
from scraper.database.models import UNREAD, item_versions, items, pages, runs
from scraper.errors import NotFound
from scraper.records import Item, Visit
from scraper.urls import unmarked

SHOWN = 50

_SEEN: dict[Any, Any] = {
    items.c.page_id: bindparam("page"),
    items.c.run_id: bindparam("run"),
    items.c.last_seen: bindparam("at"),
    items.c.url: bindparam("where"),
    items.c.removed_at: None,
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
    & (items.c.run_id >= select(pages.c.run_id).where(pages.c.id == bindparam("page")).scalar_subquery())
    & (items.c.run_id < bindparam("run"))
    & items.c.removed_at.is_(None)
)
_TOUCH = Bulk(lambda _: update(items).where(_THERE).values(run_id=bindparam("run"), last_seen=bindparam("at")))
_KEEP = Bulk(lambda _: insert(item_versions))
_UNSEEN = (items.c.id == bindparam("item")) & (items.c.run_id < bindparam("run")) & items.c.removed_at.is_(None)
_TOUCH_TOO = Bulk(lambda _: update(items).where(_UNSEEN).values(run_id=bindparam("run"), last_seen=bindparam("at")))
_PASS_TOO = Bulk(lambda _: update(items).where(_UNSEEN).values(run_id=bindparam("run")))
_REPLACE = Bulk(
    lambda _: (
        update(items)
        .where(items.c.id == bindparam("item"))
        .values({items.c.data: bindparam("what"), items.c.changed_at: bindparam("at")})
    )
)
_REPLACE_HUSHED = Bulk(
    lambda _: update(items).where(items.c.id == bindparam("item")).values({items.c.data: bindparam("what")})
)
_PASS = Bulk(lambda _: update(items).where(_THERE).values(run_id=bindparam("run")))


@dataclass(frozen=True, slots=True)
class _Found:
    """An item on a page."""

    visit: Visit
    page_id: int
    item: Item


@dataclass(slots=True)
class _Stored:
    """An item as far as it is known while a batch is gathered. found: what is to be stored of it."""

    run_id: int
    page_id: int
    data: Mapping[str, Any]
    row: Row[Any] | None
    found: _Found | None = None


@dataclass(slots=True)
class _Batch:
    """What storing items amounts to, each kind of statement gathered."""

    homes: Mapping[int, tuple[int, bool, str | None]]
    at_home: Collection[tuple[int, Name]]  # which pages of the batch list what
    began: Mapping[int, datetime] = field(default_factory=dict)
    seen: list[dict[str, Any]] = field(default_factory=list)
    altered: list[dict[str, Any]] = field(default_factory=list)
    hushed: list[dict[str, Any]] = field(default_factory=list)  # other data, and no news
    versions: list[dict[str, Any]] = field(default_factory=list)
    listed: list[dict[str, Any]] = field(default_factory=list)  # they are there, and their home has not been read yet
    told: list[dict[str, Any]] = field(default_factory=list)
    told_anew: dict[int, int] = field(default_factory=dict)  # created by a run, its number, and known better now
    shown: dict[tuple[int, Name], Shown] = field(default_factory=dict)  # by pages that are no home of theirs


Standing = Callable[[Connection, Collection[int]], Mapping[int, tuple[int, bool, str | None]]]


def put(
    connection: Connection,
    visits: Sequence[tuple[Visit, int]],
    standing: Standing,
    told: list[dict[str, Any]],
    *,
    whole: bool = True,
) -> Counter[int]:
    """Store the items of visits, each visit with the id of its page: new, changed, moved, back, or as they were.

    An item that several pages list has the data of one of them, its home: the page on which it was seen first, or the one
    that shows more of it. standing: says of pages when they were seen last, and whether they are gone: an item that is
    elsewhere now has left its home only if that was read already, or is gone. told: what there is to tell is added to it.
    whole: the visits bring all that their pages list. Returns how much is told in place of what was told before, by run.
    """
    found = [
        (visit, page_id, {(visit.claim.source, item.kind, item.key): item for item in visit.reading.items})
        for visit, page_id in visits
    ]
    known = _known(connection, list({name for _, _, named in found for name in named}))
    elsewhere = {
        stored.page_id
        for _, page_id, named in found
        for name in named
        if (stored := known.get(name)) is not None and stored.page_id != page_id
    }
    at_home = {(page_id, name) for _, page_id, named in found for name in named}
    batch = _Batch(standing(connection, elsewhere) if elsewhere else {}, at_home)
    for visit, page_id, named in found:
        for name, item in named.items():
            one = _Found(visit, page_id, item)
            before = known.get(name)
            if before is None:
                known[name] = _Stored(visit.claim.run_id, page_id, item.data, None, one)
            elif before.page_id == page_id or not _stays(batch, name, before, one):
                _settle(before, one)
            else:
                _is_elsewhere_too(batch, name, before, one)
    batch.began = _began(connection, known)
    made = _write(connection, batch, known)
    there = {name: stored.row.id for name, stored in known.items() if stored.row is not None} | made
    shown = {(page_id, there[name]): one for (page_id, name), one in batch.shown.items()}
    read = [page_id for _, page_id in visits] if whole else []
    homes.keep(connection, read, shown, {there[name]: name[0] for _, name in batch.shown})
    told += batch.told
    if whole:
        at = {page_id: visit.at for visit, page_id in visits}
        left = homes.left(connection, {page_id: named for _, page_id, named in found})
        told += _adopt(connection, [(one, at[one.item.page_id]) for one in left])
    return Counter(batch.told_anew.values())


def _began(connection: Connection, known: Mapping[Name, "_Stored"]) -> dict[int, datetime]:
    """When the runs began of which it matters whether they created an item."""
    asked = {stored.found.visit.claim.run_id for stored in known.values() if stored.found and _has_gone_over(stored)}
    if not asked:
        return {}
    began = select(runs.c.id, func.coalesce(runs.c.started_at, runs.c.queued_at)).where(runs.c.id.in_(asked))
    return {run_id: at for run_id, at in connection.execute(began)}


def _has_gone_over(stored: "_Stored") -> bool:
    """Whether an item is at home on another page than before, in the run that saw it last."""
    row, found = stored.row, stored.found
    return (
        row is not None
        and found is not None
        and row.page_id != found.page_id
        and row.run_id == found.visit.claim.run_id
    )


def _stays(batch: _Batch, name: Name, before: _Stored, found: _Found) -> bool:
    """Whether an item that another page lists is still where it was.

    It was seen in this run already; or that page is there, not read yet, and was read when the item was seen last.
    """
    if (before.page_id, name) in batch.at_home:
        return True
    row, claim = before.row, found.visit.claim
    if row is not None and before.found is None and (row.removed_at is not None or row.url == claim.url):
        return False
    if before.run_id >= claim.run_id:
        return True
    read_in, is_gone, _ = batch.homes.get(before.page_id, (0, True, None))
    return not is_gone and before.run_id <= read_in < claim.run_id


def _settle(stored: _Stored, found: _Found) -> None:
    """Have an item be what it is on a page, and at home there."""
    stored.run_id, stored.page_id, stored.data = found.visit.claim.run_id, found.page_id, found.item.data
    stored.found = found


def _is_elsewhere_too(batch: _Batch, name: Name, before: _Stored, found: _Found) -> None:
    """Keep what is shown of an item by a page that is not its home, or make it its home, where more of it is shown."""
    if homes.fullness(found.item.data) > homes.fullness(before.data):
        quiet = before.found.item.quiet if before.found is not None else found.item.quiet
        batch.shown.pop((found.page_id, name), None)
        batch.shown[before.page_id, name] = Shown(before.data, quiet)
        _settle(before, found)
        return
    batch.shown[found.page_id, name] = Shown(found.item.data, found.item.quiet)
    run_id = found.visit.claim.run_id
    if before.run_id < run_id and before.row is not None:
        batch.listed.append({"item": before.row.id, "run": run_id, "at": found.visit.at})
        before.run_id = run_id


def _no_news(connection: Connection, left: Sequence[Left]) -> set[int]:
    """Those of these items that have another address, and not moved: as _has_moved() has it."""
    there = sorted({page_id for one in left for page_id in (one.page_id, one.item.page_id)})
    own_names: dict[int, str | None] = {}
    count: Counter[tuple[int, str]] = Counter()
    for start in range(0, len(there), IN_MOST):
        some = there[start : start + IN_MOST]
        named = select(pages.c.id, pages.c.canonical_url).where(pages.c.id.in_(some))
        own_names |= {row.id: row.canonical_url for row in connection.execute(named)}
        beside = select(items.c.page_id, items.c.kind, func.count().label("number"))
        beside = beside.where(items.c.page_id.in_(some), items.c.removed_at.is_(None))
        for row in connection.execute(beside.group_by(items.c.page_id, items.c.kind)):
            count[row.page_id, row.kind] = row.number
    return {
        one.item.id
        for one in left
        if count[one.page_id, one.item.kind] > 1
        or (own_names.get(one.page_id) is not None and own_names[one.page_id] == own_names.get(one.item.page_id))
    }


def follow(connection: Connection, visit: Visit, page_id: int, left: str) -> list[dict[str, Any]]:
    """Have items that have the name of their page keep their history where that has moved for good. left: its address before.

    Returns what there is to tell.
    """
    old, new = unmarked(left), unmarked(_url(visit))
    source, at = visit.claim.source, visit.at
    told = []
    for item in visit.reading.items:
        if item.key != new and not item.key.startswith(f"{new}#"):
            continue
        named = (items.c.source == source) & (items.c.kind == item.kind)
        former = f"{old}{item.key[len(new) :]}"
        there = select(items.c.id).where(
            named, items.c.key == former, items.c.url == left, items.c.removed_at.is_(None)
        )
        item_id = connection.scalar(there)
        if item_id is None or connection.scalar(select(items.c.id).where(named, items.c.key == item.key)) is not None:
            continue
        values = {"key": item.key, "url": _url(visit), "page_id": page_id}
        connection.execute(update(items).where(items.c.id == item_id).values(**values))
        change = changes.row(at, source, "item", "moved", kind=item.kind, item_id=item_id, page_id=page_id)
        told.append(change | {"fields": {"url": [left, _url(visit)]}})
    return told


def adopt(connection: Connection, left: Sequence[Left], at: datetime) -> list[dict[str, Any]]:
    """Have items that a run found to be on their home no more be at home where they are listed. Returns what there is to tell."""
    told = {change["item_id"]: change for change in _adopt(connection, [(one, at) for one in left])}
    moved = []
    quiet = _no_news(connection, left)
    for one in left:
        row, fields = one.item, told.get(one.item.id, {"fields": {}})["fields"]
        if row.url != one.url and row.id not in quiet:
            fields = {"url": [row.url, one.url]} | fields
            change = changes.row(at, row.source, "item", "moved", kind=row.kind, item_id=row.id, page_id=one.page_id)
            moved.append(change | {"fields": fields})
        elif row.id in told:
            moved.append(told[row.id])
    return moved


def _adopt(connection: Connection, left: Sequence[tuple[Left, datetime]]) -> list[dict[str, Any]]:
    """Have items be at home where they are listed, as they are shown there. Returns the changes of their data."""
    homes.move(connection, [one for one, _ in left])
    told, versions, altered, hushed = [], [], [], []
    for one, at in left:
        row = one.item
        every = difference(row.data, one.data)
        fields = {name: pair for name, pair in every.items() if name not in one.quiet}
        if fields:
            altered.append({"item": row.id, "what": one.data, "at": at})
            versions.append(_version(row, at))
            told.append(
                changes.row(at, row.source, "item", "changed", kind=row.kind, item_id=row.id, page_id=one.page_id)
                | {"fields": fields}
            )
        elif every:
            hushed.append({"item": row.id, "what": one.data})
    _REPLACE.run(connection, altered)
    _REPLACE_HUSHED.run(connection, hushed)
    _KEEP.run(connection, versions)
    return told


def _version(row: Any, until: datetime) -> dict[str, Any]:
    return {"item_id": row.id, "source": row.source, "at": row.changed_at, "until": until, "data": row.data}


def urls_of(connection: Connection, names: Sequence[Name]) -> dict[Name, str]:
    """Return the URL of each of these items that is there: by its source, its kind and its key."""
    found = _known(connection, names)
    return {name: str(stored.row.url) for name, stored in found.items() if stored.row is not None}


def _known(connection: Connection, names: Sequence[Name]) -> dict[Name, _Stored]:
    """What is stored under names: of a source, its kind and its key."""
    rows = connection.execute(_stored_as(connection.dialect.name), {"rows": json.dumps(names)}) if names else ()
    return {(row.source, row.kind, row.key): _Stored(row.run_id, row.page_id, row.data, row) for row in rows}


@cache
def _stored_as(dialect: str) -> Select[Any]:
    names = given(dialect, ("source", "kind", "key"))
    same = (items.c.key == names.c.key) & (items.c.source == names.c.source) & (items.c.kind == names.c.kind)
    return select(items).join(names, same)


def touch(connection: Connection, visits: Sequence[Visit]) -> list[dict[str, Any]]:
    """Note that the items of pages that are as they were are still there; before the pages themselves are touched.

    Returns what there is to tell.
    """
    of_page = {v.claim.known.page_id: v for v in visits if v.claim.known is not None}
    abandoned = homes.abandoned(connection, list(of_page))
    told = _adopt(connection, [(one, of_page[one.page_id].at) for one in abandoned])
    moved = [(one.item.id, of_page[one.page_id]) for one in abandoned]
    listed = [(item_id, of_page[page_id]) for page_id, item_id in homes.listed(connection, list(of_page))]
    listed += moved
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
    return told


def _write(connection: Connection, batch: _Batch, known: Mapping[Name, _Stored]) -> dict[Name, int]:
    """Write what was gathered. Returns the ids of those that are new."""
    new = [(name, stored.found) for name, stored in known.items() if stored.row is None and stored.found is not None]
    made: dict[Name, int] = {}
    if new:
        ids = reserve(connection, items, len(new))
        for item_id, (name, found) in zip(ids, new, strict=True):
            made[name] = item_id
            _tell_created(batch, item_id, found)
        _CREATE.run(connection, [{"id": made[name]} | _created(found) for name, found in new])
    for stored in known.values():
        if stored.row is not None and stored.found is not None:
            _see(batch, stored.found, stored.row)
    _SEE.run(connection, batch.seen)
    _ALTER.run(connection, batch.altered)
    _HUSH.run(connection, batch.hushed)
    _TOUCH_TOO.run(connection, batch.listed)
    _KEEP.run(connection, batch.versions)
    changes.untell_created(connection, list(batch.told_anew))
    return made


def _created(found: _Found) -> dict[str, Any]:
    visit, item = found.visit, found.item
    return {
        "source": visit.claim.source,
        "kind": item.kind,
        "key": item.key,
        "url": _url(visit),
        "page_id": found.page_id,
        "run_id": visit.claim.run_id,
        "data": item.data,
        "first_seen": visit.at,
        "last_seen": visit.at,
        "changed_at": visit.at,
    }


def _see(batch: _Batch, found: _Found, row: Row[Any]) -> None:
    visit, page_id, item = found.visit, found.page_id, found.item
    every = difference(row.data, item.data)
    fields = {name: pair for name, pair in every.items() if name not in item.quiet}
    if _is_read_anew(visit):  # a field that was not asked for before has not changed
        fields = {name: pair for name, pair in fields.items() if name in row.data and name in item.data}
    is_elsewhere = row.page_id != page_id
    has_moved = is_elsewhere and _has_moved(batch, found, row)
    values = {"item": row.id, "run": visit.claim.run_id, "page": page_id, "where": _url(visit), "at": visit.at}
    began = batch.began.get(visit.claim.run_id)
    if is_elsewhere and began is not None and row.run_id == visit.claim.run_id and row.first_seen >= began:
        # Created by this run, whose first page showed less of it: that is no change of the site.
        batch.hushed.append(values | {"what": item.data})
        batch.told_anew[row.id] = visit.claim.run_id
        _tell_created(batch, row.id, found)
        return
    if fields:
        batch.altered.append(values | {"what": item.data})
        batch.versions.append(_version(row, visit.at))
    elif every:
        batch.hushed.append(values | {"what": item.data})
    else:
        batch.seen.append(values)
    if row.removed_at is not None:
        _tell(batch, found, row.id, "returned", fields)
    elif has_moved:
        _tell(batch, found, row.id, "moved", {"url": [row.url, _url(visit)]} | fields)
    elif fields:
        _tell(batch, found, row.id, "changed", fields)


def _has_moved(batch: _Batch, found: _Found, row: Row[Any]) -> bool:
    """Whether an item that is elsewhere now has left a page that is gone.

    In a list, or where the page says that it is the one that was there, it has not: another address is no news then.
    """
    _, is_gone, own_name = batch.homes.get(row.page_id, (0, False, None))
    reading, kind = found.visit.reading, found.item.kind
    if not is_gone or (own_name is not None and own_name == reading.canonical):
        return False
    if found.visit.fetched is not None and found.visit.fetched.moved:  # all of it, and for good
        return True
    return next(itertools.islice((other for other in reading.items if other.kind == kind), 1, None), None) is None


def _is_read_anew(visit: Visit) -> bool:
    """Whether a page is read by other rules than when it was stored."""
    known = visit.claim.known
    return known is not None and known.rules not in (UNREAD, visit.rules)


def _tell_created(batch: _Batch, item_id: int, found: _Found) -> None:
    _tell(batch, found, item_id, "created", {name: [None, value] for name, value in found.item.data.items()})


def _tell(batch: _Batch, found: _Found, item_id: int, change: str, fields: dict[str, Any]) -> None:
    visit = found.visit
    told = changes.row(
        visit.at,
        visit.claim.source,
        "item",
        change,
        kind=found.item.kind,
        item_id=item_id,
        page_id=found.page_id,
        fields=fields,
    )
    batch.told.append(told)


def _url(visit: Visit) -> str:
    assert visit.fetched is not None
    return visit.fetched.final_url


def difference(old: Any, new: Any) -> dict[str, list[Any]]:
    """Return the fields that differ, as {name: [old, new]}."""
    return {
        name: [old.get(name), new.get(name)]
        for name in (*old, *(n for n in new if n not in old))
        if _differ(old.get(name), new.get(name))
    }


def _differ(old: Any, new: Any) -> bool:
    return not _look_alike(old, new) if old != new else _is_of_other_kind(old, new)


def _is_of_other_kind(old: Any, new: Any) -> bool:
    """Whether of two values that Python takes for equal one is true, and the other the number 1, or they hold such."""
    if isinstance(old, list):
        return any(map(_is_of_other_kind, old, new))
    if isinstance(old, dict):
        return any(_is_of_other_kind(value, new[name]) for name, value in old.items())
    return isinstance(old, bool) is not isinstance(new, bool)


def _look_alike(old: Any, new: Any) -> bool:
    """Whether nobody sees a difference between two texts, or what holds such: the same letters, composed otherwise, or signs without a width."""
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(a == b or _look_alike(a, b) for a, b in zip(old, new, strict=True))
    if isinstance(old, dict) and isinstance(new, dict):
        return old.keys() == new.keys() and all(old[n] == new[n] or _look_alike(old[n], new[n]) for n in old)
    if not isinstance(old, str) or not isinstance(new, str) or (old.isascii() and new.isascii()):
        return False
    return unicodedata.normalize("NFC", _NO_WIDTH.sub("", old)) == unicodedata.normalize("NFC", _NO_WIDTH.sub("", new))


_NO_WIDTH = re.compile("[\u00ad\u200b\u2060\ufeff]")


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


def history(
    connection: Connection, item_id: int, before: int | None = None, limit: int = changes.VERSIONS_MOST
) -> list[dict[str, Any]]:
    """Return versions of an item, the newest first: what it is now, whose `id` is None, and what it was before.

    before: only earlier ones than this. Raises NotFound.
    """
    item = one(connection, item_id)
    earlier = select(item_versions).where(item_versions.c.item_id == item_id).order_by(item_versions.c.id.desc())
    if before is not None:
        earlier = earlier.where(item_versions.c.id < before)
    present = {"id": None, "at": item["changed_at"], "until": item["removed_at"], "data": item["data"]}
    made = [] if before is not None else [present]
    rows = connection.execute(earlier.limit(limit - len(made)))
    return [*made, *({"id": row.id, "at": row.at, "until": row.until, "data": row.data} for row in rows)]
