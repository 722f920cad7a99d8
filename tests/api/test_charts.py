"""The pictures of the first page."""

import re
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.dashboard.charts import HEIGHT, OUTCOME, WIDTH, bars, outcomes


@pytest.mark.parametrize(("values", "count"), [([], 0), ([None, 0.0], 0), ([1.0, None, 0.0, 2.0], 2)])
def test_there_is_a_bar_where_there_is_something(values: list[float | None], count: int) -> None:
    assert bars(values, 2.0).count("M") == count


@given(st.lists(st.none() | st.floats(0, 1e12), max_size=100))
def test_bars_stay_in_the_picture(values: list[float | None]) -> None:
    most = max((value for value in values if value is not None), default=0.0)
    for x, high, wide in re.findall(r"M([\d.]+) 60v-([\d.]+)h([\d.]+)v", bars(values, most)):
        assert float(x) + float(wide) <= WIDTH + 0.2
        assert 0 < float(high) <= HEIGHT


def ran(state: str, failures: int = 0, began: datetime | None = datetime(2026, 5, 1, tzinfo=UTC)) -> dict[str, Any]:
    return {"state": state, "failures": failures, "pages": 7, "started_at": began}


def test_each_run_has_its_bar_the_last_one_at_the_end() -> None:
    drawn = outcomes([ran("failed", 3), ran("done", 2), ran("done"), ran("queued", began=None)], 6)
    found = re.findall(r'class="bar-(\w+)" x="(\d+)".*?<title>(.*?)</title>', drawn)
    assert found == [
        ("failed", str(2 * OUTCOME), "2026-05-01T00:00:00+00:00: failed, 7 pages, 3 failures"),
        ("some", str(3 * OUTCOME), "2026-05-01T00:00:00+00:00: done, 7 pages, 2 failures"),
        ("done", str(4 * OUTCOME), "2026-05-01T00:00:00+00:00: done, 7 pages"),
        ("queued", str(5 * OUTCOME), "queued: queued, 7 pages"),
    ]
    assert 'aria-label="the last 4 runs: 1 failed"' in drawn
