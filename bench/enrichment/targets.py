"""What the figures of enrichment should be. Pure."""

from bench.targets import Results, Target


def _wrong(results: Results) -> float:
    found = results["kills"]
    return float(found["lost"] + found["doubled"] + found["left"])


def _best(results: Results) -> float:
    found = results["recall"]
    return float(found["hybrid"] - max(found["text"], found["semantic"]))


TARGETS = [
    Target("three workers, SQLite: share of perfect", 0.9, lambda r: r["parallel"]["sqlite"]["efficiency"]),
    Target("three workers, PgBouncer: share of perfect", 0.9, lambda r: r["parallel"]["pgbouncer"]["efficiency"]),
    Target("lock errors", 0, lambda r: sum(one["faults"] for one in r["parallel"].values()), at_most=True),
    Target("killed workers: lost, doubled, left", 0, _wrong, at_most=True),
    Target("vectors beside the bare model", 0.9, lambda r: r["vectors"]["ratio"]),
    Target("search among 100,000, p95 ms", 60, lambda r: r["search"]["p95_ms"], at_most=True),
    Target("the same by pgvector's index", 60, lambda r: r["index"]["p95_ms"], at_most=True),
    Target("what share of the ten nearest the index finds", 0.95, lambda r: r["index"]["recall"]),
    Target(
        "F1 of the text that is kept, less trafilatura's",
        0,
        lambda r: r["extraction"]["kept"] - r["extraction"]["trafilatura"],
    ),
    Target("both ways find no less than the better one", 0, _best),
]
