"""The life of a scraper process: signals, lock, database, engine, exit code."""

import asyncio
import gc
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from scraper import kernel, logs
from scraper.channel import Channel, Message
from scraper.config import secrets
from scraper.config.settings import Http, Settings
from scraper.config.shape import build
from scraper.crawl.engine import Before, Engine
from scraper.crawl.indexer import Indexer
from scraper.crawl.store import Store
from scraper.crawl.upkeep import Upkeep
from scraper.crawl.visit import unmarked
from scraper.database import Db
from scraper.database.postgres import for_one_thread
from scraper.errors import Exit
from scraper.kernel import FileLock
from scraper.marker import Marker, last_mark
from scraper.scoreboard import Writer
from scraper.worker import lifeline, limits
from scraper.worker.heartbeat import Heartbeat

LOCK_EACH_S = 0.05
# Deaths that the page being read may be to blame for; the words are the supervisor's.
BLAMED = ("hang", "crash", "native crash", "memory", "out of memory")

log = logging.getLogger(__name__)


class Scraper:
    """One scraper process."""

    def __init__(self, channel: Channel, boot: Message) -> None:
        """boot: the first message: config (a plain dict), name, state_dir, base, once, died_at, board, paused."""
        settings = build(Settings, boot["config"], (), [])
        assert settings is not None, "the service checked it"
        self._settings = settings
        self._boot = boot
        self._channel = channel
        logs.set_up(production=settings.production, level=int(boot.get("log_level", logging.INFO)))
        sys.path.insert(0, str(boot["base"]))  # where a source's parser module lives
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
        """Scrape until told to end. Returns the exit code. Raises BowerbirdError for what only a person can mend."""
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

    async def _main(self) -> int:
        loop = asyncio.get_running_loop()
        db = Db(
            for_one_thread(self._settings.database), role=str(self._boot["name"]), checkpoints=self._place()[0] == 0
        )
        store = Store(db, owner=f"{self._boot['name']}@{self._boot['instance']}", replaced=self._start_anew)
        share = limits.CpuShare(self._settings.limits.cpu_percent)
        at = Path(str(self._boot["state_dir"])) / f"{self._boot['name']}.at"
        suspect = last_mark(at).number if self._boot.get("died_of") in BLAMED else 0
        note = _marker(at)
        note(0, "")  # what is read by nobody yet is nobody's to blame

        def mark(number: int, url: str) -> None:
            note(number, url)
            self._heart.keep_up(engine)  # pages that are read one after the other leave the loop no time to beat

        variables = secrets.environment(Path(str(self._boot["base"])))
        engine = Engine(
            store,
            self._http(),
            self._boot.get("once"),
            share.pause,
            mark,
            self._settings.limits,
            variables,
            self._place(),
        )
        self._engine = engine
        if hasattr(signal, "SIGTERM") and kernel.POSIX:
            loop.add_signal_handler(signal.SIGTERM, self._terminate)
        else:
            signal.signal(signal.SIGTERM, lambda *_: loop.call_soon_threadsafe(self._terminate))
        with self._hearing:
            self._loop = loop
            self._obey(self._boot)
        # What is there by now stays; and pages make much that goes again at once, which need not be looked at often.
        gc.freeze()
        gc.set_threshold(20_000, 20, 50)
        heart = asyncio.create_task(self._heart.run(engine), name="heartbeat")
        upkeep, indexer = Upkeep(store, self._settings.retention, engine.idle), Indexer(store, engine.idle)
        house: list[Upkeep | Indexer] = [upkeep] if self._place()[0] == 0 else []  # in one process of all
        if house and self._boot.get("once") is None:  # `bowerbird search` does it where no service runs
            house.append(indexer)
        beside = [heart, *(asyncio.create_task(work.run(), name=type(work).__name__) for work in house)]
        for task in beside:
            engine.rely_on(task)
        try:
            await engine.run(self._settings.source, Before(self._died_at(), suspect))
            if self._boot.get("once") is not None and house and not (self._asked or self._terminated):
                await upkeep.prune()
            self._heart.beat(engine)
        finally:
            for task in beside:
                task.cancel()
            store.close()
        return self._exit_code()

    def _place(self) -> tuple[int, int]:
        """Which of how many scraper processes this is."""
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

    def _http(self) -> Http:
        """The [http] settings, with half the concurrency for each time that memory ran out lately."""
        http = self._settings.http
        return replace(http, concurrency=max(1, http.concurrency >> int(self._boot.get("halvings", 0))))

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


def _marker(path: Path) -> Callable[[int, str], None]:
    """Where the page that is being read is noted; a full disk costs that note and nothing else."""
    try:
        return Marker(path).write
    except OSError as error:
        log.warning("what is being read cannot be noted", extra={"path": str(path), "reason": str(error)})
        return unmarked


def _told(failed: threading.ExceptHookArgs) -> None:
    """A thread of a parser's own that fails is told like everything else, as one record."""
    if failed.exc_value is not None:
        name = failed.thread.name if failed.thread else ""
        log.error("a thread failed", extra={"thread_name": name}, exc_info=failed.exc_value)
