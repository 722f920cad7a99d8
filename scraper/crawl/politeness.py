"""Per host: robots, delay, free places. A request is made only after it was admitted here."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Protocol, Self

from scraper.config.settings import Http
from scraper.crawl.robots import CACHE_S, RETRY_S, Robots, Rules, agent_token
from scraper.errors import Failure, VisitFailed
from scraper.records import HostTimes
from scraper.urls import host_of, parts

PENALTY_FIRST_S = 0.5
PENALTY_MAX_S = 60.0
LEASE_RETRY_S = 0.5
LOOK_AGAIN_S = 5.0
LEASE_PATIENCE_S = 20.0


class Memory(Protocol):
    """What politeness remembers in the database; the engine provides it."""

    async def lease(self, host: str) -> HostTimes | None:
        """Take a host for this worker, or return None while another one has it."""

    async def keep_times(self, times: HostTimes) -> None:
        """Keep when a host may be asked next, and its delay."""

    async def robots_of(self, origin: str) -> tuple[Robots, datetime] | None:
        """Return a kept robots.txt and when it was asked for."""

    async def keep_robots(self, origin: str, robots: Robots) -> None:
        """Keep a robots.txt."""

    def now(self) -> datetime:
        """Return this instant."""


class Gate:
    """The way to one host: one after the other, each at its time, so many at once. Times are the event loop's."""

    def __init__(self, host: str, places: asyncio.Semaphore) -> None:
        self.host = host
        self.in_flight = 0
        self.kept_delay_s = 0.0  # what the database knows
        self.penalty_s = 0.0
        self._waiting = 0
        self._last = float("-inf")
        self._delay_s = 0.0
        self._not_before = float("-inf")
        self._places = places
        self._line = asyncio.Lock()
        self._left = asyncio.Event()

    @property
    def idle(self) -> bool:
        """Whether nobody is at the host, or on the way to it."""
        return not self.in_flight and not self._waiting

    async def enter(self, delay_s: float, per_host: int) -> None:
        """Wait for the turn, then count as in flight until leave().

        Between two requests there is the longer of the delays that the two want.
        """
        loop = asyncio.get_running_loop()
        self._waiting += 1
        try:
            async with self._line:
                while True:
                    due = max(self._not_before, self._last + max(self._delay_s, delay_s + self.penalty_s))
                    if self.in_flight >= per_host:
                        self._left.clear()
                        await self._left.wait()
                    elif (wait := due - loop.time()) > 0:
                        await asyncio.sleep(min(wait, LOOK_AGAIN_S))
                    else:
                        break
                await self._places.acquire()
                self._last = loop.time()
                self._delay_s = delay_s + self.penalty_s
                self.in_flight += 1
        finally:
            self._waiting -= 1

    def leave(self) -> None:
        """Give the place back."""
        self.in_flight -= 1
        self._places.release()
        self._left.set()

    def pause(self, seconds: float) -> None:
        """Leave the host alone for a while."""
        self._not_before = max(self._not_before, asyncio.get_running_loop().time() + seconds)

    def went(self, *, well: bool) -> None:
        """Slow down after trouble, step by step, and speed up again after success."""
        if well:
            self.penalty_s = self.penalty_s * 0.7 if self.penalty_s > 0.05 else 0.0
        else:
            self.penalty_s = min(max(PENALTY_FIRST_S, self.penalty_s * 2), PENALTY_MAX_S)

    def times(self, now: datetime) -> HostTimes:
        """Return what has to hold over a restart."""
        due = max(self._not_before, self._last + self._delay_s)
        wait = due - asyncio.get_running_loop().time()
        delay_s = max(self._delay_s, self.kept_delay_s)
        return HostTimes(self.host, now + timedelta(seconds=wait) if wait > 0 else None, delay_s)


FetchRobots = Callable[[str, Http, "Place"], Awaitable[Robots]]


