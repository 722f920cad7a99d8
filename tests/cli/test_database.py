"""`bowerbird db`: copies, repairs and checks, from end to end."""

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select

from scraper.config.settings import Database
from scraper.database import Db, runs, schema
from scraper.database.bulk import reserve
from scraper.database.connection import now
from scraper.database.models import events, metadata, pages
from scraper.database.transfer import _Rows
from tests.postgres import PASSWORD, Address, connected
from tests.support import Project, until

Started = Callable[..., "subprocess.Popen[str]"]
LAST = datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)
FIRST = datetime(1970, 1, 1, tzinfo=UTC)
TEXTS = [
    "",
    " ",
    "plain",
    "😀 𝔘 e\u0301 \u202e",
    "\x01\x02\x1f\x7f\x85\u2028",
    "'\"\\%s %(x)s {}",
    "\ufeff\ufffd",
    "Z",
    "a",
    "é",
]
DOCUMENTS: list[dict[str, Any]] = [
    {},
    {"big": 2**63 + 1, "bigger": 10**40, "exact": 2**53 + 1, "low": -(2**63)},
    {
        "half": 0.5,
        "third": 1 / 3,
        "tiny": 5e-324,
        "huge": 1.7e308,
        "round": 1e22,
        "rounder": 1e23,
        "one": 1.0,
        "minus": -0.0,
    },
    {"z": [1, [None, True, {"😀": {"b": 1, "a": [{}]}}]], "a": "\x01é", "": None},
]
BODIES = [b"", b"\x00", bytes(range(256)) * 20, b"x" * 100_000]
ODD: dict[str, Sequence[Any]] = {
    "BIGINT": [0, -(2**63), 2**63 - 1, 2**53 + 1],
    "INTEGER": [0, 1, 2**31 - 1, -(2**31)],
    "BOOLEAN": [False, True],
    "FLOAT": [0.1, 1e300, 3.0, 5e-324],
    "DATETIME": [FIRST, LAST, FIRST + timedelta(microseconds=1)],
    "BLOB": BODIES,
    "TEXT": TEXTS,
    "JSON": DOCUMENTS,
}
MANY = 1200
NUMBERS = ("id", "page_id", "item_id", "url_id", "chunk_id")


def fill(db: Db) -> None:
    """Rows with everything that is odd, in every table."""

    def value(column: Any, n: int) -> Any:
        kind = str(column.type)
        odd = ODD[kind]
        return odd[n % len(odd)]

    def unit(connection: Any) -> None:
        for table in metadata.sorted_tables:
            for n in range(MANY if table.name == "events" else len(TEXTS)):
                row = {column.name: value(column, n) for column in table.c}
                row |= {column.name: None for column in table.c if column.nullable and n % 5 == 4}
                row |= {column.name: n + 1 for column in table.c if column.name in NUMBERS}
                row |= {column.name: n.to_bytes(16) for column in table.c if column.name == "fingerprint"}
                connection.execute(insert(table).values(**row))

    db.write(unit)


def digests(db: Db) -> dict[str, tuple[int, str]]:
    return {table.name: _Rows(db, table).digest(None) for table in metadata.sorted_tables}


@pytest.fixture
def ours(project: Project) -> Iterator[Db]:
    """The project's database, with its tables."""
    project.configure("")
    with Db(Database(url=f"sqlite:///{project.path / 'bowerbird.db'}")) as db:
        schema.upgrade(db)
        yield db


@pytest.fixture
def started() -> Iterator[Started]:
    """Run code in a process of its own."""
    running: list[subprocess.Popen[str]] = []

    def start(code: str, *args: object) -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", code, *map(str, args)]
        running.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.communicate()


def one_line(ended: "subprocess.CompletedProcess[str]", *words: str) -> None:
    """See that a command failed, and said in one line why."""
    assert ended.returncode != 0
    assert len(ended.stderr.strip().splitlines()) == 1, ended.stderr
    for word in words:
        assert word in ended.stderr
    assert PASSWORD not in ended.stderr


