"""The life of a worker: lay out what is due, claim a little, make it, store it, until there is no more or it is told to stop.

It has twice as many jobs in hand as it works on at once, so that the next one is ready when one is done. What is done is
stored together with the claim of what comes next, in one transaction.
"""

import asyncio
import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from scraper.config.settings import Enrich, Settings
from scraper.config.shape import build
from scraper.config.zones import local
from scraper.crawl.fetcher import Fetcher
from scraper.crawl.schedule import next_due
from scraper.crawl.store import Store
from scraper.database import Connection, Row, documents, enrichments, hosts, jobs, subjects, tasks
from scraper.database.jobs import Only
from scraper.database.tasks import ASKED, STORED
from scraper.enrichment.cure import CURES
from scraper.enrichment.finish import Ready, finish, unbooked
from scraper.enrichment.layout import Options, follow, mark, of_task, sweep
from scraper.enrichment.model import Call, NoRecord, Trouble
from scraper.enrichment.pace import Pace, Turn
from scraper.enrichment.work import Made, Memory, Work
from scraper.errors import BowerbirdError, Unavailable
from scraper.states import Progress, State

LOOK_EACH_S = 1.0
RENEW_EACH_S = 5.0
DROP_EACH_S = 86400.0
KEPT_DAYS = 90  # what models answered, and each try
AWAY_FIRST_S, AWAY_MOST_S = 2.0, 60.0
GIVE_UP_S = 30.0  # how long a command waits for an endpoint that is away

HOPELESS = (Trouble.KEY, Trouble.LACKING)  # for a command: no waiting helps

log = logging.getLogger(__name__)


class Away(BowerbirdError):
    """Nothing can be made now, for a reason that a person has to see to."""


@dataclass(frozen=True, slots=True)
class Orders:
    """What a worker is to do. place: which of the workers it is. once: one task and then no more; None: all, for ever.

    lays_out: whether it is this one that looks for what is due. blamed: the one before it died by itself.
    """

    owner: str
    place: int = 0
    lays_out: bool = True
    once: str | None = None
    only: Only = jobs.ALL
    blamed: bool = False


@dataclass(slots=True)
class _Task:
    """A task as this worker knows it."""

    settings: Enrich
    mark: str
    row: Row[Any]
    pace: Pace


