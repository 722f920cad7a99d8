"""The engine's way to the database: one thread, one unit after the other, and patience while the database is away."""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Generic, TypeVar

from sqlalchemy import Connection

from scraper import kernel
from scraper.crawl.robots import Robots
from scraper.database import Db, frontier, hosts, schema
from scraper.database.wal import Keeper
from scraper.errors import Unavailable
from scraper.records import HostTimes

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")
PATIENCE_MAX_S = 10.0
LOOKED_AT_S = 2.0

log = logging.getLogger(__name__)


class Together(Generic[K, V]):
    """What many ask for at about the same time is asked for at once: each of them gets the one answer."""

    def __init__(self, ask: Callable[[list[K]], Awaitable[V]]) -> None:
        self._ask = ask
        self._wanted: list[K] = []
        self._next: asyncio.Task[V] | None = None
        self._one = asyncio.Lock()

    async def ask(self, what: K) -> V:
        """Return the answer to a question, among others."""
        self._wanted.append(what)
        if self._next is None:
            self._next = asyncio.create_task(self._all(), name=f"store {self._ask.__name__}")
        return await asyncio.shield(self._next)

    async def _all(self) -> V:
        async with self._one:  # meanwhile, others come
            wanted, self._wanted, self._next = self._wanted, [], None
            return await self._ask(wanted)


