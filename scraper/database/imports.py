"""What was scraped by others, stored as if a run had seen it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from scraper.database import changes, items, pages
from scraper.database.connection import made_id
from scraper.database.models import changes as change_table
from scraper.database.models import runs
from scraper.records import Claim, Fetched, Item, Reading, Visit
from scraper.states import RunKind, RunState


@dataclass(frozen=True, slots=True)
class Import:
    """An import that is under way."""

    run_id: int
    source: str
    at: datetime
    after: int  # the last change before it


def begin(connection: Connection, source: str, at: datetime) -> Import:
    """Begin an import: a run of its own, which counts as stopped until it has ended."""
    values = {"source": source, "kind": RunKind.IMPORT, "queued_at": at, "started_at": at, "finished_at": at}
    run_id = made_id(connection.execute(insert(runs).values(**values, state=RunState.STOPPED)))
    return Import(run_id, source, at, changes.newest(connection))


def put(
    connection: Connection, under: Import, entries: Sequence[tuple[str | None, Item]], home: str, at: datetime
) -> None:
    """Store items, each with the URL of its page: new, changed, back, or as they were.

    Where an entry says none, an item that is there stays where it is, and a new one is of the page home. A page that nobody
    has read yet is entered without content.
    """
    named = [(under.source, item.kind, item.key) for url, item in entries if url is None]
    there = items.urls_of(connection, named)
    by_url: dict[str, list[Item]] = {}
    for url, item in entries:
        place = url or there.get((under.source, item.kind, item.key), home)
        by_url.setdefault(place, []).append(item)
    places = pages.placed(connection, under.source, list(by_url), under.run_id, under.at)
    visits = [(_visit(under, url, found), places[url]) for url, found in by_url.items()]

    def standing(connection: Connection, ids: Collection[int]) -> Mapping[int, tuple[int, bool, str | None]]:
        """What an import brings, holds: no page is still to be read."""
        found = pages.standing(connection, ids)
        return {page: (under.run_id, gone, own_name) for page, (_, gone, own_name) in found.items()}

    told: list[dict[str, Any]] = []
    anew = items.put(connection, visits, standing, told, whole=False)
    connection.execute(
        update(runs)
        .where(runs.c.id == under.run_id)
        .values(items=runs.c["items"] + len(entries), changes=runs.c.changes + len(told) - anew.total(), finished_at=at)
    )
    changes.tell(connection, told)


def _visit(under: Import, url: str, found: Sequence[Item]) -> Visit:
    claim = Claim(0, under.run_id, under.source, url, "", 0, "page", 0)
    return Visit(claim, under.at, Fetched(url, url, 0, {}, b"", 0, 0.0), Reading(items=tuple(found)))


def end(connection: Connection, under: Import, at: datetime) -> dict[str, int]:
    """End an import. Returns how many items it created, changed, and brought back."""
    connection.execute(update(runs).where(runs.c.id == under.run_id).values(state=RunState.DONE, finished_at=at))
    told: Any = connection.execute(
        select(change_table.c.change, func.count())
        .where(change_table.c.id > under.after, change_table.c.source == under.source, change_table.c.at == under.at)
        .group_by(change_table.c.change)
    )
    return {change: count for change, count in told}
