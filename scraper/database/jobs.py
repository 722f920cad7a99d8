"""jobs: what is to be made of which page or item. Laid out, claimed in small portions with leases, finished once."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, and_, delete, func, insert, literal_column, or_, select, update

from scraper.database.bulk import IN_MOST, upsert
from scraper.database.models import attempts, job_in, jobs
from scraper.states import JobState

LEASE_S = 20.0
CRASHES_MOST = 3
MESSAGE_MOST = 4000


@dataclass(frozen=True, slots=True)
class Due:
    """Something that a task is to make. of: "page" or "item". input_hash: of all that it is made from."""

    of: str
    subject_id: int
    source: str
    kind: str
    input_hash: str


@dataclass(frozen=True, slots=True)
class Only:
    """Which jobs are meant, beside those of a task."""

    source: str | None = None
    kind: str | None = None


ALL = Only()


@dataclass(frozen=True, slots=True)
class Try:
    """One try at a job, as it is kept. Tokens and seconds are what it took."""

    outcome: str
    message: str | None
    model: str | None
    tokens_in: int
    tokens_out: int
    elapsed_s: float
    at: datetime


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a claimed job. reason: why it failed or has to wait.

    not_before: when it may be tried again; None with a reason: it has failed. free: this try does not count.
    """

    job: Row[Any]
    reason: str | None = None
    message: str | None = None
    not_before: datetime | None = None
    free: bool = False
    tries: Sequence[Try] = field(default_factory=tuple)


def lay_out(
    connection: Connection, task: str, due: Sequence[Due], at: datetime, *, redo: bool = False, most: int | None = None
) -> int:
    """Have jobs be done that are new or whose input has changed, and with redo all; at most so many. Returns how many that are."""
    known = _known(connection, task, sorted({one.subject_id for one in due}))
    fresh = [one for one in due if (one.subject_id, one.of, one.kind) not in known]
    again = [
        one
        for one in due
        if (row := known.get((one.subject_id, one.of, one.kind))) is not None
        and (row.input_hash != one.input_hash or (redo and row.state in (JobState.DONE, JobState.FAILED)))
    ]
    if most is not None:
        fresh, again = fresh[:most], again[: max(0, most - len(fresh))]
    for one in again:
        mine = (jobs.c.task == task) & (jobs.c.subject_id == one.subject_id)
        mine &= (jobs.c.of == one.of) & (jobs.c.kind == one.kind)
        connection.execute(
            update(jobs).where(mine).values(input_hash=one.input_hash, source=one.source, anew=redo, **_anew(at))
        )
    if fresh:
        rows = [
            {"task": task, "of": one.of, "subject_id": one.subject_id, "source": one.source, "kind": one.kind}
            | {"input_hash": one.input_hash, "state": JobState.QUEUED, "at": at}
            for one in fresh
        ]
        made = upsert(connection.dialect.name, jobs).on_conflict_do_nothing(
            index_elements=["subject_id", "task", "of", "kind"]
        )
        connection.execute(made, rows)
    return len(fresh) + len(again)


def _anew(at: datetime) -> dict[str, Any]:
    return {
        "state": JobState.QUEUED,
        "attempts": 0,
        "crashes": 0,
        "not_before": None,
        "claimed_by": None,
        "lease_until": None,
        "reason": None,
        "message": None,
        "at": at,
    }


def _known(connection: Connection, task: str, subjects: Sequence[int]) -> dict[tuple[int, str, str], Any]:
    found: dict[tuple[int, str, str], Any] = {}
    columns = (jobs.c.subject_id, jobs.c.of, jobs.c.kind, jobs.c.input_hash, jobs.c.state)
    for start in range(0, len(subjects), IN_MOST):
        some = jobs.c.subject_id.in_(subjects[start : start + IN_MOST]) & (jobs.c.task == task)
        for row in connection.execute(select(*columns).where(some)):
            found[row.subject_id, row.of, row.kind] = row
    return found


def _meant(task: str, only: Only) -> Any:
    meant = jobs.c.task == task
    if only.source is not None:
        meant &= jobs.c.source == only.source
    if only.kind is not None:
        meant &= jobs.c.kind == only.kind
    return meant


def claim(
    connection: Connection, task: str, owner: str, at: datetime, limit: int, only: Only = ALL, *, idle: bool = True
) -> list[Row[Any]]:
    """Take the next jobs of a task for a worker, the oldest first; nobody else gets them while its lease lasts.

    What was in hand when a process died by itself is taken alone, by a worker that is idle: so the next death tells which
    job it was, and nothing beside it is blamed.
    """
    ready = or_(jobs.c.not_before.is_(None), jobs.c.not_before <= at)
    next_jobs = select(jobs.c.id, jobs.c.crashes).where(job_in(JobState.QUEUED), _meant(task, only), ready)
    if not idle:
        next_jobs = next_jobs.where(jobs.c.crashes == 0)
    found = connection.execute(next_jobs.order_by(jobs.c.id).limit(limit).with_for_update(skip_locked=True)).all()
    ids = [row.id for row in found if not row.crashes]
    if found and found[0].crashes:
        ids = [found[0].id]
    if not ids:
        return []
    values = {"state": JobState.CLAIMED, "claimed_by": owner, "lease_until": at + timedelta(seconds=LEASE_S)}
    taken = update(jobs).where(jobs.c.id.in_(ids)).values(**values, attempts=jobs.c.attempts + 1).returning(*jobs.c)
    return sorted(connection.execute(taken), key=lambda row: int(row.id))


