"""alarms: what is wrong with what a source yields: items that vanish at once, fields that are empty at once."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, insert, select, update

from scraper.database.bulk import Bulk, upsert
from scraper.database.connection import made_id
from scraper.database.models import alarms, run_fields, runs, sources
from scraper.errors import NotFound
from scraper.records import Visit

# Fewer items than these say nothing: in a small source a half goes easily.
ITEMS_LEAST = 10
FIELD_ITEMS_LEAST = 10
# A field that was filled in so large a share of items, and then in so small a one, was lost.
FILLED_BEFORE, FILLED_NOW = 0.5, 0.05
RUNS_KEPT = 20

Filled = dict[tuple[int, str, str], int]


def count(visits: Sequence[Visit]) -> Filled:
    """Return in how many items of each run and kind each field is filled; the field "" counts the items."""
    found: dict[tuple[int, str], dict[str, int]] = {}
    for visit in visits:
        for item in visit.reading.items:
            counted = found.setdefault((visit.claim.run_id, item.kind), {"": 0})
            counted[""] += 1
            for name, value in item.data.items():
                filled = value is not None and value != "" and value != []
                counted[name] = counted.get(name, 0) + filled
    return {(run_id, kind, name): n for (run_id, kind), counted in found.items() for name, n in counted.items()}


def add(connection: Connection, filled: Filled) -> None:
    """Add to what was counted of runs."""
    rows = [{"run_id": r, "kind": kind, "field": field, "filled": n} for (r, kind, field), n in sorted(filled.items())]
    _ADD.run(connection, rows)


def _added(dialect: str) -> Any:
    more = upsert(dialect, run_fields)
    set_ = {"filled": run_fields.c.filled + more.excluded.filled}
    return more.on_conflict_do_update(index_elements=["run_id", "kind", "field"], set_=set_)


_ADD = Bulk(_added)


@dataclass(frozen=True, slots=True)
class Fields:
    """What a run tells of the fields: the lost ones as "kind.field" and a sentence, and those that are there. Of others it says nothing."""

    lost: Mapping[str, str]
    there: Collection[str]


def fields(connection: Connection, run_id: int, source: str, *, by_rules: bool) -> Fields:
    """Return which fields were filled in earlier runs of a source and are not in this one, and which are.

    by_rules: every item has all fields of its rule, so one that none has was taken out of the rule.
    """
    now = _shares(connection, run_id)
    if not now:
        return Fields({}, ())
    before = connection.scalars(
        select(run_fields.c.run_id)
        .join(runs, runs.c.id == run_fields.c.run_id)
        .where(runs.c.source == source, run_fields.c.run_id < run_id)
        .distinct()
        .order_by(run_fields.c.run_id.desc())
        .limit(RUNS_KEPT)
    ).all()
    found: dict[str, str] = {}
    dropped: set[str] = set()
    was: dict[tuple[str, str], tuple[float, int]] = {}
    for earlier in before:  # of each field what the last run says that saw enough items, and had not lost it
        was = {name: share for name, share in _shares(connection, earlier).items() if share[0] > FILLED_NOW} | was
    for (kind, field), (filled, _) in was.items():
        if filled < FILLED_BEFORE or (kind, "") not in now or now[kind, ""][1] < FIELD_ITEMS_LEAST:
            continue
        if by_rules and (kind, field) not in now:
            dropped.add(f"{kind}.{field}")
            continue
        present = now.get((kind, field), (0.0, 0))[0]
        if field and present <= FILLED_NOW:
            found[f"{kind}.{field}"] = (
                f"{field} of {kind} was filled in {filled:.0%} of the items, and is in {present:.0%} of {now[kind, ''][1]} now"
            )
    filled_now = {f"{kind}.{name}" for (kind, name), (share, _) in now.items() if name and share > FILLED_NOW}
    return Fields(found, filled_now | dropped)


def _shares(connection: Connection, run_id: int) -> dict[tuple[str, str], tuple[float, int]]:
    rows = connection.execute(select(run_fields).where(run_fields.c.run_id == run_id)).all()
    totals = {row.kind: row.filled for row in rows if row.field == ""}
    return {
        (row.kind, row.field): (row.filled / totals[row.kind], row.filled)
        for row in rows
        if totals.get(row.kind, 0) >= FIELD_ITEMS_LEAST
    }


def settle(
    connection: Connection,
    source: str,
    found: Mapping[tuple[str, str], str],
    mended: Collection[tuple[str, str]],
    at: datetime,
) -> list[str]:
    """Open or renew alarms of a source, as (kind, name) and a sentence; end those that are mended. Returns the new sentences.

    An alarm that is neither stays: a run that reads little cannot tell.
    """
    there = {(row.kind, row.name): row for row in connection.execute(_open(source)).all()}
    told = []
    for (kind, name), message in found.items():
        row = there.get((kind, name))
        if row is None:
            told.append(message)
            values = {"source": source, "kind": kind, "name": name, "at": at, "last_at": at, "message": message}
            made_id(connection.execute(insert(alarms).values(**values)))
        else:
            connection.execute(update(alarms).where(alarms.c.id == row.id).values(last_at=at, message=message))
    over = [row.id for name, row in there.items() if name in mended and name not in found]
    if over:
        connection.execute(update(alarms).where(alarms.c.id.in_(over)).values(resolved_at=at))
    return told


def end_strange(connection: Connection, at: datetime) -> None:
    """End the alarms of sources that are there no more."""
    gone = alarms.c.resolved_at.is_(None) & alarms.c.source.not_in(select(sources.c.name))
    connection.execute(update(alarms).where(gone).values(resolved_at=at))


def _open(source: str) -> Any:
    return select(alarms).where(alarms.c.source == source, alarms.c.resolved_at.is_(None))


def is_accepted(connection: Connection, source: str, kind: str, name: str) -> bool:
    """Say whether somebody has said that it is right so."""
    wanted = _open(source).where(alarms.c.kind == kind, alarms.c.name == name, alarms.c.accepted_at.is_not(None))
    return connection.execute(wanted).first() is not None


def accept(connection: Connection, alarm_id: int, at: datetime) -> dict[str, Any]:
    """Note that what an alarm says is right so: the next run acts on it. Raises NotFound."""
    found = connection.execute(
        update(alarms).where(alarms.c.id == alarm_id).values(accepted_at=at).returning(*alarms.c)
    ).first()
    if found is None:
        raise NotFound(f"there is no alarm {alarm_id}")
    return public(found)


def standing(connection: Connection, source: str | None = None) -> list[dict[str, Any]]:
    """Return the open alarms, the newest first."""
    statement = select(alarms).where(alarms.c.resolved_at.is_(None)).order_by(alarms.c.id.desc())
    if source is not None:
        statement = statement.where(alarms.c.source == source)
    return [public(row) for row in connection.execute(statement)]


def by_source(connection: Connection, names: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Return the open alarms of some sources, at most IN_MOST of these, the newest first."""
    wanted = select(alarms).where(alarms.c.resolved_at.is_(None), alarms.c.source.in_(names))
    found: dict[str, list[dict[str, Any]]] = {}
    for row in connection.execute(wanted.order_by(alarms.c.id.desc())):
        found.setdefault(row.source, []).append(public(row))
    return found


def forget_runs(connection: Connection, source: str) -> None:
    """Drop what was counted of runs that nothing is compared with any more."""
    kept = (
        select(runs.c.id).where(runs.c.source == source).order_by(runs.c.id.desc()).offset(RUNS_KEPT).limit(RUNS_KEPT)
    )
    old = list(connection.scalars(kept))
    if old:
        connection.execute(
            delete(run_fields).where(run_fields.c.run_id.in_(bindparam("old", expanding=True))), {"old": old}
        )


def public(row: Row[Any]) -> dict[str, Any]:
    """Return an alarm as the API tells it."""
    names = ("id", "source", "kind", "name", "at", "last_at", "message", "accepted_at", "resolved_at")
    return {name: getattr(row, name) for name in names}
