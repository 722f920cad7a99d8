"""Lanes: one for each host that is being asked, each with so many visits at once as the host may bear."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Collection, KeysView, Mapping
from functools import partial

from scraper.config.settings import Http
from scraper.crawl.politeness import REST_S, Gate, Politeness
from scraper.crawl.recorder import Lane, Recorder
from scraper.crawl.visit import Visitor
from scraper.crawl.work import Work
from scraper.records import Claim, Visit

TICK_S = 1.0
MAX_LANES = 512
# A host that is to be left alone for longer is not waited for: its lane ends, and what it had is given back.

log = logging.getLogger(__name__)


class Lanes:
    """All hosts that this worker asks at the moment.

    pace: awaited before each visit. mark: told which URL is visited last. ended: called with the task of each lane that ended.
    give_back: has URLs that were claimed and not visited queued again, when the lane of a host ends; unclaim: while it goes on.
    may: whether a URL may still be visited: its run may be over by now, or its source paused.
    """

    def __init__(
        self,
        http: Http,
        works: Mapping[str, Work],
        politeness: Politeness,
        visitor: Visitor,
        recorder: Recorder,
        pace: Callable[[], Awaitable[None]],
        mark: Callable[[int, str], None],
        ended: Callable[["asyncio.Task[None]"], None],
        give_back: Callable[[str, list[Claim]], Awaitable[None]],
        unclaim: Callable[[list[Claim]], Awaitable[None]],
        may: Callable[[Claim], bool],
    ) -> None:
        self._http = http
        self._works = works
        self._politeness = politeness
        self._visitor = visitor
        self._recorder = recorder
        self._pace = pace
        self._mark = mark
        self._ended = ended
        self._give_back = give_back
        self._unclaim = unclaim
        self._may = may
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._visiting: dict[int, str] = {}
        self._go = asyncio.Event()
        self._go.set()
        self._closing = False
        self._leaving: set[str] = set()

    @property
    def going(self) -> bool:
        """Whether visits are started."""
        return self._go.is_set()

    @property
    def asking(self) -> bool:
        """Whether those who wait for their turn may still ask."""
        return self._go.is_set() and not self._closing

    def pause(self, paused: bool) -> None:
        """Start no more visits, or go on."""
        (self._go.clear if paused else self._go.set)()

    def hosts(self) -> KeysView[str]:
        """Return the hosts that have a lane."""
        return self._tasks.keys()

    def visiting(self) -> tuple[str, ...]:
        """Return the URLs that are being visited."""
        return tuple(self._visiting.values())

    def open(self, hosts: Collection[str]) -> None:
        """Have each of these hosts asked."""
        for host in hosts:
            if host in self._tasks or len(self._tasks) >= MAX_LANES or self._closing:
                continue
            task = asyncio.create_task(self._lane(host), name=f"lane {host}")
            self._tasks[host] = task
            task.add_done_callback(partial(self._left, host))

    def _left(self, host: str, task: "asyncio.Task[None]") -> None:
        self._tasks.pop(host, None)
        self._leaving.discard(host)
        self._ended(task)

    def leave(self, hosts: Collection[str]) -> None:
        """Ask these hosts no more; what is under way ends, what is claimed is given back."""
        self._leaving.update(self._tasks.keys() & hosts)

    def close(self) -> None:
        """Start no more visits; those under way may end."""
        self._closing = True
        self._go.set()

    async def end(self, within_s: float) -> None:
        """Wait for the visits under way, and then no longer."""
        self.close()
        tasks = list(self._tasks.values())
        if tasks:
            await asyncio.wait(tasks, timeout=within_s)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _lane(self, host: str) -> None:
        gate = await self._politeness.open(host)
        if gate is None:
            await asyncio.sleep(TICK_S)
            return
        lane = Lane(host)
        per_host = max((work.http.per_host for work in self._works.values()), default=1)
        workers = [asyncio.create_task(self._work(lane, gate)) for _ in range(min(per_host, self._http.concurrency))]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        await self._give_back(host, await self._recorder.leave(lane))

    async def _work(self, lane: Lane, gate: Gate) -> None:
        while not self._closing:
            await self._go.wait()
            await self._recorder.room()
            if gate.lost or gate.resting_s > REST_S or not self._politeness.holds(gate) or lane.host in self._leaving:
                return
            claim = await self._recorder.take(lane)
            if claim is None:
                return
            if self._closing:
                lane.busy -= 1
                lane.queue.appendleft(claim)
                return
            if self._may(claim):
                await self._visit(lane, claim)
            else:
                await self._put_back(lane, claim)

    async def _put_back(self, lane: Lane, claim: Claim) -> None:
        """Have what may be visited no more queued again, all of it at once."""
        refused = [claim, *(other for other in lane.queue if not self._may(other))]
        lane.queue = deque(other for other in lane.queue if self._may(other))
        try:
            await self._unclaim(refused)
        finally:
            lane.busy -= 1
            self._recorder.pulse()

    async def _visit(self, lane: Lane, claim: Claim) -> None:
        self._visiting[claim.url_id] = claim.url
        self._mark(0, claim.url)
        visit: Visit | None = None
        try:
            await self._pace()
            visit = await self._visitor.visit(claim)
        finally:
            if visit is None:
                lane.busy -= 1
            else:
                self._recorder.add(visit, lane)
            self._visiting.pop(claim.url_id, None)
            if not self._visiting:
                self._mark(0, "")
