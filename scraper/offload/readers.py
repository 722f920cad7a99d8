"""The reading processes of one scraper."""

import asyncio
import logging
import os

from scraper.config.settings import Limits, Source
from scraper.errors import Failure, VisitFailed
from scraper.offload import frames, reader
from scraper.offload.hand import Died, Hand
from scraper.offload.hands import Hands
from scraper.records import Before, Fetched, Kind, Manners, Reading

MOST = max(2, min(4, os.cpu_count() or 2))

log = logging.getLogger(__name__)


class Readers:
    """Reads pages in processes of their own, within limits."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._hands = Hands(self._start, MOST, limits.memory)
        self.prune, self.close = self._hands.prune, self._hands.close

    async def read(
        self, source: Source, manners: Manners, fetched: Fetched, kind: Kind, before: Before | None = None
    ) -> Reading:
        """Return what a page holds. before: as it is stored, to be compared. Raises VisitFailed: what reading raises; parse_limit; poison if two processes died of it."""
        async with self._hands.places:
            for last in (False, True):
                try:
                    hand = await self._hands.take(fresh=last)
                    return await self._try(hand, source, manners, (fetched, kind, before))
                except Died as died:
                    facts = {"url": fetched.final_url, "source": source.name, "how": str(died)}
                    log.warning("the process that read a page died", extra=facts)
                    if last:
                        message = (
                            f"two processes died while they read this page: {died}; it is not tried again until asked"
                        )
                        raise VisitFailed(Failure.POISON, message) from None
        raise AssertionError("unreachable")

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
                message = f"the parser {source.parser} had not returned after {self._limits.parse_timeout:g} s"
                message += f"\n{await hand.stacks()}"
            await self._hands.drop(hand)
            raise VisitFailed(Failure.PARSE_LIMIT, message[:4000].rstrip()) from None
        except BaseException:
            await self._hands.drop(hand)
            raise
        await self._hands.give_back(hand, memory)
        if answer[0] == "read":
            return frames.reading_of(answer[1])
        raise VisitFailed(*answer[1])

    def _start(self) -> Hand:
        hard = int(self._limits.memory * 1.5)
        return Hand("reader", reader.run, os.getpid(), hard)
