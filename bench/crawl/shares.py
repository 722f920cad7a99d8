"""What the processor is spent on: samples of the stacks of all processes, by the innermost line of Bowerbird in each."""

import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bench.crawl import bowerbird, slow
from bench.crawl.measured import ROOT, Failed, environment, tail
from bench.crawl.shop import Shop
from bench.crawl.site import TWO_HOSTS, served
from bench.support import free_port, table

RATE = 200
PARTS = ("fetch", "parse", "store", "rest")
# The first that a path begins with says what it is; what is in none is the rest.
WHERE = {
    "scraper/crawl/fetcher": "fetch",
    "scraper/crawl/http1": "fetch",
    "scraper/crawl/addresses": "fetch",
    "scraper/compression": "fetch",
    "scraper/extract/": "parse",
    "scraper/urls": "parse",
    "scraper/clean": "parse",
    "scraper/database/": "store",
    "scraper/crawl/store": "store",
    "scraper/crawl/recorder": "store",
}


def part_of(stack: str) -> str:
    """Return what a stack ("function (file:line);...", outermost first) is busy with. Pure."""
    for frame in reversed(stack.split(";")):
        path = frame.rpartition("(")[2].partition(":")[0]
        if not path.startswith(f"{ROOT}/scraper/"):
            continue
        inner = path.removeprefix(f"{ROOT}/")
        return next((part for start, part in WHERE.items() if inner.startswith(start)), "rest")
    return "rest"


def shares(lines: Iterable[str]) -> dict[str, float]:
    """Return the share of each part in the samples ("stack count"). Pure."""
    counts: Counter[str] = Counter()
    for line in lines:
        stack, _, count = line.rpartition(" ")
        counts[part_of(stack)] += int(count)
    return {part: round(counts[part] / max(1, counts.total()), 3) for part in PARTS}


def record(folder: Path, ends: tuple[int, ...] = (0,)) -> dict[str, float]:
    """Run what is configured in a folder under py-spy, and return the shares. Raises Failed."""
    found = folder / "stacks.txt"
    spy = str(Path(sys.executable).parent / "py-spy")
    options = ["--format", "raw", "--subprocesses", "--full-filenames", "--rate", str(RATE), "-o", str(found)]
    with (folder / "out.log").open("ab") as log:
        command = [spy, "record", *options, "--", *bowerbird.SCRAPE]
        done = subprocess.run(command, cwd=folder, env=environment(), stdout=log, stderr=log, check=False)
    if done.returncode not in ends or not found.exists():
        raise Failed(f"py-spy ended with {done.returncode}: {tail(folder / 'out.log')}")
    with found.open() as lines:
        return shares(lines)


def run(shop: Shop, root: Path, place: Path, chain: int) -> dict[str, Any]:
    """Return the shares over a first pass, a second one, two processes, and many slow hosts."""
    found = {}
    once, twice, many = (place / f"shares-{name}" for name in ("once", "twice", "many"))
    port = free_port()
    for name in ("first pass", "second pass"):
        with served(root, once / f"nginx-{name.split()[0]}", port) as site:
            bowerbird.prepared(once, shop, site)
            found[name] = record(once)
    with served(root, twice / "nginx", free_port(), TWO_HOSTS) as site:
        bowerbird.prepared(twice, shop, site, TWO_HOSTS, processes=2)
        found["two processes"] = record(twice)
    many.mkdir()
    with slow.serving(many, chain) as slow_port:
        slow.prepare(many, slow_port, chain)
        found["slow hosts"] = record(many, slow.SOME_FAILED)
    return found


def show(found: dict[str, Any]) -> None:
    """Print them."""
    rows = [[name, *(f"{100 * one[part]:.0f} %" for part in PARTS)] for name, one in found.items()]
    table("What the processor is spent on", ["", *PARTS], rows)
