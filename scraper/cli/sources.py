"""sources: list, add, remove, enable, disable, check what is watched."""

import asyncio
import json
import re
import sys
import tomllib
from pathlib import Path
from typing import Annotated, Any

import typer

from scraper import export
from scraper.cli.lists import listed_by_default, shown
from scraper.cli.named import named
from scraper.cli.options import AsJson, ConfigFile
from scraper.config.load import Loaded
from scraper.config.secrets import environment
from scraper.config.settings import Source
from scraper.crawl.check import check
from scraper.database import Db, health
from scraper.database import sources as rows
from scraper.database.connection import now
from scraper.errors import BadConfig, BowerbirdError, NotFound, Problem
from scraper.startup import checked_source, due, preflight, settings_of
from scraper.urls import source_name

KIND = "item"

sources = typer.Typer(help="What is watched.", rich_markup_mode=None)


@sources.callback(invoke_without_command=True)
def _list_by_default(context: typer.Context, config: ConfigFile = None, as_json: AsJson = False) -> None:
    if listed_by_default(context):
        list_sources(config, as_json)


@sources.command("list")
def list_sources(config: ConfigFile = None, as_json: AsJson = False) -> None:
    """List the sources, when they ran last and when they are due."""
    with preflight(settings_of(config), brings=True) as db:
        known = db.read(health.listed)[0]
    if as_json:
        print(json.dumps(known, default=export.text))
        return
    for row in known:
        last, due_at = shown(row["last_run"], "never"), shown(row["next_at"], "when asked")
        print(f"{row['name']:<24} {row['health']:<9} {row['origin']:<9} last {last:<26} next {due_at}")
    if not known:
        print("No sources yet; add a [[source]] to bowerbird.toml, or `bowerbird sources add URL`.", file=sys.stderr)


