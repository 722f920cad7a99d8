"""The picture of what each process was at lately."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from api.timeline import SPAN, WIDTH, in_sight, lanes
from scraper.states import State

NOW = datetime(2026, 5, 1, tzinfo=UTC)


def moved(seconds_ago: float, state: str) -> dict[str, Any]:
    at = NOW - timedelta(seconds=seconds_ago)
    return {"at": at, "name": "scraper-0", "event": "moved", "level": "info", "facts": {"is": state}}


def test_a_process_of_which_nothing_is_known_yet_has_an_empty_lane() -> None:
    [lane] = lanes(["scraper-0"], [], NOW)
    assert (lane.name, lane.stretches, lane.deaths) == ("scraper-0", (), ())


@given(st.lists(st.tuples(st.floats(0, 5000), st.sampled_from(list(State))), max_size=12))
def test_stretches_follow_each_other_and_stay_in_the_picture(moves: list[tuple[float, State]]) -> None:
    told = [moved(ago, state) for ago, state in sorted(moves, key=lambda move: move[0])]
    [lane] = lanes(["scraper-0"], told, NOW)
    for before, after in zip(lane.stretches, lane.stretches[1:], strict=False):
        assert before.x <= after.x
    assert all(part.x >= 0 and part.x + part.width <= WIDTH + 1 for part in lane.stretches)


NAMES = ["scraper-0", "scraper-1"]
EVENTS = st.tuples(
    st.integers(0, 3000), st.sampled_from([*NAMES, "scraper-2"]), st.sampled_from(["moved", "ended", "hung"])
)


@given(st.lists(EVENTS, max_size=20))
def test_what_is_in_sight_makes_the_picture_that_all_would_make(made: list[tuple[int, str, str]]) -> None:
    told = [
        {"at": NOW - timedelta(seconds=ago), "name": name, "event": event, "level": "error", "facts": {"is": "idle"}}
        for ago, name, event in sorted(made)
    ]
    seen = in_sight([SimpleNamespace(**one) for one in told], NAMES, NOW)
    assert lanes(NAMES, [vars(one) for one in seen], NOW) == lanes(NAMES, told, NOW)


def test_no_more_events_are_read_than_the_picture_needs() -> None:
    def told() -> Iterator[SimpleNamespace]:
        for ago in (1.0, SPAN.total_seconds() + 1):
            yield SimpleNamespace(**moved(ago, "idle"))
        raise AssertionError("that was enough")

    assert len(in_sight(told(), ["scraper-0"], NOW)) == 2
