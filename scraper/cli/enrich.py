"""enrich: a task, now, in processes of its own or in this one."""

import signal
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from scraper import logs
from scraper.cli.options import ConfigFile
from scraper.config.load import Loaded
from scraper.config.settings import Enrich
from scraper.config.shape import build
from scraper.database import Db, jobs, listing, sources, tasks
from scraper.database.jobs import Only
from scraper.database.tasks import Spent
from scraper.enrichment import layout
from scraper.enrichment.layout import Options
from scraper.errors import BowerbirdError, Unavailable
from scraper.startup import preflight, settings_of

TOLD_EACH_S = 0.5
LINE_EACH_S = 5.0
FAILURES_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Seen:
    """How far a task is, of what was due when the command began."""

    done: int
    failed: int
    of: int
    spent: Spent
    elapsed_s: float
    hands: int

    @property
    def efficiency(self) -> float:
        """What share of the time that all hands had they waited for a model or a function, from 0 to 1."""
        return min(1.0, self.spent.busy_s / max(self.elapsed_s * self.hands, 1e-9))

    @property
    def a_minute(self) -> float:
        """How many jobs were done in a minute."""
        return 60 * (self.done + self.failed) / max(self.elapsed_s, 0.1)


def enrich(
    name: Annotated[str, typer.Argument(metavar="TASK", help="Which; an [[enrich]] of the configuration.")],
    source: Annotated[str | None, typer.Option(help="Over this source alone.")] = None,
    kind: Annotated[str | None, typer.Option(help="This kind of record alone.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=0, max=64, help="Processes; 0: in this one. If not said, as configured.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many new ones.")] = None,
    redo: Annotated[bool, typer.Option("--redo", help="What exists is made anew.")] = False,
    retry: Annotated[
        bool, typer.Option("--retry", help="What failed is tried again, and nothing else is new.")
    ] = False,
    config: ConfigFile = None,
) -> None:
    """Make what a task makes of what was stored; what exists is skipped. Ends when all is done; may be stopped and goes on where it was."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that all is cleared away
    loaded = settings_of(config)
    logs.set_up(production=loaded.settings.production, level=30)
    with preflight(loaded, brings=True) as db:
        task = _task(db, name, kind, source)
        hands = _workers(loaded, task, workers)
        only = Only(source, kind)
        if retry:
            db.write(lambda c: jobs.retry(c, name, db.now(), only))
        else:
            _lay_out(db, loaded, task, Options(source, kind, limit, redo))
        before = db.read(lambda c: tasks.spent(tasks.one(c, name)))
        watch = _Watch(db, name, only, before, max(1, hands) * task.batch)
        with _shown(watch) as tell:
            if watch.look().of:
                _work(loaded, name, only, hands, tell)
        left = _sum_up(db, name, watch.look())
    if left:
        raise typer.Exit(1)


def _task(db: Db, name: str, kind: str | None, source: str | None) -> Enrich:
    row = db.read(lambda c: tasks.one(c, name))
    task = build(Enrich, row.definition, (), [])
    if task is None:
        raise BowerbirdError(f"the task {name!r} is of another version; remove it and add it again")
    if kind is not None and kind not in layout.kinds_of(task):
        raise typer.BadParameter(f"the task {name!r} makes no {kind!r}; it makes: {', '.join(layout.kinds_of(task))}")
    if source is not None:
        db.read(lambda c: sources.definition(c, source))
    return task


def _workers(loaded: Loaded, task: Enrich, asked: int | None) -> int:
    """How many processes: as asked, or configured, and no more than MAX_WORKERS."""
    wanted = task.workers if asked is None else asked
    most = loaded.settings.max_workers
    return wanted if most is None else min(wanted, most)


def _lay_out(db: Db, loaded: Loaded, task: Enrich, options: Options) -> None:
    marked = layout.mark(task, loaded.settings.llm, loaded.settings.embed)
    told = time.monotonic()
    for due in layout.sweep(db, task, marked, options):
        if time.monotonic() - told > LINE_EACH_S:
            told = time.monotonic()
            print(f"Looking at what was stored: {due} to do so far.", file=sys.stderr)


def _work(loaded: Loaded, name: str, only: Only, hands: int, tell: Callable[[], None]) -> None:
    from scraper import crew  # noqa: PLC0415  pydantic and more, which other commands need not load

    try:
        if hands:
            crew.work(loaded, name, only, hands, tell)
        else:
            crew.work_here(loaded, name, only, tell)
    except KeyboardInterrupt:
        print("Stopped; the same command goes on where it was.", file=sys.stderr)
        raise


class _Watch:
    """Looks at how far a task is."""

    def __init__(self, db: Db, name: str, only: Only, before: Spent, hands: int) -> None:
        self._db, self._name, self._only, self._before, self._hands = db, name, only, before, hands
        self._began = time.monotonic()
        self._first = self._counts()
        self._last: Seen | None = None

    def _counts(self) -> dict[str, int]:
        found = self._db.read(lambda c: jobs.counts(c, self._name, self._only))
        return found.get(self._name, {"queued": 0, "done": 0, "failed": 0})

    def look(self) -> Seen:
        """Return how far it is. The last answer, while the database is away."""
        try:
            now = self._counts()
            spent = self._db.read(lambda c: tasks.spent(tasks.one(c, self._name)))
        except Unavailable as error:
            if self._last is None:
                raise
            print(f"waiting for the database: {error}", file=sys.stderr)
            return self._last
        done, failed = now["done"] - self._first["done"], now["failed"] - self._first["failed"]
        since = {field: getattr(spent, field) - getattr(self._before, field) for field in Spent.__slots__}
        elapsed_s = time.monotonic() - self._began
        self._last = Seen(
            max(0, done), max(0, failed), self._first["queued"], replace(Spent(), **since), elapsed_s, self._hands
        )
        return self._last


@contextmanager
def _shown(watch: _Watch) -> Any:
    """A bar on a terminal, a line now and then elsewhere."""
    console = Console(stderr=True)
    each_s = TOLD_EACH_S if console.is_terminal else LINE_EACH_S
    told = time.monotonic()

    def due() -> bool:
        nonlocal told
        if time.monotonic() - told < each_s:
            return False
        told = time.monotonic()
        return True

    if not console.is_terminal:
        yield lambda: print(_line(watch.look()), file=sys.stderr, flush=True) if due() else None
        return
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[said]}"), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("", said="", total=None)

        def draw() -> None:
            if due():
                seen = watch.look()
                progress.update(bar, completed=seen.done + seen.failed, total=seen.of, said=_said(seen))

        yield draw


def _said(seen: Seen) -> str:
    tokens = seen.spent.tokens_in + seen.spent.tokens_out
    told = [f"{seen.a_minute:.0f}/min"]
    told += [f"{seen.failed} failed"] if seen.failed else []
    told += [f"{tokens} tokens"] if tokens else []
    told += [f"{seen.spent.cost:.4f} spent"] if seen.spent.cost else []
    return "  ".join([*told, f"{100 * seen.efficiency:.0f} % busy"])


def _line(seen: Seen) -> str:
    return f"{seen.done + seen.failed} of {seen.of}  {_said(seen)}"


def _sum_up(db: Db, name: str, seen: Seen) -> int:
    """Print what was done. Returns how many failed or are left."""
    left = max(0, seen.of - seen.done - seen.failed)
    print(f"{name}: {seen.done} done, {seen.failed} failed, {left} left, {_said(seen)}")
    if left:
        print("  what is left waits for its budget, or for a retry; the same command goes on", file=sys.stderr)
    if seen.failed:
        filters = {"task": name, "state": "failed"}
        rows = db.read(partial(listing.rows, name="jobs", filters=filters, before=None, limit=FAILURES_SHOWN))
        for row in rows:
            of = f"page {row['page_id']}" if row["page_id"] is not None else f"item {row['item_id']}"
            print(f"  {row['reason']}: {of} ({str(row['message']).partition(chr(10))[0]})", file=sys.stderr)
        print(f"  `bowerbird failures list --task {name}` has all; --retry tries them again", file=sys.stderr)
    return left + seen.failed
