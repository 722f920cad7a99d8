"""Opens due runs, has their hosts asked, finishes runs, keeps house."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache, partial
from typing import Any

from sqlalchemy import Connection

from scraper.config import allowance
from scraper.config.settings import Http, Limits, Source
from scraper.config.shape import build
from scraper.config.zones import local
from scraper.crawl import schedule
from scraper.crawl.fetcher import Fetcher
from scraper.crawl.lanes import TICK_S, Lanes
from scraper.crawl.politeness import Place, Politeness
from scraper.crawl.recorder import Recorder
from scraper.crawl.robots import Robots
from scraper.crawl.shares import Shares
from scraper.crawl.store import Store
from scraper.crawl.visit import Visitor, fetch_robots, unmarked
from scraper.crawl.work import Work
from scraper.database import activity, changes, events, frontier, hosts, pages, runs, sources, usage, visits, workers
from scraper.database.connection import now
from scraper.database.hosts import LEASE_S
from scraper.errors import BowerbirdError, Unavailable
from scraper.offload import Browsers, Readers
from scraper.records import Claim, Event, HostTimes, Level, Link
from scraper.states import Progress, RunKind, RunState, State, UrlState
from scraper.urls import canonical

TICK_LEAST_S = 0.05
STARTS_AT_ONCE = 50
KEEP_EACH_S = LEASE_S / 6
DRAIN_S = 2.0
# Sources that are overdue at a start begin one after the other, so far apart, within so long.
SPREAD_EACH_S = 0.1
SPREAD_MOST_S = 60.0
# After so many rests in a row the URLs of a host that only fails are given up, until the next run.
GIVE_UP_TRIPS = 5

log = logging.getLogger(__name__)


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
    """What one look at the runs showed.

    Their numbers, their sources, which of those have used up the bytes of their day, hosts to visit now, when something
    comes due.
    """

    runs: tuple[int, ...]
    open: tuple[str, ...]
    full: frozenset[str]
    hosts: dict[str, frontier.Due]
    workers: Sequence[str]
    next_at: datetime | None
    sources: "Sources | None"


@dataclass(frozen=True, slots=True)
class Sources:
    """What there is to work on, at one moment: definitions by name, and who is paused."""

    edition: int
    definitions: Mapping[str, dict[str, object]]
    paused: frozenset[str]

    @classmethod
    def of(cls, connection: Connection) -> "Sources":
        """Return what is there now."""
        return cls(sources.edition(connection), sources.definitions(connection), frozenset(sources.paused(connection)))


class Engine:
    """The crawl of one worker.

    once: the runs to do, and then end; None: whatever is due, for ever. pace: awaited before each visit.
    mark: told which URL is visited last, with its number while its page is being read: whoever survives us can say what we
    died of. variables: where the names of secrets are looked up. siblings: which of how many
    workers this is that start together: until all have shown up, each leaves the others their share.
    """

    def __init__(
        self,
        store: Store,
        http: Http,
        once: Sequence[int] | None = None,
        pace: Callable[[], Awaitable[None]] = at_once,
        mark: Callable[[int, str], None] = unmarked,
        limits: Limits | None = None,
        variables: Mapping[str, str] | None = None,
        siblings: tuple[int, int] = (0, 1),
    ) -> None:
        self._store = store
        self._db = store.db
        self._http = http
        self._variables = variables or {}
        self._shares = Shares(store.owner, siblings)
        self._runs_at: dict[str, set[int]] = {}
        self._once = list(once) if once is not None else None
        self._works: dict[str, Work] = {}
        self._sources = Sources(0, {}, frozenset())
        self._fetcher = Fetcher()
        self._readers = Readers(limits or Limits())
        self._browsers = Browsers(limits or Limits())
        self._politeness = Politeness(store, http.concurrency, self._ask_robots, LEASE_S)
        self._mark = mark
        self._visitor = Visitor(
            self._fetcher,
            self._politeness,
            self._works,
            self._stored_body,
            self._stored_other,
            store.now,
            self._readers,
            self._browsers,
            self._reads,
            self._asks,
        )
        self._wake = asyncio.Event()
        self._recorder = Recorder(store, self._works, self._times, self._give_out, self._has_new)
        self._lanes = Lanes(
            http,
            self._works,
            self._politeness,
            self._visitor,
            self._recorder,
            pace,
            mark,
            self._ended,
            self._give_back,
            self._unclaim,
            self._may_still,
        )
        self._open_runs: frozenset[int] = frozenset()
        self._full: frozenset[str] = frozenset()  # sources whose bytes of the day are used up
        self._strays: set[int] = set()
        self._left_out: dict[str, str] = {}  # sources that lack a variable, and which
        self._told_left_out: set[str] = set()
        self._stopping = False
        self._broken: BaseException | None = None
        self._open: tuple[str, ...] = ()
        self._ticked = self._read_at = 0.0
        self.changed = asyncio.Event()

    # -- from outside, on the event loop

    def progress(self) -> Progress:
        """Return what is being done."""
        state = State.STOPPING if self._stopping else State.PAUSED if not self._lanes.going else None
        state = state or (State.SCRAPING if self._open else State.IDLE)
        return Progress(
            state,
            self._open,
            self._recorder.last_check,
            self._lanes.visiting(),
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

    def idle(self) -> bool:
        """Say whether no run is open."""
        return not self._open

    def pause(self, paused: bool) -> None:
        """Start no more visits, or go on."""
        if paused == self._lanes.going:
            self._lanes.pause(paused)
            self._wake.set()
            self.changed.set()

    def stop(self) -> None:
        """Finish what is in flight, store it, and end."""
        self._stopping = True
        self._store.leave()
        self._lanes.close()
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
        there, self._recorder.last_check = await self._store.write(lambda c: self._take_over(c, wanted, before))
        self._prepare(there, wanted)
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
                if clock() - kept_at > KEEP_EACH_S:
                    await self._keep_house()
                    kept_at = clock()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), wait_s)
        finally:
            self._ticked = 0.0
            await self._end(recorder)

    def _take_over(
        self, connection: Connection, wanted: Sequence[Source], before: Before
    ) -> tuple[Sources, datetime | None]:
        visits.set_right(connection, self._store.now())
        if self._once is None:
            at = self._store.now()
            sources.sync(
                connection, wanted, lambda s, last: schedule.next_due(s.every, s.cron, last, local(at, s.zone))
            )
            sources.spread(connection, self._store.now(), SPREAD_EACH_S, SPREAD_MOST_S)
        if before.suspect and visits.crashed_on(connection, before.suspect, self._store.now()):
            log.error("a URL is set aside: the scraper died on its page", extra={"url_id": before.suspect})
        by_our_clock = self._store.now() - now()
        hosts.recover(connection, self._store.owner, before.died_at + by_our_clock)
        frontier.release(connection, self._store.owner)
        if self._db.is_sqlite:  # one service at a time may scrape into a file: other owners are dead
            for stranger in frontier.strangers(connection, self._store.owner.partition("@")[2]):
                hosts.recover(connection, stranger, self._store.now())
                frontier.release(connection, stranger)
        workers.seen(connection, self._store.owner, self._store.now(), due=1)  # so that who starts with us knows
        there = Sources.of(connection)
        if self._once is None:
            runs.stop_strangers(connection, list(there.definitions), self._store.now())
        return there, sources.last_check(connection)

    def _prepare(self, there: Sources, wanted: Sequence[Source] = ()) -> None:
        """Take what is there for what is to be done. wanted: sources of the file, which need not be there."""
        before = self._sources.definitions
        fresh = {name: made for name, made in there.definitions.items() if before.get(name) != made}
        known = {name: build(Source, definition, (), []) for name, definition in fresh.items()}
        self._sources = there
        for name, source in {**known, **{source.name: source for source in wanted}}.items():
            if source is None:
                log.error("a source is left out: its definition is not one of this version", extra={"source": name})
                continue
            try:
                self._works[name] = Work.of(source, self._http, self._variables)
                self._left_out.pop(name, None)
            except KeyError as error:
                self._left_out[name] = str(error.args[0])
                log.error(
                    "a source is left out: a variable that it names is not set",
                    extra={"source": name, "variable": error.args[0]},
                )

    def rely_on(self, task: "asyncio.Task[None]") -> None:
        """Have the failure of a task beside the crawl end it: a fresh process does better than half a one."""
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        """A failure of ours ends the engine, and with it the process."""
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is not None and not self._stopping:
            self._broken = self._broken or error
        self._wake.set()

    async def _keep_house(self) -> None:
        gates = self._politeness.gates()
        idle = [gate for gate in gates if gate.host not in self._lanes.hosts() and gate.idle]
        states = self._times({gate.host for gate in idle})
        for gate in idle:  # first: whoever comes to such a host from now on leases it anew, after it was given back
            self._politeness.drop(gate.host)
        hopeless = [gate.host for gate in gates if gate.trips >= GIVE_UP_TRIPS]
        asked = asyncio.get_running_loop().time()
        taken = self._recorder.taken()
        in_hand = self._recorder.in_hand()
        try:
            held, self._strays = await self._store.write(lambda c: self._renew(c, states, hopeless, taken, in_hand))
        except BowerbirdError:
            self._recorder.give_back(taken)
            raise
        self._politeness.renewed_at = asked
        for gate in gates:
            if gate not in idle and gate.host not in held:
                log.warning("a host was taken over by another worker", extra={"host": gate.host})
                gate.lost = True
                self._politeness.drop(gate.host)
        self._politeness.prune()
        self._fetcher.prune()
        await self._readers.prune()
        await self._browsers.prune()

    def _renew(
        self,
        connection: Connection,
        leaving: list[HostTimes],
        hopeless: list[str],
        taken: activity.Taken,
        in_hand: Collection[int],
    ) -> tuple[set[str], set[int]]:
        """Returns the hosts that are ours still, and the URLs that count as ours though nobody here has them in hand."""
        hosts.record(connection, self._store.owner, leaving)
        hosts.release(connection, [state.host for state in leaving], self._store.owner)
        held = hosts.renew(connection, self._store.owner, self._store.now())
        strays = self._free_strays(connection, in_hand)
        if not self._store.is_just_mended:
            frontier.release_lost(connection, self._store.now())
        visits.end_waiting(connection, self._store.now())
        for host in hopeless:
            visits.give_up(connection, host, self._store.now())
        self._tell_activity(connection, taken)
        return held, strays

    def _free_strays(self, connection: Connection, in_hand: Collection[int]) -> set[int]:
        """Have URLs queued again that count as ours twice in a row, though nobody here has them in hand. Returns those of now.

        A claim whose commit took effect without an answer, and which was made anew when the database was back, leaves such.
        """
        strays = frontier.claimed_by(connection, self._store.owner) - set(in_hand)
        frontier.unclaim(connection, self._store.owner, sorted(strays & self._strays))
        return strays

    def _tell_activity(self, connection: Connection, taken: activity.Taken) -> None:
        if taken or self._open:
            activity.add(connection, self._store.owner, taken, runs.waiting(connection), self._store.now())

    async def _end(self, recorder: "asyncio.Task[None]") -> None:
        self._stopping = True
        self._recorder.pulse()
        await self._lanes.end(0 if recorder.done() else DRAIN_S)
        self._recorder.close()
        states = self._times()
        try:
            async with asyncio.timeout(DRAIN_S):
                await asyncio.gather(recorder, return_exceptions=True)
                if self._store.trouble is None:
                    taken = self._recorder.taken()  # here: a unit may have to be done again
                    await self._store.write(lambda c: self._leave(c, states, taken))
        except (TimeoutError, BowerbirdError):
            log.warning("left without giving back what was claimed; the next start does")
        await self._fetcher.close()
        await self._readers.close()
        await self._browsers.close()

    def _leave(self, connection: Connection, states: list[HostTimes], taken: activity.Taken) -> None:
        workers.gone(connection, self._store.owner, self._store.now())
        self._tell_activity(connection, taken)
        frontier.release(connection, self._store.owner)
        hosts.record(connection, self._store.owner, states)
        hosts.release(connection, [state.host for state in states], self._store.owner)

    # -- runs

    async def _tick(self) -> float | None:
        """Open, finish and feed runs. Returns the seconds until the next look, None if all that was asked for is done."""
        began = time.monotonic()
        seen = await self._store.write(partial(self._advance, may_start=self._lanes.going))
        least_s = max(TICK_LEAST_S, 2 * (time.monotonic() - began))  # a look that takes long is not had all the time
        self._open_runs, self._full = frozenset(seen.runs), seen.full
        self._told_left_out = set(self._left_out)
        self._forget(seen.runs)
        if seen.sources is not None:
            self._prepare(seen.sources)
        if seen.open != self._open:
            self._open = seen.open
            self.changed.set()
        if self._stopping or (self._once is not None and not self._open):
            return None
        if not self._lanes.going:
            return TICK_S
        self._shares.saw(seen.workers)
        for host, found in seen.hosts.items():
            self._runs_at.setdefault(host, set()).update(found.runs)
        due = {host: found.free for host, found in seen.hosts.items()}
        self._lanes.leave(self._shares.to_leave(due, self._lanes.hosts()))
        self._lanes.open(self._shares.to_ask(due, self._lanes.hosts()))
        wait_s = (seen.next_at - self._store.now()).total_seconds() if seen.next_at is not None else TICK_S
        await asyncio.sleep(min(least_s, TICK_S))
        return min(max(wait_s, 0.0), TICK_S)

    def _forget(self, open_runs: Collection[int]) -> None:
        """Drop what is remembered of runs that are over."""
        self._recorder.forget(open_runs)
        self._visitor.forget(open_runs)
        for host in list(self._runs_at):
            self._runs_at[host].intersection_update(open_runs)
            if not self._runs_at[host]:
                del self._runs_at[host]

    def _advance(self, connection: Connection, *, may_start: bool) -> Seen:
        at = self._store.now()
        fresh = Sources.of(connection) if sources.edition(connection) != self._sources.edition else None
        names = [name for name in list(self._works) if name in self._sources.definitions or self._once is not None]
        if fresh is not None and self._once is None:
            runs.stop_strangers(connection, list(fresh.definitions), at)
        if self._once is None and may_start:
            runs.request_due(connection, names, at)
        waiting = runs.queued(connection, names, self._once, STARTS_AT_ONCE)
        happened = [
            Event(at, "run", name, "left out", "error", {"variable": variable, "said": "it is not set"})
            for name, variable in self._left_out.items()
            if name not in self._told_left_out
        ]
        for run_id, name, kind in waiting:
            self._start(connection, run_id, self._works[name], kind, at)
            happened.append(Event(at, "run", name, "started", "info", {"run": run_id, "kind": str(kind)}))
        opened: dict[int, str] = {}
        told: list[dict[str, object]] = []
        left_of = cache(lambda: self._budgets(connection, at)[0])
        for run in runs.running(connection, self._once):
            full = run.pages >= run.max_pages
            if run.claimed or (run.queued and not full) or self._looks_once_more(connection, run, left_of):
                opened[run.id] = run.source
                continue
            left = frontier.count(connection, run.id, UrlState.QUEUED) if full else 0
            ended = runs.finish(connection, run.id, at, left)
            told += ended.told
            if ended.told:
                usage.changed(connection, run.source, at, len(ended.told))
            if ended.state is RunState.RUNNING:
                opened[run.id] = run.source
                continue
            happened += self._ended_run(run, ended, at)
        moments = [
            frontier.next_retry(connection, at),
            None if self._once is not None else sources.next_due_at(connection),
        ]
        if len(waiting) == STARTS_AT_ONCE:
            moments.append(at)
        budgets, full = self._budgets(connection, at)
        able = [run_id for run_id, left in budgets.items() if left > 0]
        due = frontier.hosts_due(connection, at, able, self._store.owner, self._store.lapsed())
        workers.seen(connection, self._store.owner, at, len(due) if may_start else 0)
        changes.tell(connection, told)
        if happened:
            events.add(connection, happened)
        return Seen(
            tuple(opened),
            tuple(opened.values()),
            full,
            due,
            workers.at_work(connection, at),
            min((m for m in moments if m is not None and m > at - timedelta(seconds=TICK_S)), default=None),
            fresh,
        )

    @staticmethod
    def _looks_once_more(connection: Connection, run: Any, budgets: Callable[[], dict[int, int]]) -> bool:
        left = budgets().get(run.id, 0) if run.pages < run.max_pages else 0
        return left > 0 and runs.look_once_more(connection, run, left)

    def _ended_run(self, run: Any, ended: runs.Ended, at: datetime) -> list[Event]:
        """What there is to tell of the end of a run."""
        facts = {"run": run.id, "state": str(ended.state), "pages": run.pages, "items": run.items}
        facts |= {"failures": run.failures, "changes": run.changes + len(ended.told)}
        log.info("run finished", extra={"source": run.source, **facts})
        level: Level = "warning" if ended.state is RunState.FAILED else "info"
        happened = [Event(at, "run", run.source, "finished", level, facts)]
        for said in ended.alarms:
            log.warning("what a source yields is alarming", extra={"source": run.source, "alarm": said})
            happened.append(Event(at, "alarm", run.source, "raised", "warning", {"run": run.id, "said": said}))
        return happened

    def _start(self, connection: Connection, run_id: int, work: Work, kind: RunKind, at: datetime) -> None:
        source = work.source
        log.info("run started", extra={"source": source.name, "run": run_id, "kind": str(kind)})
        if kind is RunKind.RETRY:
            runs.start(connection, run_id, source.max_pages, frontier.count(connection, run_id, UrlState.QUEUED), at)
            return
        # The start pages first: of what is both, the page counts.
        seeds = [Link(url, priority=100) for text in source.start if (url := canonical(text))]
        seeds += [Link(url, "sitemap", priority=100) for text in source.sitemaps if (url := canonical(text))]
        rows = [frontier.row_of(run_id, source.name, link, 0) for link in seeds]
        known = frontier.add(connection, [row for row in rows if row], {run_id: frontier.Room(len(rows))})
        runs.start(connection, run_id, source.max_pages, len(known[run_id]), at)
        next_at = schedule.next_due(source.every, source.cron, at, local(at, source.zone))
        sources.started(connection, source.name, run_id, at, next_at)

    # -- URLs

    def _has_new(self, found: Collection[str]) -> None:
        """Hosts have new URLs: look again if one of them is not being asked."""
        if not self._lanes.hosts() >= set(found):
            self._wake.set()

    def _budgets(
        self, connection: Connection, at: datetime, only: Collection[int] | None = None
    ) -> tuple[dict[int, int], frozenset[str]]:
        """How many pages each open run of ours (only: of these) may visit now, and which sources have used up the bytes of their day."""
        if self._once is not None:
            only = self._once if only is None else set(self._once).intersection(only)
        counts = [run for run in runs.counts(connection, only) if self._may_visit(run.source)]
        known = {name: work.source for name, work in list(self._works.items())}  # the loop adds to them meanwhile
        used = usage.of(connection, at, [run.source for run in counts])
        return allowance.budgets(counts, known, frontier.claimed(connection), used, at), allowance.full(known, used)

    def _asks(self, claim: Claim) -> bool:
        """Whether a visit that waited for its turn may still ask."""
        return self._lanes.asking and self._may_still(claim)

    def _may_visit(self, name: str) -> bool:
        """Whether a source is there and not paused; what was asked for by number is done all the same."""
        return self._once is not None or (name in self._works and name not in self._sources.paused)

    def _give_out(self, connection: Connection, wanted: Sequence[tuple[str, int]]) -> dict[str, list[Claim]]:
        at = self._store.now()
        # The loop adds to what runs are known to have at a host meanwhile.
        runs_at = {host: frozenset(self._runs_at.get(host, ())) for host, _ in wanted}
        budgets, _ = self._budgets(connection, at, set().union(*runs_at.values()))
        held = hosts.held(connection, [host for host, _ in wanted], self._store.owner)
        ours = [(host, most) for host, most in wanted if host in held]
        return frontier.claim(connection, ours, self._store.owner, at, runs_at, budgets)

    async def _give_back(self, host: str, claims: list[Claim]) -> None:
        """A lane has ended: its host's times are kept, and what it had not visited is queued again."""
        states = self._times({host})
        ids = [claim.url_id for claim in claims]
        gate = self._politeness.gate(host)
        leaving = [host] if gate is not None and gate.idle and not self._shares.alone else []
        for name in leaving:  # first, as in _keep_house()
            self._politeness.drop(name)
        await self._store.write(lambda c: self._take_back(c, states, ids, leaving))
        self._recorder.let_go(ids)

    async def _unclaim(self, claims: list[Claim]) -> None:
        """Have claimed URLs queued again."""
        ids = [claim.url_id for claim in claims]
        await self._store.write(lambda c: frontier.unclaim(c, self._store.owner, ids))
        self._recorder.let_go(ids)

    def _may_still(self, claim: Claim) -> bool:
        """Whether a URL that was claimed a while ago may be visited.

        Its run is not over, its source neither paused nor gone, and the bytes of its day are not used up.
        """
        return claim.run_id in self._open_runs and self._may_visit(claim.source) and claim.source not in self._full

    def _take_back(self, connection: Connection, states: list[HostTimes], ids: list[int], leaving: list[str]) -> None:
        hosts.record(connection, self._store.owner, states)
        frontier.unclaim(connection, self._store.owner, ids)
        hosts.release(connection, leaving, self._store.owner)

    async def _stored_body(self, page_id: int) -> tuple[bytes, dict[str, str]] | None:
        return await self._store.read(lambda c: pages.body_of(c, page_id))

    async def _stored_other(self, source: str, url: str, digest: str) -> tuple[bytes, dict[str, str]] | None:
        return await self._store.read(lambda c: pages.body_at(c, source, url, digest))

    async def _ask_robots(self, origin: str, http: Http, place: Place) -> Robots:
        return await fetch_robots(self._fetcher, origin, http, place)

    def _times(self, only: Collection[str] | None = None) -> list[HostTimes]:
        if only is not None:
            return [gate.times(self._store.now()) for host in only if (gate := self._politeness.gate(host)) is not None]
        return [gate.times(self._store.now()) for gate in self._politeness.gates()]
