"""Run it all, print tables, write JSON and a picture."""

import argparse
import contextlib
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.crawl import again, crawlers, hosts, picture, race, scale, shares, slow, targets
from bench.crawl.measured import Failed, compiled
from bench.crawl.shop import Shop, build
from bench.support import directory, keep, with_known
from bench.targets import judged, show

QUICK_PAGES = 500
QUICK_CHAIN = 6
CHAIN = 60


@dataclass(frozen=True)
class Job:
    """What is to be measured, over what, and where there is room for it."""

    shop: Shop
    root: Path
    place: Path
    rounds: int
    chain: int
    chosen: list[crawlers.Crawler]


def _race(job: Job) -> dict[str, Any]:
    found = race.run(job.chosen, job.shop, job.root, job.place, job.rounds)
    race.show(found)
    return found


def _two_processes(job: Job) -> dict[str, Any]:
    found = hosts.run(job.shop, job.root, job.place, job.rounds)
    hosts.show(found)
    return found


def _second_pass(job: Job) -> dict[str, Any]:
    found = again.run(job.shop, job.root, job.place)
    again.show(found)
    return found


def _slow_hosts(job: Job) -> dict[str, Any]:
    found = slow.run(job.place, job.chain)
    slow.show(found)
    return found


def _shares(job: Job) -> dict[str, Any]:
    found = shares.run(job.shop, job.root, job.place, max(QUICK_CHAIN, job.chain // 4))
    shares.show(found)
    return found


def _scale(job: Job) -> dict[str, Any]:
    found = {"sizes": scale.run(job.place), "frontier": scale.frontier(job.place)}
    scale.show(found["sizes"], found["frontier"])
    return found


PARTS: dict[str, Callable[[Job], dict[str, Any]]] = {
    "race": _race,
    "two-processes": _two_processes,
    "second-pass": _second_pass,
    "slow-hosts": _slow_hosts,
    "shares": _shares,
    "scale": _scale,
}
ON_DEMAND = ("scale",)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    named = [crawler.name for crawler in crawlers.ALL]
    parser = argparse.ArgumentParser(prog="python -m bench.crawl", description="Crawling, beside its peers.")
    parser.add_argument("--pages", type=int, default=5000, help="of the shop")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--chain", type=int, default=CHAIN, help="pages of each of the slow hosts")
    parser.add_argument(
        "--only", type=lambda text: text.split(","), metavar="NAME,...", help=", ".join([*PARTS, *named])
    )
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_PAGES} pages, one round; writes nothing")
    parser.add_argument("--scale", action="store_true", help="also 200,000 pages, and a million known URLs")
    parser.add_argument("--folder", type=directory, help="where there is room; otherwise the system's temporary one")
    given = parser.parse_args()
    if unknown := set(given.only or ()) - {*PARTS, *named}:
        parser.error(f"--only knows no {', '.join(sorted(unknown))}; it knows {', '.join([*PARTS, *named])}")
    if given.quick:
        given.pages, given.rounds, given.chain = QUICK_PAGES, 1, QUICK_CHAIN
    return given


def chosen(only: list[str] | None, with_scale: bool) -> tuple[list[str], list[crawlers.Crawler]]:
    """Return the parts to run and the crawlers of the race. Pure."""
    names = only or [name for name in PARTS if name not in ON_DEMAND]
    some = [crawler for crawler in crawlers.ALL if crawler.name in names]
    parts = [name for name in PARTS if name in names or (name == "race" and some) or (name == "scale" and with_scale)]
    return parts, some or list(crawlers.ALL)


@contextlib.contextmanager
def _place(folder: Path | None) -> Iterator[Path]:
    place = Path(tempfile.mkdtemp(prefix="bench-crawl-", dir=folder))
    place.chmod(0o755)  # the web server may be another user
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _write(results: dict[str, Any]) -> None:
    """Put what was measured in place of what was known of the same parts."""
    whole = with_known("crawl", results)
    print(f"\nWritten to {keep('crawl', whole | {'targets': judged(targets.ALL, whole)})}")
    if "race" in results:
        print(f"Drawn in {picture.draw(results['race'])}")


def main() -> int:
    """Run the benchmark."""
    given = arguments()
    parts, some = chosen(given.only, given.scale)
    results: dict[str, Any] = {}
    compiled()
    with _place(given.folder) as place:
        root = place / "site"
        root.mkdir()
        print(f"Making a shop of {given.pages:,} pages ...", flush=True)
        job = Job(build(given.pages, root), root, place, given.rounds, given.chain, some)
        for part in parts:
            print(f"\n{part} ...", flush=True)
            try:
                results[part.replace("-", "_")] = PARTS[part](job)
            except Failed as error:
                print(f"{part} failed: {error}", file=sys.stderr)
    show(judged(targets.ALL, results))
    if given.quick or len(some) < len(crawlers.ALL):
        print("\nA part only: nothing was written.")
    else:
        _write(results)
    return 0 if len(results) == len(parts) else 1


if __name__ == "__main__":
    sys.exit(main())
