"""What is due: a job for each page or item and kind of record whose input is not what it was made from.

Either all are looked at, portion by portion, or those that have changed since; both end in the same jobs.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from scraper import jmes
from scraper.config.settings import Embed, Enrich, Llm, plain
from scraper.database import Connection, Db, changes, jobs, subjects, tasks
from scraper.database.jobs import Due
from scraper.database.subjects import Brief
from scraper.enrichment.embedder import name_of

CHANGES_AT_ONCE = 500
# What of a task decides on what it makes; the rest is about when and how fast.
DECIDES = ("kind", "prompt", "system", "function", "kinds", "many", "schema", "model")


@dataclass(frozen=True, slots=True)
class Options:
    """Which part of a task is meant. limit: at most so many jobs; redo: what exists is made anew."""

    source: str | None = None
    kind: str | None = None
    limit: int | None = None
    redo: bool = False

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> "Options":
        """Return the options that tasks.ask() kept."""
        return cls(given.get("source"), given.get("kind"), given.get("limit"), bool(given.get("redo")))


def mark(task: Enrich, llm: Llm, embed: Embed) -> str:
    """Return a mark that is another one when the task would make something else."""
    decides = {name: value for name, value in plain(task).items() if name in DECIDES}
    if task.kind == "llm":
        decides |= {"by": [llm.model, llm.temperature]}
    if task.kind == "embed":
        decides |= {"by": [name_of(embed), embed.chunk]}
    return hashlib.blake2b(json.dumps(decides, sort_keys=True).encode(), digest_size=16).hexdigest()


def kinds_of(task: Enrich) -> tuple[str, ...]:
    """Return the kinds of records that a task makes of each page or item; its own name, if it names none."""
    return task.kinds or (task.task,)


def due(task: Enrich, marked: str, found: Sequence[Brief], options: Options) -> Iterator[Due]:
    """Yield what a task makes of these pages or items. marked: by mark()."""
    wanted = [kind for kind in kinds_of(task) if options.kind in (None, kind)]
    for brief in found:
        if not _is_over(task, brief, options) or (task.where and not _holds(task.where, brief)):
            continue
        for kind in wanted:
            parts = f"{marked} {kind} {brief.url} {brief.mark}"
            digest = hashlib.blake2b(parts.encode("utf-8", "replace"), digest_size=16).hexdigest()
            yield Due(brief.of, brief.id, brief.source, kind, digest)


def _is_over(task: Enrich, brief: Brief, options: Options) -> bool:
    return task.source in (None, brief.source) and options.source in (None, brief.source)


def _holds(where: str, brief: Brief) -> bool:
    told = {"source": brief.source, "kind": brief.kind, "url": brief.url, "title": brief.title, "item": brief.data}
    return jmes.holds(where, {**brief.data, **told})


def of_task(task: Enrich) -> str:
    """Return what a task is over: "page" or "item"."""
    return "item" if task.over == "items" else "page"


def sweep(db: Db, task: Enrich, marked: str, options: Options) -> Iterator[int]:
    """Look at all pages or items; yields after each portion how many jobs are due so far. Raises Unavailable, Unusable."""
    newest = db.read(changes.newest)
    number, laid = 0, 0
    while portion := db.read(
        partial(subjects.after, of=of_task(task), number=number, source=options.source or task.source)
    ):
        number = portion[-1].id
        wanted = list(due(task, marked, portion, options))
        most = None if options.limit is None else options.limit - laid
        laid += db.write(partial(_lay_out, task=task.task, wanted=wanted, at=db.now(), redo=options.redo, most=most))
        yield laid
        if options.limit is not None and laid >= options.limit:
            return
    if options == Options(redo=options.redo):  # all of it: from here on, what changes is enough
        db.write(partial(tasks.laid_out, name=task.task, laid_out=marked, change_id=newest))


def _lay_out(connection: Connection, task: str, wanted: list[Due], at: datetime, redo: bool, most: int | None) -> int:
    return jobs.lay_out(connection, task, wanted, at, redo=redo, most=most)


def follow(db: Db, task: Enrich, marked: str) -> Iterator[int]:
    """Look at what has changed since; yields after each portion how many jobs are due. Raises Unavailable, Unusable."""
    while True:
        laid = db.write(partial(_follow, task=task, marked=marked, at=db.now()))
        if laid is None:
            return
        yield laid


def _follow(connection: Connection, task: Enrich, marked: str, at: datetime) -> int | None:
    found = changes.after(connection, tasks.one(connection, task.task).change_id, CHANGES_AT_ONCE)
    if not found:
        return None
    of = of_task(task)
    ids = sorted({row[f"{of}_id"] for row in found if row["of"] == of and row["change"] != "removed"})
    wanted = list(due(task, marked, subjects.briefs(connection, of, ids), Options()))
    laid = jobs.lay_out(connection, task.task, wanted, at) if wanted else 0
    tasks.laid_out(connection, task.task, change_id=found[-1]["id"])
    return laid
