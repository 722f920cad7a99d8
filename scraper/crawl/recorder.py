"""Stores visits and hands out URLs: what finished lately, and what is asked for, make one transaction."""

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import Connection

from scraper.crawl.store import Store
from scraper.crawl.work import Work
from scraper.database import activity, changes, visits
from scraper.database.connection import UNSTORABLE
from scraper.errors import Failure
from scraper.records import Claim, HostTimes, Visit

BATCH = 128
BATCH_WAIT_S = 0.1
URGENT_WAIT_S = 0.02
BACKLOG = 256
BACKLOG_BYTES = 32 * 2**20
CLAIM_FIRST = 8
CLAIM_MOST = 128
CLAIM_LANES = 128
HUNGRY_S = 1.0
REMEMBERED = 30_000  # links, of all runs together
AGAIN_S = 5.0

log = logging.getLogger(__name__)

GiveOut = Callable[[Connection, Sequence[tuple[str, int]]], dict[str, list[Claim]]]


@dataclass(slots=True)
class Lane:
    """What this worker does at one host that it has leased."""

    host: str
    queue: deque[Claim] = field(default_factory=deque)
    busy: int = 0  # visits that are under way or not stored yet
    dry: bool = False  # nothing more is queued, as far as we know
    asked: bool = False
    portion: int = CLAIM_FIRST
    fed_at: float = 0.0


