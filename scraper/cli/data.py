"""export, failures: what was stored, and what was not."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from scraper import export as exports
from scraper.cli.bar import Bar
from scraper.cli.serve import ConfigFile
from scraper.cli.target import Target, moment
from scraper.crawl.indexer import catch_up
from scraper.database import Db, listing, sources, visits
from scraper.database.connection import now
from scraper.search.query import BadQuery
from scraper.search.text import search as find
from scraper.startup import preflight, settings_of

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
    with preflight(settings_of(config)) as db:
        if source is not None:
            db.read(lambda c: sources.definition(c, source))
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
    return message.partition("\n")[0]


@failures.callback(invoke_without_command=True)
def _list_by_default(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        list_failures()


@failures.command("list")
def list_failures(
    source: Annotated[str | None, typer.Option(help="Of which source.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    config: ConfigFile = None,
) -> None:
    """List the URLs that fail, with the reason."""
    none = True
    with preflight(settings_of(config)) as db:
        for row in listing.stream(db, "failures", {"source": source, "unresolved": True}):
            none = False
            if as_json:
                print(json.dumps(row, default=exports.text))
            else:
                print(
                    f"{row['id']}  {row['source']}  {row['reason']}  {row['url']}  ({_first_line(row['message'])}, {row['attempts']} attempts)"
                )
    if none:
        print("No failures.", file=sys.stderr)


@failures.command("retry")
def retry_failures(
    ids: Annotated[
        list[int] | None, typer.Argument(metavar="[ID ...]", help="Which; their numbers are in the list.")
    ] = None,
    source: Annotated[str | None, typer.Option(help="All of this source.")] = None,
    reason: Annotated[str | None, typer.Option(help="All with this reason, for example poison.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that fail.")] = False,
    config: ConfigFile = None,
) -> None:
    """Visit URLs that failed again, those that were set aside too. A running service begins at once."""
    if not ids and source is None and reason is None and not everything:
        raise typer.BadParameter("name failures by number, --source, --reason, or --all of them")
    filters = {"source": source, "reason": reason, "unresolved": True}
    with preflight(settings_of(config)) as db:
        wanted = list(ids or ())
        if source is not None or reason is not None or everything:
            wanted += [row["id"] for row in listing.stream(db, "failures", filters)]
        asked = db.write(lambda c: visits.retry(c, wanted, now()))
    for name, run in asked.items():
        print(f"{name}: run {run}")
    if not asked:
        print("No failures.", file=sys.stderr)


def search(
    query: Annotated[
        list[str], typer.Argument(metavar="QUERY", help='Words; "a phrase", bird*, -not, source:, kind:, since:7d.')
    ],
    source: Annotated[str | None, typer.Option(help="Of this source alone.")] = None,
    kind: Annotated[str | None, typer.Option(help="Of this kind of item alone.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100, help="At most so many.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    config: ConfigFile = None,
) -> None:
    """Search the text of all pages and items as they are now."""
    text = " ".join(f'"{word}"' if " " in word and ":" not in word else word for word in query)
    with preflight(settings_of(config)) as db:
        done = 0
        for count in catch_up(db):
            done += count
            if done % TOLD_EACH < count:
                print(f"Reading what was stored since: {done} changes so far.", file=sys.stderr)
        try:
            found = db.read(lambda c: find(c, text, now(), source=source, kind=kind, limit=limit))
        except BadQuery as error:
            raise typer.BadParameter(str(error)) from None
    for row in found:
        if as_json:
            print(exports.as_json(row))
            continue
        snippet = "".join(piece["text"] for piece in row["snippet"])
        print(f"{row['title'] or row['url']}  ({row['kind'] or row['of']} of {row['source']})")
        print(f"  {row['url']}")
        print(f"  {' '.join(snippet.split())[:200]}")
    if not found:
        print("Nothing has these words.", file=sys.stderr)
