"""Claiming and finishing URLs, over few known ones and over millions: does it cost more, and does it take more memory."""

import statistics
from typing import Any

from bench.storage import ours
from bench.storage.fill import fill, visited
from bench.storage.places import Place
from bench.storage.site import Sites
from bench.support import table

HOSTS, SOURCES = 100, 10
BODY = 500
SIZES = (10_000, 1_000_000, 5_000_000)
QUICK_SIZES = (10_000, 200_000)
EACH = 40  # of each host, each time
SMALL = 100_000  # what is smaller is made anew for each round: it would grow by much


def run(place: Place, sizes: tuple[int, ...], rounds: int) -> dict[str, Any]:
    """Go through the sizes in turn, so many times."""
    sites = Sites(HOSTS, SOURCES, BODY, items=0)
    size_of: dict[int, float] = {}
    for known in sizes:
        print(f"{place.name}: making a frontier of {known:,} URLs ...", flush=True)
        size_of[known] = fill(place.fresh(f"known-{known}"), sites, known)
    found: dict[int, list[ours.Stored]] = {known: [] for known in sizes}
    for number in range(rounds):
        for known in sizes:
            if known < SMALL and number:
                place.drop(f"known-{known}")
                fill(place.fresh(f"known-{known}"), sites, known)
            print(f"{place.name}, round {number + 1} of {rounds}: {known:,} known ... ", end="", flush=True)
            done = _once(place, sites, known, number if known >= SMALL else 0)
            found[known].append(done)
            print(f"{done.stored / (done.ended - done.began):.0f} URLs/s", flush=True)
    for known in sizes:
        place.drop(f"known-{known}")
    figures = {str(known): _figures(found[known]) | {"bytes_per_url": round(size_of[known])} for known in sizes}
    return {"database": place.name, "hosts": HOSTS, "urls_each": EACH * HOSTS, "rounds": rounds, "known": figures}


def _once(place: Place, sites: Sites, known: int, before: int) -> ours.Stored:
    first = visited(known, sites) + EACH * before
    upto = (first + EACH) * sites.hosts // sites.sources
    job = ours.Job(place.url(f"known-{known}"), sites, tuple(range(sites.hosts)), upto, EACH, first)
    done = ours.store([job])[0]
    if done.stored != EACH * sites.hosts or done.failed:
        raise RuntimeError(
            f"{done.stored} URLs were finished and {done.failed} failed, not {EACH * sites.hosts} and none"
        )
    return done


def _figures(done: list[ours.Stored]) -> dict[str, Any]:
    def median(values: list[float], digits: int = 1) -> float:
        return round(statistics.median(values), digits)

    return {
        "urls_per_s": median([one.stored / (one.ended - one.began) for one in done]),
        "us_per_url": median([1e6 * (one.ended - one.began) / one.stored for one in done]),
        "claim_us_per_url": median([1e6 * one.claim_s / one.stored for one in done]),
        "cpu_us_per_url": median([1e6 * one.cpu_s / one.stored for one in done]),
        "peak_mib": median([one.peak_mib for one in done]),
        "late": max(one.late for one in done),
    }


def show(found: dict[str, Any]) -> None:
    """Print it."""
    names = ["us_per_url", "claim_us_per_url", "cpu_us_per_url", "bytes_per_url", "peak_mib"]
    rows = [
        [f"{int(known):,}", f"{one['urls_per_s']:.0f}", *(one[name] for name in names)]
        for known, one in found["known"].items()
    ]
    table(
        f"{found['database']}: {found['urls_each']:,} URLs of {HOSTS} hosts claimed and finished, median of {found['rounds']}",
        ["known URLs", "URLs/s", "us a URL", "to claim it", "CPU us", "bytes a URL", "peak MiB"],
        rows,
    )
