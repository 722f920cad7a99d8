"""Three threads over SQLite with a lock, as people write it first: around all of it, or around the commit alone."""

import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROWS_A_CALL = 5
TIMEOUT_S = 30.0


def broad(folder: Path, calls: int, hands: int, wait_s: float) -> dict[str, Any]:
    """The call and the insert inside one lock."""
    lock = threading.Lock()

    def one(connection: sqlite3.Connection, number: int) -> None:
        with lock:
            time.sleep(wait_s)
            _insert(connection, number)
            connection.commit()

    return _run(folder / "broad.db", one, calls, hands, wait_s)


def narrow(folder: Path, calls: int, hands: int, wait_s: float) -> dict[str, Any]:
    """Inserts and calls side by side, the commit alone inside a lock: the first insert holds the database all the same."""
    lock = threading.Lock()

    def one(connection: sqlite3.Connection, number: int) -> None:
        _insert(connection, number)
        time.sleep(wait_s)
        with lock:
            connection.commit()

    return _run(folder / "narrow.db", one, calls, hands, wait_s)


def _insert(connection: sqlite3.Connection, number: int) -> None:
    connection.executemany("INSERT INTO made (number, part) VALUES (?, ?)", [(number, n) for n in range(ROWS_A_CALL)])


def _run(file: Path, one: Any, calls: int, hands: int, wait_s: float) -> dict[str, Any]:
    with sqlite3.connect(file) as made:
        made.execute("PRAGMA journal_mode=wal")
        made.execute("CREATE TABLE made (number INTEGER, part INTEGER)")
    faults: list[str] = []
    local = threading.local()

    def guarded(number: int) -> None:
        if not hasattr(local, "connection"):
            local.connection = sqlite3.connect(file, timeout=TIMEOUT_S)
        try:
            one(local.connection, number)
        except sqlite3.OperationalError as error:
            local.connection.rollback()
            faults.append(str(error))

    began = time.perf_counter()
    with ThreadPoolExecutor(hands) as pool:
        list(pool.map(guarded, range(calls)))
    took_s = time.perf_counter() - began
    return {"efficiency": calls * wait_s / hands / took_s, "seconds": took_s, "faults": len(faults)}
