"""Stores visits as they come: all that finished while the last batch was stored make the next one."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from sqlalchemy import Connection

from scraper.crawl.store import Store
from scraper.crawl.visit import Work
from scraper.database import visits
from scraper.errors import Failure, Unavailable, Unusable
from scraper.records import Claim, HostTimes, Visit

BATCH = 64
BACKLOG = 256

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Lane:
    """What this worker does at one host that it has leased."""

    host: str
    queue: deque[Claim] = field(default_factory=deque)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    busy: int = 0  # visits that are under way or not stored yet
    dry_at: int = -1  # at which commit there was nothing to claim


class Recorder:
    """The way of visits into the database.

    times: gives the times of hosts, which are kept with the visits. wake: set when hosts have new URLs.
    """

    def __init__(
        self,
        store: Store,
        works: Mapping[str, Work],
        times: Callable[[Collection[str]], list[HostTimes]],
        wake: asyncio.Event,
    ) -> None:
        self._store = store
        self._works = works
        self._times = times
        self._wake = wake
        self._backlog: deque[tuple[Visit, Lane]] = deque()
        self._arrived = asyncio.Event()
        self._closed = False
        self.next_commit = asyncio.Event()
        self.commits = 0
        self.stored = 0
        self.failed = 0
        self.last_check: datetime | None = None

    def add(self, visit: Visit, lane: Lane) -> None:
        """Have a visit stored; its lane is told when it is."""
        self._backlog.append((visit, lane))
        self._arrived.set()

    async def room(self) -> None:
        """Wait while more is to be stored than should be kept in memory."""
        while len(self._backlog) > BACKLOG:
            await self.next_commit.wait()

    def close(self) -> None:
        """Store what is there, and end."""
        self._closed = True
        self._arrived.set()

    def pulse(self) -> None:
        """Have all who wait for the next commit look again."""
        committed, self.next_commit = self.next_commit, asyncio.Event()
        committed.set()

    async def run(self) -> None:
        """Store until closed. Raises Unusable; Unavailable on leaving."""
        while True:
            if not self._backlog:
                if self._closed:
                    return
                self._arrived.clear()
                await self._arrived.wait()
                continue
            batch = [self._backlog.popleft() for _ in range(min(len(self._backlog), BATCH))]
            done = await self._batch([visit for visit, _ in batch], self._times({lane.host for _, lane in batch}))
            for visit, lane in batch:
                lane.busy -= 1
                self._count(visit)
            self.commits += 1
            self.pulse()
            if done.hosts:
                self._wake.set()

    def _count(self, visit: Visit) -> None:
        self.last_check = visit.at
        if visit.failure is None:
            self.stored += 1
            return
        self.failed += 1
        facts = {"source": visit.claim.source, "url": visit.claim.url, "failure": str(visit.failure)}
        log.info("visit failed", extra={**facts, "reason": visit.message, "retry_at": visit.retry_at})

    async def _batch(self, batch: list[Visit], times: list[HostTimes]) -> visits.Finished:
        try:
            return await self._store.write(partial(self._finish, batch, times))
        except (Unavailable, Unusable):
            raise
        except Exception as error:  # one of them cannot be stored: the others must not suffer for it
            if len(batch) > 1:
                log.warning("a batch of visits cannot be stored, storing them one by one", exc_info=error)
                return visits.Finished(set().union(*[(await self._batch([visit], [])).hosts for visit in batch]))
            log.exception("a visit cannot be stored", extra={"url": batch[0].claim.url})
            said = f"{type(error).__name__}: {error}".partition("\n")[0][:500]
            failed = Visit(batch[0].claim, batch[0].at, failure=Failure.STORE, message=said)
            return await self._store.write(partial(self._finish, [failed], []))

    def _finish(self, batch: list[Visit], times: list[HostTimes], connection: Connection) -> visits.Finished:
        depths = {name: work.source.max_depth for name, work in self._works.items()}
        return visits.finish(self._store.db, connection, batch, self._store.owner, depths, times)
