"""Pages stored per second: Bowerbird with one, two and four processes, and bare loops, in turn."""

import gc
import multiprocessing
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bench.storage import bare, ours
from bench.storage.counted import Count, counted
from bench.storage.places import Place, prepare
from bench.storage.site import Sites
from bench.support import table

HOSTS = 8
BODY = 20_000
ITEMS = 3
AHEAD = 1.1  # a bare loop goes through the pages in their order, but for those that all pages lead to


@dataclass(frozen=True)
class Crawl:
    """One crawl that was stored."""

    wall_s: float
    cpu_s: float
    peak_mib: float
    count: Count


def _by_us(processes: int) -> Callable[[str, Sites, int, dict[str, int]], tuple[float, float, float]]:
    def run(url: str, sites: Sites, upto: int, _: dict[str, int]) -> tuple[float, float, float]:
        shares = [tuple(range(place, sites.hosts, processes)) for place in range(processes)]
        done = ours.store([ours.Job(url, sites, mine, upto, upto) for mine in shares])
        wall = max(one.ended for one in done) - min(one.began for one in done)
        return wall, sum(one.cpu_s for one in done), sum(one.peak_mib for one in done)

    return run


def _bare(made_ready: bool) -> Callable[[str, Sites, int, dict[str, int]], tuple[float, float, float]]:
    def run(url: str, sites: Sites, upto: int, runs: dict[str, int]) -> tuple[float, float, float]:
        spawn = multiprocessing.get_context("spawn")
        told = spawn.SimpleQueue()
        process = spawn.Process(target=_loop, args=(url, sites, upto, runs, made_ready, told))
        process.start()
        process.join()
        if process.exitcode:
            raise RuntimeError(f"the bare loop ended with {process.exitcode}")
        found: tuple[float, float, float] = told.get()
        return found

    return run


def _loop(url: str, sites: Sites, upto: int, runs: dict[str, int], made_ready: bool, told: Any) -> None:
    numbers = range(int(upto * AHEAD) + 20)
    answers = {(place, number): sites.answer(place, number) for place in range(sites.hosts) for number in numbers}
    loop = bare.Loop(sites, runs, upto, answers, bare.moment_of(url))
    gc.freeze()  # the answers, which belong to the measuring
    told.put((*bare.store(url, loop, made_ready), ours.peak_mib()))


WAYS = {
    "bare": _bare(made_ready=False),
    "rows ready": _bare(made_ready=True),
    "1 process": _by_us(1),
    "2 processes": _by_us(2),
    "4 processes": _by_us(4),
}


def once(place: Place, way: str, sites: Sites, upto: int) -> Crawl:
    """Store a crawl in a new database, and look at it."""
    url = place.fresh("race")
    try:
        runs = prepare(url, sites)
        wall_s, cpu_s, peak_mib = WAYS[way](url, sites, upto, runs)
        return Crawl(wall_s, cpu_s, peak_mib, counted(url, sites, upto))
    finally:
        place.drop("race")


def run(place: Place, each: int, rounds: int) -> dict[str, Any]:
    """Have all store in turn, so many times. each: pages of each host."""
    sites = Sites(HOSTS, HOSTS, BODY, ITEMS)
    crawls: dict[str, list[Crawl]] = {way: [] for way in WAYS}
    for number in range(rounds):
        for way in WAYS:
            print(f"{place.name}, round {number + 1} of {rounds}: {way} ... ", end="", flush=True)
            crawls[way].append(once(place, way, sites, each))
            print(f"{HOSTS * each / crawls[way][-1].wall_s:.0f} pages/s", flush=True)
    found = {way: _figures(HOSTS * each, crawls[way]) for way in WAYS}
    return {"database": place.name, "pages": HOSTS * each, "rounds": rounds, "ways": found}


def _figures(pages: int, crawls: list[Crawl]) -> dict[str, Any]:
    rates = [pages / crawl.wall_s for crawl in crawls]
    counts = [crawl.count for crawl in crawls]
    return {
        "pages_per_s": round(statistics.median(rates), 1),
        "pages_per_s_each": [round(rate, 1) for rate in rates],
        "cpu_s_per_1000": round(statistics.median(crawl.cpu_s for crawl in crawls) * 1000 / pages, 3),
        "peak_mib": round(statistics.median(crawl.peak_mib for crawl in crawls), 1),
        "lost": max(count.lost for count in counts),
        "doubled": max(count.doubled for count in counts),
        "faults": sorted({fault for count in counts for fault in count.faults}),
    }


def show(found: dict[str, Any]) -> None:
    """Print it."""
    ways = found["ways"]
    rate = ways["bare"]["pages_per_s"]
    rows = [
        [way, f"{one['pages_per_s']:.0f}", f"{one['pages_per_s'] / rate:.2f}", f"{one['cpu_s_per_1000']:.2f}"]
        + [one["lost"], one["doubled"], len(one["faults"])]
        for way, one in ways.items()
    ]
    head = ["", "pages/s", "to the bare loop", "CPU s/1,000", "lost", "doubled", "faults"]
    table(f"{found['database']}: {found['pages']:,} pages of {HOSTS} hosts, median of {found['rounds']}", head, rows)
    for fault in sorted({fault for one in ways.values() for fault in one["faults"]}):
        print(f"  {fault}")
