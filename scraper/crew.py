"""Enrichment by a command: workers of its own under the same supervisor, beside a service that may run; or none at all.

They need no ownership: who has which job in hand is in the database, whoever started the worker.
"""

import asyncio
import os
import secrets
import socket
import time
from collections.abc import Callable

from scraper import kernel
from scraper.boot import boot_of, have_family, rules_of
from scraper.config.load import Loaded
from scraper.config.secrets import environment
from scraper.crawl.store import Store
from scraper.database import Db
from scraper.database.jobs import Only
from scraper.database.postgres import for_one_thread
from scraper.enrichment.runner import Orders, Runner
from scraper.errors import BowerbirdError
from scraper.journal import Journal
from scraper.states import State
from scraper.supervisor.loop import Supervisor
from scraper.worker.start import ENRICHER, run

TICK_S = 0.1
FOLDER_PREFIX = "bowerbird-crew-"
OVER = (State.STOPPED, State.FAILED)


def work(loaded: Loaded, task: str, only: Only, workers: int, tell: Callable[[], None]) -> None:
    """Do what is due of a task with so many processes, and return when no more is. tell: called now and then.

    Raises BowerbirdError with what a worker said that could not go on.
    """
    family = secrets.token_hex(8)
    have_family(family)
    journal = Journal(loaded.settings.database)
    journal.start()
    with kernel.temporary(FOLDER_PREFIX) as folder:
        once = {"task": task, "source": only.source, "kind": only.kind}
        supervisor = Supervisor(
            run,
            [f"{ENRICHER}-{number}" for number in range(workers)],
            rules_of(loaded.settings.supervisor, once=True),
            lambda _: boot_of(loaded.settings, loaded.base, folder, ENRICHER, str(os.getpid()), once),
            memory=loaded.settings.limits.memory,
            folder=folder,
            family=family,
            record=journal.add,
        )
        try:
            _watch(supervisor, tell)
        finally:
            _end(supervisor, loaded.settings.supervisor.stop_timeout)
            supervisor.close()
            journal.stop()


def _watch(supervisor: Supervisor, tell: Callable[[], None]) -> None:
    while True:
        supervisor.tick(wanted=True, paused=False, wait_s=TICK_S)
        tell()
        processes = supervisor.status(wanted=True).processes
        if any(process.state is State.FAILED for process in processes):
            last = next(process.last_exit for process in processes if process.state is State.FAILED)
            raise BowerbirdError((last and (last.message or last.reason)) or "the workers cannot run")
        if all(process.state in OVER for process in processes):
            return


def _end(supervisor: Supervisor, patience_s: float) -> None:
    deadline = time.monotonic() + patience_s + 1.0
    while supervisor.alive() and time.monotonic() < deadline:
        supervisor.tick(wanted=False, paused=False, wait_s=TICK_S)
    supervisor.end()


def work_here(loaded: Loaded, task: str, only: Only, tell: Callable[[], None]) -> None:
    """Do what is due of a task in this process. Raises BowerbirdError."""
    asyncio.run(_here(loaded, task, only, tell))


async def _here(loaded: Loaded, task: str, only: Only, tell: Callable[[], None]) -> None:
    db = Db(for_one_thread(loaded.settings.database), role=ENRICHER)
    owner = f"{ENRICHER}@{socket.gethostname()}/{os.getpid()}"
    store = Store(db, owner=owner)
    orders = Orders(owner, lays_out=False, once=task, only=only)
    runner = Runner(store, loaded.settings, loaded.base, environment(loaded.base), orders)
    working = asyncio.create_task(runner.run(), name="runner")
    try:
        while not working.done():
            await asyncio.wait([working], timeout=TICK_S)
            await asyncio.to_thread(tell)
        await working
    finally:
        runner.stop()
        await asyncio.gather(working, return_exceptions=True)
        store.close()
