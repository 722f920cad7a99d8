"""What is asked again and again must not take longer the more URLs are known."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Connection, event

from scraper.database import Db, changes, frontier, health, homes, items, listing, runs, visits
from scraper.database.connection import now
from scraper.records import Link

ASKED: dict[str, Callable[[Connection], Any]] = {
    "claimed": frontier.claimed,
    "next_retry": lambda c: frontier.next_retry(c, now()),
    "hosts_due": lambda c: frontier.hosts_due(c, now(), [1], "me"),
    "claim": lambda c: frontier.claim(c, [("a.org", 8)], "me", now(), {"a.org": {1}}, {1: 100}),
    "release": lambda c: frontier.release(c, "me"),
    "release_lost": lambda c: frontier.release_lost(c, now()),
    "unclaim": lambda c: frontier.unclaim(c, "me", [1, 2]),
    "running": runs.running,
    "claimed_by": lambda c: frontier.claimed_by(c, "me"),
    "goes_on": lambda c: visits._goes_on(c, 1, now()),
    "look_once_more": lambda c: frontier.look_once_more(c, 2, "site", 100),
    "end_waiting": lambda c: visits.end_waiting(c, now()),
}


@pytest.fixture
def known(db: Db) -> Db:
    """A database that knows some URLs."""
    db.write(_some_urls)
    return db


def _some_urls(connection: Connection) -> None:
    run_id = runs.request(connection, "site", now())
    rows = [frontier.row_of(run_id, "site", Link(f"http://a.org/{n}"), 1) for n in range(20)]
    frontier.add(connection, [row for row in rows if row], {run_id: frontier.Room(20)})
    runs.start(connection, run_id, 1000, 20, now())


def _plan(connection: Connection, call: Callable[[Connection], Any]) -> list[str]:
    """How SQLite goes about the statements of a call."""
    asked: list[tuple[str, Any]] = []

    def note(*told: Any) -> None:
        asked.append((told[2], told[3]))

    event.listen(connection, "before_cursor_execute", note)
    call(connection)
    event.remove(connection, "before_cursor_execute", note)
    return [
        str(row[3])
        for statement, values in asked
        for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)
    ]


@pytest.mark.parametrize("name", ASKED)
def test_no_statement_goes_through_all_urls(known: Db, name: str) -> None:
    plan = known.write(lambda c: _plan(c, ASKED[name]))
    assert plan
    assert not [step for step in plan if step.startswith("SCAN urls")], plan


def test_links_of_a_first_run_are_looked_up_in_an_index_alone(known: Db) -> None:
    """Of millions of URLs each would take another page of the file, to say what is clear."""
    row = frontier.row_of(1, "site", Link("http://a.org/3"), 1)
    rooms = {1: frontier.Room(9, unknown_only=True)}
    plan = known.write(lambda c: _plan(c, lambda c: frontier.add(c, [row] if row else [], rooms)))
    assert "USING COVERING INDEX" in plan[0], plan


def test_whether_there_are_urls_of_earlier_runs_is_asked_of_an_index(known: Db) -> None:
    plan = known.write(lambda c: _plan(c, lambda c: visits._OPEN.rows(c, [1])))
    assert any("urls_seen (source=? AND last_look=? AND run_id<?)" in step for step in plan), plan


def test_the_next_retry_is_not_looked_for_among_all_that_is_queued(known: Db) -> None:
    plan = known.write(lambda c: _plan(c, ASKED["next_retry"]))
    assert any("urls_waiting" in step for step in plan), plan


def test_items_of_several_pages_are_not_looked_for_among_all_of_a_source(db: Db) -> None:
    plan = db.read(lambda c: _plan(c, lambda c: homes.lost(c, 1, "site", complete=True)))
    assert plan[0] == "SEARCH also_on USING INDEX ix_also_on_source (source=?)", plan


LISTED: dict[str, tuple[str, dict[str, Any]]] = {
    "items of a source": ("items", {"source": "site", "removed": False}),
    "items of a kind": ("items", {"kind": "job", "removed": False}),
    "items of a source and a kind": ("items", {"source": "site", "kind": "job"}),
    "changes of an item": ("changes", {"item_id": 5}),
    "changes of a page": ("changes", {"page_id": 5}),
    "changes of a source": ("changes", {"source": "site", "news": True}),
    "changes that are rare": ("changes", {"change": "moved"}),
    "a page by its address": ("pages", {"final_url": "http://a.org/5"}),
    "failures of a source": ("failures", {"source": "site", "unresolved": True}),
    "runs of a source": ("runs", {"source": "site"}),
}


@pytest.mark.parametrize("name", LISTED)
@pytest.mark.parametrize("before", [None, 1000])
def test_few_rows_are_not_looked_for_among_all_of_a_table(db: Db, name: str, before: int | None) -> None:
    table, filters = LISTED[name]
    plan = db.read(lambda c: _plan(c, lambda c: listing.rows(c, table, filters, before, 51)))
    assert plan
    assert not [step for step in plan if step == f"SCAN {table}" or "INTEGER PRIMARY KEY" in step], plan


@pytest.mark.parametrize("filters", [{"source": "site"}, {"kind": "job"}, {"source": "site", "kind": "job"}])
def test_items_are_not_counted_among_all(db: Db, filters: dict[str, Any]) -> None:
    plan = db.read(lambda c: _plan(c, lambda c: items.count(c, filters, 10_000)))
    assert any(step.startswith("SEARCH items") for step in plan), plan


WHOLE: dict[str, Callable[[Connection], Any]] = {
    "health": health.summaries,
    "one source": lambda c: health.told(c, [health.Summary("site", "ok", "", "", None, None)]),
    "outcomes": lambda c: health.outcomes(c, ["site", "other"]),
    "unread": changes.unread,
}


@pytest.mark.parametrize("name", WHOLE)
def test_no_page_goes_through_all_runs_failures_or_changes(db: Db, name: str) -> None:
    plan = db.read(lambda c: _plan(c, WHOLE[name]))
    assert plan
    few = ("USING INDEX failures_of_owners", "INDEX changes_news", "INDEX changes_unread")
    scans = [step for step in plan if step.startswith(("SCAN runs", "SCAN failures", "SCAN changes"))]
    assert not [step for step in scans if not step.endswith(few)], plan
