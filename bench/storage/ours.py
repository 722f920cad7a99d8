"""Bowerbird's storing side: its recorder and its store, given answers as quickly as they take them. A process each."""

import asyncio
import multiprocessing
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bench.storage.places import source_of
from bench.storage.site import Answer, Sites, number_of, place_of
from scraper import garbage
from scraper.config import allowance
from scraper.config.settings import Database, Http
from scraper.crawl.recorder import Lane, Recorder
from scraper.crawl.store import Store
from scraper.crawl.work import Work
from scraper.database import Db, frontier, runs, usage
from scraper.database.connection import now
from scraper.records import Claim, HostTimes, Visit

READY_WITHIN_S = 120.0
AHEAD = 1.3  # how many more answers are made ready than there should be need for


@dataclass(frozen=True)
class Job:
    """What a process is to store: pages of these hosts, until the run of each source has so many.

    each: of each host, and no more. first: from which page on there is something to do at each host.
    """

    url: str
    sites: Sites
    mine: tuple[int, ...]
    upto: int
    each: int
    first: int = 0


@dataclass(frozen=True)
class Stored:
    """How a process did. Moments in monotonic seconds; wait_s: until the database was ours; late: answers that were not ready."""

    stored: int
    failed: int
    began: float
    ended: float
    cpu_s: float
    claim_s: float
    peak_mib: float
    late: int


@dataclass
class _Writer:
    """One process at work."""

    job: Job
    owner: str
    ready: dict[str, Answer] = field(default_factory=dict)
    left: dict[str, int] = field(default_factory=dict)  # by host, how many are still to be claimed
    late: int = 0
    claim_s: float = 0.0

    def prepare(self) -> None:
        """Have the answers ready: making them is not storing."""
        job = self.job
        for place in job.mine:
            self.left[job.sites.host(place)] = job.each
            for number in range(job.first, job.first + int(job.each * AHEAD) + 1):
                self.ready[job.sites.url(place, number)] = job.sites.answer(place, number)

    async def store_all(self) -> Stored:
        """Store until there is no more."""
        job = self.job
        garbage.settle()  # as in every scraper
        wanted = {place % job.sites.sources for place in job.mine}
        self.works = {job.sites.source(n): Work.of(source_of(job.sites, n), Http(), {}) for n in wanted}
        began, cpu = time.monotonic(), time.process_time()
        with Db(Database(url=job.url), "scraper") as db:
            store = Store(db, self.owner)
            counts = await store.read(lambda c: runs.counts(c))
            self.runs = {run.source: run.id for run in counts if run.source in self.works}
            recorder = Recorder(store, self.works, _times, self._give_out, lambda _: None)
            recording = asyncio.create_task(recorder.run())
            for place in job.mine:
                await store.lease(job.sites.host(place))
            lanes = asyncio.create_task(self._visit_all(recorder))
            await asyncio.wait([lanes, recording], return_when=asyncio.FIRST_COMPLETED)
            recorder.close()
            await recording  # first: where it failed, the lanes wait for ever
            await lanes
            store.close()
        ended = time.monotonic()
        spent = time.process_time() - cpu
        return Stored(recorder.stored, recorder.failed, began, ended, spent, self.claim_s, peak_mib(), self.late)

    async def _visit_all(self, recorder: Recorder) -> None:
        await asyncio.gather(*(self._lane(recorder, self.job.sites.host(place)) for place in self.job.mine))

    async def _lane(self, recorder: Recorder, host: str) -> None:
        lane = Lane(host)
        while (claim := await recorder.take(lane)) is not None:
            await recorder.room()
            recorder.add(self._visit(claim), lane)

    def _visit(self, claim: Claim) -> Visit:
        answer = self.ready.pop(claim.url, None)
        if answer is None:
            self.late += 1
            answer = self.job.sites.answer(place_of(claim.host), number_of(claim.url))
        rules = self.works[claim.source].rules
        return Visit(claim, now(), answer.fetched, answer.reading, rules=rules, digest=answer.digest)

    def _give_out(self, connection: Any, wanted: Sequence[tuple[str, int]]) -> dict[str, list[Claim]]:
        """As the engine does; the runs end where the job does."""
        began = time.perf_counter()
        at = now()
        counts = [replace(run, max_pages=self.job.upto) for run in runs.counts(connection)]
        known = {name: work.source for name, work in self.works.items()}
        used = usage.of(connection, at, list(known))
        budgets = allowance.budgets(counts, known, frontier.claimed(connection), used, at)
        runs_at = {host: {self.runs[self.job.sites.source(place_of(host))]} for host, _ in wanted}
        wanted = [(host, most) for host, asked in wanted if (most := min(asked, self.left[host]))]
        found = frontier.claim(connection, wanted, self.owner, at, runs_at, budgets)
        for host, claims in found.items():
            self.left[host] -= len(claims)
        self.claim_s += time.perf_counter() - began
        return found


def _times(asked: Collection[str]) -> list[HostTimes]:
    return [HostTimes(host, now(), 0.0) for host in asked]


def peak_mib() -> float:
    """Return the most memory that this process has had."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


def _work(job: Job, number: int, start: Any, told: Any) -> None:
    writer = _Writer(job, f"scraper-{number}@bench")
    writer.prepare()
    start.wait(READY_WITHIN_S)
    told.put(asyncio.run(writer.store_all()))


def store(jobs: Sequence[Job]) -> list[Stored]:
    """Do all jobs at once, each in a process of its own. Raises RuntimeError if one of them fails."""
    spawn = multiprocessing.get_context("spawn")
    start, told = spawn.Barrier(len(jobs)), spawn.SimpleQueue()
    processes = [spawn.Process(target=_work, args=(job, number, start, told)) for number, job in enumerate(jobs)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        if process.exitcode:
            for other in processes:
                other.kill()
            raise RuntimeError(f"a storing process ended with {process.exitcode}")
    return [told.get() for _ in jobs]
