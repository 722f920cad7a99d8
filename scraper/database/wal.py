"""Keeps SQLite's write-ahead log (WAL) short, and names who keeps it long."""

import logging
import os
import time

from scraper.database.connection import Db
from scraper.database.sqlite import WAL_KEPT_BYTES, File

LONG_BYTES = WAL_KEPT_BYTES
SHORT_BYTES = 4 * 2**20
TOLD_EACH_S = 300.0
HOLD_S = 0.25  # for so long writers are held, and readers waited for
# How often, and how far apart, a reader is seen before it is blamed: those who work come and go.
GLANCES = 20
GLANCE_EACH_S = 0.02

log = logging.getLogger(__name__)


class Keeper:
    """Looks after the WAL, in the one process that does checkpoints.

    Each commit that finds many pages in the WAL brings them into the database. What hinders that is a reader who still
    looks at an earlier state, or writers who leave no moment between them: then the writers are held for one moment.
    """

    def __init__(self, db: Db, file: File) -> None:
        self._db = db
        self._file = file
        self._since: dict[tuple[int, int], float] = {}
        self._told = float("-inf")

    def look(self, *, idle: bool) -> None:
        """Look once; blocks for a moment if the WAL is long. idle: nothing is written now. Raises Unavailable, Unusable."""
        length = self._file.wal_bytes()
        if length <= (SHORT_BYTES if idle else LONG_BYTES):
            self._since.clear()
            return
        self._note_readers()
        mode = "TRUNCATE" if idle else "RESTART"
        busy, _, _ = self._db.outside(lambda c: c.exec_driver_sql(f"PRAGMA wal_checkpoint({mode})").one(), HOLD_S)
        if busy and length > LONG_BYTES:
            self._tell(length)

    def _note_readers(self) -> None:
        """Remember since when each reader has looked at one state. Ours change it many times a second."""
        clock = time.monotonic()
        there = {reader for reader in self._file.readers() if reader[0] != os.getpid()}
        self._since = {reader: self._since.get(reader, clock) for reader in there}

    def _tell(self, length: int) -> None:
        clock = time.monotonic()
        if clock - self._told < TOLD_EACH_S:
            return
        self._told = clock
        facts: dict[str, object] = {"wal_bytes": length, "file": str(self._file.path)}
        stayed = self._file.readers()
        for _ in range(GLANCES):
            time.sleep(GLANCE_EACH_S)
            stayed = {reader: stayed[reader] for reader in self._file.readers() if reader in stayed}
        known = {reader: since for reader, since in self._since.items() if reader in stayed}
        if known:
            (pid, slot), since = min(known.items(), key=lambda found: found[1])
            command = stayed[pid, slot]
            facts |= {"oldest_reader": pid, "command": command.strip(), "for_s": round(clock - since)}
        log.warning("the write-ahead log grows: somebody looks at an earlier state of the database", extra=facts)
