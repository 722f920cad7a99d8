"""sources: what is watched, and when it is due."""

import hashlib
import json
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, exists, insert, select, update

from scraper.config.settings import Source, plain
from scraper.database import alarms, numbers
from scraper.database.among import Among
from scraper.database.bulk import SOURCES, in_turn
from scraper.database.connection import now
from scraper.database.models import items, runs, sources
from scraper.errors import Conflict, NotFound, Outdated
from scraper.states import RunState

NextDue = Callable[[Source, datetime | None], datetime | None]

log = logging.getLogger(__name__)


def sync(connection: Connection, wanted: Sequence[Source], next_due: NextDue) -> None:
    """Make the file's sources in the database those of the file; what was scraped of others stays."""
    in_turn(connection, SOURCES)
    known = {row.name: row for row in connection.execute(select(sources)).all()}
    names = {source.name for source in wanted}
    fresh = False
    for source in wanted:
        row = known.get(source.name)
        if row is None:
            connection.execute(
                insert(sources).values(name=source.name, **_values(source, "file", next_due(source, None)))
            )
            fresh = True
        elif row.definition != plain(source) or row.origin != "file":
            if row.origin != "file":
                log.warning(
                    "a source of the file takes the place of the one that was added", extra={"source": source.name}
                )
            _halt(connection, source, row)
            values = _values(source, "file", _next(source, row, next_due))
            connection.execute(update(sources).where(sources.c.name == source.name).values(**values))
            fresh = True
    stale = [name for name, row in known.items() if row.origin == "file" and name not in names]
    if stale:
        connection.execute(delete(sources).where(sources.c.name.in_(stale)))
        alarms.end_strange(connection, now())
    if fresh or stale:
        _touch(connection)


def _halt(connection: Connection, source: Source, row: Row[Any]) -> None:
    """End the run of a source that is disabled now; one that is asked for later is done all the same."""
    if source.enabled or not row.enabled:
        return
    ended = {"state": RunState.STOPPED, "finished_at": now(), "message": "the source was disabled"}
    active = (runs.c.source == source.name) & runs.c.state.in_([RunState.QUEUED, RunState.RUNNING])
    connection.execute(update(runs).where(active).values(**ended))


def _next(source: Source, row: Row[Any], next_due: NextDue) -> datetime | None:
    """When a source is due by its new definition: by another cron expression at its next match from now on."""
    other = source.cron and source.cron != row.definition.get("cron")
    return next_due(source, None if other else row.last_run_at)


def _values(source: Source, origin: str, next_at: datetime | None) -> dict[str, Any]:
    tags = f" {' '.join(source.tags)} " if source.tags else ""
    values = {"definition": plain(source), "origin": origin, "enabled": source.enabled}
    return values | {"next_at": next_at, "tags": tags}


EDITION = "sources_edition"


def _touch(connection: Connection) -> None:
    """Have all who work on sources look at them again."""
    numbers.keep(connection, EDITION, edition(connection) + 1)


def edition(connection: Connection) -> int:
    """Return a number that grows whenever a source is added, changed, paused or removed."""
    return numbers.kept(connection, EDITION)


def add(connection: Connection, source: Source, next_due: NextDue) -> None:
    """Add a source that lives in the database. Raises Conflict if there is one of that name."""
    in_turn(connection, SOURCES)
    if connection.scalar(select(sources.c.name).where(sources.c.name == source.name)) is not None:
        raise Conflict(f"there is a source {source.name!r} already; choose another name, or change that one")
    connection.execute(insert(sources).values(name=source.name, **_values(source, "database", next_due(source, None))))
    _touch(connection)


def change(connection: Connection, source: Source, next_due: NextDue, expected: Collection[str] | None = None) -> None:
    """Replace the definition of a source that lives in the database.

    expected: the tags of the definitions that the caller saw. Raises NotFound; Conflict for a source of the file; Outdated if
    it is another by now.
    """
    row = _own(connection, source.name, expected)
    _halt(connection, source, row)
    values = _values(source, "database", _next(source, row, next_due))
    connection.execute(update(sources).where(sources.c.name == source.name).values(**values))
    _touch(connection)


def remove(connection: Connection, name: str, expected: Collection[str] | None = None) -> None:
    """Remove a source that lives in the database; what was scraped of it stays. Raises NotFound, Conflict, Outdated."""
    _own(connection, name, expected)
    connection.execute(delete(sources).where(sources.c.name == name))
    alarms.end_strange(connection, now())
    _touch(connection)


def _own(connection: Connection, name: str, expected: Collection[str] | None) -> Row[Any]:
    in_turn(connection, SOURCES)
    row = connection.execute(select(sources).where(sources.c.name == name)).first()
    if row is None:
        raise NotFound(_unknown(name))
    if row.origin == "file":
        raise Conflict(
            f"the source {name!r} belongs to the configuration file: change it there, then `bowerbird restart`"
        )
    if expected is not None and tag(row.definition) not in expected:
        raise Outdated(f"the source {name!r} was changed meanwhile; read it again")
    return row


