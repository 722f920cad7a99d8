"""Per host: robots, delay, free places, patience. A request is made only after it was admitted here."""

import asyncio
import contextlib
import hashlib
import math
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Protocol, Self

from scraper.config.settings import Http
from scraper.crawl.robots import CACHE_S, RETRY_S, Robots, Rules, agent_token
from scraper.errors import Failure, PutOff, Unavailable, VisitFailed
from scraper.records import HostTimes
from scraper.urls import host_of, parts

PENALTY_FIRST_S = 0.5
PENALTY_MAX_S = 60.0
# A host is slow when it takes so much longer than it used to, and noticeably so.
SLOWER_BY = 3.0
SLOW_LEAST_S = 0.5
STRIKES = 20  # failures in a row after which a host is left alone
TRIP_FIRST_S = 15.0
TRIP_MAX_S = 3600.0
TRIPS_MOST = 100  # more are not told apart: a host may be down for years
LEASE_RETRY_S = 0.5
LOOK_AGAIN_S = 5.0
LEASE_PATIENCE_S = 10.0
LEASE_LATER_S = 60.0
REST_S = 15.0  # a host that is to be left alone for longer is not waited for
DELAY_MOST_S = 120.0  # nor is a turn at another host than one's own that is so far off
# What a host does that is down or has too much to do, whichever URL is asked for; bad answers are no sign of that.
STRIKING = frozenset({Failure.DNS, Failure.CONNECT, Failure.TLS, Failure.TIMEOUT, Failure.HTTP_5XX})


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

    def __init__(self, kept: HostTimes, places: asyncio.Semaphore) -> None:
        self.host = kept.host
        self.in_flight = 0
        self.lost = False  # another worker has leased the host meanwhile
        self.leased_at = 0.0
        self.kept_delay_s = 0.0  # what the database knows
        self.penalty_s = kept.penalty_s
        self.latency_s = kept.latency_s
        self.strikes = kept.strikes
        self.trips = kept.trips
        self.crawl_delay_s = kept.crawl_delay_s
        self._why = kept.why
        self._waiting = 0
        self._wanted: Counter[int] = Counter()  # how many in flight those in flight want at most
        self._last = float("-inf")
        self._delay_s = 0.0
        self._not_before = float("-inf")
        self._places = places
        self._line = asyncio.Lock()
        self._left = asyncio.Event()
        self._clock = asyncio.get_running_loop().time

    @property
    def idle(self) -> bool:
        """Whether nobody is at the host, or on the way to it."""
        return not self.in_flight and not self._waiting

    @property
    def resting_s(self) -> float:
        """For how long the host is to be left alone."""
        return max(0.0, self._not_before - self._clock())

    @property
    def why(self) -> str:
        """Why the host is to be left alone."""
        return self._why if self._why is not None and self.resting_s > 0 else "its delay"

    def wait_s(self, delay_s: float) -> float:
        """Return after how many seconds the host may be asked next."""
        return max(0.0, self._due(delay_s) - self._clock())

    async def enter(self, delay_s: float, per_host: int, own: asyncio.Semaphore | None = None) -> None:
        """Wait for the turn, then count as in flight until leave(). Raises VisitFailed if the host is another worker's by then.

        Between two requests there is the longer of the delays that the two want, and beside one no more than it wants. A host
        that failed often in a row gets one at a time. own: the places of the source, where it has fewer than the process;
        leave() gets the same, and per_host.
        """
        most = 1 if self.strikes >= STRIKES - 1 else per_host
        full = self._places.locked() or (own is not None and own.locked())
        if self._is_full(most) or self._line.locked() or self._due(delay_s) > self._clock() or full:
            await self._wait(delay_s, most, own)
        else:
            await self._take(own)  # there is one: this does not wait
        if self.lost:
            self._give(own)
            raise VisitFailed(Failure.CANCELLED, f"{self.host} is another worker's now")
        self._last = self._clock()
        self._delay_s = delay_s + self.penalty_s
        self.in_flight += 1
        self._wanted[per_host] += 1

    def _is_full(self, most: int) -> bool:
        """Whether there are as many requests in flight as one more, or any of them, wants there to be."""
        return self.in_flight >= min(most, min(self._wanted, default=most))

    async def _take(self, own: asyncio.Semaphore | None) -> None:
        if own is not None:
            await own.acquire()
        try:
            await self._places.acquire()
        except asyncio.CancelledError:
            if own is not None:
                own.release()
            raise

    def _give(self, own: asyncio.Semaphore | None) -> None:
        self._places.release()
        if own is not None:
            own.release()

    async def _wait(self, delay_s: float, most: int, own: asyncio.Semaphore | None) -> None:
        holds = taken = False
        self._waiting += 1
        try:
            while not (taken := await self._turn(delay_s, most, own, holds=holds)):
                assert own is not None
                await own.acquire()  # not in the line: others need not wait for what this source has in flight
                holds = True
        finally:
            self._waiting -= 1
            if holds and not taken and own is not None:
                own.release()

    async def _turn(self, delay_s: float, most: int, own: asyncio.Semaphore | None, *, holds: bool) -> bool:
        """Stand in line until places are taken. Returns False if the source has none left when it is its turn. holds: it has one."""
        wanted = None if holds else own
        async with self._line:
            while True:
                if self._is_full(most):
                    self._left.clear()
                    await self._left.wait()
                elif (wait := self._due(delay_s) - self._clock()) > 0:
                    await asyncio.sleep(min(wait, LOOK_AGAIN_S))
                elif wanted is not None and wanted.locked():
                    return False
                else:
                    await self._take(wanted)
                    if self._due(delay_s) <= self._clock():
                        return True
                    self._give(wanted)  # the host asked for a pause while we waited

    def _due(self, delay_s: float) -> float:
        return max(self._not_before, self._last + max(self._delay_s, delay_s + self.penalty_s))

    def leave(self, per_host: int, own: asyncio.Semaphore | None = None) -> None:
        """Give the place back. per_host, own: as they were given to enter()."""
        self.in_flight -= 1
        self._wanted[per_host] -= 1
        if not self._wanted[per_host]:
            del self._wanted[per_host]
        self._give(own)
        self._left.set()

    def pause(self, seconds: float, why: str) -> None:
        """Leave the host alone for a while."""
        until = self._clock() + seconds
        if until > self._not_before:
            self._not_before, self._why = until, why

    def answered(self, latency_s: float | None, *, adapt: bool) -> None:
        """Note an answer, and how long it took to begin. adapt: speed up after good ones, slow down when it is slow."""
        self.strikes = self.trips = 0
        if latency_s is None:
            latency_s = self.latency_s
        slow = self.latency_s > 0 and latency_s > max(SLOW_LEAST_S, SLOWER_BY * self.latency_s)
        # What is slow now counts little towards what is usual: else slowness would soon be the measure of itself.
        weight = 0.02 if slow else 0.1
        self.latency_s = latency_s if self.latency_s == 0 else self.latency_s + weight * (latency_s - self.latency_s)
        if not adapt:
            return
        if slow:  # up to one latency between two, as Scrapy's AutoThrottle has it; what failures made longer than that gets shorter
            more = min(max(self.penalty_s * 1.3, latency_s / 4), latency_s, PENALTY_MAX_S)
            self.penalty_s = max(more, self.penalty_s * 0.7)
        else:
            self.penalty_s = self.penalty_s * 0.7 if self.penalty_s > 0.05 else 0.0

    def failed(self, failure: Failure, *, adapt: bool) -> None:
        """Note that a host was down or asks for less: slow down step by step, and leave it alone if it only fails."""
        if adapt:
            self.penalty_s = min(max(PENALTY_FIRST_S, self.penalty_s * 2), PENALTY_MAX_S)
        if failure not in STRIKING:
            return
        self.strikes += 1
        if self.strikes >= STRIKES:
            rest = min(TRIP_FIRST_S * 2 ** min(self.trips, TRIPS_MOST), TRIP_MAX_S)
            self.trips = min(self.trips + 1, TRIPS_MOST)
            self.strikes = STRIKES - 1  # the next failure trips it again at once
            self.pause(rest, f"it failed {STRIKES} times in a row or more, last with {failure}")

    def times(self, now: datetime) -> HostTimes:
        """Return what has to hold over a restart."""
        wait = max(self._not_before, self._last + self._delay_s) - self._clock()
        resting = self._not_before > self._clock()
        return HostTimes(
            self.host,
            now + timedelta(seconds=wait) if wait > 0 else None,
            max(self._delay_s, self.kept_delay_s),
            self.crawl_delay_s,
            self.penalty_s,
            self.latency_s,
            self.strikes,
            self.trips,
            self._why if resting else None,
        )


