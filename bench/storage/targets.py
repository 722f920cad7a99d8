"""What the figures of storing should be. Pure."""

from collections.abc import Callable

from bench.targets import Results, Target


def _ratio(part: str, way: str, to: str) -> Callable[[Results], float]:
    def value(results: Results) -> float:
        ways = results[part]["ways"]
        return float(ways[way]["pages_per_s"] / ways[to]["pages_per_s"])

    return value


def _wrong(part: str) -> Callable[[Results], float]:
    def value(results: Results) -> float:
        ways = results[part]["ways"].values()
        return float(sum(way["lost"] + way["doubled"] + len(way["faults"]) for way in ways))

    return value


def _growth(part: str, name: str) -> Callable[[Results], float]:
    def value(results: Results) -> float:
        known = list(results[part]["known"].values())
        return float(known[-1][name] / known[0][name])

    return value


CACHE = 1.25  # SQLite's page cache is not full at ten thousand URLs, and is at a million: 16 MiB
ALL = (
    Target("SQLite: one process to the bare loop", 0.6, _ratio("sqlite", "1 process", "bare")),
    Target("SQLite: four processes to one", 1.0, _ratio("sqlite", "4 processes", "1 process")),
    Target("SQLite: lost, doubled, faults", 0, _wrong("sqlite"), at_most=True),
    Target("PostgreSQL: one process to the bare loop", 0.6, _ratio("postgresql", "1 process", "bare")),
    Target("PostgreSQL: four processes to one", 1.0, _ratio("postgresql", "4 processes", "1 process")),
    Target("PostgreSQL: lost, doubled, faults", 0, _wrong("postgresql"), at_most=True),
    Target(
        "frontier, SQLite: cost of a URL, most to fewest known", 1.5, _growth("frontier", "us_per_url"), at_most=True
    ),
    Target("frontier, SQLite: memory, most to fewest known", CACHE, _growth("frontier", "peak_mib"), at_most=True),
    Target(
        "frontier, PostgreSQL: cost of a URL, most to fewest known",
        1.5,
        _growth("frontier_postgresql", "us_per_url"),
        at_most=True,
    ),
)
