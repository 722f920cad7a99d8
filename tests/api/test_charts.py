"""The pictures of the first page."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.dashboard.charts import HEIGHT, WIDTH, bars


@pytest.mark.parametrize(("values", "count"), [([], 0), ([None, 0.0], 0), ([1.0, None, 0.0, 2.0], 2)])
def test_there_is_a_bar_where_there_is_something(values: list[float | None], count: int) -> None:
    assert bars(values, 2.0).count("M") == count


@given(st.lists(st.none() | st.floats(0, 1e12), max_size=100))
def test_bars_stay_in_the_picture(values: list[float | None]) -> None:
    most = max((value for value in values if value is not None), default=0.0)
    for x, high, wide in re.findall(r"M([\d.]+) 60v-([\d.]+)h([\d.]+)v", bars(values, most)):
        assert float(x) + float(wide) <= WIDTH + 0.2
        assert 0 < float(high) <= HEIGHT
