"""Databases that others set up: their zones, their encodings, their tables, their rights, links in place of files."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import insert

from scraper.config.settings import Database
from scraper.database import Db, frontier, hosts, listing, maintenance, schema, visits
from scraper.database import runs as run_rows
from scraper.database.connection import now
from scraper.database.models import runs
from scraper.errors import Unusable
from scraper.records import Fetched, Link, Reading, Visit
from tests.postgres import USER, Address, Server, connected

pytestmark = pytest.mark.databases("sqlite")


def fill(db: Db) -> None:
    values = {"source": "s", "state": "done", "kind": "crawl", "queued_at": now()}
    db.write(lambda c: c.execute(insert(runs).values(**values)))


def count(db: Db) -> int:
    return db.read(lambda c: len(listing.rows(c, "runs", {}, None, 1000)))


def test_a_backup_that_is_put_in_the_place_of_a_linked_file_is_used(tmp_path: Path) -> None:
    real, link, copy = tmp_path / "data" / "real.db", tmp_path / "bowerbird.db", tmp_path / "copy.db"
    real.parent.mkdir()
    link.symlink_to(real)
    with Db(Database(url=f"sqlite:///{link}")) as db:
        schema.upgrade(db)
        for _ in range(20):
            fill(db)
        db.copy_file(copy)
        for _ in range(30):
            fill(db)
        assert db.gauges()["wal_bytes"] > 0
        copy.replace(real)
        assert count(db) == 20
        fill(db)
        assert count(db) == 21
        assert maintenance.check(db) == []


def test_a_file_with_two_names_is_refused(tmp_path: Path) -> None:
    """Each has a log of its own beside it, and who opens both destroys the file."""
    with Db(Database(url=f"sqlite:///{tmp_path / 'a.db'}")) as db:
        schema.upgrade(db)
    (tmp_path / "b.db").hardlink_to(tmp_path / "a.db")
    for name in ("a.db", "b.db"):
        with Db(Database(url=f"sqlite:///{tmp_path / name}")) as db, pytest.raises(Unusable, match="has 2 names"):
            count(db)


def test_tables_of_another_program_are_not_taken_for_ours(tmp_path: Path) -> None:
    with Db(Database(url=f"sqlite:///{tmp_path / 'x.db'}")) as db:
        assert db.file is not None
        db.file.create = True
        db.write(lambda c: c.exec_driver_sql("CREATE TABLE events (id int)"))
        with pytest.raises(Unusable, match="another program has a table events"):
            schema.upgrade(db)
        assert db.read(lambda c: c.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar()) == 1


def test_a_server_of_another_zone_and_style_tells_the_same_instants(address: Address) -> None:
    for words in ("timezone = 'Asia/Kolkata'", "datestyle = 'SQL, DMY'"):
        address.command(f"ALTER DATABASE {address.name} SET {words}")
    for pooled in (False, True):
        with Db(address.settings(pooled=pooled)) as db:
            schema.upgrade(db)
            fill(db)
            told = db.read(lambda c: listing.rows(c, "runs", {}, None, 1))[0]["queued_at"]
            assert told.utcoffset() == timedelta(0)
            assert abs(told - datetime.now(UTC)) < timedelta(minutes=1)
            assert abs(db.now() - datetime.now(UTC)) < timedelta(minutes=1)


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_a_database_that_cannot_keep_every_text_is_refused(encoding: str, postgres: Server) -> None:
    with connected(postgres.port, "postgres") as connection:
        connection.execute(f"CREATE DATABASE odd ENCODING '{encoding}' TEMPLATE template0 OWNER {USER}".encode())
    address = Address("odd", postgres.port, postgres.pooler_port)
    try:
        with Db(address.settings()) as db, pytest.raises(Unusable, match=f"keeps texts in {encoding}"):
            schema.upgrade(db)
    finally:
        with connected(postgres.port, "postgres") as connection:
            connection.execute(b"DROP DATABASE odd (FORCE)")


def test_a_role_that_may_not_make_tables_is_told_what_it_needs(address: Address) -> None:
    address.command(f"ALTER DATABASE {address.name} OWNER TO postgres")
    with Db(address.settings()) as db, pytest.raises(Unusable, match="permission denied .*needs CREATE on the schema"):
        schema.upgrade(db)


def test_a_schema_that_is_not_there_is_said(address: Address) -> None:
    address.command(f"ALTER DATABASE {address.name} SET search_path = 'nowhere'")
    with Db(address.settings()) as db, pytest.raises(Unusable, match="set the search_path"):
        schema.upgrade(db)


@pytest.mark.databases("sqlite", "postgresql", "pgbouncer")
def test_two_visits_of_one_claim_are_stored_once(database: Database) -> None:
    with Db(database) as db:
        schema.upgrade(db)
        run = db.write(lambda c: run_rows.request(c, "s", now()))
        row = frontier.row_of(run, "s", Link("http://a.org/"), 0)
        assert row is not None
        db.write(lambda c: frontier.add(c, [row], {run: frontier.Room(1)}))
        claims = db.write(lambda c: frontier.claim(c, [("a.org", 1)], "me", now(), {"a.org": {run}}, {run: 5}))
        (claim,) = claims["a.org"]
        fetched = Fetched(claim.url, claim.url, 200, {}, b"x", 1, 0.0)
        twice = [Visit(claim, now(), fetched, Reading(), digest=digest) for digest in ("a", "b")]
        db.write(lambda c: visits.finish(c, visits.prepare(twice, visits.Bounds({})), "me", []))
        (told,) = db.read(lambda c: listing.rows(c, "runs", {}, None, 10))
        assert told["pages"] == 1


@pytest.mark.databases("sqlite", "postgresql", "pgbouncer")
def test_who_is_late_claims_nothing_that_another_one_has(database: Database) -> None:
    with Db(database) as db:
        schema.upgrade(db)
        run = db.write(lambda c: run_rows.request(c, "s", now()))
        rows = [frontier.row_of(run, "s", Link(f"http://a.org/{n}"), 0) for n in range(3)]
        db.write(lambda c: frontier.add(c, [row for row in rows if row], {run: frontier.Room(9)}))
        mine = db.write(lambda c: frontier._take(c, [1, 2], "me"))
        late = db.write(lambda c: frontier._take(c, [1, 2, 3], "another"))
        assert ([claim.url_id for claim in mine], [claim.url_id for claim in late]) == ([1, 2], [3])
        db.write(lambda c: hosts.lease(c, ["a.org", "b.org"], "me", now()))
        assert db.read(lambda c: hosts.held(c, ["a.org", "c.org"], "me")) == {"a.org"}
        assert db.read(lambda c: hosts.held(c, ["a.org"], "another")) == set()


@pytest.mark.databases("sqlite", "postgresql")
def test_after_an_outage_others_have_the_time_to_renew(database: Database) -> None:
    with Db(database) as db:
        schema.upgrade(db)
        began = now()
        run = db.write(lambda c: run_rows.request(c, "s", now()))
        row = frontier.row_of(run, "s", Link("http://a.org/"), 0)
        assert row is not None
        db.write(lambda c: frontier.add(c, [row], {run: frontier.Room(1)}))
        db.write(lambda c: hosts.lease(c, ["a.org"], "sibling", began))
        late = began + timedelta(seconds=hosts.LEASE_S + 5)
        patient = late - timedelta(seconds=hosts.LEASE_S)
        due = db.read(lambda c: frontier.hosts_due(c, late, [run], "me", patient))
        assert (due["a.org"].free, db.write(lambda c: hosts.lease(c, ["a.org"], "me", late, patient)).times) == (
            False,
            {},
        )
        due = db.read(lambda c: frontier.hosts_due(c, late, [run], "me"))
        assert (due["a.org"].free, set(db.write(lambda c: hosts.lease(c, ["a.org"], "me", late)).times)) == (
            True,
            {"a.org"},
        )
