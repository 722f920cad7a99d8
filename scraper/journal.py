"""The way of events into the database: a thread takes them, so that whoever has something to tell never waits."""

import logging
import threading
from collections import deque
from datetime import UTC, datetime
from functools import partial
from itertools import islice

from scraper.config.settings import Database
from scraper.database import Db, events
from scraper.database.connection import UNSTORABLE
from scraper.database.postgres import for_one_thread
from scraper.errors import BowerbirdError
from scraper.records import Event

QUEUE = 5000
BATCH = 200
PATIENCE_MAX_S = 5.0
LAST_WORDS_S = 1.0

log = logging.getLogger(__name__)


class Journal:
    """Keeps events until the database takes them; when there are too many, those that come then are counted and given up."""

    def __init__(self, settings: Database) -> None:
        self._settings = settings
        self._waiting: deque[Event] = deque()
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
        if len(self._waiting) < QUEUE:
            self._waiting.append(event)
        else:
            self._given_up += 1
        self._arrived.set()

    def stop(self) -> None:
        """Keep what is there, and end; waits a moment, and no longer."""
        self._ending.set()
        self._arrived.set()
        if self._thread.is_alive():
            self._thread.join(LAST_WORDS_S)

    def _run(self) -> None:
        wait_s = 0.25
        with Db(for_one_thread(self._settings), role="journal") as db:
            while True:
                self._arrived.wait()
                self._arrived.clear()
                while (self._waiting or self._given_up) and self._keep(db):
                    wait_s = 0.25
                if self._ending.is_set():
                    return
                if self._waiting or self._given_up:
                    self._ending.wait(wait_s)
                    wait_s = min(wait_s * 2, PATIENCE_MAX_S)
                    self._arrived.set()

    def _keep(self, db: Db) -> bool:
        """Bring a batch into the database. Returns whether there is a use in going on."""
        batch = list(islice(self._waiting, BATCH))
        lost = self._given_up
        told = (
            [Event(datetime.now(UTC), "service", "journal", "lost events", "warning", {"count": lost})] if lost else []
        )
        try:
            db.write(lambda c: events.add(c, [*batch, *told]))
        except BowerbirdError:  # what the database lacks is said by those who cannot work without it
            return False
        except UNSTORABLE as error:  # one of them, which must not keep the others
            log.exception("events cannot be stored", exc_info=error)
            self._given_up += self._one_by_one(db, batch)
        self._given_up -= lost
        for _ in batch:
            self._waiting.popleft()
        return True

    @staticmethod
    def _one_by_one(db: Db, batch: list[Event]) -> int:
        """Bring those into the database that it takes. Returns how many it does not."""
        refused = 0
        for event in batch:
            try:
                db.write(partial(events.add, batch=[event]))
            except (BowerbirdError, *UNSTORABLE):  # the log has the first of them, and an event has their number
                refused += 1
        return refused
