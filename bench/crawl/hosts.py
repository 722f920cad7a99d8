"""Two hosts: one process for both, and two processes over one database."""

from pathlib import Path
from typing import Any

from bench.crawl import bowerbird
from bench.crawl.counting import counted
from bench.crawl.measured import measure
from bench.crawl.race import Crawl, figures
from bench.crawl.shop import Shop
from bench.crawl.site import TWO_HOSTS, asked, served
from bench.support import free_port, table

WAYS = {"one_process": 1, "two_processes": 2}


def once(shop: Shop, root: Path, folder: Path, processes: int) -> Crawl:
    """Crawl the shop on both hosts."""
    folder.mkdir(parents=True)
    with served(root, folder / "nginx", free_port(), TWO_HOSTS) as site:
        bowerbird.prepared(folder, shop, site, TWO_HOSTS, processes)
        cost = measure(bowerbird.SCRAPE, folder)
    seen, kept = asked(site.log), bowerbird.kept(folder)
    return Crawl(cost, counted(shop, TWO_HOSTS, seen, kept.pages, kept.rows), seen.bytes)


def run(shop: Shop, root: Path, place: Path, rounds: int) -> dict[str, Any]:
    """Crawl with one process and with two, in turn."""
    crawls: dict[str, list[Crawl]] = {name: [] for name in WAYS}
    for number in range(rounds):
        for name, processes in WAYS.items():
            crawls[name].append(once(shop, root, place / f"hosts-{name}-{number}", processes))
    found: dict[str, Any] = {name: figures(len(TWO_HOSTS) * shop.pages, crawls[name]) for name in WAYS}
    ratio = found["two_processes"]["pages_per_s"] / found["one_process"]["pages_per_s"]
    return {"pages": len(TWO_HOSTS) * shop.pages, "rounds": rounds, **found, "ratio": round(ratio, 2)}


def show(found: dict[str, Any]) -> None:
    """Print it."""
    names = ["pages_per_s", "cpu_s_per_1000", "pss_mib", "pages", "lost", "doubled", "refetched", "products_lost"]
    table(
        f"Two hosts of {found['pages'] // 2:,} pages each, one SQLite file",
        ["", "pages/s", "CPU s/1,000", "peak MiB", "pages", "lost", "doubled", "fetched twice", "products lost"],
        [[name.replace("_", " "), *(found[name][key] for key in names)] for name in WAYS],
    )
