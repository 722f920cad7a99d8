"""The way of events into the database: a thread takes them, so that whoever has something to tell never waits."""

import logging
import threading
from collections import deque
from datetime import UTC, datetime
from functools import partial

from scraper.config.settings import Database
from scraper.database import Db, events
from scraper.errors import BowerbirdError
from scraper.records import Event

QUEUE = 5000
BATCH = 200
PATIENCE_MAX_S = 5.0
LAST_WORDS_S = 1.0

log = logging.getLogger(__name__)


class Journal:
    """Keeps events until the database takes them; the oldest ones are given up when there are too many."""

    def __init__(self, settings: Database) -> None:
        self._settings = settings
        self._waiting: deque[Event] = deque(maxlen=QUEUE)
        self._given_up = 0
        self._arrived = threading.Event()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)

    def start(self) -> None:
        """Start the thread, once."""
        if not self._thread.is_alive():
            self._thread.start()

    def add(self, event: Event) -> None:
        """Have an event kept. From any thread."""
        self._given_up += len(self._waiting) == QUEUE
        self._waiting.append(event)
        self._arrived.set()

    def stop(self) -> None:
        """Keep what is there, and end; waits a moment, and no longer."""
        self._ending.set()
        self._arrived.set()
        if self._thread.is_alive():
            self._thread.join(LAST_WORDS_S)

    def _run(self) -> None:
        wait_s = 0.25
        with Db(self._settings, role="journal") as db:
            while True:
                self._arrived.wait()
                self._arrived.clear()
                while self._waiting and self._keep(db):
                    wait_s = 0.25
                if self._ending.is_set():
                    return
                if self._waiting:
                    self._ending.wait(wait_s)
                    wait_s = min(wait_s * 2, PATIENCE_MAX_S)
                    self._arrived.set()

    def _keep(self, db: Db) -> bool:
        batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), BATCH))]
        lost, self._given_up = self._given_up, 0
        if lost:
            batch.append(Event(datetime.now(UTC), "service", "journal", "lost events", "warning", {"count": lost}))
        try:
            db.write(partial(events.add, db, batch))
        except BowerbirdError:  # what the database lacks is said by those who cannot work without it
            self._waiting.extendleft(reversed(batch))
            return False
        return True
