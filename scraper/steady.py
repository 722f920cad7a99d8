"""Work that goes on for ever in a task that nobody waits for."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from scraper.errors import BowerbirdError

AWAY_S = 10.0

log = logging.getLogger(__name__)


async def steadily(what: str, turn: Callable[[], Awaitable[float]], wake: asyncio.Event | None = None) -> None:
    """Take turn after turn, each of which returns for how many seconds to rest. what: a name for the log.

    wake: ends a rest. A turn that fails is told of, and taken again after AWAY_S.
    """
    wake = wake or asyncio.Event()
    while True:
        wake.clear()
        try:
            rest_s = await turn()
        except BowerbirdError as error:
            log.debug("%s must wait", what, extra={"reason": str(error)})
            rest_s = AWAY_S
        except Exception:  # the top of a task that nobody waits for: it says so, and tries again
            log.exception("%s failed", what)
            rest_s = AWAY_S
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(rest_s):
                await wake.wait()
