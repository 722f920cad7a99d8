"""The life of a scraper process: channel, signals, lock, database, engine, exit code."""

import asyncio
import faulthandler
import logging
import os
import signal
import socket
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from scraper import kernel, logs
from scraper.channel import Channel, Message
from scraper.config.settings import Settings
from scraper.config.shape import build
from scraper.crawl.engine import Before, Engine
from scraper.crawl.store import Store
from scraper.database import Db
from scraper.errors import BowerbirdError, Exit
from scraper.kernel import FileLock
from scraper.scoreboard import Writer
from scraper.worker import lifeline, limits
from scraper.worker.heartbeat import Heartbeat
from scraper.worker.marker import Marker

LOCK_EACH_S = 0.05
# Deaths that the page being read may be to blame for; the words are the supervisor's.
BLAMED = ("hang", "crash", "native crash", "memory")

log = logging.getLogger(__name__)


def run(end: socket.socket) -> None:
    """Live: the target of the spawned process. end: our end of the channel to the supervisor."""
    parent = os.getppid()
    kernel.new_session()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    channel = Channel(end)
    code: int = Exit.FAILED
    try:
        kernel.die_with_parent(parent)
        boot = lifeline.boot_message(channel)
        code = Scraper(channel, boot).live()
    except ProcessLookupError:
        code = Exit.PARENT_LOST
    except BowerbirdError as error:
        channel.send({"leaving": str(error)}, must=True)
        log.error("cannot go on", extra={"reason": str(error)})
        code = Exit.BAD_CONFIG
    except BaseException as error:
        channel.send({"leaving": f"{type(error).__name__}: {error}"}, must=True)
        log.exception("the scraper failed")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # no thread that waits for a database or a Manager may keep us


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
        faulthandler.enable()
        if hasattr(faulthandler, "register"):
            faulthandler.register(signal.SIGUSR1, all_threads=True)
        sys.path.insert(0, str(boot["base"]))  # where a source's parser module lives
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        limits.apply(settings.limits)
        self._board = Writer(str(boot["name"]))
        self._board.connect(boot.get("board"))
        self._heart = Heartbeat(channel, self._board)
        folder = Path(str(boot["state_dir"]))
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = FileLock(folder / f"{boot['name']}.lock")
        self._recycle = False
        self._engine: Engine | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._hearing = threading.Lock()

    def live(self) -> int:
        """Scrape until told to end. Returns the exit code. Raises BowerbirdError for what only a person can mend."""
        lifeline.watch(self._channel, self._deliver)
        self._heart.starting()
        self._wait_for_lock()
        return asyncio.run(self._main())

    def _wait_for_lock(self) -> None:
        """One scraper of a name, whatever went wrong above: an earlier one may still be on its way out."""
        told = 0.0
        while not self._lock.acquire(str(os.getpid())):
            if time.monotonic() - told > 1.0:
                told = time.monotonic()
                self._heart.starting(f"waiting for process {self._lock.note() or '?'} to end")
            time.sleep(LOCK_EACH_S)

    async def _main(self) -> int:
        loop = asyncio.get_running_loop()
        db = Db(self._settings.database, role=str(self._boot["name"]))
        store = Store(db, owner=f"{self._boot['name']}@{self._boot['instance']}")
        share = limits.CpuShare(self._settings.limits.cpu_percent)
        marker = Marker(Path(str(self._boot["state_dir"])) / f"{self._boot['name']}.at")
        suspect = marker.read() if self._boot.get("died_of") in BLAMED else 0
        engine = Engine(store, self._settings.http, self._boot.get("once"), share.pause, marker.write)
        self._engine = engine
        if hasattr(signal, "SIGTERM") and kernel.POSIX:
            loop.add_signal_handler(signal.SIGTERM, engine.stop)
        else:
            signal.signal(signal.SIGTERM, lambda *_: loop.call_soon_threadsafe(engine.stop))
        with self._hearing:
            self._loop = loop
            self._obey(self._boot)
        heart = asyncio.create_task(self._heart.run(engine), name="heartbeat")
        try:
            await engine.run(self._settings.source, Before(self._died_at(), suspect))
            self._heart.beat(engine)
        finally:
            heart.cancel()
            store.close()
        return Exit.RECYCLE if self._recycle else Exit.DONE

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
        if message.get("recycle") or message.get("stop"):
            self._engine.stop()
