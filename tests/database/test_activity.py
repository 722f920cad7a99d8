"""What was done, by the minute: nothing is lost, nothing is counted twice, and a quantile lies where it should."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scraper.database import Db, activity, alarms
from scraper.database.activity import BOUNDS_S, REST, Taken, quantile
from scraper.errors import Failure
from scraper.records import Claim, Fetched, Item, Reading, Visit

databases = pytest.mark.databases("sqlite", "postgresql", "pgbouncer")
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
LATENCY = st.dictionaries(st.sampled_from([*(f"{bound:g}" for bound in BOUNDS_S), REST]), st.integers(0, 1000))


def visit(elapsed_s: float | None = 0.02, failure: Failure | None = None, **more: Any) -> Visit:
    claim = Claim(1, more.pop("run", 1), more.pop("source", "s"), "http://a.org/", "a.org", 0, "page", 0)
    fetched = Fetched(claim.url, claim.url, 200, {}, b"", 0, elapsed_s) if elapsed_s is not None else None
    return Visit(claim, AT, fetched, failure=failure, **more)


def taken(*visits: Visit) -> Taken:
    made = Taken()
    for one in visits:
        made.count(one)
    return made


def add(db: Db, worker: str, done: Taken, at: datetime = AT, depth: int = 0) -> None:
    db.write(lambda c: activity.add(c, worker, done, depth, at))


@given(LATENCY, st.floats(0.01, 1), st.floats(0.01, 1))
def test_a_quantile_is_between_its_bounds_and_grows_with_its_share(
    latency: dict[str, int], one: float, other: float
) -> None:
    if not any(latency.values()):
        assert quantile(latency, one) is None
        return
    small, large = (quantile(latency, share) for share in sorted((one, other)))
    assert small is not None
    assert large is not None
    assert 0 <= small <= large <= BOUNDS_S[-1]
    below = 0.0
    for bound in BOUNDS_S:  # it lies in the stretch that holds so many answers
        count = sum(latency.get(f"{other:g}", 0) for other in BOUNDS_S if other <= bound)
        if count >= one * sum(latency.values()):
            assert below <= (quantile(latency, one) or 0.0) <= bound
            break
        below = bound


@given(st.lists(st.floats(0, 29.9), min_size=1, max_size=50))
def test_a_quantile_is_near_the_truth(times: list[float]) -> None:
    latency = taken(*(visit(elapsed_s) for elapsed_s in times)).latency
    half = sorted(times)[(len(times) + 1) // 2 - 1]
    found = quantile(latency, 0.5)
    assert found is not None
    bounds = (0.0, *BOUNDS_S)
    [(lower, upper)] = [
        pair for pair in zip(bounds, BOUNDS_S, strict=False) if pair[0] < half <= pair[1] or half == pair[0] == 0
    ]
    assert lower <= found <= upper


def test_what_is_counted_of_a_visit() -> None:
    done = taken(visit(0.005), visit(99.0), visit(0.3, Failure.HTTP_5XX), visit(None, Failure.DNS))
    assert (done.pages, done.failures) == (2, Counter({"http_5xx": 1, "dns": 1}))
    assert done.latency == Counter({"0.005": 1, REST: 1, "0.5": 1})
    assert done.elapsed_s == pytest.approx(99.305)
    assert not taken(visit(None, skipped=True, unchanged=True))


@databases
def test_workers_and_minutes_add_up(db: Db) -> None:
    add(db, "a", taken(visit(), visit()), AT, depth=7)
    add(db, "a", taken(visit(), visit(0.3, Failure.TIMEOUT)), AT, depth=5)
    add(db, "b", taken(visit()), AT, depth=6)
    add(db, "a", taken(visit(failure=Failure.DNS)), AT + MINUTE, depth=1)
    first, second, third = db.read(lambda c: activity.series(c, AT + 2 * MINUTE, 3, 3))
    assert (first.pages, dict(first.failures), first.depth) == (4, {"timeout": 1}, 6)
    assert (second.pages, dict(second.failures), second.depth) == (0, {"dns": 1}, 1)
    assert (third.pages, third.p50_s, third.depth, dict(third.failures)) == (0, None, 0, {})
    assert [point.minute for point in (first, second, third)] == [int(AT.timestamp() // 60) + n for n in (0, 1, 2)]
    [hour] = db.read(lambda c: activity.series(c, AT.replace(minute=59), 60, 1))
    assert hour.pages == pytest.approx(4 / 60)
    counted = db.read(activity.totals)
    assert counted[activity.VISITS] == {("s", "stored"): 4.0, ("s", "timeout"): 1.0, ("s", "dns"): 1.0}
    assert counted[activity.FETCH]["", "sum"] == pytest.approx(0.02 * 5 + 0.3)


@databases
def test_what_is_old_is_dropped(db: Db) -> None:
    add(db, "a", taken(visit()), AT)
    later = AT + (activity.KEPT_MINUTES + 1) * MINUTE
    add(db, "a", taken(visit()), later)
    assert sum(p.pages for p in db.read(lambda c: activity.series(c, later, 2 * activity.KEPT_MINUTES, 20_000))) == 1
    assert db.read(activity.totals)[activity.VISITS]["s", "stored"] == 2


@pytest.mark.databases("postgresql", "pgbouncer")
def test_workers_that_count_at_once_lose_nothing(db: Db) -> None:
    def work(worker: int) -> None:
        with Db(db.settings) as own:
            for number in range(20):
                all_three = [visit(), visit(failure=Failure.DNS), visit(failure=Failure.TIMEOUT)]
                add(own, f"w{worker}", taken(*all_three[:: 1 if (number + worker) % 2 else -1]))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    counted = db.read(activity.totals)[activity.VISITS]
    assert counted == {("s", "stored"): 80.0, ("s", "dns"): 80.0, ("s", "timeout"): 80.0}
    [point] = db.read(lambda c: activity.series(c, AT, 1, 1))
    assert (point.pages, dict(point.failures)) == (80, {"dns": 80, "timeout": 80})


VALUES = st.sampled_from([None, "", [], 0, False, "x", ["y"], 1.5])
ITEMS = st.builds(Item, st.sampled_from("kl"), st.text(max_size=3), st.dictionaries(st.sampled_from("abc"), VALUES))


@given(st.lists(st.tuples(st.integers(1, 3), st.lists(ITEMS, max_size=5)), max_size=6))
def test_fields_are_counted_where_they_say_something(found: list[tuple[int, list[Item]]]) -> None:
    counted = alarms.count([visit(run=run, reading=Reading(items=tuple(items))) for run, items in found])
    each = [(run, item) for run, items in found for item in items]
    expected: Counter[tuple[int, str, str]] = Counter()
    for run, item in each:
        expected[run, item.kind, ""] += 1
        for name, value in item.data.items():  # one that is empty everywhere is counted too: its rule is still there
            expected[run, item.kind, name] += value not in (None, "", [])
    assert counted == dict(expected)
    assert all(n <= counted[run, kind, ""] for (run, kind, _), n in counted.items())
