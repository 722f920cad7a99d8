"""How many jobs of a task a worker has under way, and when: more while answers come, fewer when the endpoint asks for that."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

WORTH_RATE = 0.5
WHOLE_AFTER = 20  # answers in a row that earn a place back


class Turn:
    """When a job had its turn: it waits for one only when all is ready for it. Monotonic seconds."""

    def __init__(self, pace: "Pace") -> None:
        self._pace = pace
        self.began = time.monotonic()
        self.elapsed_s = 0.0

    @asynccontextmanager
    async def taken(self) -> AsyncIterator[None]:
        """Have a place among those that are worked on."""
        async with self._pace.turn():
            self.began = time.monotonic()
            try:
                yield
            finally:
                self.elapsed_s += time.monotonic() - self.began


class Pace:
    """The pace of one task in one worker. Times are monotonic seconds."""

    def __init__(self, most: int) -> None:
        """most: how many at once, when nobody asks for less."""
        self.most = most
        self.working = 0
        self.rests_until = 0.0  # no job is taken before
        self._limit = float(most)
        self._in_a_row = 0
        self._quiet_until = 0.0  # the endpoint wants nothing before, of what is in hand either
        self._quieted = 0.0
        self._freed = asyncio.Condition()

    @property
    def limit(self) -> int:
        """How many at once now."""
        return max(1, int(self._limit))

    @property
    def rests(self) -> bool:
        """Whether nothing is to be taken now."""
        return time.monotonic() < self.rests_until

    def rest(self, seconds: float) -> None:
        """Take nothing for so long."""
        self.rests_until = time.monotonic() + seconds

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a place, and until the endpoint wants to be asked again."""
        async with self._freed:
            await self._freed.wait_for(lambda: self.working < self.limit)
            self.working += 1
        try:
            await self._silence()
            yield
        finally:
            self.working -= 1
            async with self._freed:
                self._freed.notify_all()

    async def _silence(self) -> None:
        """Wait as long as the endpoint wants nothing; it may want that again meanwhile."""
        left_s = self._quiet_until - time.monotonic()
        if left_s > 0:
            await asyncio.sleep(left_s)
            await self._silence()

    def went_well(self) -> None:
        """An answer came."""
        self._in_a_row += 1
        if self._in_a_row >= WHOLE_AFTER and self._limit < self.most:
            self._in_a_row, self._limit = 0, self._limit + 1

    def went_wrong(self) -> None:
        """No answer came."""
        self._in_a_row = 0

    def too_fast(self, began: float, wait_s: float) -> None:
        """The endpoint wants fewer requests, and none for so long. began: when the one that was refused was made."""
        if began >= self._quieted:  # of those that went out together, one says it
            self._limit, self._quieted = max(1.0, self._limit * WORTH_RATE), time.monotonic()
        self.rests_until = self._quiet_until = max(self._quiet_until, time.monotonic() + wait_s)
