"""Bowerbird over the shop, by its contract alone: a configuration file, a command, and the tables."""

import json
import sqlite3
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from bench.crawl.shop import FIELDS, START, Shop
from bench.crawl.site import ONE_HOST, Site

SCRAPE = (sys.executable, "-m", "scraper", "scrape")
DATABASE = "bowerbird.db"
IN_FLIGHT = 32

_HTTP = """[supervisor]
processes = {processes}
[http]
allow_networks = ["127.0.0.0/8"]
delay = 0
concurrency = {in_flight}
per_host = {per_host}
{more}
"""
_SOURCE = """[[source]]
name = "{name}"
start = ["{start}"]
follow = true
max_pages = {max_pages}
{depth}
"""
_ITEM = """[[source.item]]
kind = "product"
select = "article.product"
key = ["sku"]
[source.item.fields]
title = "h1::text"
price = ".amount::text"
sku = ".sku::text"
stock = ".product__stock::text"
brand = ".brand::text"
"""


@dataclass(frozen=True)
class Kept:
    """What is in the tables: page addresses, and the fields of items."""

    pages: list[str]
    rows: list[dict[str, str]]


def configure(
    folder: Path,
    starts: Mapping[str, str],
    max_pages: int,
    items: bool = True,
    processes: int = 1,
    in_flight: int = IN_FLIGHT,
    per_host: int = IN_FLIGHT,
    more: Sequence[str] = (),
    depth: int | None = None,
) -> None:
    """Write the configuration for these sources (name to start page). more: lines of [http]."""
    deep = f"max_depth = {depth}" if depth is not None else ""
    http = _HTTP.format(processes=processes, in_flight=in_flight, per_host=per_host, more="\n".join(more))
    sources = [
        _SOURCE.format(name=name, start=start, max_pages=max_pages, depth=deep) + (_ITEM if items else "")
        for name, start in starts.items()
    ]
    (folder / "bowerbird.toml").write_text(http + "".join(sources))


def prepared(folder: Path, shop: Shop, site: Site, hosts: Sequence[str] = ONE_HOST, processes: int = 1) -> None:
    """Write the configuration for the shop on these hosts."""
    starts = {f"shop{n}": site.url(START, host) for n, host in enumerate(hosts)}
    configure(folder, starts, shop.pages + 1000, processes=processes)


def page_urls(folder: Path) -> list[str]:
    """Return the addresses of the pages that were kept."""
    with closing(sqlite3.connect(folder / DATABASE)) as connection:
        return [url for (url,) in connection.execute("SELECT final_url FROM pages")]


def kept(folder: Path) -> Kept:
    """Return what was kept."""
    with closing(sqlite3.connect(folder / DATABASE)) as connection:
        data = [json.loads(text) for (text,) in connection.execute("SELECT data FROM items")]
    return Kept(page_urls(folder), [{name: row[name] for name in FIELDS} for row in data])