def renew(connection: Connection, owner: str, at: datetime) -> None:
    """Go on holding what a worker has in hand; give back what others held and lost."""
    mine = jobs.c.claimed_by == owner
    connection.execute(update(jobs).where(mine).values(lease_until=at + timedelta(seconds=LEASE_S)))
    lost = jobs.c.claimed_by.is_not(None) & (jobs.c.lease_until < at)
    connection.execute(update(jobs).where(lost).values(**_RELEASED))


_RELEASED = {"state": JobState.QUEUED, "claimed_by": None, "lease_until": None}


def release(connection: Connection, owner: str, *, only: Sequence[int] | None = None, blamed: bool = False) -> int:
    """Give back what a worker of this name had in hand: it is gone, or leaves. Returns how many.

    only: these alone. blamed: it died by itself with them in hand; what does that several times is set aside.
    """
    mine = jobs.c.claimed_by == owner
    if only is not None:
        mine &= jobs.c.id.in_(only)
    if blamed:
        connection.execute(update(jobs).where(mine).values(crashes=jobs.c.crashes + 1))
        over = mine & (jobs.c.crashes >= CRASHES_MOST)
        said = f"{CRASHES_MOST} processes ended with it in hand; it is not tried again until asked"
        values = {"state": JobState.FAILED, "reason": "poison", "message": said}
        connection.execute(update(jobs).where(over).values(claimed_by=None, lease_until=None, **values))
    back = update(jobs).where(mine).values(**_RELEASED, attempts=jobs.c.attempts - 1)
    return connection.execute(back).rowcount


def settle(connection: Connection, owner: str, verdict: Verdict, at: datetime) -> bool:
    """Say what became of a job. Returns False, and does nothing, if it is not the worker's any more."""
    job = verdict.job
    mine = and_(jobs.c.id == job.id, jobs.c.claimed_by == owner, jobs.c.input_hash == job.input_hash)
    state = JobState.DONE if verdict.reason is None else JobState.QUEUED if verdict.not_before else JobState.FAILED
    values: dict[str, Any] = {"state": state, "claimed_by": None, "lease_until": None, "at": at}
    values |= {"reason": verdict.reason, "message": (verdict.message or "")[:MESSAGE_MOST] or None}
    values["not_before"] = verdict.not_before
    if state is JobState.DONE:
        values["anew"] = False
    if verdict.free:
        values["attempts"] = jobs.c.attempts - 1
    done = connection.execute(update(jobs).where(mine).values(**values)).rowcount == 1
    if verdict.tries:
        connection.execute(
            insert(attempts),
            [
                {"job_id": job.id, "at": one.at, "outcome": one.outcome, "message": one.message, "model": one.model}
                | {"tokens_in": one.tokens_in, "tokens_out": one.tokens_out, "elapsed_s": one.elapsed_s}
                for one in verdict.tries
            ],
        )
    return done


def counts(connection: Connection, task: str | None = None, only: Only = ALL) -> dict[str, dict[str, int]]:
    """Return how many jobs each task has in each state, those that are claimed among the queued ones."""
    meant = [] if task is None else [_meant(task, only)]
    statement = select(jobs.c.task, jobs.c.state, func.count()).where(*meant).group_by(jobs.c.task, jobs.c.state)
    found: dict[str, dict[str, int]] = {}
    for name, state, count in connection.execute(statement):
        one = found.setdefault(name, {"queued": 0, "done": 0, "failed": 0})
        one["queued" if state == JobState.CLAIMED else state] += count
    return found


def reasons(connection: Connection, task: str) -> dict[str, int]:
    """Return how many jobs of a task have failed, by reason."""
    failed = (jobs.c.task == task) & (jobs.c.state == literal_column("'failed'"))
    statement = select(jobs.c.reason, func.count()).where(failed).group_by(jobs.c.reason)
    return {str(reason): count for reason, count in connection.execute(statement)}


def next_at(connection: Connection, task: str, only: Only = ALL) -> datetime | None:
    """Return when the next job of a task may be tried again, of those that wait; None if none does."""
    waiting = select(func.min(jobs.c.not_before)).where(job_in(JobState.QUEUED), _meant(task, only))
    found: datetime | None = connection.scalar(waiting)
    return found


def retry(connection: Connection, task: str, at: datetime, only: Only = ALL, reason: str | None = None) -> int:
    """Have what failed be done again. Returns how many that are."""
    failed = (jobs.c.state == literal_column("'failed'")) & _meant(task, only)
    if reason is not None:
        failed &= jobs.c.reason == reason
    return connection.execute(update(jobs).where(failed).values(**_anew(at))).rowcount


def forget(connection: Connection, of: str, ids: Sequence[int]) -> None:
    """Drop what was to be made of pages or items that are kept no more."""
    for start in range(0, len(ids), IN_MOST):
        mine = (jobs.c.of == of) & jobs.c.subject_id.in_(ids[start : start + IN_MOST])
        connection.execute(delete(attempts).where(attempts.c.job_id.in_(select(jobs.c.id).where(mine))))
        connection.execute(delete(jobs).where(mine))


def forget_attempts(connection: Connection, before: datetime) -> None:
    """Drop what is told of tries that are older than an instant."""
    connection.execute(delete(attempts).where(attempts.c.at < before))


def public(row: Row[Any]) -> dict[str, Any]:
    """Return a job as the API tells it."""
    told = {
        name: getattr(row, name)
        for name in ("id", "task", "kind", "source", "state", "attempts", "reason", "message", "at")
    }
    return told | {
        "page_id": row.subject_id if row.of == "page" else None,
        "item_id": row.subject_id if row.of == "item" else None,
    }
