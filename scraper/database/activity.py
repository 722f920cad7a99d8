"""activity, counters: what was done, minute by minute, for charts; and what only grows, for Prometheus."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, select

from scraper.database.bulk import Bulk, upsert
from scraper.database.models import activity, counters
from scraper.errors import Failure
from scraper.records import Visit

# Upper bounds of how long an answer took, in seconds; beyond the last one is the rest.
BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
KEPT_MINUTES = 8 * 24 * 60
STORED = "stored"
FETCH = "fetch_seconds"
VISITS = "visits"
REST = "+Inf"


@dataclass(slots=True)
class Taken:
    """What one worker did since it last told."""

    pages: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    latency: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    elapsed_s: float = 0.0

    def count(self, visit: Visit) -> None:
        """Count one visit."""
        outcome = str(visit.failure) if visit.failure is not None else STORED
        if visit.skipped or visit.dropped:
            return
        self.outcomes[visit.claim.source, outcome] += 1
        if visit.failure is None:
            self.pages += 1
        else:
            self.failures[outcome] += 1
        if visit.fetched is not None:
            place = bisect_left(BOUNDS_S, visit.fetched.elapsed_s)
            self.latency[f"{BOUNDS_S[place]:g}" if place < len(BOUNDS_S) else REST] += 1
            self.elapsed_s += visit.fetched.elapsed_s

    def __bool__(self) -> bool:
        return bool(self.outcomes)


def add(connection: Connection, worker: str, taken: Taken, depth: int, at: datetime) -> None:
    """Keep what a worker did, and how many URLs wait."""
    minute = int(at.timestamp() // 60)
    key = (activity.c.minute == minute) & (activity.c.worker == worker)
    row = connection.execute(select(activity).where(key)).first()
    values = {
        "minute": minute,
        "worker": worker,
        "pages": taken.pages + (row.pages if row is not None else 0),
        "failures": dict(taken.failures + Counter(row.failures if row is not None else {})),
        "latency": dict(taken.latency + Counter(row.latency if row is not None else {})),
        "depth": depth,
    }
    more = upsert(connection.dialect.name, activity).values(**values)
    connection.execute(more.on_conflict_do_update(index_elements=["minute", "worker"], set_=values))
    _COUNT.run(connection, list(_rows(taken)))
    if row is None:
        connection.execute(delete(activity).where(activity.c.minute < minute - KEPT_MINUTES))


def _rows(taken: Taken) -> Iterator[dict[str, Any]]:
    """In one order, so that two who count at once do not wait for each other."""
    for bound, count in sorted(taken.latency.items()):
        yield {"name": FETCH, "source": "", "label": bound, "value": float(count)}
    if taken.latency:
        yield {"name": FETCH, "source": "", "label": "sum", "value": taken.elapsed_s}
    for (source, outcome), count in sorted(taken.outcomes.items()):
        yield {"name": VISITS, "source": source, "label": outcome, "value": float(count)}


def _counted(dialect: str) -> Any:
    more = upsert(dialect, counters)
    set_ = {"value": counters.c.value + more.excluded.value}
    return more.on_conflict_do_update(index_elements=["name", "source", "label"], set_=set_)


_COUNT = Bulk(_counted)


def totals(connection: Connection) -> dict[str, dict[tuple[str, str], float]]:
    """Return all counters, as {name: {(source, label): value}}."""
    found: dict[str, dict[tuple[str, str], float]] = {}
    for row in connection.execute(select(counters)):
        found.setdefault(row.name, {})[row.source, row.label] = row.value
    return found


@dataclass(frozen=True, slots=True)
class Point:
    """One stretch of time: pages and failures a minute, seconds until half and until 95 % of the answers were there."""

    minute: int
    pages: float
    failures: Mapping[str, float]
    p50_s: float | None
    p95_s: float | None
    depth: int


def series(connection: Connection, at: datetime, minutes: int, points: int) -> list[Point]:
    """Return the last minutes as so many points, the oldest first; a stretch in which nothing was told is there too."""
    last = int(at.timestamp() // 60)
    each = max(1, minutes // points)
    first = (last // each - points + 1) * each
    rows = connection.execute(select(activity).where(activity.c.minute >= first)).all()
    slots: dict[int, list[Any]] = {}
    for row in rows:
        slots.setdefault((row.minute - first) // each, []).append(row)
    return [_point(first + place * each, each, slots.get(place, [])) for place in range(points)]


def _point(minute: int, each: int, rows: list[Any]) -> Point:
    latency: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    newest: dict[str, Any] = {}
    for row in rows:
        latency.update(row.latency)
        failed.update(row.failures)
        if row.worker not in newest or newest[row.worker].minute < row.minute:
            newest[row.worker] = row
    return Point(
        minute,
        sum(row.pages for row in rows) / each,
        {_kind(name): count / each for name, count in failed.items()},
        quantile(latency, 0.5),
        quantile(latency, 0.95),
        max((row.depth for row in newest.values()), default=0),
    )


def _kind(name: str) -> str:
    return name if name in set(Failure) else "other"


def quantile(latency: Mapping[str, int], share: float) -> float | None:
    """Return how long it took until such a share of the answers was there, in seconds; between two bounds evenly."""
    total = sum(latency.values())
    if not total:
        return None
    wanted, below, lower = share * total, 0, 0.0
    for bound in BOUNDS_S:
        count = latency.get(f"{bound:g}", 0)
        if count and below + count >= wanted:
            return lower + (bound - lower) * (wanted - below) / count
        below, lower = below + count, bound
    return BOUNDS_S[-1]
