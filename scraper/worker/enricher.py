"""A process that makes something of what was scraped: its database, and its runner."""

import asyncio
from pathlib import Path

from scraper import garbage
from scraper.config import secrets
from scraper.crawl.store import Store
from scraper.database import Db
from scraper.database.jobs import Only
from scraper.database.postgres import for_one_thread
from scraper.enrichment.runner import Orders, Runner
from scraper.worker.process import BLAMED, Process


class Enricher(Process):
    """One process of an enrichment."""

    async def _main(self) -> int:
        db = Db(for_one_thread(self._settings.database), role=str(self._boot["name"]))
        store = Store(db, owner=self._owner, replaced=self._start_anew)
        base = Path(str(self._boot["base"]))
        runner = Runner(store, self._settings, base, secrets.environment(base), self._orders())
        self._hear(runner)
        garbage.settle()
        heart = asyncio.create_task(self._heart.run(runner), name="heartbeat")
        runner.rely_on(heart)
        try:
            await runner.run()
            self._heart.beat(runner)
        finally:
            heart.cancel()
            store.close()
        return self._exit_code()

    def _orders(self) -> Orders:
        place = int(str(self._boot["name"]).rpartition("-")[2])
        once = self._boot.get("once") or {}
        return Orders(
            owner=self._owner,
            place=place,
            lays_out=place == 0 and not once,
            once=once.get("task"),
            only=Only(once.get("source"), once.get("kind")),
            blamed=self._boot.get("died_of") in BLAMED,
        )
