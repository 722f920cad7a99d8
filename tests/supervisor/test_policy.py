"""Decisions are tables."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scraper.states import MOVES, State
from scraper.supervisor.policy import (
    CURES,
    Action,
    Cause,
    Ended,
    Observation,
    Record,
    Rules,
    classify,
    decide,
    plan,
    stale,
)

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
        pytest.param(seen(last_beat=None, started=971.0, stopped=True), Action.WAIT, id="stopped while it boots"),
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
        (Ended(-9, False, None, True, oom=True), Cause.OUT_OF_MEMORY),
        (Ended(-15, False, None, True, oom=True), Cause.KILLED),
        (Ended(-9, True, None, True, oom=True), Cause.REQUESTED),
        (Ended(-31, False, None, True), Cause.NATIVE_CRASH),
        (Ended(-24, False, None, True), Cause.NATIVE_CRASH),
        (Ended(-15, False, None, False), Cause.KILLED),
        (Ended(None, False, None, True), Cause.LOST),
        (Ended(255, False, None, True), Cause.CRASH),
        (Ended(0, False, None, True, told=False), Cause.CRASH),
        (Ended(75, False, None, True, told=False), Cause.CRASH),
        (Ended(78, False, None, False, told=False), Cause.BOOT_FAILURE),
        (Ended(-9, False, None, True, same_page=9), Cause.KILLED),
        (Ended(-9, False, None, True, same_page=10), Cause.NATIVE_CRASH),
    ],
)
def test_classify(ended: Ended, expected: Cause) -> None:
    assert classify(ended) is expected


def after(cause: Cause, record: Record = Record(), **facts: Any) -> tuple[State, float | None, Record]:  # noqa: B008
    told = {"now": 1000.0, "started": 999.0, "at_work": True, "wanted": True, "rules": RULES, "jitter": 0.5, **facts}
    found = plan(cause, record=record, **told)
    return found.state, found.next_start, found.record


def died(*at: float) -> Record:
    return Record(deaths=at)


@pytest.mark.parametrize(
    ("cause", "record", "facts", "state", "next_start"),
    [
        pytest.param(Cause.KILLED, died(), {}, State.RESTARTING, 1000.0, id="a kill from outside: at once"),
        pytest.param(Cause.KILLED, died(*[999.0] * 50), {}, State.RESTARTING, 1000.0, id="whatever died before"),
        pytest.param(Cause.KILLED, Record(young=4), {"at_work": False}, State.RESTARTING, 1000.0, id="while it starts"),
        pytest.param(
            Cause.KILLED, Record(young=5), {"at_work": False}, State.RESTARTING, 1000.5, id="each time it starts"
        ),
        pytest.param(Cause.KILLED, Record(young=9), {}, State.RESTARTING, 1000.0, id="it had come up"),
        pytest.param(Cause.RECYCLED, died(), {"started": 900.0}, State.RESTARTING, 1000.0, id="recycled: at once"),
        pytest.param(Cause.RECYCLED, died(), {}, State.RESTARTING, 1000.5, id="recycled too soon: not hot"),
        pytest.param(Cause.CRASH, died(), {}, State.RESTARTING, 1000.5, id="a crash"),
        pytest.param(Cause.CRASH, died(998.0, 999.0), {}, State.RESTARTING, 1002.0, id="the third crash"),
        pytest.param(Cause.CRASH, died(1.0, 2.0, 3.0), {}, State.RESTARTING, 1000.5, id="old ones are forgiven"),
        pytest.param(
            Cause.CRASH, died(), {"started": 980.0}, State.RESTARTING, 1000.0, id="a crash after a steady life"
        ),
        pytest.param(
            Cause.CRASH, died(950.0), {"started": 980.0}, State.RESTARTING, 1001.0, id="and not the first one"
        ),
        pytest.param(Cause.CRASH, died(997.0, 998.0, 999.0), {}, State.FAILED, 1300.0, id="one crash too many"),
        pytest.param(Cause.CRASH, Record(open=True), {}, State.FAILED, 1300.0, id="the one try of a failed one"),
        pytest.param(
            Cause.CRASH, Record(open=True), {"started": 900.0}, State.RESTARTING, 1000.0, id="it has proved itself"
        ),
        pytest.param(Cause.KILLED, Record(open=True), {}, State.RESTARTING, 1000.0, id="killed while on trial"),
        pytest.param(
            Cause.OUT_OF_MEMORY, died(), {"started": 0.0}, State.RESTARTING, 1005.0, id="a moment for the machine"
        ),
        pytest.param(Cause.CONFIG_ERROR, died(), {}, State.FAILED, 1300.0, id="a person has to mend it"),
        pytest.param(Cause.CRASH, died(), {"wanted": False}, State.STOPPED, 1000.0, id="not wanted any more"),
        pytest.param(Cause.CRASH, died(), {"rules": Rules(restart="never")}, State.FAILED, None, id="never"),
        pytest.param(Cause.CLEAN, died(), {"rules": Rules(restart="on-failure")}, State.STOPPED, None, id="all done"),
        pytest.param(
            Cause.REQUESTED, died(), {"rules": Rules(restart="never")}, State.RESTARTING, 1000.0, id="asked for"
        ),
    ],
)
def test_what_follows_a_death(
    cause: Cause, record: Record, facts: dict[str, Any], state: State, next_start: float | None
) -> None:
    assert after(cause, record, **facts)[:2] == (state, next_start)


def test_running_out_of_memory_halves_the_concurrency_until_it_has_gone_well_for_long() -> None:
    record = after(Cause.OUT_OF_MEMORY)[2]
    record = after(Cause.OUT_OF_MEMORY, record)[2]
    assert record.halvings == 2
    assert after(Cause.KILLED, record)[2].halvings == 2
    assert after(Cause.KILLED, record, started=1000.0 - 3600.0)[2].halvings == 1


def test_a_silence_is_mentioned_before_it_is_a_hang() -> None:
    assert [stale(s, RULES) for s in (4.9, 5.1)] == [False, True]
    assert [stale(s, Rules(heartbeat_timeout=3)) for s in (1.4, 1.6)] == [False, True]


LIVES = st.tuples(st.sampled_from(Cause), st.floats(0, 5000), st.booleans(), st.floats(0, 1))


@given(st.lists(LIVES, min_size=1, max_size=60))
def test_nothing_is_restarted_hot_or_given_up_for_good(lives: list[tuple[Cause, float, bool, float]]) -> None:
    now, record, counted = 0.0, Record(), 0
    for cause, lived, at_work, jitter in lives:
        started, now = now, now + lived
        found = plan(
            cause,
            now=now,
            started=started,
            at_work=at_work,
            wanted=True,
            record=record,
            rules=RULES,
            jitter=jitter,
        )
        assert found.next_start is not None
        assert now <= found.next_start <= now + 1.2 * 300 + 1e-6
        assert (found.state is State.FAILED) == (found.next_start - now > 200)
        counted = counted + 1 if CURES[cause].counted and lived < 1 else 0
        if counted > RULES.max_restarts:
            assert found.state is State.FAILED
        now, record = found.next_start, found.record


def test_every_cause_has_a_cure_and_every_state_its_moves() -> None:
    assert set(CURES) == set(Cause)
    assert set(MOVES) == set(State)
    assert all(targets <= set(State) for targets in MOVES.values())
