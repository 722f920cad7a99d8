"""also_on: items that several pages list. One is an item's home, whose data it has; what the others show is kept beside it."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    FromClause,
    Row,
    bindparam,
    delete,
    exists,
    select,
    update,
)

from scraper.database.among import Among
from scraper.database.bulk import Bulk, upsert
from scraper.database.models import also_on, items, pages, urls
from scraper.states import LastLook

Name = tuple[str, str, str]  # source, kind, key


@dataclass(frozen=True, slots=True)
class Shown:
    """What a page shows of an item that is at home on another. quiet: fields whose change is no news."""

    data: Mapping[str, Any]
    quiet: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Left:
    """An item whose home lists it no more, and the page that does. data: what that one shows."""

    item: Row[Any]
    page_id: int
    url: str
    data: Mapping[str, Any]
    quiet: Sequence[str]


def fullness(data: Mapping[str, Any]) -> int:
    """Return how many fields hold something: of two records of one item, the one of which this is more is shown."""
    return sum(value not in (None, "", [], {}) for value in data.values())


def keep(
    connection: Connection, read: Sequence[int], shown: Mapping[tuple[int, int], Shown], sources: Mapping[int, str]
) -> None:
    """Keep what pages show of items that are at home elsewhere.

    read: pages that were read whole; what they showed before is forgotten. shown: by page and item. sources: of the items.
    """
    _FORGET.run(connection, read)
    _KEEP.run(
        connection,
        [
            {"page_id": page_id, "item_id": item_id, "source": sources[item_id]}
            | {"data": dict(found.data), "quiet": list(found.quiet)}
            for (page_id, item_id), found in shown.items()
        ],
    )


_FORGET = Among(lambda _: delete(also_on).where(also_on.c.page_id.in_(bindparam("some", expanding=True))))
_KEEP = Bulk(lambda dialect: _kept_anew(upsert(dialect, also_on)))


def _kept_anew(statement: Any) -> Any:
    anew = {name: statement.excluded[name] for name in ("data", "quiet")}
    return statement.on_conflict_do_update(index_elements=["page_id", "item_id"], set_=anew)


def listed(connection: Connection, page_ids: Sequence[int]) -> list[tuple[int, int]]:
    """Return the items that these pages list though they are at home elsewhere, as (page, item)."""
    return [(row.page_id, row.item_id) for row in _LISTED.rows(connection, page_ids)]


_LISTED = Among(
    lambda _: select(also_on.c.page_id, also_on.c.item_id).where(
        also_on.c.page_id.in_(bindparam("some", expanding=True))
    )
)


def listing(connection: Connection, item_ids: Sequence[int]) -> list[int]:
    """Return the pages that list these items though they are at home elsewhere."""
    return sorted({row.page_id for row in _LISTING.rows(connection, item_ids)})


_LISTING = Among(lambda _: select(also_on.c.page_id).where(also_on.c.item_id.in_(bindparam("some", expanding=True))))


def left(connection: Connection, found: Mapping[int, Collection[Name]]) -> list[Left]:
    """Return the items that were at home on pages which were read and list them no more, while others do. found: what they list."""
    rows = [
        row
        for row in _ELSEWHERE.rows(connection, list(found))
        if (row.source, row.kind, row.key) not in found[row.page_id]
    ]
    return _best(rows)


def abandoned(connection: Connection, page_ids: Sequence[int]) -> list[Left]:
    """Return the items that these pages list, and whose home was read since they were seen last: they are not there."""
    return _best(_ABANDONED.rows(connection, page_ids))


_ABANDONED = Among(
    lambda _: (
        _elsewhere()
        .join(pages, pages.c.id == items.c.page_id)
        .where(also_on.c.page_id.in_(bindparam("some", expanding=True)))
        .where(items.c.removed_at.is_(None), pages.c.run_id > items.c.run_id)
    )
)


def asked_for(some: FromClause, run_id: int | BindParameter[int]) -> ColumnElement[bool]:
    """Return whether a run came upon a page and asked for it. some: pages, or an alias of them."""
    same = (urls.c.fingerprint == some.c.fingerprint) & (urls.c.source == some.c.source)
    return exists().where(same, urls.c.run_id == run_id, urls.c.last_look == LastLook.NONE)


def lost(connection: Connection, run_id: int, source: str, *, complete: bool) -> list[Left]:
    """Return the items that a run saw, though not on their home: that page is gone, or the run saw all pages and not that one."""
    chosen = _LOST_AND_UNSEEN if complete else _LOST
    return _best(connection.execute(chosen, {"run": run_id, "of": source}).all())


def move(connection: Connection, left: Sequence[Left]) -> None:
    """Have items be at home on the pages that list them."""
    _MOVE.run(connection, [{"item": one.item.id, "to": one.page_id, "where": one.url} for one in left])
    _AT_HOME.run(connection, [one.item.id for one in left])


_MOVE = Bulk(
    lambda _: (
        update(items).where(items.c.id == bindparam("item")).values(page_id=bindparam("to"), url=bindparam("where"))
    )
)
_HOME = select(items.c.page_id).where(items.c.id == also_on.c.item_id).scalar_subquery()
_AT_HOME = Among(
    lambda _: delete(also_on).where(
        also_on.c.item_id.in_(bindparam("some", expanding=True)), also_on.c.page_id == _HOME
    )
)


_THERE = pages.alias("there")


def _elsewhere() -> Any:
    return (
        select(items.c.id, items.c.source, items.c.kind, items.c.key, items.c.page_id, items.c.url, items.c.data)
        .add_columns(items.c.changed_at, also_on.c.page_id.label("other"), _THERE.c.final_url)
        .add_columns(also_on.c.data.label("shown"), also_on.c.quiet)
        .join(also_on, (also_on.c.item_id == items.c.id) & (also_on.c.page_id != items.c.page_id))
        .join(_THERE, (_THERE.c.id == also_on.c.page_id) & _THERE.c.gone_at.is_(None))
    )


# A page that was not read when the item was seen last may list it no more.
_ELSEWHERE = Among(
    lambda _: _elsewhere().where(
        items.c.page_id.in_(bindparam("some", expanding=True)), _THERE.c.run_id >= items.c.run_id
    )
)


def _best(rows: Iterable[Any]) -> list[Left]:
    """Of each item the page that shows most of it; of such that show as much, the first."""
    best: dict[int, tuple[tuple[int, int], Left]] = {}
    for row in rows:
        rank = -fullness(row.shown), row.other
        if row.id not in best or rank < best[row.id][0]:
            best[row.id] = rank, Left(row, row.other, row.final_url, row.shown, row.quiet)
    return [one for _, one in best.values()]


_SEEN = (
    _elsewhere()
    .join(pages, pages.c.id == items.c.page_id)
    .where(also_on.c.source == bindparam("of"), items.c.run_id == bindparam("run"), items.c.removed_at.is_(None))
    .where(_THERE.c.run_id == bindparam("run"))
)
_GONE = pages.c.gone_at.is_not(None)
_LOST = _SEEN.where(_GONE)
_RUN: BindParameter[int] = bindparam("run")
_LOST_AND_UNSEEN = _SEEN.where(_GONE | ((pages.c.run_id < _RUN) & ~asked_for(pages, _RUN)))