class Runner:
    """One worker."""

    def __init__(
        self, store: Store, settings: Settings, base: Path, variables: Mapping[str, str], orders: Orders
    ) -> None:
        """base: the directory of the configuration."""
        self.changed = asyncio.Event()
        self._store, self._settings, self._orders = store, settings, orders
        self._fetcher = Fetcher()
        batches = [task.batch for task in settings.enrich] or [1]
        memory = Memory(self._answered, self._robots, self._allow, self._give_back)
        self._work = Work(settings, base, variables, self._fetcher, memory, min(max(batches), 8))
        self._tasks: dict[str, _Task] = {}
        self._in_hand: dict[int, asyncio.Task[None]] = {}
        self._ready: list[Ready] = []
        self._wake = asyncio.Event()
        self._stopping = self._paused = False
        self._done = self._failed = 0
        self._stored: list[Ready] = []
        self._looked = float("-inf")
        self._trouble: str | None = None
        self._why: Trouble | None = None
        self._spent = False  # a budget, of a command that ends with it
        self._away_since: float | None = None
        self._away_s = AWAY_FIRST_S
        self._broken: BaseException | None = None
        self._blamed: list[int] = []
        self._ticked = time.monotonic()
        self._turn = 0
        self._alone = False  # what is in hand may have ended a process before

    # -- for whoever watches

    def progress(self) -> Progress:
        """Return what is being done."""
        state = State.STOPPING if self._stopping else State.PAUSED if self._paused else None
        state = state or (State.ENRICHING if self._in_hand else State.IDLE)
        names = tuple(sorted(name for name, task in self._tasks.items() if task.pace.working))
        trouble = self._store.trouble or self._trouble
        return Progress(state, names, None, (), self._done, self._failed, trouble, self._silent_s())

    def _silent_s(self) -> float:
        in_unit = self._store.silent_s()
        if in_unit is not None:
            return in_unit
        idle = self._store.trouble is not None or self._stopping
        return 0.0 if idle else max(0.0, time.monotonic() - self._ticked - LOOK_EACH_S)

    def pause(self, paused: bool) -> None:
        """Begin nothing more, or go on."""
        self._paused = paused
        self._wake.set()
        self.changed.set()

    def stop(self) -> None:
        """Begin nothing more; what is in hand is given back."""
        self._stopping = True
        self._store.leave()
        self._wake.set()
        self.changed.set()

    def rely_on(self, task: "asyncio.Task[None]") -> None:
        """Have the failure of a task beside the work end it: a fresh process does better than half a one."""
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is not None and not self._stopping:
            self._broken = self._broken or error
        self._wake.set()

    # -- the loop

    async def run(self) -> None:
        """Work until told to stop, or until there is no more to do. Raises Unusable; Away for a command that waits in vain."""
        await self._store.upgrade()
        await self._store.write(lambda c: jobs.release(c, self._orders.owner, blamed=self._orders.blamed))
        renewing = asyncio.create_task(self._renew(), name="renew")
        self.rely_on(renewing)
        try:
            while not self._stopping:
                self._ticked = time.monotonic()
                self._wake.clear()
                if self._broken is not None:
                    raise self._broken
                await self._look()
                more = await self._exchange()
                if self._orders.once is not None and not more and not self._in_hand and await self._nothing_left():
                    return
                if not more or self._full():
                    await self._rest()
        finally:
            renewing.cancel()
            await self._leave()

    async def _rest(self) -> None:
        try:
            await asyncio.wait_for(self._wake.wait(), LOOK_EACH_S)
        except TimeoutError:
            await self._work.callers.prune()
            self._fetcher.prune()

    async def _leave(self) -> None:
        """Give back what is in hand, store what is ready, and end what was started."""
        for running in self._in_hand.values():
            running.cancel()
        await asyncio.gather(*self._in_hand.values(), return_exceptions=True)
        try:
            await self._store.write(self._settle)
            await self._store.write(self._release)
        except Unavailable as error:  # its lease ends by itself
            log.warning("what was in hand could not be given back", extra={"reason": str(error)})
        await self._work.close()
        await self._fetcher.close()

    def _release(self, connection: Connection) -> None:
        if self._blamed:
            jobs.release(connection, self._orders.owner, only=self._blamed, blamed=True)
        jobs.release(connection, self._orders.owner)

    async def _renew(self) -> None:
        """Go on holding what is in hand; now and then, drop what was kept for long."""
        dropped = float("-inf")
        while True:
            await asyncio.sleep(RENEW_EACH_S)
            await self._store.write(lambda c: jobs.renew(c, self._orders.owner, self._store.now()))
            if self._orders.lays_out and time.monotonic() - dropped > DROP_EACH_S:
                dropped = time.monotonic()
                await self._store.write(self._drop)

    def _drop(self, connection: Connection) -> None:
        before = self._store.now() - timedelta(days=KEPT_DAYS)
        enrichments.forget_answers(connection, before)
        jobs.forget_attempts(connection, before)

    async def _look(self) -> None:
        """Learn which tasks there are, and lay out what is due of them; now and then."""
        if time.monotonic() - self._looked < LOOK_EACH_S:
            return
        self._looked = time.monotonic()
        rows = await self._store.read(tasks.every)
        known, self._tasks = self._tasks, {}
        for row in rows:
            if self._orders.once not in (None, row.name):
                continue
            settings = build(Enrich, row.definition, (), [])
            if settings is None:  # of another version
                continue
            marked = mark(settings, self._settings.llm, self._settings.embed)
            before = known.get(row.name)
            if before is None:
                self._tasks[row.name] = _Task(settings, marked, row, Pace(settings.batch))
            else:
                before.settings, before.mark, before.row = settings, marked, row
                before.pace.most = settings.batch
                self._tasks[row.name] = before
        if self._orders.lays_out and self._orders.once is None:
            for task in list(self._tasks.values()):
                await self._lay_out(task)

    async def _lay_out(self, task: _Task) -> None:
        """Have jobs be there for all that is due of a task."""
        row, when, now = task.row, task.settings.when, self._store.now()
        if row.asked is not None:
            await self._steps(sweep(self._store.db, task.settings, task.mark, Options.of(row.asked)))
            await self._store.write(lambda c: tasks.done_asked(c, row.name, row.asked))
        elif when == STORED and row.laid_out != task.mark:
            await self._steps(sweep(self._store.db, task.settings, task.mark, Options()))
        elif when == STORED:
            await self._steps(follow(self._store.db, task.settings, task.mark))
        elif when != ASKED and (row.next_at is None or row.next_at <= now):
            if row.next_at is not None:
                await self._steps(sweep(self._store.db, task.settings, task.mark, Options()))
            due_at = next_due(None, when, now, local(now))
            await self._store.write(lambda c: tasks.laid_out(c, row.name, next_at=due_at))

    async def _steps(self, work: Iterator[int]) -> None:
        while not self._stopping:
            try:
                if await self._store.step(work) is None:
                    return
            except Unavailable as error:  # the next look begins again, and finds what is there already
                log.debug("nothing is laid out now", extra={"reason": str(error)})
                return
            self._ticked = time.monotonic()

    # -- claiming and storing

    def _room(self, task: _Task) -> int:
        """How many jobs of a task may be taken on top of those in hand."""
        if self._paused or self._orders.place >= max(1, task.settings.workers) and self._orders.once is None:
            return 0
        if task.pace.rests or (self._alone and self._in_hand):
            return 0
        if self._away_since is not None:  # one goes ahead
            return 0 if self._in_hand else 1
        return max(0, 2 * task.pace.limit - len(self._in_hand))

    def _full(self) -> bool:
        return not any(self._room(task) for task in self._tasks.values())

    async def _exchange(self) -> bool:
        """Store what is ready, and claim what comes next. Returns whether anything was claimed."""
        names = sorted(self._tasks)
        self._turn += 1
        order = [names[(place + self._turn) % len(names)] for place in range(len(names))]
        wanted = [(task, room) for name in order if (room := self._room(task := self._tasks[name]))]
        if not wanted and not self._ready:
            return False

        def unit(connection: Connection) -> tuple[list[Row[Any]], dict[str, dict[int, documents.Subject]]]:
            self._settle(connection)
            for task, room in wanted:
                name, at, idle = task.settings.task, self._store.now(), not self._in_hand
                claimed = jobs.claim(connection, name, self._orders.owner, at, room, self._orders.only, idle=idle)
                if claimed:
                    of = of_task(task.settings)
                    return claimed, {of: subjects.whole(connection, of, [job.subject_id for job in claimed])}
            return [], {}

        claimed, found = await self._store.write(unit)
        self._ready = [ready for ready in self._ready if ready not in self._stored]  # some came meanwhile
        for job in claimed:
            subject = found.get(job.of, {}).get(job.subject_id)
            work = self._one(self._tasks[job.task], job, subject)
            self._in_hand[job.id] = asyncio.create_task(work, name=f"job {job.id}")
        if claimed:
            self._alone = any(job.crashes for job in claimed)
            self.changed.set()
        return bool(claimed)

    def _settle(self, connection: Connection) -> None:
        """Store what is ready. May run again after a lost connection."""
        self._stored = list(self._ready)
        finish(connection, self._orders.owner, self._stored, self._settings.llm, self._store.now())

    # -- one job

    async def _one(self, task: _Task, job: Row[Any], subject: documents.Subject | None) -> None:
        """Make one job, and have what came of it be stored."""
        calls: list[Call] = []
        made: Made | None = None
        trouble: NoRecord | None = None
        turn = Turn(task.pace)
        try:
            try:
                made = (
                    await self._work.make(task.settings, job.kind, subject, calls, turn, anew=job.anew)
                    if subject is not None
                    else Made()
                )
            except NoRecord as ended:
                trouble = ended
            self._learn(task, trouble, turn.began)
            self._ready.append(Ready(job, task.settings, made, trouble, calls, turn.elapsed_s))
            self._done += made is not None
            self._failed += trouble is not None
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001  the top of a task: it ends the worker, which tells it
            if not isinstance(error, BowerbirdError):  # that would be the database's
                self._blamed.append(job.id)
            self._broken = self._broken or error
        finally:
            self._in_hand.pop(job.id, None)
            self._wake.set()

    def _learn(self, task: _Task, trouble: NoRecord | None, began: float) -> None:
        """Take notice of how it went: do more at once, or less, or wait."""
        if trouble is None:
            self._away_since, self._away_s, self._trouble, self._why = None, AWAY_FIRST_S, None, None
            task.pace.went_well()
            return
        task.pace.went_wrong()
        self._why = trouble.trouble
        said = trouble.said
        if trouble.trouble is Trouble.RATE:
            task.pace.too_fast(began, trouble.wait_s or 0.0)
            said = f"the endpoint wants fewer requests: {said}"
        elif trouble.trouble is Trouble.BUDGET:
            self._spent = True
            task.pace.rest(AWAY_MOST_S)
        elif CURES[trouble.trouble].away:
            if self._away_since is None:
                self._away_since = time.monotonic()
                log.warning("nothing can be made now", extra={"task_name": task.settings.task, "reason": said})
            task.pace.rest(self._away_s)
            self._away_s = min(self._away_s * 2, AWAY_MOST_S)
        else:
            return
        self._trouble = f"{task.settings.task}: {said}"

    async def _nothing_left(self) -> bool:
        """Whether a command has done all that it can. Raises Away if nobody is there who could do more."""
        assert self._orders.once is not None
        name = self._orders.once
        if self._spent:  # whatever became meanwhile of what was under way
            return True
        waited = self._away_since is not None and time.monotonic() - self._away_since > GIVE_UP_S
        if self._trouble is not None and (waited or self._why in HOPELESS):
            raise Away(self._trouble)
        found = await self._store.read(lambda c: jobs.counts(c, name, self._orders.only))
        return not found.get(name, {}).get("queued")

    # -- what work asks the database

    async def _answered(self, digest: str) -> str | None:
        return await self._store.read(lambda c: enrichments.answered(c, digest))

    async def _robots(self, origin: str) -> hosts.StoredRobots | None:
        return (await self._store.read(lambda c: hosts.robots_of(c, [origin]))).get(origin)

    async def _allow(self, task: Enrich) -> None:
        """Take a call out of a task's budget. Raises NoRecord."""
        budget = task.budget
        if budget is None:
            return

        def unit(connection: Connection) -> str | None:
            row = tasks.known(connection, task.task)
            if row is None:
                return "the task is not there any more"
            # In the one thread that stores: what is being stored is in the row by now.
            late = unbooked([one for one in self._ready if one not in self._stored], task.task, self._settings.llm)
            tokens = row.tokens_in + row.tokens_out + late.tokens_in + late.tokens_out
            if budget.tokens is not None and tokens >= budget.tokens:
                return f"its budget of {budget.tokens} tokens is spent; raise [[enrich]] budget"
            if budget.money is not None and row.cost + late.cost >= budget.money:
                return f"its budget of {budget.money:g} is spent; raise [[enrich]] budget"
            if not tasks.spend(connection, task.task, budget.calls):
                return f"its budget of {budget.calls} calls is spent; raise [[enrich]] budget"
            return None

        if (spent := await self._store.write(unit)) is not None:
            raise NoRecord(Trouble.BUDGET, spent)

    async def _give_back(self, task: Enrich) -> None:
        if task.budget is not None:
            await self._store.write(lambda c: tasks.unspend(c, task.task))
