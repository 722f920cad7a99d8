"""The picture of what each process was at lately."""

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from api.timeline import WIDTH, lanes
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
