"""tasks: what is made of pages and items, when that is due, and what it has cost."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, null, or_, select, update

from scraper.config.settings import Enrich, plain
from scraper.database import changes
from scraper.database.bulk import SOURCES, in_turn
from scraper.database.models import job_in, jobs, tasks
from scraper.errors import Conflict, NotFound
from scraper.states import JobState

ASKED, STORED = "asked", "stored"


@dataclass(frozen=True, slots=True)
class Spent:
    """What a task has cost. busy_s: for how long models and functions were waited for, all workers together."""

    calls: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float = 0.0
    busy_s: float = 0.0


def sync(connection: Connection, wanted: Sequence[Enrich]) -> None:
    """Make the file's tasks in the database those of the file; what they have made stays."""
    in_turn(connection, SOURCES)
    known = {row.name: row for row in connection.execute(select(tasks)).all()}
    names = {task.task for task in wanted}
    for task in wanted:
        row = known.get(task.task)
        if row is None:
            connection.execute(insert(tasks).values(_new(task, "file")))
        elif row.definition != plain(task) or row.origin != "file":
            values: dict[str, Any] = {"definition": plain(task), "origin": "file"}
            if row.definition.get("when") != task.when:
                values["next_at"] = None
            connection.execute(update(tasks).where(tasks.c.name == task.task).values(**values))
    stale = [name for name, row in known.items() if row.origin == "file" and name not in names]
    if stale:
        _drop(connection, stale)


def _new(task: Enrich, origin: str) -> dict[str, Any]:
    return {"name": task.task, "definition": plain(task), "origin": origin}


def add(connection: Connection, task: Enrich) -> None:
    """Add a task that lives in the database. Raises Conflict if there is one of that name."""
    in_turn(connection, SOURCES)
    if connection.scalar(select(tasks.c.name).where(tasks.c.name == task.task)) is not None:
        raise Conflict(f"there is a task {task.task!r} already; choose another name, or remove that one")
    connection.execute(insert(tasks).values(_new(task, "database")))


def remove(connection: Connection, name: str) -> None:
    """Remove a task that lives in the database; what it has made stays. Raises NotFound, Conflict."""
    if one(connection, name).origin == "file":
        raise Conflict(
            f"the task {name!r} belongs to the configuration file: remove it there, then `bowerbird restart`"
        )
    _drop(connection, [name])


def _drop(connection: Connection, names: Sequence[str]) -> None:
    connection.execute(delete(jobs).where(jobs.c.task.in_(list(names))))
    connection.execute(delete(tasks).where(tasks.c.name.in_(list(names))))


def known(connection: Connection, name: str) -> Row[Any] | None:
    """Return a task, None if it is not there."""
    return connection.execute(select(tasks).where(tasks.c.name == name)).first()


def one(connection: Connection, name: str) -> Row[Any]:
    """Return a task. Raises NotFound."""
    row = known(connection, name)
    if row is None:
        there = ", ".join(connection.scalars(select(tasks.c.name).order_by(tasks.c.name).limit(20)))
        raise NotFound(f"there is no task {name!r}; there are: {there or 'none, add an [[enrich]] to bowerbird.toml'}")
    return row


def every(connection: Connection) -> list[Row[Any]]:
    """Return all tasks, by name."""
    return list(connection.execute(select(tasks).order_by(tasks.c.name)))


def ask(connection: Connection, name: str, options: Mapping[str, Any]) -> None:
    """Have a task be done as soon as somebody can: options are source, kind, limit, redo. Raises NotFound."""
    one(connection, name)
    connection.execute(update(tasks).where(tasks.c.name == name).values(asked=dict(options)))


def laid_out(connection: Connection, name: str, **values: Any) -> None:
    """Note that all pages or items were looked at: values are asked, laid_out, next_at, change_id."""
    connection.execute(update(tasks).where(tasks.c.name == name).values(**values))


def done_asked(connection: Connection, name: str, asked: Mapping[str, Any]) -> None:
    """Forget what was asked of a task, unless something else was asked meanwhile."""
    if connection.scalar(select(tasks.c.asked).where(tasks.c.name == name)) == asked:
        connection.execute(update(tasks).where(tasks.c.name == name).values(asked=null()))


def spend(connection: Connection, name: str, calls_most: int | None) -> bool:
    """Take one call out of a task's budget. Returns False if there is none left."""
    statement = update(tasks).where(tasks.c.name == name)
    if calls_most is not None:
        statement = statement.where(tasks.c.calls < calls_most)
    return connection.execute(statement.values(calls=tasks.c.calls + 1)).rowcount == 1


def unspend(connection: Connection, name: str) -> None:
    """Put a call back that nobody has answered."""
    connection.execute(update(tasks).where(tasks.c.name == name, tasks.c.calls > 0).values(calls=tasks.c.calls - 1))


def charge(connection: Connection, name: str, spent: Spent) -> None:
    """Add to what a task has cost; calls that spend() has counted are not among its calls."""
    connection.execute(
        update(tasks)
        .where(tasks.c.name == name)
        .values(
            calls=tasks.c.calls + spent.calls,
            tokens_in=tasks.c.tokens_in + spent.tokens_in,
            tokens_out=tasks.c.tokens_out + spent.tokens_out,
            cost=tasks.c.cost + spent.cost,
            busy_s=tasks.c.busy_s + spent.busy_s,
        )
    )


def spent(row: Row[Any]) -> Spent:
    """Return what a task has cost."""
    return Spent(row.calls, row.tokens_in, row.tokens_out, row.cost, row.busy_s)


def wanted_workers(connection: Connection, at: datetime, mark_of: Callable[[Mapping[str, Any]], str | None]) -> int:
    """Return how many processes there is work for: none while nothing is due.

    mark_of: returns the mark of a definition, by which is known whether it was laid out as it is now; None: it cannot be.
    """
    rows = every(connection)
    if not rows:
        return 0
    due = or_(jobs.c.not_before.is_(None), jobs.c.not_before <= at)
    in_hand = jobs.c.claimed_by.is_not(None)
    waiting = {
        row.name
        for row in rows
        if any(
            connection.scalar(select(jobs.c.id).where(jobs.c.task == row.name, meant).limit(1)) is not None
            for meant in (job_in(JobState.QUEUED) & due, in_hand)
        )
    }
    newest: int | None = None
    most = 0
    for row in rows:
        when = row.definition.get("when", ASKED)
        if row.name in waiting:
            most = max(most, 1, int(row.definition.get("workers", 1)))
        elif row.asked is not None or (row.next_at is not None and row.next_at <= at):
            most = max(most, 1)
        elif when == STORED:
            newest = changes.newest(connection) if newest is None else newest
            if row.change_id < newest or mark_of(row.definition) not in (None, row.laid_out):
                most = max(most, 1)
        elif when != ASKED and row.next_at is None:
            most = max(most, 1)
    return most
