"""Units of work, over connections that break and beside others who want the same: each is done once, whole, or not at all."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection

from scraper import transaction
from scraper.config.settings import Database, Http
from scraper.crawl.fetcher import Fetcher, Request
from scraper.database import Db, postgres, schema
from scraper.database.connection import RETRIES, now
from scraper.errors import Unavailable
from tests.postgres import Address, Server, connected
from tests.site import Site
from tests.support import until
from tests.wire import Cut, Wire, strung

pytestmark = pytest.mark.databases("postgresql", "pgbouncer")
everywhere = pytest.mark.databases("sqlite", "postgresql", "pgbouncer")


class Tally:
    """A table that takes everything, as often as it comes; and a unit that adds a line to it."""

    def __init__(self, db: Db) -> None:
        self.db = db
        self.tries = 0
        db.write(lambda c: c.exec_driver_sql("CREATE TABLE tally (word text)"))

    def add(self, connection: Connection, word: str = "once") -> str:
        self.tries += 1
        connection.exec_driver_sql(f"INSERT INTO tally VALUES ('{word}')")
        return f"try {self.tries}"

    def words(self) -> list[str]:
        return list(self.db.read(lambda c: c.exec_driver_sql("SELECT word FROM tally ORDER BY 1").scalars()))


@pytest.fixture
def own(database: Database) -> Iterator[Db]:
    """A database with the patience that is usual."""
    with Db(database) as made:
        schema.upgrade(made)
        yield made


@pytest.fixture
def tally(own: Db) -> Tally:
    return Tally(own)


@pytest.fixture
def wire(database: Database, address: Address) -> Iterator[Wire]:
    with strung(address.pooler if database.transaction_pooler else address.server) as made:
        yield made


@pytest.fixture
def far(database: Database, address: Address, wire: Wire) -> Iterator[Db]:
    """The same database, over a wire that may be cut."""
    with Db(replace(address, server=wire.port, pooler=wire.port).settings(pooled=database.transaction_pooler)) as made:
        yield made


@pytest.fixture
def admin(address: Address) -> "Iterator[psycopg.Connection[tuple[Any, ...]]]":
    """A connection of the server's owner's, who is bound by nothing."""
    with connected(address.server, address.name) as connection:
        yield connection


# -- the answer to a COMMIT


@pytest.mark.parametrize(("when", "tries"), [("before", 2), ("after", 1), ("unanswered", 1)])
def test_a_unit_whose_commit_is_not_answered_is_done_once(
    tally: Tally, far: Db, wire: Wire, when: Cut, tries: int
) -> None:
    def unit(connection: Connection) -> str:
        told = tally.add(connection)
        if tally.tries == 1:
            wire.cut(when)
        return told

    assert far.write(unit) == f"try {tries}"
    assert wire.cut_off == 1
    assert tally.words() == ["once"]


def test_a_commit_that_takes_the_server_long_is_waited_for(
    tally: Tally, far: Db, wire: Wire, admin: "psycopg.Connection[tuple[Any, ...]]"
) -> None:
    """A slow disk, a standby that has to hear of it: when the client asks what became of it, it is still going on."""
    admin.execute(
        "CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN NULL; END $$"
    )
    admin.execute(
        "CREATE CONSTRAINT TRIGGER slowly AFTER INSERT ON tally DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW WHEN (NEW.word = 'once') EXECUTE FUNCTION slowly()"
    )
    admin.execute("SELECT pg_advisory_lock(1)")
    committing = "SELECT count(*) FROM pg_stat_activity WHERE query ILIKE 'commit%' AND wait_event = 'advisory'"

    def unit(connection: Connection) -> str:
        told = tally.add(connection)
        if tally.tries == 1:
            wire.cut("unanswered")
        return told

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(far.write, unit)
        until(lambda: wire.cut_off and admin.execute(committing).fetchone() == (1,), "the server is about to commit")
        # Whoever is asked now cannot say. Let it go on only after somebody asked, or drew a conclusion.
        asked = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%_status(%' AND pid <> pg_backend_pid()"
        until(
            lambda: admin.execute(asked.encode()).fetchone() != (0,) or tally.tries > 1 or done.done(), "somebody asked"
        )
        admin.execute("SELECT pg_advisory_unlock(1)")
        done.result()
    assert tally.words() == ["once"]


def test_what_became_of_a_commit_is_asked_until_somebody_answers(tally: Tally, far: Db, wire: Wire) -> None:
    """The server went away just after it had committed, for longer than a few tries: nothing is concluded from that."""

    def unit(connection: Connection) -> str:
        told = tally.add(connection)
        if tally.tries == 1:
            wire.cut("after", then_refuse=True)
        return told

    def patiently() -> str:
        """As the scraper does."""
        while True:
            with contextlib.suppress(Unavailable):
                return far.write(unit)

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(patiently)
        until(lambda: wire.refused > RETRIES, "it was asked for more often than a unit is tried")
        wire.refuses = False
        assert done.result() == "try 1"
    assert tally.words() == ["once"]


def test_the_last_try_counts_as_well(tally: Tally, far: Db, wire: Wire) -> None:
    def unit(connection: Connection) -> str:
        told = tally.add(connection)
        wire.cut("before" if tally.tries < RETRIES else "after")
        return told

    assert far.write(unit) == f"try {RETRIES}"
    assert tally.words() == ["once"]


def test_a_connection_that_always_breaks_is_given_up(tally: Tally, far: Db, wire: Wire) -> None:
    def unit(connection: Connection) -> None:
        tally.add(connection)
        wire.cut("before")

    with pytest.raises(Unavailable):
        far.write(unit)
    assert tally.tries == RETRIES
    assert tally.words() == []


# -- others


def test_of_two_that_wait_for_each_other_one_begins_again(tally: Tally, own: Db) -> None:
    own.write(lambda c: [tally.add(c, word) for word in ("left", "right")])
    both = threading.Barrier(2)

    def change(words: tuple[str, str]) -> int:
        tries = 0

        def unit(connection: Connection) -> None:
            nonlocal tries
            tries += 1
            for word in words:
                connection.exec_driver_sql(f"UPDATE tally SET word = word || '.' WHERE word LIKE '{word}%%'")
                if word == words[0] and tries == 1:
                    both.wait(30)

        own.write(unit)
        return tries

    with ThreadPoolExecutor(2) as pool:
        tries = sorted(pool.map(change, [("left", "right"), ("right", "left")]))
    assert tries == [1, 2]
    assert tally.words() == ["left..", "right.."]


def test_a_unit_that_cannot_be_serialised_is_done_again(
    tally: Tally, admin: "psycopg.Connection[tuple[Any, ...]]"
) -> None:
    tally.db.write(lambda c: tally.add(c, "0"))
    tries = 0

    def unit(connection: Connection) -> str:
        nonlocal tries
        tries += 1
        found = int(connection.exec_driver_sql("SELECT word FROM tally").scalar_one())
        if tries == 1:
            admin.execute("UPDATE tally SET word = '10'")
            connection.exec_driver_sql("DO 'BEGIN RAISE EXCEPTION USING ERRCODE = 40001; END'")
        connection.exec_driver_sql(f"UPDATE tally SET word = '{found + 1}'")
        return str(found + 1)

    assert tally.db.write(unit) == "11"
    assert tries == 2
    assert tally.words() == ["11"]


def by_default(admin: "psycopg.Connection[tuple[Any, ...]]", address: Address, setting: str) -> None:
    """Have a database give a setting to all who connect from now on."""
    admin.execute(f'ALTER DATABASE "{address.name}" SET {setting}'.encode())
    admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'bowerbird'")


@pytest.mark.parametrize("name", ["repeatable read", "serializable"])
def test_the_isolation_is_ours_whatever_the_server_has(
    tally: Tally, database: Database, address: Address, admin: "psycopg.Connection[tuple[Any, ...]]", name: str
) -> None:
    """What is looked at after a lock was waited for has to be what is there then."""
    by_default(admin, address, f"default_transaction_isolation = '{name}'")
    with Db(database) as fresh:
        for _ in range(2):  # a connection that is used again too
            assert fresh.write(lambda c: c.exec_driver_sql("SHOW transaction_isolation").scalar()) == "read committed"
            assert fresh.read(lambda c: c.exec_driver_sql("SHOW transaction_isolation").scalar()) == "repeatable read"


def test_a_database_that_is_read_only_is_so_on_every_connection(
    tally: Tally, database: Database, address: Address, admin: "psycopg.Connection[tuple[Any, ...]]"
) -> None:
    by_default(admin, address, "default_transaction_read_only = on")
    with Db(database) as fresh:
        for _ in range(2):  # one that has been read by too
            assert fresh.read(lambda c: c.exec_driver_sql("SHOW transaction_read_only").scalar()) == "on"
            with pytest.raises(Unavailable, match="read-only"):
                fresh.write(lambda c: tally.add(c, "x"))


def test_a_connection_that_an_administrator_ends_costs_another_try(
    tally: Tally, own: Db, address: Address, postgres: Server
) -> None:
    def unit(connection: Connection) -> str:
        told = tally.add(connection)
        if tally.tries == 1:
            postgres.terminate_backends(address.name)
        connection.exec_driver_sql("SELECT 1")
        return told

    assert own.write(unit) == "try 2"
    assert tally.words() == ["once"]


def test_a_server_that_was_restarted_between_two_units_is_not_noticed(tally: Tally, own: Db, postgres: Server) -> None:
    own.write(tally.add)
    postgres.restart()
    own.write(tally.add)
    assert tally.words() == ["once", "once"]
    assert own.read(lambda c: c.exec_driver_sql("SELECT 1").scalar()) == 1


# -- what a unit may not


@everywhere
def test_a_unit_inside_a_unit_is_refused(own: Db, database: Database) -> None:
    with Db(database) as other:
        for inner in (own.write, own.read, other.write, other.read):
            for outer in (own.write, own.read):
                with pytest.raises(RuntimeError, match="inside a transaction already"):
                    outer(lambda c, inner=inner: inner(lambda c: None))  # type: ignore[misc]
        assert not transaction.under_way()
        assert own.write(lambda c: transaction.under_way())


@everywhere
def test_nobody_on_the_network_is_waited_for_inside_a_unit(tally: Tally, own: Db, site: Site) -> None:
    url = site.page("/", "x")

    def unit(connection: Connection) -> None:
        tally.add(connection)
        asyncio.run(fetch(url))

    with pytest.raises(RuntimeError, match="inside a database transaction"):
        own.write(unit)
    assert site.log == []
    assert tally.words() == []
    asyncio.run(fetch(url))
    assert len(site.log) == 1


async def fetch(url: str) -> None:
    async def admit(target: str) -> None: ...

    fetcher = Fetcher()
    try:
        await fetcher.fetch(Request(url), Http(allow_networks=("127.0.0.0/8",)), admit=admit)
    finally:
        await fetcher.close()


def test_who_reads_cannot_write(tally: Tally, own: Db) -> None:
    with pytest.raises(Unavailable, match="read-only"):
        own.read(tally.add)
    assert tally.words() == []
    own.write(tally.add)  # on the connection that the reader had
    assert tally.words() == ["once"]


@everywhere
def test_who_reads_sees_one_state(tally: Tally, own: Db, database: Database) -> None:
    def unit(connection: Connection) -> list[int]:
        found = []
        for _ in range(2):
            found.append(connection.exec_driver_sql("SELECT count(*) FROM tally").scalar_one())
            with ThreadPoolExecutor(1) as pool:
                pool.submit(own.write, tally.add).result()
        return found

    assert own.read(unit) == [0, 0]
    assert tally.words() == ["once", "once"]


# -- how long


def test_a_statement_that_takes_too_long_is_unavailable(
    tally: Tally, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert settings_in(tally.db) == {"statement_timeout": "1min", "lock_timeout": "30s", "idle": "1min"}
    monkeypatch.setattr(postgres, "STATEMENT_LEAST_S", 0.2)
    with Db(replace(database, timeout=0.1)) as hasty:
        for run in (hasty.read, hasty.write):
            with pytest.raises(Unavailable, match="statement timeout"):
                run(lambda c: c.exec_driver_sql("SELECT pg_sleep(60)"))
        hasty.write(lambda c: c.exec_driver_sql("SELECT pg_sleep(0.4)"), deadline=False)
        assert settings_in(hasty, deadline=False) == {"statement_timeout": "0", "lock_timeout": "0", "idle": "0"}


def test_a_lock_that_is_not_given_is_unavailable(
    tally: Tally, database: Database, admin: "psycopg.Connection[tuple[Any, ...]]"
) -> None:
    with Db(replace(database, timeout=0.1)) as hasty:
        with admin.transaction():
            admin.execute("LOCK TABLE tally")
            for run in (hasty.read, hasty.write):
                with pytest.raises(Unavailable, match="lock timeout"):
                    run(tally.add)
        hasty.write(tally.add)
    assert tally.words() == ["once"]


def settings_in(db: Db, *, deadline: bool = True) -> dict[str, str]:
    query = (
        "SELECT current_setting('statement_timeout'), current_setting('lock_timeout'),"
        " current_setting('idle_in_transaction_session_timeout')"
    )
    found = db.write(lambda c: c.exec_driver_sql(query).one(), deadline=deadline)
    return dict(zip(("statement_timeout", "lock_timeout", "idle"), found, strict=True))


@pytest.mark.databases("pgbouncer")
def test_what_one_client_set_no_other_one_meets(tally: Tally, own: Db, database: Database) -> None:
    """Through a transaction pooler, strangers have our connections right after us."""
    with contextlib.suppress(Unavailable):
        own.read(tally.add)
    own.write(tally.add, deadline=False)
    own.write(tally.add)
    assert tally.words() == ["once", "once"]
    names = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "default_transaction_read_only",
             "default_transaction_isolation", "transaction_isolation", "transaction_read_only")  # fmt: skip
    url = own.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with contextlib.ExitStack() as stack:
        for _ in range(4):  # at once, so that they have all the connections there are
            stranger = stack.enter_context(psycopg.connect(url, prepare_threshold=None))
            found = [stranger.execute(f"SHOW {name}".encode()).fetchone() for name in names]
            assert found == [("0",), ("0",), ("0",), ("off",), ("read committed",), ("read committed",), ("off",)]
            assert stranger.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() == (0,)


# -- whose clock


def test_the_time_is_the_servers(
    database: Database, address: Address, admin: "psycopg.Connection[tuple[Any, ...]]"
) -> None:
    later = timedelta(hours=7)
    admin.execute(
        "CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS"
        " $$ SELECT pg_catalog.clock_timestamp() + interval '7 hours' $$"
    )
    admin.execute(f'ALTER DATABASE "{address.name}" SET search_path = public, pg_catalog'.encode())
    for run in ("read", "write"):
        with Db(database) as fresh:
            assert abs(fresh.now() - now()) < timedelta(hours=1)
            began = now()
            getattr(fresh, run)(lambda c: None)
            took = now() - began
            assert abs(fresh.now() - now() - later) <= took
