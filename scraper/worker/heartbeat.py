"""Beats: a sign of life from the engine's own loop, each second and at each change of state.

Never from a thread of its own: that would beat on while the loop is stuck.
"""

import asyncio
import contextlib
import os
import time
from typing import Protocol

from scraper.channel import Channel
from scraper.scoreboard import Writer
from scraper.states import Progress, State

BEAT_EACH_S = 1.0


class Engine(Protocol):
    """What a worker process does its work with."""

    changed: asyncio.Event

    def progress(self) -> Progress:
        """Return what is being done."""

    def pause(self, paused: bool) -> None:
        """Begin nothing more, or go on."""

    def stop(self) -> None:
        """End soon."""


class Heartbeat:
    """Tells the supervisor, and the scoreboard, what the engine is at."""

    def __init__(self, channel: Channel, board: Writer) -> None:
        self._channel = channel
        self._board = board
        self._count = 0
        self._sent = 0.0

    def starting(self, trouble: str | None = None) -> None:
        """Beat before there is an engine."""
        self._send({"state": State.STARTING, "trouble": trouble})

    async def run(self, engine: Engine) -> None:
        """Beat until cancelled."""
        parent = os.getppid()
        while True:
            engine.changed.clear()
            self.beat(engine)
            if os.name == "posix" and os.getppid() != parent:
                engine.stop()  # the lifeline ends us sooner; this is for the day when it does not
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(engine.changed.wait(), BEAT_EACH_S)

    def keep_up(self, engine: Engine) -> None:
        """Beat if that is due; for those who keep the loop to themselves."""
        if time.monotonic() - self._sent > BEAT_EACH_S:
            self.beat(engine)

    def beat(self, engine: Engine) -> None:
        """Beat once."""
        seen = engine.progress()
        last = seen.last_check.isoformat(timespec="seconds").replace("+00:00", "Z") if seen.last_check else None
        self._send(
            {
                "state": seen.state,
                "sources": seen.sources,
                "last_check": last,
                "trouble": seen.trouble,
                "silent_s": round(seen.silent_s, 1),
            }
        )
        self._board.put(
            {
                "state": str(seen.state),
                "sources": list(seen.sources),
                "last_check": last,
                "visiting": list(seen.visiting[:16]),
                "pages": seen.pages,
                "failures": seen.failures,
            }
        )

    def _send(self, facts: dict[str, object]) -> None:
        self._count += 1
        self._sent = time.monotonic()
        self._channel.send({"beat": self._count, **facts})
