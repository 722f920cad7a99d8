"""What a scraper process may use: open files, and its share of a processor."""

import asyncio
import logging
import time

from scraper import kernel
from scraper.config.settings import Limits

WINDOW_S = 1.0

log = logging.getLogger(__name__)


def apply(limits: Limits) -> None:
    """Set the kernel's limits; one that may not be set is told and left."""
    if limits.open_files:
        try:
            kernel.raise_open_files(limits.open_files)
        except (ValueError, OSError) as error:
            log.warning("[limits] open_files cannot be set", extra={"wanted": limits.open_files, "reason": str(error)})


class CpuShare:
    """Keeps the process at a share of one processor, in percent (0: no limit), by pauses before visits."""

    def __init__(self, percent: float) -> None:
        self._share = percent / 100
        self._began = time.monotonic()
        self._used = time.process_time()

    async def pause(self) -> None:
        """Wait until what was used lately is no more than the share."""
        if not self._share:
            return
        used = time.process_time() - self._used
        wait = used / self._share - (time.monotonic() - self._began)
        if wait > 0.005:
            await asyncio.sleep(min(wait, WINDOW_S))
        if time.monotonic() - self._began > WINDOW_S:
            self._began, self._used = time.monotonic(), time.process_time()
