"""How many processes there is enrichment for: a thread asks the database, so that the supervisor need not.

It also brings the tasks of the configuration into the database, at the start and when they are others.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from scraper.config.settings import Database, Enrich
from scraper.database import Db, tasks
from scraper.database.postgres import for_one_thread
from scraper.errors import BowerbirdError

LOOK_EACH_S = 1.0
KEPT_S = 20.0  # what was needed so lately is likely to be needed again

MarkOf = Callable[[Mapping[str, Any]], str | None]


class Demand:
    """The number of enrichers that are wanted now."""

    def __init__(self, settings: Database) -> None:
        self._settings = settings
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="demand", daemon=True)
        self._wanted = 0
        self._since = 0.0
        self._tasks: Sequence[Enrich] | None = None
        self._mark_of: MarkOf = lambda _: None

    @property
    def wanted(self) -> int:
        """How many; never waits."""
        return self._wanted

    def use(self, found: Sequence[Enrich], mark_of: MarkOf) -> None:
        """Have these be the tasks of the configuration. mark_of: another one for what would be made otherwise by now."""
        self._mark_of = mark_of
        self._tasks = found

    def start(self) -> None:
        """Begin to look, once."""
        if not self._thread.is_alive():
            self._thread.start()

    def stop(self) -> None:
        """End; waits a moment, and no longer."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join(1.0)

    def _run(self) -> None:
        with Db(for_one_thread(self._settings), role="demand") as db:
            while not self._ending.wait(LOOK_EACH_S):
                try:
                    if (mine := self._tasks) is not None:
                        db.write(partial(tasks.sync, wanted=mine))
                        self._tasks = None if self._tasks is mine else self._tasks
                    found = db.read(lambda c: tasks.wanted_workers(c, db.now(), self._mark_of))
                except BowerbirdError:  # what the database lacks is said by those who cannot work without it
                    continue
                now = time.monotonic()
                if found >= self._wanted or now - self._since > KEPT_S:
                    self._wanted, self._since = found, now
