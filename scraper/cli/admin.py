"""init, db, doctor: set up and look after."""

import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from scraper.cli.options import ConfigFile
from scraper.cli.serve import bound
from scraper.config.load import FILE_NAME, Loaded
from scraper.database import Db, pgvector, sqlite
from scraper.database.connection import sqlite_file
from scraper.errors import BadConfig, BowerbirdError, Conflict, Unusable
from scraper.offload import renderer
from scraper.service import Service
from scraper.startup import advice_on, crowding_of, preflight, review_parsers, settings_of, strangers
from scraper.statedir import path_of

# What was looked at, what was found, and whether it is good; None: neither.
Check = tuple[str, str, bool | None]

TEMPLATE = """\
# Bowerbird watches the sources below. `bowerbird sources check NAME` shows what one page yields,
# `bowerbird scrape` runs them once, `bowerbird serve` keeps them scraped. Every setting is in the guide.

[server]
host = "127.0.0.1"
port = 5000
# token = "..."                     # required for a host that is not loopback

[database]
url = "sqlite:///bowerbird.db"      # or postgresql+psycopg://user:secret@host/db?sslmode=require

[http]
delay = 0.5                         # seconds between requests to one host
per_host = 2                        # requests in flight per host
# allow_networks = ["127.0.0.0/8"]  # loopback or private networks that may be asked all the same

[[source]]
name = "books"
start = ["https://books.toscrape.com/"]
every = "1h"                        # or cron = "*/15 * * * *"; neither: only when asked
follow = ["ul.nav a", "article h3 a", "li.next a"]   # CSS selectors; true: every link on the source's hosts
max_pages = 100

[[source.item]]
kind = "book"
select = "article.product_page"     # one item for each match; left out: one for the page
key = ["upc"]                       # fields that identify the item; left out: the page's URL
[source.item.fields]
title = "h1::text"                  # ::text and ::attr(name) as in Scrapy
price = { css = "p.price_color::text", type = "decimal" }
upc = { xpath = "//th[text()='UPC']/following-sibling::td/text()" }
stock = { css = "p.instock", re = "(\\\\d+) available", type = "int", default = 0 }
"""


def init(folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="Where to write it.")] = Path()) -> None:
    """Write a commented bowerbird.toml."""
    file = folder / FILE_NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with file.open("x", encoding="utf-8") as made:
            made.write(TEMPLATE)
    except (FileExistsError, NotADirectoryError):
        if not folder.is_dir():
            raise Unusable(f"{folder}: is no directory") from None
        raise Conflict(f"{file}: is there already, and is not overwritten") from None
    except OSError as error:
        raise Unusable(f"{file}: cannot be written: {error.strerror}") from None
    print(f"Wrote {file}. Next: bowerbird sources check books")


def doctor(config: ConfigFile = None) -> None:
    """Check everything that Bowerbird needs, and say what to do about what is missing."""
    bad = 0
    for name, verdict, good in _checks(config):
        print(f"{'note' if good is None else 'ok  ' if good else 'FAIL'}  {name}: {verdict}")
        bad += good is False
    if bad:
        raise typer.Exit(1)


def _checks(config: Path | None) -> Iterator[Check]:
    yield "bowerbird", f"{version('bowerbird')}, Python {platform.python_version()}, {platform.platform()}", True
    try:
        loaded = settings_of(config)
        review_parsers(loaded)
    except BowerbirdError as error:
        for line in str(error).splitlines():
            yield "config", line, False
        return
    count = len(loaded.settings.source)
    where = loaded.path or f"no {FILE_NAME} in {loaded.base}; `bowerbird init` writes one"
    yield "config", f"{where}, {count} source{'' if count == 1 else 's'}", True if count else None
    yield from _tried("database", lambda: _opened(loaded))
    yield from _tried("state directory", lambda: str(Service(loaded).state_dir))
    yield from _database(loaded)
    yield from _system(loaded)
    for extra, module in (
        ("postgres", "psycopg"),
        ("sqlite", "pysqlite3"),
        ("socks", "socksio"),
        ("http2", "h2"),
        ("browser", "playwright"),
        ("notify", "apprise"),
        ("otel", "opentelemetry.sdk"),
        ("parquet", "pyarrow"),
        ("warc", "warcio"),
        ("text", "trafilatura"),
        ("embed", "onnxruntime"),
        ("mcp", "mcp"),
    ):
        there = importlib.util.find_spec(module) is not None
        missing = f'not installed; pip install "bowerbird[{extra}]" if you need it'
        if there and extra == "browser" and renderer.find() is None:
            yield f"extra {extra}", "installed, but there is no Chromium for it: apt-get install chromium", None
            continue
        yield f"extra {extra}", "installed" if there else missing, True if there else None