class Politeness:
    """All gates, and the robots rules of all origins."""

    def __init__(self, memory: Memory, concurrency: int, fetch_robots: FetchRobots) -> None:
        self._memory = memory
        self._fetch_robots = fetch_robots
        self._places = asyncio.Semaphore(concurrency)
        self._gates: dict[str, Gate] = {}
        self._rules: dict[str, tuple[Rules, float]] = {}
        self._asking: dict[str, asyncio.Lock] = {}

    async def open(self, host: str) -> Gate | None:
        """Return the gate of a host that this worker has leased, or None while another worker has it."""
        if (gate := self._gates.get(host)) is None:
            times = await self._memory.lease(host)
            if times is None:
                return None
            gate = self._gates.setdefault(host, Gate(host, self._places))
            if times.next_at is not None:
                gate.pause((times.next_at - self._memory.now()).total_seconds())
        return gate

    async def keep_delay(self, gate: Gate, delay_s: float) -> None:
        """Have a longer delay known to the database before the first request that it follows."""
        if delay_s > gate.kept_delay_s:
            gate.kept_delay_s = delay_s
            await self._memory.keep_times(gate.times(self._memory.now()))

    def forget(self, host: str) -> None:
        """Drop a gate that nobody uses."""
        gate = self._gates.get(host)
        if gate is not None and gate.idle:
            del self._gates[host]

    def gates(self) -> list[Gate]:
        """Return the gates of all leased hosts."""
        return list(self._gates.values())

    async def patiently(self, host: str) -> Gate:
        """Return the gate of a host, waiting for another worker to give it back. Raises VisitFailed."""
        deadline = asyncio.get_running_loop().time() + LEASE_PATIENCE_S
        while (gate := await self.open(host)) is None:
            if asyncio.get_running_loop().time() > deadline:
                raise VisitFailed(Failure.CANCELLED, f"{host} is being asked by another worker")
            await asyncio.sleep(LEASE_RETRY_S)
        return gate

    async def rules(self, url: str, http: Http) -> Rules | None:
        """Return the robots rules for a URL, or None if its source does not obey robots."""
        if not http.obey_robots:
            return None
        origin = parts(url).origin
        async with self._asking.setdefault(origin, asyncio.Lock()):
            clock = asyncio.get_running_loop().time()
            held = self._rules.get(origin)
            if held is None or held[1] <= clock:
                held = await self._learn(origin, http, clock)
                self._rules[origin] = held
        return held[0]

    async def _learn(self, origin: str, http: Http, clock: float) -> tuple[Rules, float]:
        kept = await self._memory.robots_of(origin)
        if kept is not None:
            rules = Rules(kept[0])
            age = (self._memory.now() - kept[1]).total_seconds()
            left = (RETRY_S if rules.unreachable else CACHE_S) - age
            if 0 < left <= CACHE_S:
                return rules, clock + left
        async with Place(self) as place:
            robots = await self._fetch_robots(origin, http, place)
        await self._memory.keep_robots(origin, robots)
        rules = Rules(robots)
        return rules, asyncio.get_running_loop().time() + (RETRY_S if rules.unreachable else CACHE_S)


class Place:
    """A place in flight: at one host at a time, given back at the end."""

    def __init__(self, politeness: Politeness) -> None:
        self._politeness = politeness
        self.gate: Gate | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.leave()

    def leave(self) -> None:
        """Give the place back."""
        if self.gate is not None:
            self.gate.leave()
            self.gate = None

    async def enter(self, url: str, http: Http, crawl_delay_s: float = 0.0) -> None:
        """Wait for a turn at the host of a URL. Raises VisitFailed."""
        self.leave()
        gate = await self._politeness.patiently(host_of(url))
        delay_s = max(http.delay, crawl_delay_s)
        await self._politeness.keep_delay(gate, delay_s)
        await gate.enter(delay_s, http.per_host)
        self.gate = gate

    async def admit(self, url: str, http: Http) -> None:
        """Wait for a turn at the host of a URL that its robots.txt allows. Raises VisitFailed."""
        self.leave()
        rules = await self._politeness.rules(url, http)
        delay = 0.0
        if rules is not None:
            agent = agent_token(http.user_agent)
            if rules.unreachable:
                raise VisitFailed(
                    Failure.ROBOTS_UNREACHABLE, "robots.txt cannot be read, so nothing may be asked (RFC 9309)"
                )
            if not rules.allows(url, agent):
                raise VisitFailed(Failure.ROBOTS_DENIED, "robots.txt does not allow it")
            delay = rules.crawl_delay(agent)
        await self.enter(url, http, delay)
