"""Larger and larger shops, and a start over a frontier of a million URLs."""

import contextlib
import shutil
import sqlite3
import subprocess
import time
from pathlib import Path
from typing import Any

from bench.crawl import bowerbird, race
from bench.crawl.crawlers import ALL
from bench.crawl.measured import Failed, environment, measure
from bench.crawl.shop import build
from bench.support import Endless, family, kill_all, table, until

SIZES = (5_000, 20_000, 200_000)
KNOWN = 1_000_000
FIRST_RUN = 20
FIRST_PAGE_WITHIN_S = 600

# As many rows as asked for, like the row of a page that was visited.
_FILL = """
WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?),
visited AS (SELECT * FROM urls WHERE state = 'done' LIMIT 1)
INSERT INTO urls (source, fingerprint, url, host, kind, depth, run_id, state, attempts, crashes)
SELECT source, randomblob(16), url || '/' || n, host, kind, depth, run_id, state, attempts, crashes FROM visited, numbers
"""


def run(place: Path) -> dict[str, Any]:
    """Crawl shops of all sizes."""
    found = {}
    for pages in SIZES:
        folder = place / f"scale-{pages}"
        root = folder / "site"
        root.mkdir(parents=True)
        shop = build(pages, root)
        print(f"a shop of {pages:,} pages ... ", end="", flush=True)
        found[str(pages)] = race.figures(pages, [race.once(ALL[0], shop, root, folder / "crawl")])
        print(f"{found[str(pages)]['pages_per_s']:.0f} pages/s", flush=True)
        shutil.rmtree(folder)
    return found


def frontier(place: Path) -> dict[str, float]:
    """Return the seconds from `scrape` to its first page, over next to no known URLs and over a million."""
    folder = place / "frontier"
    folder.mkdir()
    site = Endless()
    try:
        bowerbird.configure(folder, {"endless": f"{site.url}/0"}, FIRST_RUN, items=False)
        measure(bowerbird.SCRAPE, folder)
        few = _until_first_page(folder, site)
        with contextlib.closing(sqlite3.connect(folder / bowerbird.DATABASE)) as connection, connection:
            connection.execute(_FILL, (KNOWN,))
            if connection.execute("SELECT changes()").fetchone() != (KNOWN,):
                raise Failed("the first run visited nothing")
        many = _until_first_page(folder, site)
    finally:
        site.close()
    return {"known": KNOWN, "few_s": round(few, 2), "many_s": round(many, 2)}


def _until_first_page(folder: Path, site: Endless) -> float:
    moment = time.monotonic()
    with (folder / "out.log").open("ab") as log:
        head = subprocess.Popen(bowerbird.SCRAPE, cwd=folder, env=environment(), stdout=log, stderr=log)
    try:
        at: float = until(lambda: site.first_page_after(moment), "the first page", FIRST_PAGE_WITHIN_S)
        head.wait()
    finally:
        if head.poll() is None:
            kill_all(family(head.pid))
            head.wait()
    return at - moment


def show(sizes: dict[str, Any], known: dict[str, float]) -> None:
    """Print both."""
    names = ["pages_per_s", "cpu_s_per_1000", "largest_process_mib", "pss_mib", "lost", "doubled", "products_lost"]
    table(
        "Larger shops",
        ["pages", "pages/s", "CPU s/1,000", "scraper MiB", "all MiB", "lost", "doubled", "products lost"],
        [[f"{int(pages):,}", *(one[name] for name in names)] for pages, one in sizes.items()],
    )
    table(
        "From the start of `scrape` to its first page",
        ["known URLs", "s"],
        [["next to none", known["few_s"]], [f"{known['known']:,}", known["many_s"]]],
    )
