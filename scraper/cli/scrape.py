"""scrape: the same engine, once, in the foreground."""

import sys
import time
from functools import partial
from typing import Annotated, Any, Self

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from scraper import logs
from scraper.cli.named import Unknown, named
from scraper.cli.options import ConfigFile
from scraper.config.load import Loaded
from scraper.config.settings import Source
from scraper.database import Connection, Db, listing, runs, sources
from scraper.database.connection import now
from scraper.errors import BowerbirdError, Unavailable
from scraper.logs import one_line
from scraper.records import RunTally
from scraper.service import Service
from scraper.startup import preflight, settings_of
from scraper.states import RunState, State
from scraper.supervisor.status import ScraperStatus

POLL_S = 0.1
POLL_TIMES = 10  # what a look takes: at the tallies of many runs it is not had all the time
LINE_EACH_S = 5.0
ENDED = (RunState.DONE, RunState.FAILED, RunState.STOPPED)


def scrape(
    names: Annotated[list[str] | None, typer.Argument(metavar="[SOURCE ...]", help="Which; all, if none.")] = None,
    config: ConfigFile = None,
) -> None:
    """Run sources once, now, and end when they are done. A run that was cut off goes on where it was."""
    loaded = settings_of(config)
    logs.set_up(production=loaded.settings.production, level=30)
    db = preflight(loaded, brings=True)
    service: Service | None = None
    try:
        wanted = _wanted(db, loaded, names or [])
        if not wanted:
            raise Unknown("there is nothing to scrape; add a [[source]] to bowerbird.toml")
        ids = db.write(lambda c: [_requested(c, source.name) for source in wanted])
        service = Service(loaded, once=ids)
        service.start()
        tallies = _watch(db, service, ids)
    except KeyboardInterrupt:
        print("Stopped; the same command goes on where it was.", file=sys.stderr)
        raise
    finally:
        if service is not None:
            service.stop()
    _sum_up(db, tallies)
    db.close()
    if any(tally.state != RunState.DONE for tally in tallies):
        raise typer.Exit(1)


def _wanted(db: Db, loaded: Loaded, names: list[str]) -> list[Source]:
    """Return the sources of these names. Raises Unknown."""
    try:
        return named(db, names)
    except Unknown as error:
        if {source.name for source in loaded.settings.source}.isdisjoint(names):
            raise
        raise Unknown(
            f"{error}; the service that runs has not read the file as it is now: `bowerbird restart` first"
        ) from None


def _requested(connection: Connection, name: str) -> int:
    """Ask for a run. Raises Conflict for a source that is disabled."""
    sources.runnable(connection, name)
    return runs.request(connection, name, now())


def _watch(db: Db, service: Service, ids: list[int]) -> list[RunTally]:
    console = Console(stderr=True)
    show = Bars(console) if console.is_terminal else Lines()
    with show:
        tallies: list[RunTally] = []
        while True:
            began = time.monotonic()
            try:
                tallies = db.read(lambda c: runs.tallies(c, ids)) or tallies
            except Unavailable as error:
                print(f"waiting for the database: {error}", file=sys.stderr)
            status = service.status()
            if not service.owns and status.owner_pid:
                _look_at_the_owner(db, status, tallies)
            show.tell(tallies)
            if tallies and all(tally.state in ENDED for tally in tallies):
                return tallies
            if service.ended():
                last = status.processes[0].last_exit
                if status.state is State.FAILED or (last is not None and last.exit_code):
                    raise BowerbirdError((last and (last.message or last.reason)) or "the scraper cannot run")
                return db.read(lambda c: runs.tallies(c, ids))
            time.sleep(max(POLL_S, POLL_TIMES * (time.monotonic() - began)))


def _look_at_the_owner(db: Db, status: ScraperStatus, tallies: list[RunTally]) -> None:
    """See whether the service that has the database does the work. Raises BowerbirdError if it will not."""
    has = f"the service of process {status.owner_pid} has this database, and"
    running = {tally.source for tally in tallies if tally.state == RunState.RUNNING}
    try:
        held = sorted(running & db.read(sources.paused))
    except Unavailable:
        held = []
    if held:
        raise BowerbirdError(
            f"{has} the source {held[0]!r} is disabled: `bowerbird sources enable {held[0]}` has it do the work"
        )
    done = bool(tallies) and all(tally.state in ENDED for tally in tallies)
    if status.state in (State.STOPPED, State.PAUSED, State.FAILED) and not done:
        raise BowerbirdError(
            f"{has} its scraper is {status.state}: `bowerbird start` or `bowerbird resume` has it do the work"
        )


class Lines:
    """Progress for a log: a line every few seconds."""

    def __init__(self) -> None:
        self._told = float("-inf")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def tell(self, tallies: list[RunTally]) -> None:
        """Say how far it is, now and then."""
        if time.monotonic() - self._told < LINE_EACH_S or not any(tally.state == RunState.RUNNING for tally in tallies):
            return
        self._told = time.monotonic()
        for tally in tallies:
            if tally.state == RunState.RUNNING:
                print(
                    f"{tally.source}: {tally.pages} of {tally.known} known pages, {tally.items} items, "
                    f"{tally.failures} failures",
                    file=sys.stderr,
                    flush=True,
                )


class Bars:
    """Progress for a terminal: a bar for each source."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}/s  {task.fields[items]} items  {task.fields[failures]} errors"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=console,
        )
        self._tasks: dict[int, TaskID] = {}
        self._began: dict[int, tuple[float, int]] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def tell(self, tallies: list[RunTally]) -> None:
        """Draw how far it is."""
        for tally in tallies:
            done = tally.pages + tally.failures
            if tally.id not in self._tasks:
                self._tasks[tally.id] = self._progress.add_task(tally.source, rate="–", items=0, failures=0)
                self._began[tally.id] = (time.monotonic(), done)
            at, already = self._began[tally.id]
            rate = (done - already) / max(0.1, time.monotonic() - at)
            total = done if tally.state in ENDED else max(tally.known, done)
            self._progress.update(
                self._tasks[tally.id],
                completed=done,
                total=max(1, total),
                rate=f"{rate:.1f}",
                items=tally.items,
                failures=tally.failures,
            )


def _sum_up(db: Db, tallies: list[RunTally]) -> None:
    for tally in tallies:
        print(
            f"{tally.source}: {tally.state}, {tally.pages} pages, {tally.items} items, {tally.bytes} bytes, "
            f"{tally.failures} failures"
        )
        if tally.message and tally.state == RunState.DONE:
            print(f"  {one_line(tally.message)}", file=sys.stderr)
        if not tally.failures:
            continue
        filters: dict[str, Any] = {"source": tally.source, "unresolved": True}
        failed = db.read(partial(listing.rows, name="failures", filters=filters, before=None, limit=5))
        for row in failed:
            said = one_line(row["message"].partition("\n")[0])
            print(f"  {row['reason']}: {one_line(row['url'])} ({said})", file=sys.stderr)
        if tally.failures > len(failed):
            print(f"  and more; `bowerbird failures list --source {tally.source}` has all", file=sys.stderr)