FetchRobots = Callable[[str, Http, "Place"], Awaitable[Robots]]


class Politeness:
    """All gates, and the robots rules of all origins."""

    def __init__(self, memory: Memory, concurrency: int, fetch_robots: FetchRobots, lease_s: float = math.inf) -> None:
        """lease_s: for how long a host is this worker's after it was leased, or all were renewed."""
        self._memory = memory
        self._fetch_robots = fetch_robots
        self._places = asyncio.Semaphore(concurrency)
        self._gates: dict[str, Gate] = {}
        self._lease_s = lease_s
        self.renewed_at = 0.0  # when the leases of all were last renewed together, by the event loop's clock
        self._rules: dict[str, tuple[Rules, float]] = {}
        self._asking: dict[str, asyncio.Lock] = {}
        self._in_vain: Counter[str] = Counter()  # how often in a row a robots.txt could not be reached

    def gate(self, host: str) -> Gate | None:
        """Return the gate of a host if this worker has leased it."""
        return self._gates.get(host)

    def holds(self, gate: Gate) -> bool:
        """Say whether the lease of a host still counts. With the database away it runs out, and another worker may have the host."""
        return asyncio.get_running_loop().time() < max(self.renewed_at, gate.leased_at) + self._lease_s

    async def open(self, host: str) -> Gate | None:
        """Return the gate of a host that this worker has leased, or None while another worker has it."""
        if (gate := self._gates.get(host)) is None:
            asked = asyncio.get_running_loop().time()
            times = await self._memory.lease(host)
            if times is None:
                return None
            gate = self._gates.setdefault(host, Gate(times, self._places))
            gate.leased_at = asked
            if times.next_at is not None:
                gate.pause((times.next_at - self._memory.now()).total_seconds(), times.why or "the delay")
        return gate

    async def keep_delay(self, gate: Gate, delay_s: float) -> None:
        """Have a longer delay known to the database before the first request that it follows."""
        if delay_s > gate.kept_delay_s:
            gate.kept_delay_s = delay_s
            await self._memory.keep_times(gate.times(self._memory.now()))

    async def keep_pause(self, gate: Gate) -> None:
        """Have a pause that a host asked for known to the database at once: nobody may ask again if this process dies now."""
        if gate.resting_s > 0:
            with contextlib.suppress(Unavailable):  # on leaving; what waits to be stored keeps it too
                await self._memory.keep_times(gate.times(self._memory.now()))

    def drop(self, host: str) -> None:
        """Drop the gate of a host that is not leased any more, or is about to be given back."""
        self._gates.pop(host, None)

    def prune(self) -> None:
        """Drop what robots rules have run out."""
        clock = asyncio.get_running_loop().time()
        for origin in [origin for origin, (_, until) in self._rules.items() if until <= clock]:
            del self._rules[origin]
            if origin in self._asking and not self._asking[origin].locked():
                del self._asking[origin]

    def gates(self) -> list[Gate]:
        """Return the gates of all leased hosts."""
        return list(self._gates.values())

    async def patiently(self, host: str) -> Gate:
        """Return the gate of a host, waiting for another worker to give it back. Raises VisitFailed."""
        deadline = asyncio.get_running_loop().time() + LEASE_PATIENCE_S
        while (gate := await self.open(host)) is None:
            if asyncio.get_running_loop().time() > deadline:
                raise PutOff(Failure.CANCELLED, f"{host} is being asked by another worker", LEASE_LATER_S)
            await asyncio.sleep(LEASE_RETRY_S)
        return gate

    def held(self, url: str, http: Http) -> Rules | None:
        """Return the robots rules for a URL if they are known and fresh."""
        found = self._rules.get(_seen_by(parts(url).origin, http))
        return found[0] if found is not None and found[1] > asyncio.get_running_loop().time() else None

    async def rules(self, url: str, http: Http, home: str | None = None) -> Rules:
        """Return the robots rules for a URL; asks for them if need be. home: the host that is being asked. Raises VisitFailed."""
        origin = parts(url).origin
        name = _seen_by(origin, http)
        async with self._asking.setdefault(name, asyncio.Lock()):
            try:
                if (rules := self.held(url, http)) is None:
                    self._rules[name] = await self._learn(origin, http, home)
                    rules = self._rules[name][0]
            finally:
                if name not in self._rules:
                    self._asking.pop(name, None)
        return rules

    async def _learn(self, origin: str, http: Http, home: str | None) -> tuple[Rules, float]:
        clock = asyncio.get_running_loop().time
        name = _seen_by(origin, http)
        kept = await self._memory.robots_of(name)
        if kept is not None:
            rules = Rules(kept[0])
            age = (self._memory.now() - kept[1]).total_seconds()
            left = self._holds_s(name, rules) - age
            if 0 < left <= CACHE_S:
                return rules, clock() + left
        async with Place(self, home=home) as place:
            robots = await self._fetch_robots(origin, http, place)
        await self._memory.keep_robots(name, robots)
        rules = Rules(robots)
        holds_s = self._holds_s(name, rules)
        if rules.unreachable:
            self._in_vain[name] += 1
        else:
            self._in_vain.pop(name, None)
        return rules, clock() + holds_s

    def _holds_s(self, name: str, rules: Rules) -> float:
        return RETRY_S[min(self._in_vain[name], len(RETRY_S) - 1)] if rules.unreachable else CACHE_S


