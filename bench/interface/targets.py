"""How quickly the pages and lists of a full database should be there. Pure."""

from collections.abc import Callable, Iterator

from bench.interface.asked import WANTED
from bench.targets import Results, Target

MOST_MS, MOST_KB = 100, 200
DATABASES = {"SQLite": "sqlite", "PostgreSQL": "postgresql"}


def _of(part: str, name: str, key: str, unit: float = 1) -> Callable[[Results], float]:
    return lambda results: float(results[part]["pages"][name][key]) / unit


def _figure(part: str, name: str, key: str) -> Callable[[Results], float]:
    return lambda results: float(results[part][name][key])


def _targets() -> Iterator[Target]:
    for database, part in DATABASES.items():
        for name in WANTED:
            yield Target(f"{database}: {name}: p95 ms", MOST_MS, _of(part, name, "p95_ms"), at_most=True)
        for name in WANTED:
            yield Target(f"{database}: {name}: KB", MOST_KB, _of(part, name, "bytes", 1000), at_most=True)
        yield Target(f"{database}: status: p99 ms", 20, _figure(part, "status", "p99_ms"), at_most=True)
        cores = _figure(part, "streams", "cpu_of_streams")
        yield Target(f"{database}: 100 streams: share of a core", 0.1, cores, at_most=True)


ALL = tuple(_targets())