@sources.command("add")
def add_source(
    urls: Annotated[list[str] | None, typer.Argument(metavar="[URL ...]", help="Where it starts.")] = None,
    name: Annotated[str | None, typer.Option(help="Its name; otherwise the name of its host.")] = None,
    every: Annotated[str | None, typer.Option(help='How often, for example "1h".')] = None,
    cron: Annotated[str | None, typer.Option(help='When, for example "*/15 * * * *".')] = None,
    follow: Annotated[list[str] | None, typer.Option(help="A CSS selector whose links are followed; several.")] = None,
    field: Annotated[list[str] | None, typer.Option(help='A field of its items: "title=h1::text"; several.')] = None,
    select: Annotated[str | None, typer.Option(help="A CSS selector: one item for each match.")] = None,
    kind: Annotated[str, typer.Option(help="What its items are called.")] = KIND,
    key: Annotated[list[str] | None, typer.Option(help="A field that identifies an item; several.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="A word to find it by; several.")] = None,
    file: Annotated[
        Path | None,
        typer.Option("--from", help="A TOML file with [[source]] tables, or a JSON file; - is standard input."),
    ] = None,
    config: ConfigFile = None,
) -> None:
    """Add a source that lives in the database. A running service visits it at once, if it says how often."""
    if bool(urls) == (file is not None):
        raise typer.BadParameter("name either addresses to start from, or a file of sources with --from")
    rest = {"--select": select, "--key": key, "--kind": kind if kind != KIND else None}
    alone = {"--name": name, "--every": every, "--cron": cron, "--follow": follow, "--field": field, "--tag": tag}
    if file is not None and (more := [option for option, value in (alone | rest).items() if value]):
        raise typer.BadParameter(f"{', '.join(more)}: with --from all is said in the file; leave it out")
    if not field and (more := [option for option, value in rest.items() if value]):
        raise typer.BadParameter(f"{', '.join(more)}: of items without fields; name a field, --field title=h1::text")
    given: list[dict[str, Any]] = _read(file) if file is not None else []
    if urls:
        made: dict[str, Any] = {"name": name or source_name(urls[0]), "start": urls}
        made |= {"every": every} if every else {}
        made |= {"cron": cron} if cron else {}
        made |= {"follow": follow} if follow else {}
        made |= {"tags": tag} if tag else {}
        if field:
            rule: dict[str, Any] = {"kind": kind, "fields": _fields(field), "key": key or []}
            made["item"] = [rule | ({"select": select} if select else {})]
        given = [made]
    loaded = settings_of(config)
    with preflight(loaded, brings=True) as db:
        enter(db, loaded, given)
    for definition in given:
        when = "" if definition.get("every") or definition.get("cron") else " It runs only when asked: --every 1h."
        print(f"Added {definition['name']}.{when} Next: bowerbird sources check {definition['name']}")


def enter(db: Db, loaded: Loaded, given: list[dict[str, Any]]) -> None:
    """Add sources, all of them or none. Raises BadConfig with all that is wrong with any of them, Conflict."""
    problems: list[Problem] = []
    made: list[Source] = []
    for definition in given:
        try:
            made.append(checked_source(definition, loaded.settings, environment(loaded.base), trusted=True))
        except BadConfig as error:
            named_so = str(definition.get("name", "source"))
            problems += [Problem(f"{named_so}: {problem.place}", problem.message) for problem in error.problems]
    if problems:
        raise BadConfig(problems)

    def unit(c: Any) -> None:
        for source in made:
            rows.add(c, source, due)

    db.write(unit)


def _fields(given: list[str]) -> dict[str, str]:
    made: dict[str, str] = {}
    for text in given:
        name, css = _field(text)
        if name in made:
            raise typer.BadParameter(f"the field {name!r} is there twice; give each a name of its own")
        made[name] = css
    return made


def _field(text: str) -> tuple[str, str]:
    name, equals, css = text.partition("=")
    if not equals or not name.strip() or not css.strip():
        raise typer.BadParameter(f'{text!r} is no field; write for example "title=h1::text"')
    return name.strip(), css.strip()


_JSON = re.compile(r"\s*(?:\{|\[\s*(?:\{|\]))")  # not [http], as TOML begins


def _read(file: Path) -> list[dict[str, Any]]:
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BowerbirdError(f"{file}: cannot be read: {error}") from None
    try:
        found: Any = json.loads(text) if _JSON.match(text) else tomllib.loads(text)
    except ValueError as error:
        raise BowerbirdError(f"{file}: is neither TOML nor JSON: {error}") from None
    if isinstance(found, dict):
        found = found.get("source", [found])
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise BowerbirdError(f"{file}: wants [[source]] tables, or a JSON list of sources")
    return found


@sources.command("remove")
def remove_sources(
    names: Annotated[list[str], typer.Argument(metavar="SOURCE ...")], config: ConfigFile = None
) -> None:
    """Remove sources that live in the database. What was scraped of them stays."""

    def unit(c: Any) -> None:
        for name in names:
            rows.remove(c, name)

    with preflight(settings_of(config), brings=True) as db:
        db.write(unit)
    print(f"Removed {', '.join(names)}; what was scraped stays.")


@sources.command("enable")
def enable_sources(
    names: Annotated[list[str], typer.Argument(metavar="SOURCE ...")], config: ConfigFile = None
) -> None:
    """Have sources be visited again."""
    _pause(names, config, paused=False)


@sources.command("disable")
def disable_sources(
    names: Annotated[list[str], typer.Argument(metavar="SOURCE ...")], config: ConfigFile = None
) -> None:
    """Have sources be visited no more until they are enabled, wherever they are written down."""
    _pause(names, config, paused=True)


def _pause(names: list[str], config: ConfigFile, *, paused: bool) -> None:
    def unit(c: Any) -> list[str]:
        for name in names:
            rows.definition(c, name)
        return rows.pause(c, names, now() if paused else None)

    with preflight(settings_of(config), brings=True) as db:
        done = db.write(unit)
    for name in names:
        print(f"{name}: {'' if name in done else 'was already '}{'disabled' if paused else 'enabled'}")


@sources.command("check")
def check_source(
    name: Annotated[str, typer.Argument(metavar="SOURCE")],
    url: Annotated[str | None, typer.Option(help="Which page; otherwise the first start address.")] = None,
    config: ConfigFile = None,
) -> None:
    """Print what one page of a source yields. Stores nothing."""
    loaded = settings_of(config)
    sys.path.append(str(loaded.base))
    with preflight(loaded, brings=True) as db:
        source = named(db, [name])[0]
        http, limits = loaded.settings.http, loaded.settings.limits
        try:
            found = asyncio.run(check(source, http, url, limits, environment(loaded.base), db=db))
        except ValueError as error:
            raise NotFound(str(error)) from None
    print(json.dumps(found, indent=2, ensure_ascii=False, default=export.text))
    for note in found["notes"]:
        print(note, file=sys.stderr)
    if source.item and not found["items"] and found["links"]:
        hint = f"bowerbird sources check {name} --url {found['links'][-1]}"
        print(f"No item on this page; try one that it links to: {hint}", file=sys.stderr)
    if found["failure"]:
        raise typer.Exit(1)
