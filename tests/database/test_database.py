"""Units of work, and what several processes may do at once."""

import os
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from scraper.config.settings import Database
from scraper.database import Db, frontier, hosts, runs, schema, visits
from scraper.database.connection import now
from scraper.errors import Failure, Unavailable, Unusable
from scraper.records import HostTimes, Link, Visit
from scraper.states import UrlState

pytestmark = pytest.mark.databases("sqlite", "postgresql", "pgbouncer")
sqlite_only = pytest.mark.databases("sqlite")


@sqlite_only
def test_write_ahead_logging_and_foreign_keys_are_on(db: Db) -> None:
    assert db.read(lambda c: c.exec_driver_sql("PRAGMA journal_mode").scalar()) == "wal"
    assert db.read(lambda c: c.exec_driver_sql("PRAGMA foreign_keys").scalar()) == 1


def test_a_unit_that_raises_leaves_nothing(db: Db) -> None:
    def unit(c: object) -> None:
        c.exec_driver_sql("INSERT INTO meta VALUES ('a', 'b')")  # type: ignore[attr-defined]
        raise KeyError

    with pytest.raises(KeyError):
        db.write(unit)
    assert db.read(lambda c: c.exec_driver_sql("SELECT count(*) FROM meta").scalar()) == 0


@sqlite_only
def test_a_locked_database_is_unavailable_not_an_accident(db: Db, tmp_path: Path) -> None:
    assert db.file is not None  # by the same library: two in one process know nothing of each other's locks
    other = db.file.library.connect(tmp_path / "test.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable, match="locked"):
        db.write(lambda c: None)
    assert db.read(lambda c: c.exec_driver_sql("SELECT count(*) FROM meta").scalar()) == 0
    other.execute("ROLLBACK")
    other.close()
    db.write(lambda c: None)


def test_an_engine_belongs_to_its_process(db: Db) -> None:
    child = os.fork()
    if child == 0:
        try:
            db.read(lambda c: None)
        except RuntimeError as error:
            os._exit(0 if "belongs to process" in str(error) else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_six_processes_make_the_tables_at_once(database: Database) -> None:
    code = f"from scraper.config.settings import Database; from scraper.database import Db, schema; schema.upgrade(Db({database!r}))"
    started = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(6)]
    assert [process.wait(60) for process in started] == [0] * 6


def test_bad_urls_say_what_to_do(tmp_path: Path) -> None:
    for url in ("postgresql+nothing://x/y", "sqlite+nothing:///x"):
        with pytest.raises(Unusable, match=r"\[database\] url"):
            Db(Database(url=url))
    with pytest.raises(Unusable, match="no such directory"):
        schema.upgrade(Db(Database(url=f"sqlite:///{tmp_path}/none/x.db")))


def leased(db: Db, owner: str, at: datetime) -> HostTimes | None:
    return db.write(lambda c: hosts.lease(c, ["a.org"], owner, at)).times.get("a.org")


def test_a_host_is_leased_by_one_worker_until_it_is_given_back_or_late(db: Db) -> None:
    at = now()
    assert leased(db, "one", at)
    assert leased(db, "two", at) is None
    assert leased(db, "one", at)
    late = at + timedelta(seconds=hosts.LEASE_S + 1)
    assert leased(db, "two", late)
    db.write(lambda c: hosts.release(c, ["a.org"], "one"))
    assert leased(db, "one", late) is None


def test_what_a_worker_claimed_goes_to_whoever_takes_its_host_over(db: Db) -> None:
    at = now()
    run = db.write(lambda c: runs.request(c, "s", at))
    db.write(lambda c: runs.start(c, run, 100, 2, at))
    entered(db, run, [1, 2])
    leased(db, "one", at)
    claims = db.write(lambda c: frontier.claim(c, [("a.org", 9)], "one", at, {"a.org": [run]}, {run: 9})["a.org"])
    assert len(claims) == 2
    late = at + timedelta(seconds=hosts.LEASE_S + 1)
    taken = db.write(lambda c: hosts.lease(c, ["a.org"], "two", late))
    assert taken.former == {"a.org": "one"}
    db.write(lambda c: frontier.take_back(c, taken.former))
    failed = [Visit(claim, late, failure=Failure.CONNECT, message="late") for claim in claims]
    batch = visits.prepare(failed, visits.Bounds({"s": 9}))
    db.write(lambda c: visits.finish(c, batch, "one", []))
    assert db.read(lambda c: frontier.count(c, run, UrlState.QUEUED)) == 2  # what "one" brings is refused
    assert (
        len(db.write(lambda c: frontier.claim(c, [("a.org", 9)], "two", late, {"a.org": [run]}, {run: 9})["a.org"]))
        == 2
    )


def test_after_a_death_the_delay_counts_from_the_death(db: Db) -> None:
    died = now()
    leased(db, "one", died)
    db.write(lambda c: hosts.record(c, "one", [HostTimes("a.org", None, 7.0)]))
    db.write(lambda c: hosts.recover(c, "one", died))
    found = leased(db, "two", died)
    assert found is not None
    assert found.next_at == died + timedelta(seconds=7)


def test_after_a_takeover_the_delay_counts_from_the_end_of_the_former_lease(db: Db) -> None:
    at = now()
    leased(db, "one", at)
    db.write(lambda c: hosts.record(c, "one", [HostTimes("a.org", None, 1.0, crawl_delay_s=90.0)]))
    found = leased(db, "two", at + timedelta(seconds=hosts.LEASE_S + 1))
    assert found is not None
    assert found.next_at == at + timedelta(seconds=hosts.LEASE_S + 90)


def entered(db: Db, run_id: int, paths: Sequence[object], room: int = 100) -> int:
    """Enter URLs for a run; return how many it had not seen."""
    rows = [frontier.row_of(run_id, "s", Link(f"http://a.org/{path}"), 0) for path in paths]
    rooms = {run_id: frontier.Room(room)}
    return len(db.write(lambda c: frontier.add(c, [row for row in rows if row], rooms))[run_id])


def test_a_url_is_entered_once_a_run(db: Db) -> None:
    assert entered(db, 1, [1, 2, 1]) == 2
    assert entered(db, 1, [1, 2, 1]) == 0
    assert entered(db, 2, [1, 2, 1]) == 2
    assert entered(db, 2, range(10), room=3) == 3
