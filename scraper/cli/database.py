"""db: the database, looked after by hand."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from scraper.cli.bar import Bar
from scraper.cli.options import ConfigFile
from scraper.database import Db, maintenance, schema, transfer
from scraper.database.connection import resolved_url, shown
from scraper.errors import Unusable
from scraper.startup import settings_of

db = typer.Typer(help="The database.", no_args_is_help=True, rich_markup_mode=None)


@db.command()
def upgrade(config: ConfigFile = None) -> None:
    """Bring the tables to this version."""
    with Db(settings_of(config).settings.database) as made:
        found = schema.upgrade(made)
        was = "made" if found is None else "as it should be" if found == schema.HEAD else f"brought up from {found}"
        print(f"{made.shown}: version {schema.HEAD}, {was}")


@db.command()
def current(config: ConfigFile = None) -> None:
    """Show the version of the tables."""
    with Db(settings_of(config).settings.database) as made:
        found = None if made.file is not None and not made.file.path.exists() else made.read(schema.current)
        newest = "" if found == schema.HEAD else f"; `bowerbird db upgrade` brings it to {schema.HEAD}"
        if schema.is_newer(found):
            newest = f"; a newer version made it, this one knows {schema.HEAD}"
        print(f"{made.shown}: " + (f"version {found}" if found is not None else "no tables yet") + newest)


@db.command()
def check(config: ConfigFile = None) -> None:
    """Check the integrity of the database, and that its rows fit together."""
    with Db(settings_of(config).settings.database) as made:
        faults = maintenance.check(made)
    for fault in faults:
        print(fault)
    if faults:
        raise Unusable(f"{made.shown}: {len(faults)} faults; restore a backup")
    print(f"{made.shown}: ok")


@db.command()
def checkpoint(config: ConfigFile = None) -> None:
    """Bring SQLite's write-ahead log into the database file, and make the log short."""
    with Db(settings_of(config).settings.database, checkpoints=True) as made:
        before, after = maintenance.checkpoint(made)
    print(f"{made.shown}: the write-ahead log was {_size(before)} long, and is {_size(after)} now")


@db.command()
def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to; it may not exist.")], config: ConfigFile = None
) -> None:
    """Copy a SQLite database while it is in use: as it is at this moment, checked."""
    with Db(settings_of(config).settings.database) as made, Bar("pages") as bar:
        made.copy_file(file, lambda left, of: bar.show(of - left, of))
    print(f"{file}: {_size(file.stat().st_size)}, a copy of {made.shown}")


@db.command()
def vacuum(config: ConfigFile = None) -> None:
    """Give the space of what was deleted back to the disk. It takes a while, in which nothing can be stored."""
    with Db(settings_of(config).settings.database, checkpoints=True) as made:
        before, after = maintenance.vacuum(made)
    print(f"{made.shown}: was {_size(before)}, is {_size(after)}")


@db.command()
def copy(
    url: Annotated[str, typer.Argument(metavar="TO_URL", help="The other database; it has to be empty.")],
    config: ConfigFile = None,
) -> None:
    """Copy everything into another database, of either kind, and compare the two. Stop the service first."""
    loaded = settings_of(config)
    for _, why in replace(loaded.settings.database, url=url).check():
        raise Unusable(why)
    try:
        target = replace(loaded.settings.database, url=resolved_url(url, Path.cwd()))
    except ValueError as error:
        raise Unusable(f"TO_URL is no address of a database: {error}") from None
    if target.url == loaded.settings.database.url:
        raise Unusable(f"{shown(target.url)}: is the very database that is to be copied")
    with Db(loaded.settings.database) as here, Db(target) as there, Bar("rows") as bar:
        counts = transfer.copy(here, there, lambda table, done, of: bar.show(done, of, table))
    print(
        f'{there.shown}: {sum(counts.values())} rows, the same as in {here.shown}. Next: [database] url = "{there.shown}"'
    )


def _size(count: int) -> str:
    return f"{count / 2**20:.1f} MiB" if count >= 2**20 else f"{count / 2**10:.0f} KiB"
