"""token: who may call the API of a service that has one of its own."""

import json
from datetime import timedelta
from enum import StrEnum
from typing import Annotated

import typer

from scraper import export
from scraper.cli.lists import shown
from scraper.cli.options import AsJson, ConfigFile
from scraper.database import tokens
from scraper.database.connection import now
from scraper.startup import preflight, settings_of

token = typer.Typer(help="Tokens for the API: made, listed, revoked.", rich_markup_mode=None, no_args_is_help=True)


class Scope(StrEnum):
    """What the holder may do."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"


@token.command("create")
def create(
    name: Annotated[str, typer.Argument(help="What it is for.")],
    scope: Annotated[Scope, typer.Option(help="What its holder may do.")] = Scope.READ,
    days: Annotated[
        float | None, typer.Option(min=0.001, max=tokens.DAYS_MOST, help="For how long; otherwise until it is revoked.")
    ] = None,
    config: ConfigFile = None,
) -> None:
    """Make a token and print it, once: only a digest of it is kept."""
    with preflight(settings_of(config)) as db:
        until = now() + timedelta(days=days) if days is not None else None
        print(db.write(lambda c: tokens.make(c, name, scope.value, now(), until))[1])


@token.command("list")
def list_tokens(config: ConfigFile = None, as_json: AsJson = False) -> None:
    """List the tokens, and when they were used last."""
    with preflight(settings_of(config)) as db:
        found = db.read(tokens.listed)
    if as_json:
        print(json.dumps(found, default=export.text))
        return
    for row in found:
        used, until = shown(row["used_at"], "never"), shown(row["expires_at"], "revoked")
        print(f"{row['name']:<24} {row['scope']:<6} used {used:<26} good until {until}")


@token.command("revoke")
def revoke(name: Annotated[str, typer.Argument()], config: ConfigFile = None) -> None:
    """Have a token be valid no more."""
    with preflight(settings_of(config)) as db:
        db.write(lambda c: tokens.revoke(c, name))
    print(f"Revoked {name}.")
