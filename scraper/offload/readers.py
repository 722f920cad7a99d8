"""The reading processes of one scraper: as many as are needed, up to a few, none while there is nothing for them."""

import asyncio
import logging
import os
import time

from scraper.config.settings import Limits, Source
from scraper.errors import Failure, VisitFailed
from scraper.offload import frames, reader
from scraper.offload.hand import Died, Hand
from scraper.records import Before, Fetched, Kind, Manners, Reading

MOST = max(2, min(4, os.cpu_count() or 2))
IDLE_S = 60.0
START_S = 30.0  # what a process may need before its first page, on a busy machine

log = logging.getLogger(__name__)


class Readers:
    """Reads pages in processes of their own, within limits."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._places = asyncio.Semaphore(MOST)
        self._idle: list[Hand] = []
        self._all: set[Hand] = set()

    async def read(
        self, source: Source, manners: Manners, fetched: Fetched, kind: Kind, before: Before | None = None
    ) -> Reading:
        """Return what a page holds. before: as it is stored, to be compared. Raises VisitFailed: what reading raises; parse_limit; poison if two processes died of it."""
        async with self._places:
            for last in (False, True):
                try:
                    return await self._try(await self._hand(fresh=last), source, manners, (fetched, kind, before))
                except Died as died:
                    facts = {"url": fetched.final_url, "source": source.name, "how": str(died)}
                    log.warning("the process that read a page died", extra=facts)
                    if last:
                        message = (
                            f"two processes died while they read this page: {died}; it is not tried again until asked"
                        )
                        raise VisitFailed(Failure.POISON, message) from None
        raise AssertionError("unreachable")

    async def _hand(self, *, fresh: bool) -> Hand:
        """A process that lives and waits. Raises VisitFailed: cancelled, if none can be started just now."""
        while self._idle and not fresh:
            hand = self._idle.pop()
            if hand.alive:
                return hand
            await self._drop(hand)
        try:
            hand = self._start()
        except OSError as error:
            raise VisitFailed(Failure.CANCELLED, f"no process can be started to read it: {error}") from None
        try:
            async with asyncio.timeout(START_S):
                await hand.receive()
        except (TimeoutError, Died):
            await self._drop(hand)
            raise VisitFailed(Failure.CANCELLED, "the process that was to read it did not start") from None
        except BaseException:
            await self._drop(hand)
            raise
        return hand

    async def _try(
        self, hand: Hand, source: Source, manners: Manners, page: tuple[Fetched, Kind, Before | None]
    ) -> Reading:
        fetched, kind, before = page
        try:
            async with asyncio.timeout(self._limits.parse_timeout):
                told = None if hand.knows.get(source.name) == (source, manners) else (source, manners)
                hand.knows[source.name] = (source, manners)
                await hand.send((source.name, told, frames.flat(fetched), kind, before))
                answer, memory = await hand.receive()
        except TimeoutError:
            message = f"reading it took longer than {self._limits.parse_timeout:g} s"
            if source.parser:
                message = f"the parser {source.parser} had not returned after {self._limits.parse_timeout:g} s\n{hand.stacks()}"
            await self._drop(hand)
            raise VisitFailed(Failure.PARSE_LIMIT, message[:4000].rstrip()) from None
        except BaseException:
            await self._drop(hand)
            raise
        if memory > self._limits.memory:
            log.warning("a reading process is replaced: it has grown", extra={"bytes": memory, "source": source.name})
            await self._drop(hand)
        else:
            hand.idle_since = time.monotonic()
            self._idle.append(hand)
        if answer[0] == "read":
            return frames.reading_of(answer[1])
        raise VisitFailed(*answer[1])

    def _start(self) -> Hand:
        hard = int(self._limits.memory * 1.5)
        hand = Hand("reader", reader.run, os.getpid(), hard, self._limits.parse_timeout)
        self._all.add(hand)
        return hand

    async def _drop(self, hand: Hand) -> None:
        self._all.discard(hand)
        await hand.end()

    async def prune(self) -> None:
        """End the processes that have had nothing to do for a while."""
        before = time.monotonic() - IDLE_S
        for hand in [hand for hand in self._idle if hand.idle_since < before]:
            self._idle.remove(hand)
            await self._drop(hand)

    async def close(self) -> None:
        """End all."""
        self._idle.clear()
        for hand in list(self._all):
            await self._drop(hand)