def _seen_by(origin: str, http: Http) -> str:
    """The name of an origin as one way shows it: a proxy may answer in place of a site, and that holds for those who go by it."""
    if not http.proxy:
        return origin
    return f"{origin} by {hashlib.blake2b(http.proxy.encode(), digest_size=8).hexdigest()}"


class Place:
    """A place in flight: at one host at a time, given back at the end."""

    def __init__(
        self,
        politeness: Politeness,
        own: asyncio.Semaphore | None = None,
        home: str | None = None,
        may: Callable[[], bool] | None = None,
    ) -> None:
        """own: the places of the source that asks, where it has fewer than the process.

        home: the host that is being asked; at any other one there is no waiting for long. may: whether a request may still be made.
        """
        self._politeness = politeness
        self._own = own
        self._home = home
        self._may = may
        self._per_host = 0
        self.gate: Gate | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.leave()

    def leave(self) -> None:
        """Give the place back."""
        if self.gate is not None:
            self.gate.leave(self._per_host, self._own)
            self.gate = None

    async def keep(self) -> None:
        """Have a pause that the host asked for known to the database before anything else is asked."""
        if self.gate is not None:
            await self._politeness.keep_pause(self.gate)

    async def enter(self, url: str, http: Http, crawl_delay_s: float | None = None) -> None:
        """Wait for a turn at the host of a URL. crawl_delay_s: what its robots.txt asks for, if that was read. Raises VisitFailed."""
        self.leave()
        host = host_of(url)
        gate = self._politeness.gate(host) or await self._politeness.patiently(host)
        if crawl_delay_s is not None:
            gate.crawl_delay_s = crawl_delay_s
        delay_s = max(http.delay, crawl_delay_s or 0.0)
        if delay_s > gate.kept_delay_s:
            await self._politeness.keep_delay(gate, delay_s)
        wait_s = gate.resting_s if host == self._home else gate.wait_s(delay_s)
        if wait_s > (REST_S if gate.resting_s >= wait_s else DELAY_MOST_S):
            raise PutOff(Failure.RATE_LIMITED, f"{host} is to be left alone for {wait_s:.0f} s ({gate.why})", wait_s)
        await gate.enter(delay_s, http.per_host, self._own)
        self.gate, self._per_host = gate, http.per_host
        if self._may is not None and not self._may():  # it was to wait, and has been paused or stopped meanwhile
            self.leave()
            raise PutOff(Failure.CANCELLED, "the source is not asked just now", 0.0)
        if not self._politeness.holds(gate):  # this process stood still meanwhile
            self.leave()
            raise VisitFailed(Failure.CANCELLED, f"{host} may be another worker's by now")

    async def admit(self, url: str, http: Http, *, named: bool = False) -> None:
        """Wait for a turn at the host of a URL that its robots.txt allows. Raises VisitFailed.

        named: the operator gave this very address, so it is asked for even if robots.txt does not allow it, at the pace it wants.
        """
        self.leave()
        delay: float | None = None
        if http.obey_robots:
            rules = self._politeness.held(url, http) or await self._politeness.rules(url, http, self._home)
            agent = agent_token(http.user_agent)
            if rules.unreachable and not named:
                raise VisitFailed(
                    Failure.ROBOTS_UNREACHABLE, "robots.txt cannot be read, so nothing may be asked (RFC 9309)"
                )
            if not named and not rules.allows(url, agent):
                raise VisitFailed(Failure.ROBOTS_DENIED, "robots.txt does not allow it")
            delay = rules.crawl_delay(agent)
        await self.enter(url, http, delay)