def _database(loaded: Loaded) -> Iterator[Check]:
    """What else there is to say of the database."""
    try:
        with Db(loaded.settings.database) as made:
            for said in advice_on(made) if not made.is_sqlite else ():
                yield "database", said, None
            for said in strangers(made, loaded.settings):
                yield "config", said, None
            crowded = crowding_of(made, loaded) if not made.is_sqlite else None
            if crowded:
                yield "database", crowded, None
            yield from _vectors(made)
            if made.file is not None:
                size = made.gauges()["wal_bytes"] / 2**20
                yield (
                    "write-ahead log",
                    f"{size:.1f} MiB" + ("; `bowerbird db checkpoint`" if size > 256 else ""),
                    size <= 256 or None,
                )
    except BowerbirdError:
        return  # said above


def _vectors(made: Db) -> Iterator[Check]:
    """How search by meaning finds vectors, where that is not as it always is."""
    if (found := made.read(pgvector.version)) is None:
        return
    if pgvector.is_new_enough(found):
        yield "pgvector", f"{found}; its index finds vectors, from {pgvector.WORTH_IT:,} of a model on", True
    else:
        least = ".".join(map(str, pgvector.LEAST))
        yield (
            "pgvector",
            f"{found} is older than {least}, so every search looks at all vectors; ALTER EXTENSION vector UPDATE",
            None,
        )


def _opened(loaded: Loaded) -> str:
    with preflight(loaded) as made:
        made.write(lambda connection: None)  # a file that may only be read is opened all the same
        return made.shown


def _tried(name: str, attempt: Callable[[], str]) -> Iterator[Check]:
    try:
        yield name, attempt(), True
    except BowerbirdError as error:
        yield "config" if isinstance(error, BadConfig) else name, str(error), False


def _disks(loaded: Loaded) -> list[Path]:
    """The directories that are written to, one of each file system."""
    settings = loaded.settings
    file = sqlite_file(settings.database.url)
    wanted = [path_of(settings.service.state_dir, loaded.base), *([file.parent] if file is not None else [])]
    there = [next(folder for folder in (path, *path.parents) if folder.is_dir()) for path in wanted]
    return list({folder.stat().st_dev: folder for folder in there}.values())


def _system(loaded: Loaded) -> Iterator[Check]:
    for where in _disks(loaded):
        free = shutil.disk_usage(where).free
        yield "disk", f"{free / 2**30:.1f} GiB free at {where}", free > 2**28
    library = sqlite.driver()
    yield "sqlite", sqlite.said_of(library), None if not sqlite.is_sound(library.sqlite_version_info) else True
    server = loaded.settings.server
    try:
        bound(server).close()
        yield "address", f"{server.host}:{server.port} is free", True
    except Conflict as error:
        yield "address", f"{error}; fine if that is Bowerbird", None
    notify = os.environ.get("NOTIFY_SOCKET")
    yield "systemd", f"notifies {notify}" if notify else "not started by systemd", True if notify else None
    if sys.platform != "win32":
        import resource  # noqa: PLC0415  there is none on Windows

        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        need = loaded.settings.http.concurrency * 2 + 64
        yield "open files", f"{files}, {need} are enough", files >= need