class Store:
    """Runs units in a thread of its own, and waits while the database cannot be used."""

    def __init__(self, db: Db, owner: str, replaced: Callable[[], None] = lambda: None) -> None:
        """replaced: called when another file took the place of the database: what is remembered of the former one is wrong."""
        self.db = db
        self.owner = owner
        self.replaced = replaced
        self._troubles: dict[object, str] = {}  # of each unit that waits: others may be done meanwhile
        self.mended_at = float("-inf")  # when a trouble ended last, in monotonic seconds
        self._thread = ThreadPoolExecutor(1, "store")
        self._leaving = asyncio.Event()
        self._under_way: int | None = None  # in which thread
        self._cpu = 0
        self._keeper = Keeper(db, db.file) if db.file is not None and db.file.checkpoints else None
        self._leases = Together(self._lease)
        self._times = Together(self._keep_times)
        self._robots = Together(self._robots_of)
        self._robots_told = Together(self._keep_robots)

    async def write(self, unit: Callable[[Connection], T]) -> T:
        """Run a unit that may write; tries again until the database takes it. Raises Unusable; Unavailable on leaving."""
        return await self._patiently(self.db.write, unit)

    async def read(self, unit: Callable[[Connection], T]) -> T:
        """Run a unit that only reads; tries again until the database answers. Raises Unusable; Unavailable on leaving."""
        return await self._patiently(self.db.read, unit)

    @property
    def trouble(self) -> str | None:
        """What the database lacks, if anything."""
        return next(iter(self._troubles.values()), None) or self.db.trouble

    def silent_s(self) -> float | None:
        """Return for how many seconds the unit under way has given no sign of life, or None if none is under way.

        A thread that computes, or waits for a disk, lives. Of a server elsewhere nobody can tell from here.
        """
        if self._under_way is None:
            return None
        if not self.db.tells_life:
            return 0.0
        silence = time.monotonic() - self.db.touched
        if silence > LOOKED_AT_S:
            waits_for_device, cpu = kernel.thread_at_work(self._under_way)
            if waits_for_device or cpu != self._cpu:
                self._cpu = cpu
                self.db.touch()
        return silence

    def leave(self) -> None:
        """Be patient no longer: from now on a database that is away is Unavailable."""
        self.db.hurried = True
        self._leaving.set()

    async def aside(self, work: Callable[[], T]) -> T:
        """Have something done in the store's thread that needs no database: others may have that meanwhile."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def look_after(self, *, idle: bool) -> None:
        """Keep SQLite's write-ahead log short, if that is for this process. idle: nothing is being crawled."""
        if self._keeper is None:
            return
        loop = asyncio.get_running_loop()
        with contextlib.suppress(Unavailable):  # what the database lacks is said by those who cannot work without it
            await loop.run_in_executor(self._thread, lambda keeper: keeper.look(idle=idle), self._keeper)

    async def step(self, work: Iterator[T]) -> T | None:
        """Have one step of some work done in turn with the units; return what it yields, None when it is done. Raises Unavailable, Unusable."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, next, work, None)

    async def upgrade(self) -> None:
        """Bring the tables to this version, as soon as there is a database. Raises Unusable."""
        await self._patiently(lambda _: schema.upgrade(self.db), lambda _: None)

    async def _patiently(self, run: Callable[[Callable[[Connection], T]], T], unit: Callable[[Connection], T]) -> T:
        loop = asyncio.get_running_loop()
        wait = 0.25
        this = object()
        try:
            while True:
                try:
                    result = await loop.run_in_executor(self._thread, self._run, run, unit)
                except Unavailable as error:
                    if not self._troubles:
                        log.warning("the database is away, waiting for it", extra={"reason": str(error)})
                    self._troubles[this] = str(error)
                    if self._leaving.is_set():
                        raise
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._leaving.wait(), wait)
                    wait = min(wait * 2, PATIENCE_MAX_S)
                    continue
                self._over(this)
                if self.db.replaced:
                    self.replaced()
                return result
        finally:
            self._troubles.pop(this, None)

    def _over(self, unit: object) -> None:
        """Note that a unit is done; the database is back when none waits any more."""
        if self._troubles.pop(unit, None) is not None and not self._troubles:
            log.info("the database is back")
            self.mended_at = time.monotonic()

    def _run(self, run: Callable[[Callable[[Connection], T]], T], unit: Callable[[Connection], T]) -> T:
        self.db.touch()
        self._under_way = threading.get_native_id()
        try:
            return run(unit)
        finally:
            self._under_way = None

    # -- what politeness remembers

    def now(self) -> datetime:
        """Return this instant, by the database's clock."""
        return self.db.now()

    @property
    def is_just_mended(self) -> bool:
        """Whether the database was away until a moment ago: nobody could renew a lease, and all are given the time to do so."""
        return time.monotonic() - self.mended_at < hosts.LEASE_S

    def lapsed(self) -> datetime:
        """Return the instant before which a lease must have ended to be over."""
        return self.now() - timedelta(seconds=hosts.LEASE_S if self.is_just_mended else 0.0)

    async def lease(self, host: str) -> HostTimes | None:
        """Take a host for this worker."""
        return (await self._leases.ask(host)).get(host)

    async def keep_times(self, times: HostTimes) -> None:
        """Keep when a host may be asked next, and its delay."""
        await self._times.ask(times)

    async def robots_of(self, origin: str) -> tuple[Robots, datetime] | None:
        """Return a kept robots.txt and when it was asked for."""
        found = (await self._robots.ask(origin)).get(origin)
        return (Robots(found.status, found.text), found.fetched_at) if found else None

    async def keep_robots(self, origin: str, robots: Robots) -> None:
        """Keep a robots.txt."""
        await self._robots_told.ask((origin, hosts.StoredRobots(robots.status, robots.text, self.now())))

    async def _lease(self, names: list[str]) -> dict[str, HostTimes]:
        def unit(connection: Connection) -> dict[str, HostTimes]:
            names_once = list(dict.fromkeys(names))
            leased = hosts.lease(connection, names_once, self.owner, self.now(), self.lapsed())
            frontier.take_back(connection, leased.former)
            return leased.times

        return await self.write(unit)

    async def _keep_times(self, times: list[HostTimes]) -> None:
        await self.write(lambda connection: hosts.record(connection, self.owner, times))

    async def _robots_of(self, origins: list[str]) -> dict[str, hosts.StoredRobots]:
        return await self.read(lambda connection: hosts.robots_of(connection, origins))

    async def _keep_robots(self, found: list[tuple[str, hosts.StoredRobots]]) -> None:
        await self.write(lambda connection: hosts.keep_robots(connection, dict(found)))

    def close(self) -> None:
        """Let the thread end when its unit does."""
        self._thread.shutdown(wait=False, cancel_futures=True)
