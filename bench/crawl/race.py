"""All crawlers over the same shop, in turn."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bench.crawl.counting import Count, counted
from bench.crawl.crawlers import Crawler, Missing
from bench.crawl.measured import Cost, Failed, measure
from bench.crawl.shop import Shop
from bench.crawl.site import ONE_HOST, asked, served
from bench.support import free_port, table

OF_PEERS = ("scrapy", "crawlee", "aiohttp", "selectolax")


@dataclass(frozen=True)
class Crawl:
    """One crawl of the shop: what it took, and whether it is whole."""

    cost: Cost
    count: Count
    sent_bytes: int


def once(crawler: Crawler, shop: Shop, root: Path, folder: Path) -> Crawl:
    """Crawl the shop once. Raises Missing, Failed."""
    folder.mkdir(parents=True)
    with served(root, folder / "nginx", free_port()) as site:
        cost = measure(crawler.begin(folder, shop, site), folder)
    seen = asked(site.log)
    urls = crawler.pages(folder) if crawler.pages else None
    return Crawl(cost, counted(shop, ONE_HOST, seen, urls, crawler.rows(folder)), seen.bytes)


def run(crawlers: Sequence[Crawler], shop: Shop, root: Path, place: Path, rounds: int) -> dict[str, Any]:
    """Have all crawl in turn, so many times. Returns the figures by name, and who was left out and why."""
    crawls: dict[str, list[Crawl]] = {}
    missing: dict[str, str] = {}
    for number in range(rounds):
        for crawler in crawlers:
            if crawler.name in missing:
                continue
            print(f"round {number + 1} of {rounds}: {crawler.name} ... ", end="", flush=True)
            try:
                crawl = once(crawler, shop, root, place / f"{crawler.name}-{number}")
            except (Missing, Failed) as error:
                missing[crawler.name] = str(error)
                print(f"left out: {error}")
                continue
            crawls.setdefault(crawler.name, []).append(crawl)
            print(f"{shop.pages / crawl.cost.wall_s:.0f} pages/s", flush=True)
    found = {c.name: figures(shop.pages, crawls[c.name]) | {"what": c.what} for c in crawlers if c.name in crawls}
    return {"pages": shop.pages, "rounds": rounds, "versions": versions(), "crawlers": found, "left_out": missing}


def figures(pages: int, crawls: Sequence[Crawl]) -> dict[str, Any]:
    """Return the medians of several crawls, and the worst of their counts."""
    costs = [crawl.cost for crawl in crawls]
    counts = [asdict(crawl.count) for crawl in crawls]
    worst = {name: (min if name in ("pages", "products") else max)(c[name] for c in counts) for name in counts[0]}
    rates = [pages / cost.wall_s for cost in costs]
    return {
        "pages_per_s": round(statistics.median(rates), 1),
        "pages_per_s_spread": [round(min(rates), 1), round(max(rates), 1)],
        "cpu_s_per_1000": round(statistics.median(cost.cpu_s for cost in costs) * 1000 / pages, 3),
        "cpu_s_per_1000_sampled": round(statistics.median(cost.sampled_cpu_s for cost in costs) * 1000 / pages, 3),
        "pss_mib": round(statistics.median(cost.pss_mib for cost in costs), 1),
        "rss_mib": round(statistics.median(cost.rss_mib for cost in costs), 1),
        "largest_process_mib": round(statistics.median(cost.largest_mib for cost in costs), 1),
        "sent_mib": round(statistics.median(crawl.sent_bytes for crawl in crawls) / 2**20, 2),
        **worst,
    }


def versions() -> dict[str, str]:
    """Return the versions of the peers that are installed."""
    found = {}
    for name in OF_PEERS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def show(found: dict[str, Any]) -> None:
    """Print the race."""
    crawlers = found["crawlers"]
    ours = crawlers.get("bowerbird")
    rows = []
    for name, one in crawlers.items():
        ratios = [f"{ours[key] / one[key]:.2f}" if ours else "" for key in ("pages_per_s", "cpu_s_per_1000")]
        kept = [one[key] for key in ("pages", "lost", "doubled", "refetched")]
        products = [one[f"products{key}"] for key in ("", "_lost", "_doubled", "_wrong")]
        speed = [f"{one['pages_per_s']:.0f}", ratios[0], f"{one['cpu_s_per_1000']:.2f}", ratios[1]]
        rows.append([name, *speed, f"{one['pss_mib']:.0f}", *kept, *products])
    head = [
        "",
        "pages/s",
        "ours is x",
        "CPU s/1,000",
        "ours is x",
        "peak MiB",
        "pages",
        "lost",
        "doubled",
        "fetched twice",
    ]
    table(
        f"A shop of {found['pages']:,} pages, 32 requests at a time, median of {found['rounds']}",
        [*head, "products", "lost", "doubled", "wrong"],
        rows,
    )
    for name, why in found["left_out"].items():
        print(f"  {name}: left out, {why}")
