"""Run it all, print tables, write JSON."""

import argparse
import random
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from bench.supervision import costs, latency, peers
from bench.support import Endless, family, keep, kill_all, living, spread, table, until

SETTLE_S = 2.0
GONE_S = 3.0


def restarts(rounds: int) -> dict[str, Any]:
    """Kill the supervised process again and again, at random moments; then kill the supervisor."""
    found: dict[str, Any] = {}
    for make in peers.ALL:
        with tempfile.TemporaryDirectory() as place:
            site = Endless()
            peer = make(Path(place), site)
            print(f"{peer.name}: ", end="", flush=True)
            lines, pages, left = [], [], []
            try:
                until(partial(len, site.asked), f"{peer.name}: it scrapes")
                for _ in range(rounds):
                    time.sleep(SETTLE_S + random.random())
                    line, page = peers.kill_once(peer, site)
                    lines.append(line)
                    pages.append(page)
                    print(".", end="", flush=True)
                time.sleep(SETTLE_S)
                processes = family(peer.head.pid)
                peer.head.kill()
                peer.head.wait()
                time.sleep(GONE_S)
                left = living(processes)
                kill_all(left)
                print()
            finally:
                peer.end()
                site.close()
            found[peer.name] = {"first_line_ms": spread(lines), "first_page_ms": spread(pages), "left": len(left)}
    return found


def show(found: dict[str, Any]) -> None:
    """Print the restarts."""
    ours = found["bowerbird"]["first_line_ms"]["median"]
    rows = [
        [
            name,
            *(peer["first_line_ms"][n] for n in ("min", "median", "max")),
            f"{peer['first_line_ms']['median'] / ours:.1f}",
            *(peer["first_page_ms"][n] for n in ("min", "median", "max")),
            peer["left"],
        ]
        for name, peer in found.items()
    ]
    head = ["ms after kill -9", "line min", "median", "max", "ratio", "page min", "median", "max", "left behind"]
    table(
        "First line and first page of the replacement; processes left 3 s after kill -9 of the supervisor", head, rows
    )


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description="Supervision, beside its peers.")
    parser.add_argument("--rounds", type=int, default=10)
    given = parser.parse_args()
    results: dict[str, Any] = {"restarts": restarts(given.rounds)}
    show(results["restarts"])
    results["status_latency"] = latency.measure()
    latency.show(results["status_latency"])
    results["memory"], results["imports"] = costs.memory(), costs.imports(given.rounds)
    costs.show(results["memory"], results["imports"])
    print(f"\nWritten to {keep('supervision', results)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
