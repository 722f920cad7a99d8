"""Opens due runs; claims URLs host by host, visits them, stores them in batches, finishes runs."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import Connection

from scraper.config.settings import Http, Source
from scraper.config.shape import build
from scraper.crawl import schedule
from scraper.crawl.fetcher import Fetcher
from scraper.crawl.politeness import Place, Politeness
from scraper.crawl.recorder import Lane, Recorder
from scraper.crawl.robots import Robots
from scraper.crawl.store import Store
from scraper.crawl.visit import Visitor, Work, fetch_robots, unmarked
from scraper.database import frontier, hosts, pages, runs, sources, visits
from scraper.database.connection import now
from scraper.database.hosts import LEASE_S
from scraper.errors import BowerbirdError, Unavailable
from scraper.records import Claim, HostTimes, Link
from scraper.states import RunKind, State, UrlState
from scraper.urls import canonical

TICK_S = 1.0
TICK_LEAST_S = 0.05
CLAIM_AT_ONCE = 64
MAX_LANES = 512
STARTS_AT_ONCE = 50
DRAIN_S = 2.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Progress:
    """What an engine is doing, for the heartbeat and the scoreboard."""

    state: State
    sources: tuple[str, ...]
    last_check: datetime | None
    visiting: tuple[str, ...]
    pages: int
    failures: int
    trouble: str | None
    silent_s: float  # since anything last moved, though something should


async def at_once() -> None:
    """Wait for nothing."""


@dataclass(frozen=True, slots=True)
class Before:
    """What is known of the worker of this name before us.

    died_at: when it can have made its last request. suspect: the URL whose page it was reading when it died of itself.
    """

    died_at: datetime
    suspect: int = 0


@dataclass(frozen=True, slots=True)
class Seen:
    """What one look at the runs showed: sources with an open run, hosts to visit now, when something comes due."""

    open: tuple[str, ...]
    hosts: list[str]
    next_at: datetime | None


class Engine:
    """The crawl of one worker.

    once: the runs to do, and then end; None: whatever is due, for ever. pace: awaited before each visit.
    mark: told which URL is visited last, with its number while its page is being read: whoever survives us can say what we
    died of.
    """

    def __init__(
        self,
        store: Store,
        http: Http,
        once: Sequence[int] | None = None,
        pace: Callable[[], Awaitable[None]] = at_once,
        mark: Callable[[int, str], None] = unmarked,
    ) -> None:
        self._store = store
        self._db = store.db
        self._http = http
        self._once = list(once) if once is not None else None
        self._pace = pace
        self._works: dict[str, Work] = {}
        self._fetcher = Fetcher()
        self._politeness = Politeness(store, http.concurrency, self._ask_robots)
        self._mark = mark
        self._visitor = Visitor(self._fetcher, self._politeness, self._works, self._stored_body, now, self._reads)
        self._lanes: dict[str, asyncio.Task[None]] = {}
        self._wake = asyncio.Event()
        self._recorder = Recorder(store, self._works, self._times, self._wake)
        self._go = asyncio.Event()
        self._go.set()
        self._stopping = False
        self._broken: BaseException | None = None
        self._visiting: dict[int, str] = {}
        self._open: tuple[str, ...] = ()
        self._ticked = self._read_at = 0.0
        self.changed = asyncio.Event()

    # -- from outside, on the event loop

    def progress(self) -> Progress:
        """Return what is being done."""
        state = State.STOPPING if self._stopping else State.PAUSED if not self._go.is_set() else None
        state = state or (State.SCRAPING if self._open else State.IDLE)
        return Progress(
            state,
            self._open,
            self._recorder.last_check,
            tuple(self._visiting.values()),
            self._recorder.stored,
            self._recorder.failed,
            self._store.trouble,
            self._silent_s(),
        )

    def _reads(self, url_id: int, url: str) -> None:
        """A page is about to be read, or was: the loop may be busy with one after the other for long."""
        self._read_at = time.monotonic()
        self._mark(url_id, url)

    def _silent_s(self) -> float:
        """Seconds since the last sign of life, from the database's thread or, while that is idle, from our own loop."""
        in_unit = self._store.silent_s()
        if in_unit is not None:
            return in_unit
        idle = self._store.trouble is not None or not self._ticked  # waiting for the database, beginning, or ending
        last = max(self._ticked, self._read_at, self._store.mended_at)
        return 0.0 if idle else max(0.0, time.monotonic() - last - TICK_S)

    def pause(self, paused: bool) -> None:
        """Start no more visits, or go on."""
        if paused == self._go.is_set():
            (self._go.clear if paused else self._go.set)()
            self._wake.set()
            self.changed.set()

    def stop(self) -> None:
        """Finish what is in flight, store it, and end."""
        self._stopping = True
        self._store.leave()
        self._go.set()
        self._wake.set()
        self._recorder.pulse()
        self.changed.set()

    # -- the life of the engine

    async def run(self, wanted: Sequence[Source], before: Before) -> None:
        """Crawl until stopped, or in once mode until the runs are done.

        wanted: the sources of the file. Raises Unusable.
        """
        try:
            await self._run(wanted, before)
        except Unavailable:
            if not self._stopping:
                raise
        if self._broken is not None:
            raise self._broken

    async def _run(self, wanted: Sequence[Source], before: Before) -> None:
        await self._store.upgrade()
        definitions, self._recorder.last_check = await self._store.write(lambda c: self._take_over(c, wanted, before))
        self._prepare(definitions, wanted)
        recorder = asyncio.create_task(self._recorder.run(), name="recorder")
        recorder.add_done_callback(self._ended)
        clock = asyncio.get_running_loop().time
        kept_at = clock()
        try:
            while not self._stopping and self._broken is None:
                self._wake.clear()
                wait_s = await self._tick()
                self._ticked = time.monotonic()
                if wait_s is None:
                    break
                if clock() - kept_at > LEASE_S / 4:
                    await self._keep_house()
                    kept_at = clock()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), wait_s)
        finally:
            self._ticked = 0.0
            await self._end(recorder)

    def _take_over(
        self, connection: Connection, wanted: Sequence[Source], before: Before
    ) -> tuple[dict[str, dict[str, object]], datetime | None]:
        if self._once is None:
            local = now().astimezone()
            sources.sync(connection, wanted, lambda s, last: schedule.next_due(s.every, s.cron, last, local))
        if before.suspect and visits.crashed_on(self._db, connection, before.suspect, now()):
            log.error("a URL is set aside: the scraper died on its page", extra={"url_id": before.suspect})
        hosts.recover(connection, self._store.owner, before.died_at)
        frontier.release(connection, self._store.owner)
        if self._db.is_sqlite:  # one service at a time may scrape into a file: other owners are dead
            for stranger in frontier.strangers(connection, self._store.owner.partition("@")[2]):
                hosts.recover(connection, stranger, now())
                frontier.release(connection, stranger)
        known = sources.definitions(connection)
        if self._once is None:
            runs.stop_strangers(connection, list(known), now())
        return known, sources.last_check(connection)

    def _prepare(self, definitions: Mapping[str, object], wanted: Sequence[Source]) -> None:
        known = {name: build(Source, definition, (), []) for name, definition in definitions.items()}
        for name, source in {**known, **{source.name: source for source in wanted}}.items():
            if source is not None:
                self._works[name] = Work.of(source, self._http)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        """A failure of ours ends the engine, and with it the process."""
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is not None and not self._stopping:
            self._broken = self._broken or error
        self._wake.set()

    async def _keep_house(self) -> None:
        idle = [gate for gate in self._politeness.gates() if gate.host not in self._lanes and gate.idle]
        states = self._times({gate.host for gate in idle})
        await self._store.write(lambda c: self._renew(c, states))
        for gate in idle:
            self._politeness.forget(gate.host)
        self._fetcher.prune()

    def _renew(self, connection: Connection, leaving: list[HostTimes]) -> None:
        hosts.renew(connection, self._store.owner, now())
        frontier.release_lost(connection, now())
        hosts.record(connection, leaving)
        for state in leaving:
            hosts.release(connection, state.host, self._store.owner)

    async def _end(self, recorder: "asyncio.Task[None]") -> None:
        self._stopping = True
        self._recorder.pulse()
        if self._lanes and not recorder.done():
            await asyncio.wait(self._lanes.values(), timeout=DRAIN_S)
        for lane in self._lanes.values():
            lane.cancel()
        await asyncio.gather(*self._lanes.values(), return_exceptions=True)
        self._recorder.close()
        states = self._times()
        try:
            async with asyncio.timeout(DRAIN_S):
                await asyncio.gather(recorder, return_exceptions=True)
                if self._store.trouble is None:
                    await self._store.write(lambda c: self._give_back(c, states))
        except (TimeoutError, BowerbirdError):
            log.warning("left without giving back what was claimed; the next start does")
        self._fetcher.close()

    def _give_back(self, connection: Connection, states: list[HostTimes]) -> None:
        frontier.release(connection, self._store.owner)
        hosts.record(connection, states)
        for state in states:
            hosts.release(connection, state.host, self._store.owner)

    # -- runs

    async def _tick(self) -> float | None:
        """Open, finish and feed runs. Returns the seconds until the next look, None if all that was asked for is done."""
        seen = await self._store.write(partial(self._advance, may_start=self._go.is_set()))
        if seen.open != self._open:
            self._open = seen.open
            self.changed.set()
        if self._stopping or (self._once is not None and not self._open):
            return None
        if not self._go.is_set():
            return TICK_S
        for host in seen.hosts:
            if host not in self._lanes and len(self._lanes) < MAX_LANES:
                lane = asyncio.create_task(self._lane(host), name=f"lane {host}")
                self._lanes[host] = lane
                lane.add_done_callback(self._ended)
                lane.add_done_callback(partial(self._leave, host))
        wait_s = (seen.next_at - now()).total_seconds() if seen.next_at is not None else TICK_S
        return min(max(wait_s, TICK_LEAST_S), TICK_S)

    def _advance(self, connection: Connection, *, may_start: bool) -> Seen:
        at = now()
        names = list(self._works)
        if self._once is None and may_start:
            runs.request_due(connection, names, at)
        waiting = runs.queued(connection, names, self._once, STARTS_AT_ONCE)
        for run_id, name, kind in waiting:
            self._start(connection, run_id, self._works[name], kind, at)
        opened = []
        for run in runs.running(connection, self._once):
            full = run.pages >= run.max_pages
            if run.claimed or (run.queued and not full):
                opened.append(run.source)
                continue
            left = frontier.count(connection, run.id, UrlState.QUEUED) if full else 0
            state = runs.finish(connection, run.id, at, left)
            log.info(
                "run finished", extra={"source": run.source, "run": run.id, "state": str(state), "pages": run.pages}
            )
        moments = [frontier.next_retry(connection), None if self._once is not None else sources.next_due_at(connection)]
        if len(waiting) == STARTS_AT_ONCE:
            moments.append(at)
        return Seen(
            tuple(opened),
            frontier.hosts_due(connection, at, self._once) if opened else [],
            min((m for m in moments if m is not None and m > at - timedelta(seconds=TICK_S)), default=None),
        )

    def _start(self, connection: Connection, run_id: int, work: Work, kind: RunKind, at: datetime) -> None:
        source = work.source
        log.info("run started", extra={"source": source.name, "run": run_id, "kind": str(kind)})
        if kind is RunKind.RETRY:
            runs.start(connection, run_id, source.max_pages, frontier.count(connection, run_id, UrlState.QUEUED), at)
            return
        seeds = [Link(url, "sitemap") for text in source.sitemaps if (url := canonical(text))]
        seeds += [Link(url) for text in source.start if (url := canonical(text))]
        known, _ = frontier.add(self._db, connection, run_id, source.name, seeds, 0, len(seeds))
        runs.start(connection, run_id, source.max_pages, known, at)
        next_at = schedule.next_due(source.every, source.cron, at, at.astimezone())
        sources.started(connection, source.name, at, next_at)

    # -- hosts

    def _leave(self, host: str, task: "asyncio.Task[None]") -> None:
        self._lanes.pop(host, None)

    async def _lane(self, host: str) -> None:
        if await self._politeness.open(host) is None:
            await asyncio.sleep(TICK_S)
            return
        lane = Lane(host)
        per_host = max((work.http.per_host for work in self._works.values()), default=1)
        workers = [asyncio.create_task(self._work(lane)) for _ in range(min(per_host, self._http.concurrency))]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        states = self._times({host})
        await self._store.write(lambda c: hosts.record(c, states))

    async def _work(self, lane: Lane) -> None:
        while not self._stopping:
            await self._go.wait()
            await self._recorder.room()
            stored = self._recorder.next_commit
            claim = await self._take(lane)
            if claim is not None:
                await self._visit(lane, claim)
            elif lane.busy == 0:
                return
            else:
                await stored.wait()

    async def _take(self, lane: Lane) -> Claim | None:
        async with lane.lock:
            if not lane.queue and lane.dry_at != self._recorder.commits:
                commits = self._recorder.commits
                lane.queue.extend(await self._store.write(lambda c: self._claim(c, lane.host)))
                lane.dry_at = -1 if lane.queue else commits
            if not lane.queue or self._stopping:
                return None
            lane.busy += 1
            return lane.queue.popleft()

    def _claim(self, connection: Connection, host: str) -> list[Claim]:
        return frontier.claim(self._db, connection, host, self._store.owner, CLAIM_AT_ONCE, now(), self._once)

    async def _visit(self, lane: Lane, claim: Claim) -> None:
        self._visiting[claim.url_id] = claim.url
        self._mark(0, claim.url)
        try:
            await self._pace()
            visit = await self._visitor.visit(claim)
            self._recorder.add(visit, lane)
        except BaseException:
            lane.busy -= 1
            raise
        finally:
            self._visiting.pop(claim.url_id, None)
            if not self._visiting:
                self._mark(0, "")

    async def _stored_body(self, source: str, url: str) -> tuple[bytes, dict[str, str]] | None:
        return await self._store.read(lambda c: pages.body_of(c, source, url))

    async def _ask_robots(self, origin: str, http: Http, place: Place) -> Robots:
        return await fetch_robots(self._fetcher, origin, http, place)

    def _times(self, only: Collection[str] | None = None) -> list[HostTimes]:
        return [gate.times(now()) for gate in self._politeness.gates() if only is None or gate.host in only]