LOOK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN")
connection.execute("SELECT count(*) FROM meta").fetchone()
print("looking", flush=True)
sys.stdin.read()
"""

WRITE = """
import sys
from scraper.config.settings import Database
from scraper.database import Db
db = Db(Database(url=sys.argv[1]))
number = 0
while True:
    db.write(lambda c: c.exec_driver_sql(f"INSERT INTO meta VALUES ('{number:09d}', hex(randomblob(3000)))"))
    print(number, flush=True)
    number += 1
"""


# -- backup


def test_a_backup_is_whole_while_others_write(ours: Db, project: Project, started: Started) -> None:
    fill(ours)
    writer = started(WRITE, ours.url.render_as_string())
    assert writer.stdout is not None
    before = [int(writer.stdout.readline()) for _ in range(20)][-1]
    ended = project.run("db", "backup", "copy.db")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("copy.db: ")
    for _ in range(20):
        assert writer.stdout.readline()  # it goes on
    writer.kill()
    with Db(Database(url=f"sqlite:///{project.path / 'copy.db'}")) as copy:
        names = copy.read(
            lambda c: c.exec_driver_sql("SELECT name FROM meta WHERE name GLOB '0*' ORDER BY 1").scalars().all()
        )
        assert [int(name) for name in names] == list(range(len(names)))
        assert len(names) > before
    assert project.run("db", "check", DATABASE_URL="sqlite:///copy.db").stdout.endswith("copy.db: ok\n")
    kept = (project.path / "copy.db").read_bytes()
    one_line(project.run("db", "backup", "copy.db"), "copy.db: is there already")
    assert (project.path / "copy.db").read_bytes() == kept


def test_a_backup_for_which_there_is_no_room_leaves_nothing(ours: Db, project: Project) -> None:
    ours.write(lambda c: c.exec_driver_sql("INSERT INTO meta VALUES ('much', hex(randomblob(500000)))"))
    small = project.path / "small"
    small.mkdir()
    script = f"mount -t tmpfs -o size=256k tmpfs {small} && {sys.executable} -m scraper db backup {small}/copy.db; code=$?; ls {small}; exit $code"
    ended = subprocess.run(
        ["unshare", "-m", "sh", "-c", script], cwd=project.path, capture_output=True, text=True, check=False
    )
    assert "mount" not in ended.stderr, "this test mounts a small file system, for which it has to be root"
    one_line(ended, "full")
    assert ended.stdout == ""
    one_line(project.run("db", "backup", "none/copy.db"), "none/copy.db")


@pytest.mark.parametrize(("to", "why"), [("none/copy.db", "No such file"), ("bowerbird.db/copy.db", "Not a directory")])
def test_a_backup_to_where_nothing_can_be_is_one_line(ours: Db, project: Project, to: str, why: str) -> None:
    one_line(project.run("db", "backup", to), f"cannot be copied to {to}: {why}")


def test_a_backup_of_a_server_is_not_ours_to_make(project: Project, address: Address) -> None:
    project.configure("")
    one_line(project.run("db", "backup", "copy.db", DATABASE_URL=address.url()), "pg_dump")


# -- checkpoint, vacuum


def test_a_checkpoint_makes_the_log_short_or_names_who_is_in_its_way(
    ours: Db, project: Project, started: Started
) -> None:
    fill(ours)
    assert ours.gauges()["wal_bytes"] > 10_000
    reader = started(LOOK, project.path / "bowerbird.db")
    assert reader.stdout is not None
    reader.stdout.readline()
    ours.write(lambda c: c.exec_driver_sql("INSERT INTO meta VALUES ('more', '')"))
    one_line(project.run("db", "checkpoint"), f"process {reader.pid}", "python", "end that first")
    reader.communicate("")
    ended = project.run("db", "checkpoint")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.endswith("is 0 KiB now\n")
    assert ours.gauges()["wal_bytes"] == 0


def test_vacuum_gives_space_back(ours: Db, project: Project) -> None:
    file = project.path / "bowerbird.db"
    ours.write(lambda c: c.exec_driver_sql("INSERT INTO meta VALUES ('much', zeroblob(5000000))"))
    ours.write(lambda c: c.exec_driver_sql("DELETE FROM meta"))
    ended = project.run("db", "vacuum")
    assert ended.returncode == 0, ended.stderr
    assert file.stat().st_size < 10**6
    assert ours.gauges()["wal_bytes"] < 10**6
    assert "MiB" in ended.stdout


# -- current, check


def test_current_says_what_is_there_and_makes_nothing(project: Project, tmp_path: Path) -> None:
    project.configure("")
    ended = project.run("db", "current")
    assert "no tables yet; `bowerbird db upgrade` brings it to" in ended.stdout
    (project.path / "bowerbird.db").touch()
    assert "no tables yet" in project.run("db", "current").stdout
    (project.path / "bowerbird.db").unlink()
    one_line(project.run("db", "check"), "there is no such file")
    assert [path.name for path in project.path.iterdir() if path.name.startswith("bowerbird.db")] == []
    for was in ("made", "as it should be"):
        assert project.run("db", "upgrade").stdout.endswith(f"version {schema.HEAD}, {was}\n")
    assert project.run("db", "current").stdout.endswith(f"version {schema.HEAD}\n")


def test_tables_of_a_newer_version_are_told_as_such(ours: Db, project: Project) -> None:
    ours.write(lambda c: c.exec_driver_sql("UPDATE alembic_version SET version_num = '0099'"))
    assert "a newer version made it" in project.run("db", "current").stdout
    assert "a newer version made the tables (0099" in project.run("db", "check").stdout


def test_check_tells_what_is_damaged(ours: Db, project: Project) -> None:
    assert project.run("db", "check").stdout.endswith("bowerbird.db: ok\n")
    connection = sqlite3.connect(project.path / "bowerbird.db")
    connection.execute(
        "INSERT INTO items (source, kind, key, url, page_id, run_id, data, first_seen, last_seen, changed_at)"
        " VALUES ('s', 'k', 'k', 'u', 77, 1, '{}', '2024-01-01', '2024-01-01', '2024-01-01')"
    )
    connection.commit()
    connection.close()
    ended = project.run("db", "check")
    assert ended.returncode != 0
    assert "1 items without a page" in ended.stdout
    assert "row 1 points to nothing in pages" in ended.stdout
    ours.outside(lambda c: c.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").one())
    ours.close()
    with (project.path / "bowerbird.db").open("r+b") as file:
        file.seek(4096 * 2)
        file.write(os.urandom(4096 * 6))
    for args in (("db", "check"), ("db", "current"), ("db", "backup", "copy.db"), ("db", "upgrade"), ("db", "vacuum")):
        ended = project.run(*args)
        assert "Traceback" not in ended.stderr, ended.stderr
        if ended.returncode:
            one_line(ended, "bowerbird.db")
    assert project.run("db", "check").returncode != 0
    (project.path / "bowerbird.db").write_bytes(b"this is a text and no database, " * 1000)
    for args in (
        ("db", "check"),
        ("db", "current"),
        ("db", "backup", "copy.db"),
        ("db", "upgrade"),
        ("db", "checkpoint"),
    ):
        one_line(project.run(*args), "bowerbird.db", "not a database")


# -- copy


@pytest.mark.databases("postgresql", "pgbouncer")
def test_what_goes_to_a_server_and_back_is_the_same(
    ours: Db, project: Project, address: Address, database: Database
) -> None:
    fill(ours)
    before = digests(ours)
    assert before["events"][0] == MANY
    pooler = {"BOWERBIRD_DATABASE__TRANSACTION_POOLER": str(database.transaction_pooler).lower()}
    for _ in range(2):  # again: there is nothing left to do
        there = project.run("db", "copy", database.url, **pooler)  # type: ignore[arg-type]
        assert there.returncode == 0, there.stderr
        assert PASSWORD not in there.stdout + there.stderr
    with Db(database) as server:
        assert digests(server) == before
        back = project.run("db", "copy", "sqlite:///back.db", DATABASE_URL=database.url, **pooler)  # type: ignore[arg-type]
        assert back.returncode == 0, back.stderr
        with Db(Database(url=f"sqlite:///{project.path / 'back.db'}")) as last:
            assert digests(last) == before
            assert last.read(lambda c: c.exec_driver_sql("PRAGMA foreign_key_check").all()) == []
            found = last.read(lambda c: list(c.scalars(select(pages.c.headers).order_by(pages.c.id))))
            for n, document in enumerate(found):
                if n % 4 != 2:  # large floats come back as the whole numbers that they are
                    assert document == DOCUMENTS[n % 4]
            for one in (server, last):
                assert one.write(lambda c: runs.request(c, "fresh", now())) == len(TEXTS) + 1
                assert one.write(lambda c: reserve(c, pages, 2)) == [len(TEXTS) + 1, len(TEXTS) + 2]
                row = {"at": now(), "kind": "k", "name": "n", "event": "e", "level": "info", "facts": {}}
                made = one.write(lambda c, row=row: c.execute(insert(events).values(**row)).inserted_primary_key)  # type: ignore[misc]
                assert made == (MANY + 1,)


def test_a_copy_that_was_killed_goes_on(ours: Db, project: Project, address: Address) -> None:
    fill(ours)
    assert project.run("db", "upgrade", DATABASE_URL=address.url()).returncode == 0
    with connected(address.server, address.name) as admin, admin.transaction():
        admin.execute("LOCK TABLE items IN ACCESS EXCLUSIVE MODE")  # there it has to wait
        first = project.start("db", "copy", address.url())
        waits = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{address.name}' AND wait_event_type = 'Lock'"
        until(lambda: address.rows(waits) == [(1,)], "it has come as far as the items")
        first.kill()
        first.wait()
    done = address.rows(
        "SELECT (SELECT count(*) FROM pages), (SELECT count(*) FROM items), (SELECT max(xmin::text) FROM pages)"
    )
    assert done[0][:2] == (len(TEXTS), 0)
    ended = project.run("db", "copy", address.url())
    assert ended.returncode == 0, ended.stderr
    assert address.rows("SELECT max(xmin::text) FROM pages")[0][0] == done[0][2]  # not stored anew
    with Db(address.settings()) as server:
        assert digests(server) == digests(ours)


def test_a_copy_into_a_database_with_rows_of_its_own_is_refused(ours: Db, project: Project, address: Address) -> None:
    fill(ours)
    other = project.path / "other.db"
    for url in (address.url(), f"sqlite:///{other}"):
        with Db(Database(url=url)) as target:
            schema.upgrade(target)
            target.write(lambda c: runs.request(c, "theirs", now()))
            before = digests(target)
            one_line(project.run("db", "copy", url), "rows of its own in runs", "empty database")
            assert {name: found for name, found in digests(target).items() if name == "runs"} == {
                "runs": before["runs"]
            }
    for same in (
        "sqlite:///bowerbird.db",
        f"sqlite:///{project.path}/bowerbird.db",
        f"sqlite:///{project.path}/./bowerbird.db",
    ):
        one_line(project.run("db", "copy", same), "the very database")
    one_line(project.run("db", "copy", "mysql://x/y"), "is no database")
    one_line(project.run("db", "copy", "sqlite:///none/x.db"), "no such directory")


def test_what_is_told_of_a_copy_says_how_to_go_on(ours: Db, project: Project) -> None:
    fill(ours)
    ended = project.run("db", "copy", "sqlite:///other.db")
    assert ended.returncode == 0, ended.stderr
    rows = sum(count for count, _ in digests(ours).values())
    assert f": {rows} rows, the same as in" in ended.stdout
    assert "[database] url" in ended.stdout
    assert json.dumps(f"sqlite:///{project.path / 'other.db'}") in ended.stdout
