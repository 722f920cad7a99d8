"""A scraper process: its database, its engine, and what keeps house beside it."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from scraper import garbage
from scraper.config import secrets
from scraper.config.settings import Http
from scraper.crawl.engine import Before, Engine
from scraper.crawl.indexer import Indexer
from scraper.crawl.store import Store
from scraper.crawl.upkeep import Upkeep
from scraper.crawl.visit import unmarked
from scraper.database import Db
from scraper.database.postgres import for_one_thread
from scraper.marker import Marker, last_mark
from scraper.worker import limits
from scraper.worker.process import BLAMED, Process

log = logging.getLogger(__name__)


class Scraper(Process):
    """One scraper process."""

    async def _main(self) -> int:
        db = Db(
            for_one_thread(self._settings.database), role=str(self._boot["name"]), checkpoints=self._place()[0] == 0
        )
        store = Store(db, owner=self._owner, replaced=self._start_anew)
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
        self._hear(engine)
        garbage.settle()
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
            if self._boot.get("once") is not None and house and not self._is_leaving():
                await upkeep.prune(self._is_leaving)
            self._heart.beat(engine)
        finally:
            for task in beside:
                task.cancel()
            store.close()
        return self._exit_code()

    def _is_leaving(self) -> bool:
        return self._asked or self._terminated

    def _http(self) -> Http:
        """The [http] settings, with half the concurrency for each time that memory ran out lately."""
        http = self._settings.http
        return replace(http, concurrency=max(1, http.concurrency >> int(self._boot.get("halvings", 0))))


def _marker(path: Path) -> Callable[[int, str], None]:
    """Where the page that is being read is noted; a full disk costs that note and nothing else."""
    try:
        return Marker(path).write
    except OSError as error:
        log.warning("what is being read cannot be noted", extra={"path": str(path), "reason": str(error)})
        return unmarked
