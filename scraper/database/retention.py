"""What is kept of the past, and what goes: earlier versions, changes, what is gone, bodies."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, Table, delete, exists, func, select, update

from scraper.config.settings import Retention
from scraper.database import changes as told
from scraper.database import documents, enrichments, jobs, vectors
from scraper.database.connection import Db
from scraper.database.models import (
    also_on,
    changes,
    failures,
    item_versions,
    items,
    page_versions,
    pages,
    run_fields,
    runs,
)
from scraper.states import RunState

AT_ONCE = 500  # rows of a transaction: those who scrape wait no longer than for one of these


def prune(db: Db, source: str, keep: Retention, at: datetime) -> Iterator[tuple[str, int]]:
    """Drop what a source need not keep, portion by portion; yields what was dropped, and how many.

    What is there now is kept always: pages that a site still has, items that are still seen, the last run. Raises
    Unavailable, Unusable.
    """
    if keep.versions:
        for table, of in _VERSIONS:
            found = partial(_too_many, table=table, of=of, source=source, most=keep.versions)
            yield from _portions(db, "versions", found, _drop_versions(table))
    if keep.age:
        cut = at - timedelta(seconds=keep.age)
        for table, _ in _VERSIONS:
            old = partial(_oldest, table=table, column="until", source=source, cut=cut)
            yield from _portions(db, "versions", old, _drop_versions(table))
        yield from _portions(db, "changes", lambda c: _oldest(c, changes, "at", source, cut), told.forget)
        removed, gone = _removed(source, cut), _gone(source, cut)
        yield from _portions(db, "items", lambda c: list(c.scalars(removed)), partial(_drop_items, again=removed))
        yield from _portions(db, "pages", lambda c: list(c.scalars(gone)), partial(_drop_pages, again=gone))
        yield from _portions(db, "failures", lambda c: list(c.scalars(_resolved(source, cut))), _drop(failures))
        yield from _portions(db, "runs", lambda c: list(c.scalars(_ended(source, cut))), _drop_runs)
    if keep.size:
        yield from _portions(
            db, "versions", lambda c: _versions_beyond(c, source, keep.size), _drop_versions(page_versions)
        )
        yield from _portions(db, "bodies", lambda c: _beyond(c, source, keep.size), _drop_bodies)


def _portions(db: Db, what: str, find: Any, drop: Any) -> Iterator[tuple[str, int]]:
    """Find without holding up who writes, then drop in a short transaction; again until there is nothing left."""
    while ids := db.read(find):
        for start in range(0, len(ids), AT_ONCE):
            part = ids[start : start + AT_ONCE]
            db.write(partial(drop, ids=part))
        yield what, len(ids)
        if len(ids) < AT_ONCE:
            return


def _drop(table: Table) -> Any:
    return lambda connection, ids: connection.execute(delete(table).where(table.c.id.in_(ids)))


def _drop_versions(table: Table) -> Any:
    of = "item" if table is item_versions else "page"

    def drop(connection: Connection, ids: Sequence[int]) -> None:
        documents.forget_versions(connection, of, ids)
        connection.execute(delete(table).where(table.c.id.in_(ids)))

    return drop


_VERSIONS = ((item_versions, "item_id"), (page_versions, "page_id"))


def _oldest(connection: Connection, table: Table, column: str, source: str, cut: datetime) -> list[int]:
    """Of the oldest rows of a source, those before an instant. Rows are made in the order of time, so these are all."""
    earlier = (table.c.source == source) & (table.c.id < _newest(table))
    query = select(table.c.id, table.c[column]).where(earlier).order_by(table.c.id).limit(AT_ONCE)
    return [row.id for row in connection.execute(query) if row[1] < cut]


def _too_many(connection: Connection, table: Table, of: str, source: str, most: int) -> list[int]:
    """Versions beyond so many of one item or page, the oldest ones."""
    subject = table.c[of]
    crowded = connection.scalars(
        select(subject).where(table.c.source == source).group_by(subject).having(func.count() > most).limit(AT_ONCE)
    ).all()
    place = func.row_number().over(partition_by=subject, order_by=table.c.id.desc())
    ranked = select(table.c.id, place.label("place")).where(subject.in_(crowded)).subquery()
    return list(connection.scalars(select(ranked.c.id).where(ranked.c.place > most)))


def _still(connection: Connection, query: Select[Any]) -> list[int]:
    """Of rows that were found before, those that are so still: a site may have come back with them meanwhile. None comes now."""
    return list(connection.scalars(query.with_for_update()))


def _newest(table: Table) -> Any:
    """The last row stays: the numbers of new ones go on from it, and must not be those of others."""
    return select(func.max(table.c.id)).scalar_subquery()


def _removed(source: str, cut: datetime) -> Select[Any]:
    gone = (items.c.source == source) & (items.c.removed_at < cut) & (items.c.id < _newest(items))
    return select(items.c.id).where(gone).limit(AT_ONCE)


def _drop_items(connection: Connection, again: Select[Any], ids: Sequence[int]) -> None:
    ids = _still(connection, again.where(items.c.id.in_(ids)))
    connection.execute(delete(item_versions).where(item_versions.c.item_id.in_(ids)))
    connection.execute(delete(also_on).where(also_on.c.item_id.in_(ids)))
    _forget_made(connection, "item", ids)
    connection.execute(delete(items).where(items.c.id.in_(ids)))


def _forget_made(connection: Connection, of: str, ids: Sequence[int]) -> None:
    """Drop all that was made of pages or items that are kept no more."""
    for table in (documents, jobs, enrichments, vectors):
        table.forget(connection, of, ids)


def _gone(source: str, cut: datetime) -> Select[Any]:
    used = exists().where(items.c.page_id == pages.c.id)
    gone = (pages.c.source == source) & (pages.c.gone_at < cut) & (pages.c.id < _newest(pages))
    return select(pages.c.id).where(gone, ~used).limit(AT_ONCE)


def _drop_pages(connection: Connection, again: Select[Any], ids: Sequence[int]) -> None:
    ids = _still(connection, again.where(pages.c.id.in_(ids)))
    connection.execute(update(pages).where(pages.c.duplicate_of.in_(ids)).values(duplicate_of=None))
    connection.execute(delete(page_versions).where(page_versions.c.page_id.in_(ids)))
    connection.execute(delete(also_on).where(also_on.c.page_id.in_(ids)))
    _forget_made(connection, "page", ids)
    connection.execute(delete(pages).where(pages.c.id.in_(ids)))


def _drop_runs(connection: Connection, ids: Sequence[int]) -> None:
    connection.execute(delete(run_fields).where(run_fields.c.run_id.in_(ids)))
    connection.execute(delete(runs).where(runs.c.id.in_(ids)))


def _resolved(source: str, cut: datetime) -> Select[Any]:
    return select(failures.c.id).where(failures.c.source == source, failures.c.resolved_at < cut).limit(AT_ONCE)


def _ended(source: str, cut: datetime) -> Select[Any]:
    newest = select(func.max(runs.c.id)).where(runs.c.source == source).scalar_subquery()
    over: ColumnElement[bool] = runs.c.state.in_([RunState.DONE, RunState.FAILED, RunState.STOPPED])
    return (
        select(runs.c.id)
        .where(runs.c.source == source, over, runs.c.finished_at < cut, runs.c.id < newest)
        .limit(AT_ONCE)
    )


def _stored(connection: Connection, table: Table, source: str) -> int:
    total = func.coalesce(func.sum(table.c.stored_bytes), 0)
    return int(connection.scalar(select(total).where(table.c.source == source)) or 0)


def _versions_beyond(connection: Connection, source: str, size: int) -> list[int]:
    """The earlier versions of pages that have to go first, the oldest ones."""
    excess = _stored(connection, pages, source) + _stored(connection, page_versions, source) - size
    ids: list[int] = []
    kept = select(page_versions.c.id, page_versions.c.stored_bytes).where(page_versions.c.source == source)
    for row in connection.execute(kept.order_by(page_versions.c.id).limit(AT_ONCE)) if excess > 0 else ():
        if excess <= 0:
            break
        ids.append(row.id)
        excess -= row.stored_bytes
    return ids


def _beyond(connection: Connection, source: str, size: int) -> list[int]:
    """The pages whose bodies have to go for the rest to take no more than so many bytes: first what is gone, then the oldest."""
    has_body = (pages.c.source == source) & (pages.c.stored_bytes > 0)
    excess = (
        int(connection.scalar(select(func.coalesce(func.sum(pages.c.stored_bytes), 0)).where(has_body)) or 0) - size
    )
    ids: list[int] = []
    if excess <= 0:
        return ids
    first = (pages.c.gone_at.is_(None), pages.c.fetched_at, pages.c.id)
    for row in connection.execute(select(pages.c.id, pages.c.stored_bytes).where(has_body).order_by(*first)):
        ids.append(row.id)
        excess -= row.stored_bytes
        if excess <= 0:
            break
    return ids


def _drop_bodies(connection: Connection, ids: Sequence[int]) -> None:
    connection.execute(update(pages).where(pages.c.id.in_(ids)).values(body=b"", stored_bytes=0))
