"""export, failures: what was stored, and what was not."""

import asyncio
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from scraper import export as exports
from scraper.cli.bar import Bar
from scraper.cli.lists import listed_by_default
from scraper.cli.options import AsJson, ConfigFile, OfSource, OfTask
from scraper.cli.target import Target, moment
from scraper.config.load import Loaded
from scraper.config.secrets import environment
from scraper.crawl.indexer import catch_up
from scraper.database import Db, jobs, listing, sources, tasks, vectors, visits
from scraper.database.connection import now
from scraper.database.jobs import Only
from scraper.enrichment.embedder import name_of
from scraper.logs import one_line
from scraper.search.find import Mode, Question, find, words
from scraper.search.query import BadQuery
from scraper.search.semantic import Matrix
from scraper.startup import existing, settings_of

TOLD_EACH = 10_000

failures = typer.Typer(help="What failed and why.", rich_markup_mode=None)


def export(
    source: Annotated[str | None, typer.Argument(metavar="[SOURCE]", help="Of which source; of all, if none.")] = None,
    kind: Annotated[str | None, typer.Option("--item", help="Only items, or changes, of this kind.")] = None,
    what: Annotated[exports.What | None, typer.Option(help="What to write; items, if not said.")] = None,
    pages: Annotated[bool, typer.Option("--pages", help="The same as --what pages.")] = False,
    form: Annotated[
        exports.Format | None, typer.Option("--format", help="How to write it; if not said, by the ending of the file.")
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="The file to append to.")] = None,
    anew: Annotated[
        Path | None, typer.Option("-O", "--overwrite-output", help="The file to write anew, once all is there.")
    ] = None,
    since: Annotated[
        datetime | None,
        typer.Option(parser=moment, metavar="WHEN", help="What changed since a time, or in the last 7d."),
    ] = None,
    fields: Annotated[str, typer.Option(help="Columns, in this order: url,data.price")] = "",
    gz: Annotated[bool, typer.Option("--gz", help="Compressed; so is a file that ends in .gz.")] = False,
    bom: Annotated[bool, typer.Option("--bom", help="Begin a CSV with the mark that old spreadsheets go by.")] = False,
    raw: Annotated[bool, typer.Option("--raw", help="CSV cells as they are, formulas too.")] = False,
    config: ConfigFile = None,
) -> None:
    """Write what was stored, in bounded memory. Items that are gone are left out."""
    if output is not None and anew is not None:
        raise typer.BadParameter("-o appends and -O writes anew; name one of them")
    target = Target.of(output or anew, form, append=anew is None, gz=gz)
    paged = pages or target.form is exports.Format.WARC
    name: exports.What = what or ("pages" if paged else "items")
    if kind is not None and name not in ("items", "changes"):
        raise typer.BadParameter(f"{name} have no kind; leave --item out")
    filters = {"source": source, "kind": kind, "since": since, "present": True if name == "items" else None}
    wanted = exports.Wanted(what=name, filters=filters, fields=_listed(fields))
    style = target.style(guard=not raw, bom=bom)
    with existing(settings_of(config)) as db:
        if source is not None:
            db.read(lambda c: sources.known(c, source))
        with _progress(db, wanted) as told:
            target.fill(exports.chunks(db, wanted, target.form, style, told))


def _listed(fields: str) -> tuple[str, ...]:
    return tuple([name.strip() for name in fields.split(",") if name.strip()])


@contextmanager
def _progress(db: Db, wanted: exports.Wanted) -> Iterator[exports.Told]:
    """A bar, where somebody sees it."""
    if not sys.stderr.isatty():
        yield lambda part, count: None
        return
    of = db.read(lambda c: listing.count(c, wanted.what, dict(wanted.filters)))
    with Bar("rows") as bar:
        yield lambda part, count: bar.show(count, max(of, count), part)


def _first_line(message: str) -> str:
    """What a failure comes down to; a traceback follows it in the API and with --json."""
    return one_line(message.partition("\n")[0])


def _line(row: dict[str, Any]) -> str:
    of = row.get("url") or (f"page {row['page_id']}" if row["page_id"] is not None else f"item {row['item_id']}")
    said = f"{_first_line(row['message'] or '')}, {row['attempts']} attempts"
    return f"{row['id']}  {row['source']}  {row['reason']}  {of}  ({said})"


@failures.callback(invoke_without_command=True)
def _list_by_default(
    context: typer.Context,
    source: OfSource = None,
    task: OfTask = None,
    as_json: AsJson = False,
    config: ConfigFile = None,
) -> None:
    if listed_by_default(context):
        list_failures(source, task, as_json, config)


