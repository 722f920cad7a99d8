"""usage: what was taken from the sites of a source on one day, for its budgets."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, bindparam, delete, select

from scraper.database.among import Among
from scraper.database.bulk import Bulk, upsert
from scraper.database.models import usage
from scraper.records import Visit

KEPT = timedelta(days=400)


def day_of(at: datetime) -> str:
    """Return the day that an instant belongs to, by UTC."""
    return at.date().isoformat()


def add(connection: Connection, visits: Sequence[Visit], changed: Mapping[str, int]) -> None:
    """Count visits to what their sources took on their days. changed: how many changes each source brought."""
    told = dict(changed)
    taken: dict[tuple[str, str], list[int]] = {}
    for visit in visits:
        came = visit.fetched.wire_bytes if visit.fetched is not None else visit.taken_bytes
        if came:
            pages, size = taken.setdefault((visit.claim.source, day_of(visit.at)), [0, 0])
            taken[visit.claim.source, day_of(visit.at)] = [pages + 1, size + came]
    rows = [
        {"source": s, "day": day, "pages": pages, "bytes": size, "changes": told.pop(s, 0)}
        for (s, day), (pages, size) in sorted(taken.items())
    ]
    _ADD.run(connection, rows)


def changed(connection: Connection, source: str, at: datetime, count: int) -> None:
    """Count changes to those that a source brought on a day."""
    _ADD.run(connection, [{"source": source, "day": day_of(at), "pages": 0, "bytes": 0, "changes": count}])


def _added(dialect: str) -> Any:
    more = upsert(dialect, usage)
    set_ = {name: usage.c[name] + more.excluded[name] for name in ("pages", "bytes", "changes")}
    return more.on_conflict_do_update(index_elements=["source", "day"], set_=set_)


_ADD = Bulk(_added)


def of(connection: Connection, at: datetime, names: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Return pages and bytes that each of these sources took on the day of an instant."""
    return {row.source: (row.pages, row.bytes) for row in _OF.rows(connection, names, day=day_of(at))}


_OF = Among(
    lambda _: select(usage.c.source, usage.c.pages, usage.c.bytes).where(
        usage.c.source.in_(bindparam("names", expanding=True)), usage.c.day == bindparam("day")
    )
)


def forget(connection: Connection, at: datetime) -> None:
    """Drop the days that nobody asks for any more."""
    connection.execute(delete(usage).where(usage.c.day < day_of(at - KEPT)))
