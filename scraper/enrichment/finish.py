"""What becomes of jobs that are done with: their records, what was tried, what that cost; all in one transaction."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from scraper import clean
from scraper.config.settings import Enrich, Llm
from scraper.database import Connection, Row, enrichments, jobs, tasks, vectors
from scraper.database.jobs import Try, Verdict
from scraper.database.tasks import Spent
from scraper.enrichment.cure import CURES, wait_s
from scraper.enrichment.model import Call, NoRecord
from scraper.enrichment.work import Made


@dataclass(slots=True, eq=False)
class Ready:
    """A job that is done with: what came of it, and what was asked for that."""

    job: Row[Any]
    task: Enrich
    made: Made | None
    trouble: NoRecord | None
    calls: Sequence[Call]
    elapsed_s: float


def finish(connection: Connection, owner: str, done: Sequence[Ready], llm: Llm, at: datetime) -> None:
    """Store what is ready: each job with its records, or what is to become of it; nothing of jobs that are another's by now."""
    spent: dict[str, Spent] = {}
    for ready in done:
        verdict = _verdict(ready, at)
        made = ready.made
        if jobs.settle(connection, owner, verdict, at) and made is not None:
            enrichments.put(connection, ready.job, made.records, _fit(made.model), at)
            if made.passages is not None:
                vectors.put(connection, made.model or "", made.passages)
        if made is not None and made.digest is not None and made.answer is not None:
            enrichments.keep_answer(connection, made.digest, made.answer, at)
        name = ready.task.task
        spent[name] = _plus(spent.get(name, Spent()), ready, llm)
    for name, sum_ in spent.items():
        tasks.charge(connection, name, sum_)


def _verdict(ready: Ready, at: datetime) -> Verdict:
    tries = tuple(
        Try(str(c.outcome), _fit(c.said), _fit(c.model), c.tokens_in, c.tokens_out, round(c.elapsed_s, 4), at)
        for c in ready.calls
    )
    if ready.trouble is None:
        return Verdict(ready.job, tries=tries)
    trouble, said = ready.trouble.trouble, _fit(ready.trouble.said)
    wait = wait_s(trouble, ready.job.attempts, ready.task.attempts, ready.trouble.wait_s, random.random())
    later = None if wait is None else at + timedelta(seconds=wait)
    if not tries:
        tries = (Try(str(trouble), said, None, 0, 0, round(ready.elapsed_s, 4), at),)
    return Verdict(
        ready.job,
        reason=str(trouble),
        message=said,
        not_before=later,
        free=CURES[trouble].free,
        tries=tries,
    )


def _fit(said: str | None) -> str | None:
    """What an endpoint or a function said, as any database takes it."""
    return clean.text(said) if said is not None else None


def unbooked(ready: Iterable[Ready], task: str, llm: Llm) -> Spent:
    """Return what jobs of a task that are done with took, though no database knows it yet."""
    sum_ = Spent()
    for one in ready:
        if one.task.task == task:
            sum_ = _plus(sum_, one, llm)
    return sum_


def _plus(sum_: Spent, ready: Ready, llm: Llm) -> Spent:
    given, made = (sum(getattr(c, name) for c in ready.calls) for name in ("tokens_in", "tokens_out"))
    cost = (given * llm.price_in + made * llm.price_out) / 1e6
    counted = 0 if ready.task.budget is not None else len(ready.calls)
    return Spent(
        sum_.calls + counted,
        sum_.tokens_in + given,
        sum_.tokens_out + made,
        sum_.cost + cost,
        sum_.busy_s + ready.elapsed_s,
    )
