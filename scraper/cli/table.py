"""The command table."""

from importlib import import_module
from importlib.metadata import version
from typing import Any

import typer

COMMANDS = {
    "init": "admin:init",
    "serve": "serve:serve",
    "demo": "serve:demo",
    "scrape": "scrape:scrape",
    "status": "control:status",
    "start": "control:start",
    "stop": "control:stop",
    "restart": "control:restart",
    "pause": "control:pause",
    "resume": "control:resume",
    "export": "data:export",
    "search": "data:search",
    "enrich": "enrich:enrich",
    "mcp": "mcp:mcp",
    "import": "intake:bring",
    "doctor": "admin:doctor",
}
GROUPS = {
    "sources": "sources:sources",
    "token": "token:token",
    "failures": "data:failures",
    "db": "database:db",
}


def app(asked: str = "") -> typer.Typer:
    """Return the commands; if one of them is asked for, that one alone: to load them all takes half a second."""
    made = typer.Typer(
        name="bowerbird",
        help="A supervised scraper daemon.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    made.callback(invoke_without_command=True)(_general)
    wanted = {asked} & (COMMANDS.keys() | GROUPS.keys()) or COMMANDS.keys() | GROUPS.keys()
    for name, place in COMMANDS.items():
        if name in wanted:
            made.command(name)(_at(place))
    for name, place in GROUPS.items():
        if name in wanted:
            made.add_typer(_at(place), name=name)
    return made


def _at(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(import_module(f"scraper.cli.{module}"), name)


def _general(show_version: bool = typer.Option(False, "--version", help="Show the version and end.")) -> None:
    if show_version:
        typer.echo(f"bowerbird {version('bowerbird')}")
        raise typer.Exit
