"""The life of a worker process: settings, lock, signals, commands, exit code. What it does is its engine's."""

import asyncio
import json
import logging
import os
import signal
import sys
import threading
import time
from abc import ABC, abstractmethod
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from scraper import kernel, logs
from scraper.channel import Channel, Message
from scraper.config.settings import Settings
from scraper.config.shape import build
from scraper.errors import Exit
from scraper.kernel import FileLock
from scraper.scoreboard import Writer
from scraper.worker import lifeline, limits
from scraper.worker.heartbeat import Engine, Heartbeat

LOCK_EACH_S = 0.05
# Deaths that what was in hand may be to blame for; the words are the supervisor's.
BLAMED = ("hang", "crash", "native crash", "memory", "out of memory")

log = logging.getLogger(__name__)


class Process(ABC):
    """One worker process."""

    def __init__(self, channel: Channel, boot: Message) -> None:
        """boot: the first message: config (a plain dict), name, state_dir, base, once, died_at, board, paused."""
        settings = build(Settings, boot["config"], (), [])
        assert settings is not None, "the service checked it"
        self._settings = settings
        self._boot = boot
        self._channel = channel
        logs.set_up(production=settings.production, level=int(boot.get("log_level", logging.INFO)))
        sys.path.append(str(boot["base"]))  # where a user's own modules live
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        limits.apply(settings.limits)
        threading.excepthook = _told
        self._board = Writer(str(boot["name"]))
        self._board.connect(boot.get("board"))
        self._heart = Heartbeat(channel, self._board)
        folder = Path(str(boot["state_dir"]))
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = FileLock(folder / f"{boot['name']}.lock")
        self._recycle = self._asked = self._terminated = False
        self._engine: Engine | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._hearing = threading.Lock()

    def live(self) -> int:
        """Work until told to end. Returns the exit code. Raises BowerbirdError for what only a person can mend."""
        lifeline.watch(self._channel, self._deliver)
        self._heart.starting()
        self._wait_for_lock()
        # Not asyncio.run(): that waits, silently, for a name that is still being looked up.
        return asyncio.Runner().run(self._main())

    def _wait_for_lock(self) -> None:
        """One scraper of a name, whatever went wrong above: an earlier one may still be on its way out."""
        told = 0.0
        service = os.getppid()
        note = json.dumps(
            {
                "pid": os.getpid(),
                "born": kernel.birth(os.getpid()),
                "service": [service, kernel.birth(service)],
                "family": kernel.family(),
            }
        )
        while not self._lock.acquire(note):
            if time.monotonic() - told > 1.0:
                told = time.monotonic()
                self._heart.starting(f"waiting for process {self._holder().get('pid', '?')} to end")
                self._end_orphan(self._holder())
            time.sleep(LOCK_EACH_S)

    def _holder(self) -> dict[str, Any]:
        """Who has the lock that we wait for."""
        try:
            found = json.loads(self._lock.note())
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    @staticmethod
    def _end_orphan(holder: dict[str, Any]) -> None:
        """Kill who holds the lock though its service is gone. All else failed, so it does not hear either."""
        pid, (service, born) = holder.get("pid"), holder.get("service", (None, None))
        if pid is None or service is None or kernel.birth(service) == born:
            return
        if kernel.birth(pid) == holder.get("born"):
            kernel.end_tree(pid)

    @abstractmethod
    async def _main(self) -> int:
        """Do the work: make the engine, hear() for it, run it. Returns the exit code."""

    def _hear(self, engine: Engine) -> None:
        """Have commands and signals reach an engine, those too that came before there was one."""
        self._engine = engine
        loop = asyncio.get_running_loop()
        if hasattr(signal, "SIGTERM") and kernel.POSIX:
            loop.add_signal_handler(signal.SIGTERM, self._terminate)
        else:
            signal.signal(signal.SIGTERM, lambda *_: loop.call_soon_threadsafe(self._terminate))
        with self._hearing:
            self._loop = loop
            self._obey(self._boot)

    @property
    def _owner(self) -> str:
        """Under which name it has something in hand, over restarts."""
        return f"{self._boot['name']}@{self._boot['instance']}"

    def _place(self) -> tuple[int, int]:
        """Which of how many processes of its kind this is."""
        number = str(self._boot["name"]).rpartition("-")[2]
        workers = self._settings.supervisor.processes
        return (int(number) % workers if number.isdigit() else 0), workers

    def _start_anew(self) -> None:
        """The database is another one now: a fresh process remembers nothing of the former."""
        assert self._engine is not None
        self._recycle = True
        self._engine.stop()

    def _terminate(self) -> None:
        assert self._engine is not None
        self._terminated = True
        self._engine.stop()

    def _exit_code(self) -> int:
        """How to end. Who was terminated by a stranger ends by that signal, so that everybody sees it."""
        if self._recycle:
            return Exit.RECYCLE
        return -signal.SIGTERM if self._terminated and not self._asked else Exit.DONE

    def _died_at(self) -> datetime:
        """When the process before us can have made its last request: its death, or now if nobody saw it."""
        text = self._boot.get("died_at")
        return datetime.fromisoformat(str(text)) if text else datetime.now(UTC)

    def _deliver(self, message: Message) -> None:
        with self._hearing:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._obey, message)
            else:  # not that far yet: it counts as said at the start
                self._boot.update(message)

    def _obey(self, message: dict[str, Any]) -> None:
        assert self._engine is not None
        if "paused" in message:
            self._engine.pause(bool(message["paused"]))
        if "board" in message:
            self._board.connect(message["board"])
        self._recycle = self._recycle or bool(message.get("recycle"))
        self._asked = self._asked or bool(message.get("stop"))
        if message.get("recycle") or message.get("stop"):
            self._engine.stop()


def _told(failed: threading.ExceptHookArgs) -> None:
    """A thread of a parser's own that fails is told like everything else, as one record."""
    if failed.exc_value is not None:
        name = failed.thread.name if failed.thread else ""
        log.error("a thread failed", extra={"thread_name": name}, exc_info=failed.exc_value)