class Recorder:
    """The way of visits into the database, and of URLs out of it.

    times: gives the times of hosts, which are kept with the visits. give_out: claims URLs of hosts, of each
    at most so many.
    has_new: told which hosts have new URLs.
    """

    def __init__(
        self,
        store: Store,
        works: Mapping[str, Work],
        times: Callable[[Collection[str]], list[HostTimes]],
        give_out: GiveOut,
        has_new: Callable[[Collection[str]], None],
    ) -> None:
        self._store = store
        self._works = works
        self._times = times
        self._give_out = give_out
        self._has_new = has_new
        self._backlog: deque[tuple[Visit, Lane]] = deque()
        self._backlog_bytes = 0
        self._asking: dict[str, Lane] = {}
        self._arrived = asyncio.Event()
        self._urgent = asyncio.Event()
        self._closed = False
        self._known: dict[int, set[str]] = {}
        self._in_hand: set[int] = set()
        self.next_commit = asyncio.Event()
        self._taken = activity.Taken()
        self.stored = 0
        self.failed = 0
        self.last_check: datetime | None = None

    def add(self, visit: Visit, lane: Lane) -> None:
        """Have a visit stored; its lane is told when it is."""
        self._backlog.append((visit, lane))
        self._backlog_bytes += _size(visit)
        self._arrived.set()
        if len(self._backlog) >= BATCH:
            self._urgent.set()

    async def take(self, lane: Lane) -> Claim | None:
        """Return the next URL of a lane, waiting for what its own visits may lead to; None if there is none."""
        while not lane.queue:
            committed = self.next_commit
            if lane.dry and not lane.busy:
                return None
            if not lane.dry:
                self._ask(lane)
            if self._closed:
                return None
            self._urgent.set()
            await committed.wait()
        lane.busy += 1
        if len(lane.queue) <= lane.portion // 2 and not lane.dry:
            self._ask(lane)
        return lane.queue.popleft()

    def _ask(self, lane: Lane) -> None:
        if not lane.asked:
            lane.asked = True
            self._asking[lane.host] = lane
            self._arrived.set()

    async def leave(self, lane: Lane) -> list[Claim]:
        """Return what a lane that ends had not visited, what is being claimed for it at this moment included."""
        if self._asking.pop(lane.host, None) is not None:
            lane.asked = False
        while lane.asked and not self._closed:
            await self.next_commit.wait()
        return list(lane.queue)

    async def room(self) -> None:
        """Wait while more is to be stored than should be kept in memory."""
        while len(self._backlog) > BACKLOG or self._backlog_bytes > BACKLOG_BYTES:
            await self.next_commit.wait()

    def close(self) -> None:
        """Store what is there, and end."""
        self._closed = True
        self._arrived.set()
        self._urgent.set()

    def pulse(self) -> None:
        """Have all who wait for the next commit look again."""
        committed, self.next_commit = self.next_commit, asyncio.Event()
        committed.set()

    def forget(self, open_runs: Collection[int]) -> None:
        """Drop what is remembered of runs that are over."""
        for run_id in [run_id for run_id in self._known if run_id not in open_runs]:
            del self._known[run_id]

    async def run(self) -> None:
        """Store and hand out until closed. Raises Unusable; Unavailable on leaving."""
        while True:
            if not self._backlog and (self._closed or not self._asking):
                if self._closed:
                    return
                self._arrived.clear()
                await self._arrived.wait()
                continue
            await self._gather()
            batch = [self._backlog.popleft() for _ in range(min(len(self._backlog), BATCH))]
            asking = [] if self._closed else list(self._asking.values())[:CLAIM_LANES]
            for lane in asking:
                del self._asking[lane.host]
            wanted = [(lane.host, lane.portion) for lane in asking]
            times = self._times({lane.host for _, lane in batch})
            done, claims = await self._batch([visit for visit, _ in batch], times, wanted)
            self._settle(batch, done)
            for lane in asking:
                lane.asked = False
                self._feed(lane, claims.get(lane.host, []))
            self.pulse()

    async def _gather(self) -> None:
        """Let a batch grow for a moment, unless somebody waits for what comes of it."""
        if len(self._backlog) < BATCH and not self._closed:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._urgent.wait(), BATCH_WAIT_S)
            if len(self._backlog) < BATCH and not self._closed:  # where one waits, others soon do
                await asyncio.sleep(URGENT_WAIT_S)
        self._urgent.clear()

    def _settle(self, batch: list[tuple[Visit, Lane]], done: visits.Finished) -> None:
        for visit, lane in batch:
            self._backlog_bytes -= _size(visit)
            lane.busy -= 1
            self._in_hand.discard(visit.claim.url_id)
            if lane.host in done.hosts or visit.retry_at is not None:
                lane.dry = False
            self._count(visit)
        self._remember(done)
        if done.hosts:
            self._has_new(done.hosts)

    def _remember(self, done: visits.Finished) -> None:
        for run_id, urls in done.known.items():
            self._known.setdefault(run_id, set()).update(urls[:REMEMBERED])
        while sum(map(len, self._known.values())) > REMEMBERED:
            del self._known[max(self._known, key=lambda run_id: len(self._known[run_id]))]

    def _feed(self, lane: Lane, claims: list[Claim]) -> None:
        lane.queue.extend(claims)
        self._in_hand.update(claim.url_id for claim in claims)
        lane.dry = len(claims) < lane.portion
        now = time.monotonic()
        hungry = now - lane.fed_at < HUNGRY_S
        lane.portion = min(lane.portion * 2, CLAIM_MOST) if hungry else max(lane.portion // 2, CLAIM_FIRST)
        lane.fed_at = now

    def in_hand(self) -> set[int]:
        """Return the URLs that were claimed here, and neither stored nor given back."""
        return set(self._in_hand)

    def let_go(self, ids: Collection[int]) -> None:
        """Note that URLs were given back."""
        self._in_hand.difference_update(ids)

    def taken(self) -> activity.Taken:
        """Return what was done since this was last asked."""
        taken, self._taken = self._taken, activity.Taken()
        return taken

    def give_back(self, taken: activity.Taken) -> None:
        """Take back what could not be kept, for the next time."""
        now = self._taken
        now.pages += taken.pages
        now.elapsed_s += taken.elapsed_s
        now.failures += taken.failures
        now.latency += taken.latency
        now.outcomes += taken.outcomes

    def _count(self, visit: Visit) -> None:
        if visit.dropped:
            return
        self.last_check = visit.at
        self._taken.count(visit)
        if visit.failure is None:
            self.stored += 1
            return
        self.failed += 1
        facts = {"source": visit.claim.source, "url": visit.claim.url, "failure": str(visit.failure)}
        log.info("visit failed", extra={**facts, "reason": visit.message, "retry_at": visit.retry_at})

    async def _batch(
        self, batch: list[Visit], times: list[HostTimes], wanted: list[tuple[str, int]]
    ) -> tuple[visits.Finished, dict[str, list[Claim]]]:
        try:
            return await self._put(batch, times, wanted)
        except UNSTORABLE as error:  # one of them: the others must not suffer for it
            if len(batch) > 1:
                log.warning("a batch of visits cannot be stored, storing them one by one", exc_info=error)
                done = visits.Finished()
                for visit in batch:
                    one, _ = await self._batch([visit], [], [])
                    done.hosts |= one.hosts
                return done, (await self._batch([], times, wanted))[1]
            if not batch:
                raise
            return await self._alone(batch[0], times, wanted, error)

    async def _alone(
        self, visit: Visit, times: list[HostTimes], wanted: list[tuple[str, int]], error: Exception
    ) -> tuple[visits.Finished, dict[str, list[Claim]]]:
        """One visit that could not be stored: another worker may have stored the like meanwhile, so once more."""
        try:
            return await self._put([visit], times, wanted)
        except UNSTORABLE as last:
            error = last
        log.error("a visit cannot be stored", extra={"url": visit.claim.url}, exc_info=error)
        said = f"{type(error).__name__}: {error}".partition("\n")[0][:500]
        work = self._works.get(visit.claim.source)
        again = work is not None and visit.claim.attempts < work.http.retries
        retry_at = visit.at + timedelta(seconds=AGAIN_S) if again else None
        failed = Visit(visit.claim, visit.at, failure=Failure.STORE, message=said, retry_at=retry_at)
        return await self._put([failed], times, wanted)

    async def _put(
        self, batch: list[Visit], times: list[HostTimes], wanted: list[tuple[str, int]]
    ) -> tuple[visits.Finished, dict[str, list[Claim]]]:
        depths = {name: work.source.max_depth for name, work in self._works.items()}
        ready = await self._store.aside(partial(visits.prepare, batch, visits.Bounds(depths, self._known)))
        return await self._store.write(partial(self._unit, ready, times, wanted))

    def _unit(
        self, batch: visits.Batch, times: list[HostTimes], wanted: list[tuple[str, int]], connection: Connection
    ) -> tuple[visits.Finished, dict[str, list[Claim]]]:
        done = visits.finish(connection, batch, self._store.owner, times)
        claims = self._give_out(connection, wanted) if wanted else {}
        changes.tell(connection, done.told)
        return done, claims


def _size(visit: Visit) -> int:
    return len(visit.fetched.body) + len(visit.fetched.packed) if visit.fetched is not None else 0
