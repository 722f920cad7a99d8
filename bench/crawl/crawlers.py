"""Who crawls: how each is started, and where it keeps what it found."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

from bench.crawl import bowerbird
from bench.crawl.shop import FIELDS, START, Shop
from bench.crawl.site import Site

PEERS = Path(__file__).parent / "peers"
DEBIAN_GO = "/usr/share/gocode"
COLLY = "github.com/gocolly/colly/v2@v2.1.0"
BUILD_WITHIN_S = 300

Row = dict[str, str | None]


class Missing(Exception):
    """A crawler cannot be had on this machine; says why, and what would help."""


@dataclass(frozen=True)
class Crawler:
    """One way to crawl the shop.

    begin: gives the command for the shop, with the folder it may write to. rows: the products it kept there. pages: the
    addresses of the pages it kept, where it keeps any.
    """

    name: str
    what: str
    begin: Callable[[Path, Shop, Site], list[str]]
    rows: Callable[[Path], list[Row]]
    pages: Callable[[Path], list[str]] | None = None


def _script(name: str, *options: str) -> Callable[[Path, Shop, Site], list[str]]:
    def begin(folder: Path, shop: Shop, site: Site) -> list[str]:
        return [sys.executable, str(PEERS / name), site.url(START), str(folder), *options]

    return begin


def _lines(folder: Path) -> list[Row]:
    with (folder / "products.jsonl").open() as lines:
        return [json.loads(line) for line in lines]


def _select(folder: Path, statement: str) -> list[tuple[str, ...]]:
    with closing(sqlite3.connect(folder / "shop.db")) as connection:
        return connection.execute(statement).fetchall()


def _products(folder: Path) -> list[Row]:
    found = _select(folder, f"SELECT {', '.join(FIELDS)} FROM products")
    return [dict(zip(FIELDS, row, strict=True)) for row in found]


def _pages(folder: Path) -> list[str]:
    return [url for (url,) in _select(folder, "SELECT url FROM pages")]


def _bowerbird(folder: Path, shop: Shop, site: Site) -> list[str]:
    bowerbird.prepared(folder, shop, site)
    return list(bowerbird.SCRAPE)


def _go(build: Callable[[Path], None], folder: Path, shop: Shop, site: Site) -> list[str]:
    program = folder.parent / "programs" / build.__name__.strip("_")
    if not program.exists():
        program.parent.mkdir(exist_ok=True)
        build(program)
    return [str(program), site.url(START), str(folder)]


def _compile(command: list[str], folder: Path, **env: str) -> None:
    if shutil.which("go") is None:
        raise Missing("there is no go: apt-get install golang-go")
    done = subprocess.run(
        command,
        check=False,
        cwd=folder,
        env=os.environ | env,
        capture_output=True,
        text=True,
        timeout=BUILD_WITHIN_S,
    )
    if done.returncode:
        raise Missing(f"{' '.join(command[:3])}: {done.stderr.strip()[-300:]}")


def _goquery(program: Path) -> None:
    if not Path(DEBIAN_GO, "src/github.com/PuerkitoBio/goquery").exists():
        raise Missing("there is no goquery: apt-get install golang-github-puerkitobio-goquery-dev")
    command = ["go", "build", "-o", str(program), "main.go"]
    _compile(command, PEERS / "goquery", GO111MODULE="off", GOPATH=DEBIAN_GO)


def _colly(program: Path) -> None:
    folder = program.parent / "colly-module"
    shutil.copytree(PEERS / "colly", folder, dirs_exist_ok=True)
    (folder / "go.mod").write_text("module shop\n\ngo 1.19\n")
    _compile(["go", "get", COLLY], folder)
    _compile(["go", "build", "-o", str(program), "."], folder)


ALL = (
    Crawler(
        "bowerbird",
        f"Bowerbird {version('bowerbird')}: SQLite, with bodies, history and frontier",
        _bowerbird,
        lambda folder: list(map(dict, bowerbird.kept(folder).rows)),
        bowerbird.page_urls,
    ),
    Crawler("scrapy", "Scrapy: JSON lines", _script("scrapy_shop.py"), _lines),
    Crawler("scrapy-jobdir", "Scrapy with JOBDIR: JSON lines", _script("scrapy_shop.py", "--jobdir"), _lines),
    Crawler(
        "scrapy-careful",
        "Scrapy whose spider drops known links itself: JSON lines",
        _script("scrapy_shop.py", "--careful"),
        _lines,
    ),
    Crawler("crawlee", "Crawlee for Python, Parsel: in memory, then JSON lines", _script("crawlee_shop.py"), _lines),
    Crawler(
        "handwritten",
        "a good afternoon's work, aiohttp and lexbor: SQLite, no bodies",
        _script("handwritten.py"),
        _products,
        _pages,
    ),
    Crawler(
        "handwritten-bodies",
        "the same with bodies, compressed as they came",
        _script("handwritten.py", "--bodies"),
        _products,
        _pages,
    ),
    Crawler("goquery", "Go's HTTP client and goquery: JSON lines", partial(_go, _goquery), _lines),
    Crawler("colly", "Colly: JSON lines", partial(_go, _colly), _lines),
)
