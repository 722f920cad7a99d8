"""Decisions are tables."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scraper.states import MOVES, State
from scraper.supervisor.policy import CURES, Action, Cause, Ended, Observation, Rules, classify, decide, plan

RULES = Rules(heartbeat_timeout=30, stop_timeout=5, backoff_max=60, max_restarts=3, restart_window=60)


def seen(**facts: Any) -> Observation:
    return Observation(**{"now": 1000.0, "wanted": True, "alive": True, "started": 900.0, "last_beat": 999.0, **facts})


@pytest.mark.parametrize(
    ("observation", "expected"),
    [
        pytest.param(seen(), Action.WAIT, id="healthy"),
        pytest.param(seen(last_beat=969.9), Action.SHOW, id="silent too long"),
        pytest.param(seen(last_beat=969.0, shown=999.5), Action.WAIT, id="its stacks were asked for"),
        pytest.param(seen(last_beat=969.0, shown=998.0), Action.KILL, id="still silent after that"),
        pytest.param(seen(last_beat=999.0, shown=998.0), Action.WAIT, id="it woke up"),
        pytest.param(seen(last_beat=None, started=980.0), Action.WAIT, id="booting"),
        pytest.param(seen(last_beat=None, started=960.0), Action.KILL, id="never came up"),
        pytest.param(seen(wanted=False), Action.STOP, id="not wanted"),
        pytest.param(seen(wanted=False, stop_asked=996.0), Action.WAIT, id="on its way out"),
        pytest.param(seen(wanted=False, stop_asked=995.0), Action.KILL, id="does not go"),
        pytest.param(seen(too_big=True), Action.KILL, id="far over its memory"),
        pytest.param(seen(alive=False, next_start=1000.0), Action.START, id="due"),
        pytest.param(seen(alive=False, next_start=1000.1), Action.WAIT, id="not due yet"),
        pytest.param(seen(alive=False, next_start=None), Action.WAIT, id="a person must ask"),
        pytest.param(seen(alive=False, next_start=0.0, wanted=False), Action.WAIT, id="dead and not wanted"),
    ],
)
def test_decide(observation: Observation, expected: Action) -> None:
    assert decide(observation, RULES) is expected


@pytest.mark.parametrize(
    ("ended", "expected"),
    [
        (Ended(0, True, None, True), Cause.REQUESTED),
        (Ended(-9, True, None, True), Cause.REQUESTED),
        (Ended(-9, True, Cause.STOP_TIMEOUT, True), Cause.STOP_TIMEOUT),
        (Ended(-9, False, Cause.HANG, True), Cause.HANG),
        (Ended(0, False, None, True), Cause.CLEAN),
        (Ended(75, False, None, True), Cause.RECYCLED),
        (Ended(78, False, None, True), Cause.CONFIG_ERROR),
        (Ended(1, False, None, False), Cause.BOOT_FAILURE),
        (Ended(1, False, None, True), Cause.CRASH),
        (Ended(-11, False, None, True), Cause.NATIVE_CRASH),
        (Ended(-6, False, None, True), Cause.NATIVE_CRASH),
        (Ended(-9, False, None, True), Cause.KILLED),
        (Ended(-15, False, None, False), Cause.KILLED),
        (Ended(None, False, None, True), Cause.LOST),
        (Ended(255, False, None, True), Cause.LOST),
    ],
)
def test_classify(ended: Ended, expected: Cause) -> None:
    assert classify(ended) is expected


def after(cause: Cause, **facts: Any) -> tuple[State, float | None, int]:
    given_ = {"now": 1000.0, "started": 999.0, "wanted": True, "deaths": (), "rules": RULES, "jitter": 0.5, **facts}
    found = plan(cause, **given_)
    return found.state, found.next_start, len(found.deaths)


def test_what_follows_a_death() -> None:
    assert after(Cause.KILLED) == (State.RESTARTING, 1000.0, 0)
    assert after(Cause.KILLED, deaths=(999.0,) * 50) == (State.RESTARTING, 1000.0, 50)
    assert after(Cause.RECYCLED, started=900.0) == (State.RESTARTING, 1000.0, 0)
    assert after(Cause.RECYCLED) == (State.RESTARTING, 1000.5, 1)
    assert after(Cause.CRASH) == (State.RESTARTING, 1000.5, 1)
    assert after(Cause.CRASH, deaths=(998.0, 999.0)) == (State.RESTARTING, 1002.0, 3)
    assert after(Cause.CRASH, deaths=(1.0, 2.0, 3.0)) == (State.RESTARTING, 1000.5, 1)
    assert after(Cause.CRASH, started=980.0) == (State.RESTARTING, 1000.0, 1)
    assert after(Cause.CRASH, deaths=(997.0, 998.0, 999.0)) == (State.FAILED, 1300.0, 4)
    assert after(Cause.CONFIG_ERROR) == (State.FAILED, None, 0)
    assert after(Cause.CRASH, wanted=False) == (State.STOPPED, 1000.0, 0)
    assert after(Cause.CRASH, rules=Rules(restart="never")) == (State.FAILED, None, 0)
    assert after(Cause.CLEAN, rules=Rules(restart="on-failure")) == (State.STOPPED, None, 0)
    assert after(Cause.REQUESTED, rules=Rules(restart="never")) == (State.RESTARTING, 1000.0, 0)


@given(st.sampled_from(Cause), st.lists(st.floats(0, 1000), max_size=20), st.floats(0, 1), st.floats(0, 1000))
def test_nothing_is_restarted_hot_or_given_up_for_good(
    cause: Cause, deaths: list[float], jitter: float, started: float
) -> None:
    found = plan(
        cause, now=1000.0, started=started, wanted=True, deaths=tuple(sorted(deaths)), rules=RULES, jitter=jitter
    )
    assert (found.next_start is None) == (not CURES[cause].restarts)
    if found.next_start is not None:
        assert 1000.0 <= found.next_start <= 1000.0 + 1.2 * 300
    if len(found.deaths) > RULES.max_restarts and CURES[cause].counted:
        assert found.state is State.FAILED


def test_every_cause_has_a_cure_and_every_state_its_moves() -> None:
    assert set(CURES) == set(Cause)
    assert set(MOVES) == set(State)
    assert all(targets <= set(State) for targets in MOVES.values())
