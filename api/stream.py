"""Live events: one look at the database for all streams of this process, however many follow."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator
from functools import partial
from typing import Any

from anyio import to_thread

from scraper.database import Db, events
from scraper.errors import BowerbirdError, Unavailable

LOOK_EACH_S = 0.2
AWAY_S = 2.0
AT_ONCE = 500
KEPT = 1000
MAX_STREAMS = 100
NOWHERE = -1
QUIET_S = 15.0  # proxies close what says nothing

Row = dict[str, Any]


class Streams:
    """The streams of this process. All on the event loop."""

    def __init__(self, db: Db) -> None:
        self._db = db
        self._recent: deque[Row] = deque(maxlen=KEPT)
        self._from = self._last = NOWHERE  # the recent ones are all that came after the one id, up to the other
        self._news = asyncio.Event()
        self._following = 0
        self._looking: asyncio.Task[None] | None = None
        self._closed = asyncio.Event()

    def close(self) -> None:
        """End all streams: the server waits for them before it ends."""
        self._closed.set()
        self._announce()

    async def newest(self) -> int:
        """Return the id of the last event. Raises Unavailable."""
        return await to_thread.run_sync(self._db.read, events.newest)

    def check(self) -> None:
        """See whether there is room for one more stream. Raises Unavailable."""
        if self._following >= MAX_STREAMS:
            raise Unavailable(f"there are {MAX_STREAMS} streams already; try again in a while, or ask for a list")

    async def follow(self, last: int) -> AsyncGenerator[list[Row], None]:
        """Yield what comes after an id, in order and without a loss; an empty list when nothing came for a while.

        Where something is there no more, one row of the kind "resync" stands for it.
        """
        self._following += 1
        try:
            if self._looking is None or self._looking.done():
                self._looking = asyncio.create_task(self._look(), name="events")
            while not self._closed.is_set():
                if self._looking.done():
                    self._looking = asyncio.create_task(self._look(), name="events")
                news = self._news
                found = await self._after(last)
                if found:
                    last = found[-1]["id"]
                    yield found
                    continue
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(news.wait(), QUIET_S)
                    continue
                yield []
        finally:
            self._following -= 1
            if not self._following and self._looking is not None:
                self._looking.cancel()
                self._looking = None
                self._recent.clear()
                self._from = self._last = NOWHERE

    async def _after(self, last: int) -> list[Row]:
        if self._from <= last <= self._last:
            return [row for row in self._recent if row["id"] > last]
        try:
            return await self._read(last)
        except BowerbirdError:
            return []

    async def _read(self, last: int) -> list[Row]:
        return await to_thread.run_sync(self._db.read, partial(events.after, last, AT_ONCE))

    async def _look(self) -> None:
        while True:
            try:
                if self._last == NOWHERE:
                    self._from = self._last = await self.newest()
                    self._announce()
                found = await self._read(self._last)
            except BowerbirdError:
                await asyncio.sleep(AWAY_S)
                continue
            if found and found[0]["kind"] == "resync":  # another database: what was seen of the old one counts no more
                self._recent.clear()
                self._from = found[0]["id"] - 1
            for row in found:
                if len(self._recent) == KEPT:
                    self._from = self._recent[0]["id"]
                self._recent.append(row)
            if found:
                self._last = found[-1]["id"]
                self._announce()
            if len(found) < AT_ONCE:
                await asyncio.sleep(LOOK_EACH_S)

    def _announce(self) -> None:
        told, self._news = self._news, asyncio.Event()
        told.set()
