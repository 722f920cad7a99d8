"""scrape, sources: the same engine, once, in the foreground; what is watched."""

import asyncio
import json
import sys
import time
from functools import partial
from typing import Annotated, Any, Self

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from scraper import export, logs
from scraper.cli.serve import ConfigFile
from scraper.config.load import Loaded
from scraper.config.secrets import environment
from scraper.config.settings import Source
from scraper.crawl.check import check
from scraper.database import Db, listing, runs
from scraper.database import sources as source_rows
from scraper.database.connection import now
from scraper.errors import BowerbirdError, NotFound, Unavailable
from scraper.records import RunTally
from scraper.service import Service
from scraper.startup import preflight, settings_of
from scraper.states import RunState, State

POLL_S = 0.1
LINE_EACH_S = 5.0
ENDED = (RunState.DONE, RunState.FAILED, RunState.STOPPED)

sources = typer.Typer(help="What is watched.", rich_markup_mode=None)


class Unknown(BowerbirdError):
    """A source that was named is not there."""

    exit_code = 2


def _named(loaded: Loaded, names: list[str]) -> list[Source]:
    known = {source.name: source for source in loaded.settings.source}
    for name in names:
        if name not in known:
            there = ", ".join(known) or "none; add a [[source]] to bowerbird.toml"
            raise Unknown(f"there is no source {name!r}; there are: {there}")
    return [known[name] for name in names] if names else [s for s in known.values() if s.enabled]


def scrape(
    names: Annotated[list[str] | None, typer.Argument(metavar="[SOURCE ...]", help="Which; all, if none.")] = None,
    config: ConfigFile = None,
) -> None:
    """Run sources once, now, and end when they are done. A run that was cut off goes on where it was."""
    loaded = settings_of(config)
    logs.set_up(production=loaded.settings.production, level=30)
    wanted = _named(loaded, names or [])
    if not wanted:
        raise Unknown("there is nothing to scrape; add a [[source]] to bowerbird.toml")
    db = preflight(loaded)
    service: Service | None = None
    try:
        ids = db.write(lambda c: [runs.request(c, source.name, now()) for source in wanted])
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


def _watch(db: Db, service: Service, ids: list[int]) -> list[RunTally]:
    console = Console(stderr=True)
    show = Bars(console) if console.is_terminal else Lines()
    with show:
        tallies: list[RunTally] = []
        while True:
            try:
                tallies = db.read(lambda c: runs.tallies(c, ids)) or tallies
            except Unavailable as error:
                print(f"waiting for the database: {error}", file=sys.stderr)
            show.tell(tallies)
            if tallies and all(tally.state in ENDED for tally in tallies):
                return tallies
            status = service.status()
            if not service.owns and status.state in (State.STOPPED, State.PAUSED, State.FAILED) and status.owner_pid:
                raise BowerbirdError(
                    f"the service of process {status.owner_pid} has this database, and its scraper is {status.state}: "
                    "`bowerbird start` or `bowerbird resume` has it do the work"
                )
            if service.ended():
                last = status.processes[0].last_exit
                if status.state is State.FAILED or (last is not None and last.exit_code):
                    raise BowerbirdError((last and (last.message or last.reason)) or "the scraper cannot run")
                return db.read(lambda c: runs.tallies(c, ids))
            time.sleep(POLL_S)


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
        if not tally.failures:
            continue
        filters: dict[str, Any] = {"source": tally.source, "unresolved": True}
        failed = db.read(partial(listing.rows, name="failures", filters=filters, before=None, limit=5))
        for row in failed:
            said = row["message"].partition("\n")[0]
            print(f"  {row['reason']}: {row['url']} ({said})", file=sys.stderr)
        if tally.failures > len(failed):
            print(f"  and more; `bowerbird failures list --source {tally.source}` has all", file=sys.stderr)


@sources.callback(invoke_without_command=True)
def _list_by_default(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        list_sources()


@sources.command("list")
def list_sources(config: ConfigFile = None, as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
    """List the sources, when they ran last and when they are due."""
    loaded = settings_of(config)
    with preflight(loaded) as db:
        known = {row["name"]: row for row in db.read(source_rows.listed)}
    for source in loaded.settings.source:
        known.setdefault(
            source.name,
            {
                "name": source.name,
                "enabled": source.enabled,
                "origin": "file",
                "health": "new",
                "start": list(source.start),
            }
            | {"last_run": None, "next_at": None, "every": source.every, "cron": source.cron},
        )
    if as_json:
        print(json.dumps(list(known.values()), default=export.text))
        return
    for row in known.values():
        last = row["last_run"].isoformat(timespec="seconds") if row["last_run"] else "never"
        due = row["next_at"].isoformat(timespec="seconds") if row["next_at"] else "when asked"
        print(f"{row['name']:<24} {row['health']:<9} {row['origin']:<9} last {last:<26} next {due}")
    if not known:
        print("No sources yet; add a [[source]] to bowerbird.toml.", file=sys.stderr)


@sources.command("check")
def check_source(
    name: Annotated[str, typer.Argument(metavar="SOURCE")],
    url: Annotated[str | None, typer.Option(help="Which page; otherwise the first start address.")] = None,
    config: ConfigFile = None,
) -> None:
    """Print what one page of a source yields. Stores nothing."""
    loaded = settings_of(config)
    sys.path.insert(0, str(loaded.base))
    source = _named(loaded, [name])[0]
    try:
        found = asyncio.run(check(source, loaded.settings.http, url, loaded.settings.limits, environment(loaded.base)))
    except ValueError as error:
        raise NotFound(str(error)) from None
    print(json.dumps(found, indent=2, ensure_ascii=False, default=export.text))
    if source.item and not found["items"] and found["links"]:
        hint = f"bowerbird sources check {name} --url {found['links'][-1]}"
        print(f"No item on this page; try one that it links to: {hint}", file=sys.stderr)
    if found["failure"]:
        raise typer.Exit(1)
