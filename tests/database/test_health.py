"""How sources are doing, told for many at once as for one."""

from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Connection, event, insert

from scraper.config.settings import Source
from scraper.database import Db, health, sources
from scraper.database.connection import now
from scraper.database.models import alarms, failures, runs
from scraper.database.models import sources as source_table
from scraper.errors import Failure
from scraper.states import RunKind, RunState

pytestmark = pytest.mark.databases("sqlite", "postgresql")

EXPECTED = {
    "alarmed": "degraded",
    "broken": "failing",
    "fine": "ok",
    "fresh": "new",
    "mended": "ok",
    "off": "disabled",
    "parsed": "degraded",
    "resting": "paused",
    "running": "ok",
    "slow": "ok",
}
RUNS = 3


def _add(
    c: Connection, name: str, at: datetime, states: tuple[RunState, ...] = (RunState.FAILED, RunState.DONE)
) -> None:
    made = Source(name=name, start=(f"https://{name}.example/",), enabled=name != "off")
    sources.add(c, made, lambda source, last: None)
    for number, state in enumerate(states):
        ended = None if state is RunState.RUNNING else at
        said = f"{name} {number}" if ended else None
        row = {"source": name, "state": state, "queued_at": at, "started_at": at, "finished_at": ended, "message": said}
        run_id = c.execute(insert(runs).values(**row)).inserted_primary_key
        assert run_id is not None
        sources.started(c, name, run_id[0], at, None)


def _fails(
    c: Connection, number: int, name: str, reason: Failure, at: datetime, resolved: datetime | None = None
) -> None:
    row = {"url_id": number, "source": name, "url": f"https://{name}.example/{number}", "reason": reason}
    when = {"message": "it did", "attempts": 1, "first_at": at, "last_at": at, "resolved_at": resolved}
    c.execute(insert(failures).values(**row, **when))


@pytest.fixture
def filled(db: Db) -> Db:
    """A source of each health."""

    def unit(c: Connection) -> None:
        at = now()
        for name in ("alarmed", "fine", "mended", "off", "parsed", "resting", "slow"):
            _add(c, name, at)
        _add(c, "broken", at, (RunState.DONE,) * RUNS + (RunState.FAILED,))
        _add(c, "running", at, (RunState.DONE, RunState.RUNNING))
        _add(c, "fresh", at, ())
        sources.pause(c, ["resting"], at)
        _fails(c, 1, "parsed", Failure.EXTRACT, at)
        _fails(c, 2, "parsed", Failure.EXTRACT, at)
        _fails(c, 3, "mended", Failure.EXTRACT, at, at)
        _fails(c, 4, "slow", Failure.TIMEOUT, at)
        told = {"kind": "items", "name": "", "at": at, "last_at": at, "message": "half of them are gone"}
        c.execute(insert(alarms).values(source="alarmed", **told))
        c.execute(insert(alarms).values(source="fine", resolved_at=at, **told))

    db.write(unit)
    return db


def test_all_are_told_as_each_one(filled: Db) -> None:
    assert filled.read(lambda c: {one.name: one.health for one in health.summaries(c)}) == EXPECTED
    found = filled.read(lambda c: health.listed(c)[0])
    assert {row["name"]: row["health"] for row in found} == EXPECTED
    for row in found:
        assert filled.read(partial(health.one, name=row["name"])) == row


def test_they_are_counted(filled: Db) -> None:
    expected = {state: list(EXPECTED.values()).count(state) for state in health.STATES}
    assert filled.read(lambda c: health.counts(health.summaries(c))) == expected


def test_what_the_last_run_said_is_of_the_last_that_ended(filled: Db) -> None:
    found = filled.read(lambda c: health.messages(c, ["broken", "running", "fresh"]))
    assert found == {"broken": f"broken {RUNS}", "running": "running 0", "fresh": None}
    assert filled.read(lambda c: health.one(c, "running"))["message"] == "running 0"


def test_what_fails_is_told_by_reason_with_the_last(filled: Db) -> None:
    [trouble] = filled.read(lambda c: health.one(c, "parsed"))["troubles"]
    assert (trouble["reason"], trouble["count"], trouble["url"]) == ("extract", 2, "https://parsed.example/2")


@pytest.mark.parametrize("most", [1, 2, RUNS + 1, 30])
def test_of_many_sources_the_last_runs_are_told_at_once(filled: Db, most: int) -> None:
    names = [*EXPECTED, "nobody"]
    asked: list[str] = []

    def unit(c: Connection) -> dict[str, list[dict[str, Any]]]:
        def note(*told: Any) -> None:
            asked.append(told[2])

        event.listen(c, "before_cursor_execute", note)
        return health.outcomes(c, names, most)

    found = filled.read(unit)
    assert list(found) == names
    assert len(asked) == 1
    assert found["nobody"] == found["fresh"] == []
    assert [run["state"] for run in found["broken"]] == [*["done"] * RUNS, "failed"][-most:]
    assert [run["id"] for run in found["broken"]] == sorted(run["id"] for run in found["broken"])


def test_they_are_chosen_by_what_is_asked_for(filled: Db) -> None:
    def unit(c: Connection) -> None:
        for number, name in enumerate(sorted(EXPECTED)):
            values = {"last_run_at": now() + timedelta(seconds=number), "tags": " even " if number % 2 == 0 else ""}
            c.execute(source_table.update().where(source_table.c.name == name).values(**values))

    filled.write(unit)

    def chosen(**wanted: Any) -> list[str]:
        of = health.Wanted(**wanted)
        return [one.name for one in filled.read(lambda c: health.chosen(health.summaries(c, of), of)[0])]

    assert chosen(sort="last") == sorted(EXPECTED, reverse=True)
    assert chosen(sort="last", after="slow", limit=2) == ["running", "resting"]
    assert chosen(after="g", limit=2) == ["mended", "off"]
    assert chosen(tag="even") == sorted(EXPECTED)[::2]
    assert chosen(q="EVE") == sorted(EXPECTED)[::2]
    assert chosen(q="run", origin="database") == ["running"]
    assert chosen(origin="file") == []
    assert chosen(state="degraded", sort="health") == ["alarmed", "parsed"]
    assert chosen(sort="health")[:3] == ["broken", "alarmed", "parsed"]


def test_what_is_tried_again_says_nothing_of_its_source(filled: Db) -> None:
    """One dead link that is retried makes no source that is well a failing one."""
    before = filled.read(lambda c: health.one(c, "running"))
    at = now()
    row = {"source": "running", "kind": RunKind.RETRY, "state": RunState.FAILED, "queued_at": at, "started_at": at}
    filled.write(lambda c: c.execute(insert(runs).values(**row, finished_at=at, message="404")))
    after = filled.read(lambda c: health.one(c, "running"))
    assert (after["health"], after["message"]) == (before["health"], before["message"])