def _unknown(name: str) -> str:
    return f"there is no source {name!r}; `bowerbird sources list` names them"


def tag(definition: Mapping[str, Any]) -> str:
    """Return a mark that is another one for another definition."""
    text = json.dumps(definition, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def definition(connection: Connection, name: str) -> dict[str, Any]:
    """Return the definition of a source, secrets included. Raises NotFound."""
    found: dict[str, Any] | None = connection.scalar(select(sources.c.definition).where(sources.c.name == name))
    if found is None:
        raise NotFound(_unknown(name))
    return found


def pause(connection: Connection, names: Sequence[str], at: datetime | None) -> list[str]:
    """Have sources be visited no more, or again where no instant is given. Returns those for which that is new.

    Raises Conflict for one that its definition disables.
    """
    in_turn(connection, SOURCES)
    rows = connection.execute(select(sources).where(sources.c.name.in_(list(names)))).all()
    if at is None and (off := next((row.name for row in rows if not row.enabled and row.origin == "file"), None)):
        raise Conflict(f"the source {off!r} is disabled in the configuration file: enable it there")
    found = [row for row in rows if (row.paused_at is None) == (at is not None) or (at is None and not row.enabled)]
    for row in found:
        values: dict[str, Any] = {"paused_at": at}
        if at is None and not row.enabled:
            values |= {"enabled": True, "definition": row.definition | {"enabled": True}}
        connection.execute(update(sources).where(sources.c.name == row.name).values(**values))
    if found:
        _touch(connection)
    return [row.name for row in found]


def known(connection: Connection, name: str) -> None:
    """Look whether there is a source of this name, or was: what was scraped stays. Raises NotFound."""
    was = exists().where(runs.c.source == name) | exists().where(items.c.source == name)
    if not connection.scalar(select(exists().where(sources.c.name == name) | was)):
        raise NotFound(_unknown(name))


def runnable(connection: Connection, name: str) -> None:
    """Look whether a source can be run now. Raises NotFound, and Conflict for one that is paused: nothing of it would be visited."""
    definition(connection, name)
    if name in paused(connection):
        raise Conflict(
            f"the source {name!r} is disabled: nothing of it is visited; `bowerbird sources enable {name}` first"
        )


def paused(connection: Connection) -> set[str]:
    """Return the names of the sources that are not to be visited now."""
    return set(connection.scalars(select(sources.c.name).where(sources.c.paused_at.is_not(None))))


def spread(connection: Connection, at: datetime, each_s: float, most_s: float) -> None:
    """Have sources that are overdue begin one after the other, not all at once."""
    overdue = connection.execute(
        select(sources.c.name, sources.c.next_at)
        .where(sources.c.enabled, sources.c.paused_at.is_(None), sources.c.next_at < at)
        .order_by(sources.c.next_at, sources.c.name)
    ).all()
    each_s = min(each_s, most_s / max(1, len(overdue)))
    for place, row in enumerate(overdue[1:], 1):
        later = at + timedelta(seconds=place * each_s)
        connection.execute(update(sources).where(sources.c.name == row.name).values(next_at=later))


def names(connection: Connection, most: int) -> list[str]:
    """Return the names of the sources, in order, at most so many."""
    return list(connection.scalars(select(sources.c.name).order_by(sources.c.name).limit(most)))


def former(connection: Connection) -> list[str]:
    """Return the names of sources that are there no more, and of which something was scraped."""
    return list(
        connection.scalars(select(runs.c.source).distinct().where(runs.c.source.not_in(select(sources.c.name))))
    )


def definitions(connection: Connection) -> dict[str, dict[str, Any]]:
    """Return the definitions of all sources, by name."""
    rows = connection.execute(select(sources.c.name, sources.c.definition))
    return {row.name: row.definition for row in rows}


def started(connection: Connection, name: str, run_id: int, at: datetime, next_at: datetime | None) -> None:
    """Note that a run of a source began, and when the next one is due."""
    values = {"last_run_at": at, "run_id": run_id, "next_at": next_at}
    connection.execute(update(sources).where(sources.c.name == name).values(**values))


def checked(connection: Connection, names: set[str], at: datetime) -> None:
    """Note that pages of these sources were just looked at."""
    _CHECKED.run(connection, sorted(names), now=at)


_CHECKED = Among(
    lambda _: (
        update(sources)
        .where(sources.c.name.in_(bindparam("names", expanding=True)))
        .values(checked_at=bindparam("now"))
    )
)


def last_check(connection: Connection) -> datetime | None:
    """Return when any source was looked at last."""
    return connection.scalar(
        select(sources.c.checked_at)
        .where(sources.c.checked_at.is_not(None))
        .order_by(sources.c.checked_at.desc())
        .limit(1)
    )


def next_due_at(connection: Connection) -> datetime | None:
    """Return when the next source comes due."""
    return connection.scalar(
        select(sources.c.next_at)
        .where(sources.c.enabled, sources.c.paused_at.is_(None), sources.c.next_at.is_not(None))
        .order_by(sources.c.next_at)
        .limit(1)
    )
