"""A few processes of one kind: as many as are needed, up to some, none while there is nothing for them."""

import asyncio
import logging
import time
from collections.abc import Callable

from scraper.errors import Failure, VisitFailed
from scraper.offload.hand import Died, Hand

IDLE_S = 60.0
START_S = 30.0  # what a process may need before its first task, on a busy machine

log = logging.getLogger(__name__)


class Hands:
    """Processes that wait for something to do."""

    def __init__(self, start: Callable[[], Hand], most: int, memory: int) -> None:
        """start: makes one. most: how many at once. memory: bytes above which one is replaced."""
        self._start = start
        self._memory = memory
        self.places = asyncio.Semaphore(most)
        self._idle: list[Hand] = []
        self._all: set[Hand] = set()

    async def take(self, *, fresh: bool) -> Hand:
        """Return a process that lives and waits. Raises VisitFailed: cancelled, if none can be started just now."""
        while self._idle and not fresh:
            hand = self._idle.pop()
            if hand.alive:
                return hand
            await self.drop(hand)
        try:
            hand = self._start()
        except OSError as error:
            raise VisitFailed(Failure.CANCELLED, f"no process can be started to read it: {error}") from None
        self._all.add(hand)
        try:
            async with asyncio.timeout(START_S):
                await hand.receive()
        except (TimeoutError, Died):
            await self.drop(hand)
            raise VisitFailed(Failure.CANCELLED, "the process that was to read it did not start") from None
        except BaseException:
            await self.drop(hand)
            raise
        return hand

    async def give_back(self, hand: Hand, memory: int) -> None:
        """Have a process wait for the next task; one that has grown is replaced. memory: bytes that it has."""
        if memory > self._memory:
            log.warning("a process is replaced: it has grown", extra={"bytes": memory, "hand": hand.name})
            await self.drop(hand)
        else:
            hand.idle_since = time.monotonic()
            self._idle.append(hand)

    async def drop(self, hand: Hand) -> None:
        """End a process."""
        self._all.discard(hand)
        await hand.end()

    async def prune(self) -> None:
        """End the processes that have had nothing to do for a while."""
        before = time.monotonic() - IDLE_S
        for hand in [hand for hand in self._idle if hand.idle_since < before]:
            self._idle.remove(hand)
            await self.drop(hand)

    async def close(self) -> None:
        """End all."""
        self._idle.clear()
        for hand in list(self._all):
            await self.drop(hand)
