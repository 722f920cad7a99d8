"""Many slow hosts at once: how near to what arithmetic allows."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.crawl import bowerbird
from bench.crawl.measured import ROOT, measure
from bench.crawl.site import listening
from bench.crawl.slowsite import AFTER_S, address
from bench.support import free_port, table, until

HOSTS = 500
STALLING = 10
SOME_FAILED = (0, 1)  # the sources that get no answer fail, and `scrape` says so


@contextlib.contextmanager
def serving(folder: Path, pages: int) -> Iterator[int]:
    """Serve the hosts from a process of its own, which writes what it saw into the folder. Yields the port."""
    port = free_port()
    words = [str(n) for n in (port, HOSTS, STALLING, pages)]
    command = [sys.executable, "-m", "bench.crawl.slowsite", *words, str(folder / "seen.json")]
    process = subprocess.Popen(command, cwd=ROOT)
    try:
        until(lambda: listening(port, address(HOSTS - 1)), "the slow hosts listen")
        yield port
    finally:
        process.terminate()
        process.wait()


def prepare(folder: Path, port: int, pages: int) -> None:
    """Write the configuration: a source for each host."""
    starts = {f"slow{n}": f"http://{address(n)}:{port}/0" for n in range(HOSTS)}
    bowerbird.configure(
        folder, starts, pages + 10, items=False, in_flight=HOSTS, per_host=1, more=["retries = 0"], depth=pages + 10
    )


def rates(seen: Sequence[tuple[int, int, float, float]], pages: int) -> dict[str, float]:
    """Return pages per second from the first request to the last answer, and while every host was at work. Pure."""
    begun = max(asked for _, page, asked, _ in seen if page == 0)
    ended = min((answered for _, page, _, answered in seen if page == pages - 1), default=begun)
    middle = [answered for _, _, _, answered in seen if begun < answered <= ended]
    whole = max(answered for *_, answered in seen) - min(asked for _, _, asked, _ in seen)
    return {
        "pages_per_s": round(len(seen) / whole, 1),
        "all_at_work_pages_per_s": round(len(middle) / (ended - begun), 1) if ended > begun else 0.0,
        "limit_pages_per_s": round((HOSTS - STALLING) / AFTER_S, 1),
    }


def run(place: Path, pages: int) -> dict[str, Any]:
    """Crawl all hosts at once. pages: in the chain of each."""
    folder = place / "slow"
    folder.mkdir()
    with serving(folder, pages) as port:
        prepare(folder, port, pages)
        cost = measure(bowerbird.SCRAPE, folder, SOME_FAILED)
    seen = [
        (host, page, asked, answered) for host, page, asked, answered in json.loads((folder / "seen.json").read_text())
    ]
    wanted = (HOSTS - STALLING) * pages
    kept = len(set(bowerbird.page_urls(folder)))
    return {
        "hosts": HOSTS,
        "stalling": STALLING,
        "pages": wanted,
        "kept": kept,
        "lost": wanted - kept,
        "refetched": len(seen) - len({(host, page) for host, page, *_ in seen}),
        **rates(seen, pages),
        "core_pages_per_s": round(wanted / cost.cpu_s, 1),
        "cpu_s_per_1000": round(cost.cpu_s * 1000 / wanted, 3),
        "pss_mib": round(cost.pss_mib, 1),
    }


def show(found: dict[str, Any]) -> None:
    """Print it."""
    names = [
        "pages_per_s",
        "all_at_work_pages_per_s",
        "limit_pages_per_s",
        "core_pages_per_s",
        "cpu_s_per_1000",
        "pss_mib",
        "lost",
        "refetched",
    ]
    table(
        f"{found['hosts']} hosts that take {AFTER_S} s for a page, {found['stalling']} of them for ever",
        [
            "",
            "pages/s",
            "with all at work",
            "the limit",
            "a core allows",
            "CPU s/1,000",
            "peak MiB",
            "lost",
            "fetched twice",
        ],
        [["bowerbird", *(found[name] for name in names)]],
    )
