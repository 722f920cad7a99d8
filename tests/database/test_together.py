"""Several services with one PostgreSQL: what two of them do at the same moment happens once."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection

from scraper.config.settings import Source
from scraper.database import Db, frontier, hosts, runs, sources
from scraper.database.connection import now
from scraper.records import Link
from tests.postgres import Address
from tests.support import until

pytestmark = pytest.mark.databases("postgresql", "pgbouncer")
SOURCES = [Source(name=name, start=("http://a.org/",), every=1.0) for name in ("a", "b", "c")]

Together = Callable[[Callable[[Connection], Any]], tuple[Any, Any]]


@pytest.fixture
def together(db: Db, address: Address) -> Together:
    """Run a unit in two transactions that overlap; returns what each brought."""

    def run(unit: Callable[[Connection], Any]) -> tuple[Any, Any]:
        query = f"SELECT pid FROM pg_stat_activity WHERE datname = '{address.name}' AND wait_event_type = 'Lock'"
        with Db(db.settings) as other, ThreadPoolExecutor(1) as pool:
            with db.engine.connect() as connection, connection.begin():
                first = unit(connection)
                second = pool.submit(other.write, unit)
                until(
                    lambda: second.done() or address.rows(query), "the second has done its work, or waits for the first"
                )
            return first, second.result()

    return run


def test_sources_are_entered_once(together: Together, address: Address) -> None:
    together(lambda c: sources.sync(c, SOURCES, lambda source, last: None))
    assert address.rows("SELECT count(*) FROM sources") == [(3,)]


def test_a_source_that_is_due_has_one_run(together: Together, db: Db, address: Address) -> None:
    due = now() - timedelta(seconds=5)
    db.write(lambda c: sources.sync(c, SOURCES, lambda source, last: due))
    together(lambda c: runs.request_due(c, ["a", "b", "c"], now()))
    assert address.rows("SELECT source FROM runs ORDER BY 1") == [("a",), ("b",), ("c",)]


def test_a_run_that_two_ask_for_is_one_run(together: Together, db: Db) -> None:
    db.write(lambda c: sources.sync(c, SOURCES, lambda source, last: None))
    first, second = together(lambda c: runs.request(c, "a", now()))
    assert first == second


def test_a_host_is_leased_by_one(together: Together) -> None:
    owners = iter(("one", "two"))
    found = together(lambda c: hosts.lease(c, ["a.org"], next(owners), now()))
    assert [list(lease.times) for lease in found] == [["a.org"], []]


def test_a_url_that_two_find_is_entered_once(together: Together, address: Address) -> None:
    rows = [row for n in range(50) if (row := frontier.row_of(1, "a", Link(f"http://a.org/{n}"), 0))]
    together(lambda c: frontier.add(c, rows, {1: frontier.Room(100)}))
    assert address.rows("SELECT count(*), count(DISTINCT url) FROM urls") == [(50, 50)]


def test_a_run_that_two_find_finished_ends_once(together: Together, db: Db, address: Address) -> None:
    db.write(lambda c: sources.sync(c, SOURCES, lambda source, last: None))
    run = db.write(lambda c: runs.request(c, "a", now()))
    db.write(lambda c: runs.start(c, run, 10, 1, now()))
    together(lambda c: [runs.finish(c, row.id, now(), 0) for row in runs.running(c)])
    assert address.rows("SELECT state FROM runs") == [("done",)]


def test_a_run_that_two_would_open_is_opened_by_one(together: Together, db: Db) -> None:
    db.write(lambda c: sources.sync(c, SOURCES, lambda source, last: None))
    run = db.write(lambda c: runs.request(c, "a", now()))

    def opened(connection: Connection) -> list[int]:
        found = [run_id for run_id, _, _ in runs.queued(connection, ["a"], None, 9)]
        for run_id in found:
            runs.start(connection, run_id, 10, 1, now())
        return found

    assert together(opened) == ([run], [])
