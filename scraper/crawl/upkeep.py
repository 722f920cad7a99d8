"""Upkeep: the write-ahead log stays short, and what need not be kept goes. One process of all does it."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable

from scraper.config.settings import Retention, Source, retention_of
from scraper.config.shape import build
from scraper.crawl.store import Store
from scraper.database import retention, sources, usage, visits
from scraper.errors import BowerbirdError

LOOK_EACH_S = 2.0
PRUNE_FIRST_S = 60.0
PRUNE_EACH_S = 3600.0
REST_S = 0.05  # between portions, for those who wait to store

log = logging.getLogger(__name__)


class Upkeep:
    """Looks after the database beside the crawl."""

    def __init__(self, store: Store, keep: Retention, idle: Callable[[], bool]) -> None:
        """keep: what is kept of the past, where a source says nothing else. idle: whether nothing is being crawled."""
        self._store = store
        self._keep = keep
        self._idle = idle

    async def run(self) -> None:
        """Look after it for ever."""
        clock = asyncio.get_running_loop().time
        due = clock() + PRUNE_FIRST_S
        while True:
            await asyncio.sleep(LOOK_EACH_S)
            try:
                await self._store.look_after(idle=self._idle())
                if clock() >= due:
                    due = clock() + PRUNE_EACH_S
                    await self.prune()
            except BowerbirdError as error:  # the crawl meets the same, and says so
                log.debug("no upkeep now", extra={"reason": str(error)})

    async def prune(self, ends: Callable[[], bool] = lambda: False) -> None:
        """Drop what the sources need not keep. ends: asked now and then whether to leave the rest for later. Raises Unavailable, Unusable."""
        await self._store.write(lambda c: visits.set_right(c, self._store.now()))
        await self._store.write(lambda c: usage.forget(c, self._store.now()))
        definitions = await self._store.read(sources.definitions)
        former = await self._store.read(sources.former)
        for name, definition in [*definitions.items(), *((name, None) for name in former)]:
            source = build(Source, definition, (), []) if definition is not None else None
            keep = retention_of(self._keep, source) if source is not None else self._keep
            if keep == Retention():
                continue
            dropped: Counter[str] = Counter()
            portions = retention.prune(self._store.db, name, keep, self._store.now())
            while not ends() and (found := await self._store.step(portions)) is not None:
                dropped[found[0]] += found[1]
                await asyncio.sleep(REST_S)
            if dropped:
                log.info("what need not be kept was dropped", extra={"source": name, **dropped})
            if ends():
                log.info("what else need not be kept is dropped another time")
                return