@failures.command("list")
def list_failures(
    source: OfSource = None,
    task: OfTask = None,
    as_json: AsJson = False,
    config: ConfigFile = None,
) -> None:
    """List the URLs that fail, with the reason."""
    none = True
    with existing(settings_of(config)) as db:
        if task is not None:
            db.read(lambda c: tasks.one(c, task))
            rows = listing.stream(db, "jobs", {"task": task, "state": "failed", "source": source})
        else:
            rows = listing.stream(db, "failures", {"source": source, "unresolved": True})
        for row in rows:
            none = False
            print(json.dumps(row, default=exports.text) if as_json else _line(row))
        if none and source is not None:
            db.read(lambda c: sources.known(c, source))  # what is misspelt has no failures either
    if none:
        print("No failures.", file=sys.stderr)


@failures.command("retry")
def retry_failures(
    ids: Annotated[
        list[int] | None,
        typer.Argument(metavar="[ID ...]", min=1, max=2**63 - 1, help="Which; their numbers are in the list."),
    ] = None,
    source: Annotated[str | None, typer.Option(help="All of this source.")] = None,
    reason: Annotated[str | None, typer.Option(help="All with this reason, for example poison.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that fail.")] = False,
    task: OfTask = None,
    config: ConfigFile = None,
) -> None:
    """Visit URLs that failed again, those that were set aside too. A running service begins at once."""
    if task is not None:
        _retry_task(task, Only(source), reason, config)
        return
    if not ids and source is None and reason is None and not everything:
        raise typer.BadParameter("name failures by number, --source, --reason, or --all of them")
    filters = {"source": source, "reason": reason, "unresolved": True}
    with existing(settings_of(config)) as db:
        wanted = list(ids or ())
        if source is not None or reason is not None or everything:
            wanted += [row["id"] for row in listing.stream(db, "failures", filters)]
        asked = db.write(lambda c: visits.retry(c, wanted, now()))
    for name, run in asked.items():
        print(f"{name}: run {run}")
    if not asked:
        print("No failures.", file=sys.stderr)


def _retry_task(task: str, only: Only, reason: str | None, config: Path | None) -> None:
    with existing(settings_of(config)) as db:
        db.read(lambda c: tasks.one(c, task))
        count = db.write(lambda c: jobs.retry(c, task, db.now(), only, reason))
    print(f"{task}: {count} to be tried again" if count else "No failures.", file=sys.stdout if count else sys.stderr)


def search(
    query: Annotated[
        list[str],
        typer.Argument(metavar="QUERY", help='Words; "a phrase", bird*, -not, source:, kind:, since:7d, versions:all.'),
    ],
    source: Annotated[str | None, typer.Option(help="Of this source alone.")] = None,
    kind: Annotated[str | None, typer.Option(help="Of this kind of item alone.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100, help="At most so many.")] = 20,
    mode: Annotated[
        Mode | None, typer.Option(help="By words, by meaning, or both; both where there are vectors, if not said.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    config: ConfigFile = None,
) -> None:
    """Search the text of all pages and items as they are now; with versions:all, by their words, also as they were."""
    text = " ".join(f'"{word}"' if " " in word and ":" not in word else word for word in query)
    loaded = settings_of(config)
    with existing(loaded) as db:
        done = 0
        for count in catch_up(db):
            done += count
            if done % TOLD_EACH < count:
                print(f"Reading what was stored since: {done} changes so far.", file=sys.stderr)
        try:
            found = _found(loaded, db, Question(text, mode or _best_mode(loaded, db), source, kind, limit))
        except BadQuery as error:
            raise typer.BadParameter(str(error)) from None
    for row in found:
        if as_json:
            print(exports.as_json(row))
            continue
        snippet = "".join(piece["text"] for piece in row["snippet"])
        was = f", until {row['until']:%Y-%m-%d %H:%M}" if row["until"] else ""
        print(f"{one_line(row['title'] or row['url'])}  ({row['kind'] or row['of']} of {row['source']}{was})")
        print(f"  {one_line(row['url'])}")
        print(f"  {one_line(' '.join(snippet.split()))[:200]}")
    if not found:
        print("Nothing has these words.", file=sys.stderr)


def _best_mode(loaded: Loaded, db: Db) -> Mode:
    """By meaning too, where there are vectors."""
    return "hybrid" if db.read(lambda c: vectors.newest(c, name_of(loaded.settings.embed))) else "text"


def _found(loaded: Loaded, db: Db, question: Question) -> list[dict[str, Any]]:
    if question.mode == "text":
        return find(db, question, now())
    from scraper.enrichment.question import Questions  # noqa: PLC0415  what other searches need not load

    async def vector() -> bytes:
        questions = Questions(loaded.settings, loaded.base, environment(loaded.base))
        try:
            return await questions.vector(words(question.text, now()))
        finally:
            await questions.close()

    asked = replace(question, vector=asyncio.run(vector()))
    return find(db, asked, now(), Matrix(name_of(loaded.settings.embed)))
