"""Pages and lists, asked for in turn over one connection."""

import http.client
import statistics
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bench.interface.service import Running
from bench.support import quantile, table

WARM = 10
STATUS = "/api/scraper-status"
STATUS_EACH_S = 0.003
DEEP = 1000  # so many pages of fifty rows down the list
PATHS: Mapping[str, str] = {
    "overview": "/",
    "overview of a week": "/?range=7d",
    "sources": "/sources",
    "sources, failing": "/sources?state=failing",
    "one source": "/sources/{large}",
    "items": "/items",
    "items of a source": "/items?source={large}",
    "items of a rare kind": "/items?kind=job",
    "changes": "/changes",
    "changes of a source": "/changes?source={large}",
    "changes, removed": "/changes?change=removed",
    "queue": "/queue",
    "pages": "/pages",
    "system": "/system",
    "api: sources": "/api/sources",
    "api: items": "/api/items",
    "api: items, page 1,000": "/api/items?cursor={deep}",
    "api: items of a source": "/api/items?source={large}",
    "api: items of a rare kind": "/api/items?kind=job",
    "api: items, removed": "/api/items?removed=true",
    "api: items, changed lately": "/api/items?changed_since={lately}",
    "api: changes": "/api/changes",
    "api: changes of an item": "/api/changes?item_id={item}",
    "api: changes, unread": "/api/changes?unread=true&change=changed",
    "api: runs": "/api/runs",
    "api: runs, failed": "/api/runs?state=failed",
    "api: pages": "/api/pages",
    "api: pages, gone": "/api/pages?gone=true",
    "api: page of an address": "/api/pages?url={page}",
    "api: failures": "/api/failures",
    "api: failures of a reason": "/api/failures?reason=robots_denied",
    "metrics": "/metrics",
}
# Those that must be quick and small.
WANTED = (
    "overview",
    "sources",
    "items",
    "changes",
    "api: sources",
    "api: items",
    "api: changes",
)


@dataclass(slots=True)
class Took:
    """What answers took, in seconds, and of a processor; and how large the largest was.

    The processor's seconds are those of the answering process: what else runs on the machine does not count.
    """

    seconds: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    bytes: int = 0

    def figures(self) -> dict[str, Any]:
        """Return them in milliseconds."""
        shares = {"p50_ms": 0.5, "p95_ms": 0.95, "p99_ms": 0.99}
        found = {name: round(1000 * quantile(self.seconds, share), 1) for name, share in shares.items()}
        return found | {"cpu_ms": round(1000 * quantile(self.cpu_s, 0.5), 1), "bytes": self.bytes}


class Refused(Exception):
    """An answer was none."""


class Client:
    """One connection that is kept open."""

    def __init__(self, running: Running) -> None:
        self._running = running
        self._connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=120)

    def ask(self, path: str, took: Took | None = None) -> None:
        """Ask once. Raises Refused."""
        used = self._running.precise_cpu_s() if took is not None else 0.0
        began = time.perf_counter()
        self._connection.request("GET", path)
        answer = self._connection.getresponse()
        body = answer.read()
        ended = time.perf_counter()
        if answer.status != 200:
            raise Refused(f"{path} answered {answer.status}: {body[:200]!r}")
        if took is not None:
            took.seconds.append(ended - began)
            took.cpu_s.append(self._running.precise_cpu_s() - used)
            took.bytes = max(took.bytes, len(body))

    def close(self) -> None:
        """Close it."""
        self._connection.close()


def pages(running: Running, named: Mapping[str, str], times: int) -> dict[str, Took]:
    """Ask for all in turn, so many times. named: what stands for the words in braces."""
    client = Client(running)
    paths = {name: path.format_map(named) for name, path in PATHS.items()}
    found = {name: Took() for name in paths}
    for number in range(WARM + times):
        for name, path in paths.items():
            client.ask(path, found[name] if number >= WARM else None)
    client.close()
    return found


def status(running: Running, times: int) -> Took:
    """Ask for the status, by and by."""
    client, took = Client(running), Took()
    for _ in range(times):
        client.ask(STATUS, took)
        time.sleep(STATUS_EACH_S)
    client.close()
    return took


def beside(running: Running, path: str, what: Callable[[], Took]) -> Took:
    """Measure something while somebody else asks for a page, again and again."""
    ended = threading.Event()

    def ask() -> None:
        client = Client(running)
        while not ended.is_set():
            client.ask(path)
        client.close()

    other = threading.Thread(target=ask, daemon=True)
    other.start()
    try:
        return what()
    finally:
        ended.set()
        other.join()


def show(title: str, found: Mapping[str, Mapping[str, Any]]) -> None:
    """Print it."""
    rows = [
        [name, *(one[key] for key in ("p50_ms", "p95_ms", "p99_ms", "cpu_ms", "bytes"))] for name, one in found.items()
    ]
    table(title, ["", "p50 ms", "p95 ms", "p99 ms", "CPU ms", "bytes"], rows)


def middle(several: list[dict[str, Any]]) -> dict[str, Any]:
    """Return of each figure the median of several rounds."""
    return {name: round(statistics.median([one[name] for one in several]), 1) for name in several[0]}
