"""The Manager().dict(): scrapers write what they are at, the service's own thread copies it, nobody ever waits for it.

Heartbeats do not go this way, so that a Manager that died or was stopped stops nobody; it is started anew.
"""

import base64
import contextlib
import json
import logging
import multiprocessing
import multiprocessing.connection
import os
import pickle
import secrets
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scraper import kernel
from scraper.spawning import SPAWN, forget

if TYPE_CHECKING:
    from multiprocessing.managers import SyncManager

COPY_EACH_S = 1.0
STUCK_S = 3.0
BOOT_S = 15.0
RETRY_S = 0.1
RETRY_MAX_S = 5.0
BROKEN = (EOFError, OSError, AssertionError, multiprocessing.AuthenticationError, multiprocessing.ProcessError)

log = logging.getLogger(__name__)


def _in_manager(family: str, folder: str) -> None:
    """Outlive group signals, and nothing else: gone when the service is, and then nothing of its family is left."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    kernel.new_session()
    kernel.wake_when_orphaned()  # a stopped one could not see to it that nothing is left
    parent = multiprocessing.parent_process()
    if parent is not None:

        def leave() -> None:
            multiprocessing.connection.wait([parent.sentinel])
            end_left_by(family, Path(folder))
            os._exit(0)

        threading.Thread(target=leave, daemon=True).start()


def end_left_by(family: str, folder: Path) -> None:
    """End all that a dead service has left: what carries its mark, and what is of the sessions of its processes."""
    kernel.end_all_of(family)
    for file in (*folder.glob("scraper-*.lock"), *folder.glob("enricher-*.lock")):
        try:
            holder = json.loads(file.read_text())
            pid, born = int(holder["pid"]), str(holder["born"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if holder.get("family") == family:
            kernel.end_session(pid, born)


class Scoreboard:
    """The service's side: starts the Manager, copies its dict each second, starts another when it breaks.

    family: the mark of all that the service starts. folder: the state directory.
    """

    def __init__(self, family: str, folder: Path) -> None:
        self._folder = folder
        self._family = family
        self._thread = threading.Thread(target=self._run, name="scoreboard", daemon=True)
        self._ending = threading.Event()
        self._touched = time.monotonic()
        self._manager: SyncManager | None = None
        self.restarts = 0
        self._stuck = False
        self.fault = ""  # why the last one was replaced
        self.copied: dict[str, Any] = {}
        self.ticket: str | None = None  # what a scraper needs to reach the dict

    def start(self) -> None:
        """Start the thread, and by it the Manager."""
        self._thread.start()

    @property
    def _process(self) -> Any:
        """The Manager's process, from the moment it was spawned; there is no public way to it."""
        return vars(self._manager).get("_process") if self._manager is not None else None

    @property
    def pid(self) -> int | None:
        """The pid of the Manager."""
        process = self._process
        return process.pid if process is not None else None

    @property
    def alive(self) -> bool:
        """Whether the dict was reached a moment ago."""
        return self.ticket is not None and time.monotonic() - self._touched < STUCK_S

    def mend(self) -> None:
        """End a Manager that does not answer; the thread then starts another. Does not wait."""
        if time.monotonic() - self._touched > STUCK_S:
            self._stuck = True
            self._kill()

    def forgive(self, lag_s: float) -> None:
        """The machine slept: so long a silence is no fault of the Manager."""
        self._touched = min(self._touched + lag_s, time.monotonic())

    def stop(self) -> None:
        """End the thread and the Manager. Waits at most a second."""
        self._ending.set()
        self._thread.join(0.5)
        self._kill()
        self._thread.join(0.5)

    def _kill(self) -> None:
        pid = self.pid
        if pid is not None:
            with contextlib.suppress(OSError):
                os.kill(pid, getattr(signal, "SIGKILL", signal.SIGTERM))

    def _run(self) -> None:
        wait_s = RETRY_S
        while not self._ending.is_set():
            began = time.monotonic()
            try:
                self._serve()
            except Exception as error:  # noqa: BLE001  whatever it was: it is told, and another one is started
                self.fault = "it did not answer" if self._stuck else f"{type(error).__name__}: {error}".rstrip(": ")
                self._stuck = False
                log.warning("the shared dict broke, starting another", extra={"reason": repr(error)})
            self.ticket = None
            self._reap()
            if not self._ending.is_set():
                self.restarts += 1
                wait_s = RETRY_S if time.monotonic() - began > BOOT_S else min(wait_s * 2, RETRY_MAX_S)
                self._ending.wait(wait_s)

    def _serve(self) -> None:
        from multiprocessing.managers import SyncManager  # noqa: PLC0415  0.03 s that a scraper's start need not pay

        # An abstract socket leaves no file behind; elsewhere the Manager chooses.
        address = f"\0bowerbird-{os.getpid()}-{secrets.token_hex(8)}" if kernel.LINUX else None
        manager = SyncManager(address=address, ctx=SPAWN)
        self._manager = manager
        self._touched = time.monotonic() + BOOT_S - STUCK_S
        manager.start(_in_manager, (self._family, str(self._folder)))
        board = manager.dict()
        self._touched = time.monotonic()
        self.ticket = base64.b64encode(pickle.dumps(board)).decode()
        while not self._ending.is_set():
            self.copied = dict(board.copy())
            self._touched = time.monotonic()
            self._ending.wait(COPY_EACH_S)

    def _reap(self) -> None:
        process = self._process
        self._manager = None
        if process is not None and process.pid is not None:
            process.kill()
            process.join(1.0)
            forget(process.pid)


class Writer:
    """A scraper's side: a thread that puts the newest facts under the scraper's name. Whoever gives them never waits."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._ticket: str | None = None
        self._facts: dict[str, Any] = {}
        self._fresh = threading.Event()
        threading.Thread(target=self._run, name="scoreboard", daemon=True).start()

    def connect(self, ticket: str | None) -> None:
        """Use another dict from now on."""
        self._ticket = ticket

    def put(self, facts: dict[str, Any]) -> None:
        """Give facts; the last ones given are written."""
        self._facts = facts
        self._fresh.set()

    def _run(self) -> None:
        ticket, board = None, None
        while True:
            self._fresh.wait()
            self._fresh.clear()
            try:
                if ticket != self._ticket:
                    ticket, board = self._ticket, None
                    if ticket is not None:
                        board = pickle.loads(base64.b64decode(ticket))
                if board is not None:
                    board[self._name] = self._facts
            except BROKEN:  # the service starts another, and tells us
                board = None
