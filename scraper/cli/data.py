"""export, failures: what was stored, and what was not."""

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from scraper import export as exports
from scraper.cli.serve import ConfigFile
from scraper.database import listing, sources, visits
from scraper.database.connection import now
from scraper.errors import BowerbirdError
from scraper.startup import preflight, settings_of

failures = typer.Typer(help="What failed and why.", rich_markup_mode=None)


class Format(StrEnum):
    """How rows are written."""

    JSONL = "jsonl"
    CSV = "csv"


def export(
    source: Annotated[str | None, typer.Argument(metavar="[SOURCE]", help="Of which source; of all, if none.")] = None,
    kind: Annotated[str | None, typer.Option("--item", help="Only items of this kind.")] = None,
    pages: Annotated[bool, typer.Option("--pages", help="Pages instead of items.")] = False,
    form: Annotated[Format, typer.Option("--format", help="How to write them.")] = Format.JSONL,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="The file; otherwise standard output.")] = None,
    config: ConfigFile = None,
) -> None:
    """Write items, or pages, in bounded memory. Items that are gone are left out."""
    filters: dict[str, Any] = {"source": source}
    filters |= {} if pages else {"kind": kind, "present": True}
    with preflight(settings_of(config)) as db:
        if source is not None:
            db.read(lambda c: sources.definition(c, source))
        lines = exports.lines(db, "pages" if pages else "items", filters, form.value)
        if output is None:
            sys.stdout.writelines(lines)
            sys.stdout.flush()
            return
        try:
            with output.open("w", encoding="utf-8", newline="") as file:
                file.writelines(lines)
        except OSError as error:
            raise BowerbirdError(f"{output}: cannot be written: {error.strerror}") from None


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
