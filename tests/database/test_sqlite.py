"""SQLite's file: gone, replaced, locked, damaged, in the wrong place; and its write-ahead log."""

import contextlib
import logging
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Connection

from scraper import kernel
from scraper.config.settings import Database
from scraper.database import Db, schema, sqlite, wal
from scraper.errors import BowerbirdError, Conflict, Unavailable, Unusable
from tests.support import until

WRITERS = 4
UNITS = 60  # of each writer
PART = 20_000  # bytes that a unit writes
ROUNDS = 4


def tally(connection: Connection) -> None:
    connection.exec_driver_sql("CREATE TABLE tally (who text, number integer, much blob)")


def add(connection: Connection, who: str = "me", number: int = 0, much: int = 0, times: int = 1) -> None:
    for _ in range(times):
        connection.exec_driver_sql(f"INSERT INTO tally VALUES ('{who}', {number}, randomblob({much}))")


def replace_mine(connection: Connection) -> None:
    add(connection, "later", much=PART)
    connection.exec_driver_sql("DELETE FROM tally WHERE who = 'me'")


def count(connection: Connection) -> int:
    return int(connection.exec_driver_sql("SELECT count(*) FROM tally").scalar_one())


def integrity(connection: Connection) -> list[str]:
    return list(connection.exec_driver_sql("PRAGMA integrity_check").scalars())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "test.db"


@pytest.fixture
def open_db(database: Database) -> Iterator[Callable[..., Db]]:
    """Open the database, as often as one likes."""
    opened: list[Db] = []

    def make(*, checkpoints: bool = False, timeout: float = 30.0) -> Db:
        opened.append(Db(replace(database, timeout=timeout), checkpoints=checkpoints))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


@pytest.fixture
def full(db: Db) -> Db:
    """A database with ten rows."""
    db.write(tally)
    for number in range(10):
        db.write(lambda c, number=number: add(c, number=number))  # type: ignore[misc]
    return db


@pytest.fixture
def started() -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Run code in a process of its own."""
    running: list[subprocess.Popen[str]] = []

    def start(code: str, *args: object) -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", code, *map(str, args)]
        made = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        running.append(made)
        return made

    yield start
    for process in running:
        process.kill()
        process.communicate()


# -- where it is


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("sqlite://", "memory ends with each process"),
        ("sqlite:///:memory:", "memory ends with each process"),
        ("sqlite:////x.db?mode=ro", "SQLite takes no mode"),
        ("sqlite:////x.db?cache=shared&mode=rwc", "SQLite takes no cache, mode"),
    ],
)
def test_a_url_that_names_no_file_is_refused(url: str, why: str) -> None:
    with pytest.raises(Unusable, match=why):
        Db(Database(url=url))


def test_nobody_who_reads_or_writes_makes_a_file(open_db: Callable[..., Db], file: Path) -> None:
    for run in (open_db().read, open_db().write, open_db(checkpoints=True).read):
        with pytest.raises(Unavailable, match="there is no such file"):
            run(lambda c: None)
    with pytest.raises(Unavailable):
        open_db().copy_file(file.with_name("copy.db"))
    assert list(file.parent.iterdir()) == []


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "9p", "virtiofs", "ext4", "tmpfs", ""])
def test_a_network_file_system_is_refused(
    open_db: Callable[..., Db], file: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(kernel, "filesystem", lambda path: kind)  # there is none here
    if kind in ("ext4", "tmpfs", "", "9p", "virtiofs"):  # the last two: what virtual machines see of their host's disk
        schema.upgrade(open_db())
        return
    with pytest.raises(Unusable, match=rf"network file system \({kind}\)"):
        schema.upgrade(open_db())
    assert not file.exists()


def test_the_kernel_is_asked_what_a_file_is_on(tmp_path: Path) -> None:
    assert kernel.filesystem(Path("/proc")) == "proc"
    (tmp_path / "link").symlink_to("/proc")
    assert kernel.filesystem(tmp_path / "link") == "proc"
    assert kernel.filesystem(tmp_path) not in ("", "proc")


@pytest.mark.parametrize("text", ["", "no database at all" * 1000])
def test_a_file_that_is_no_database(open_db: Callable[..., Db], file: Path, text: str) -> None:
    file.write_text(text)
    if not text:  # an empty file is an empty database
        assert schema.upgrade(open_db()) is None
        return
    for run in (open_db().read, open_db().write):
        with pytest.raises(Unusable, match="no SQLite database: restore a backup"):
            run(lambda c: None)
    assert file.read_text() == text


# -- gone, back, another one


def test_a_deleted_file_is_noticed_and_nothing_is_lost_when_it_is_back(full: Db, file: Path) -> None:
    away = file.with_name("away.db")
    file.rename(away)
    for run in (full.write, full.read):
        with pytest.raises(Unavailable, match="there is no such file"):
            run(add)
    assert not file.exists()
    away.rename(file)
    full.write(lambda c: add(c, number=10))
    assert full.read(count) == 11
    assert full.read(integrity) == ["ok"]


def test_all_that_belongs_to_a_file_may_be_moved_away_and_back(full: Db, file: Path) -> None:
    (file.parent / "away").mkdir()
    for name in ("test.db-wal", "test.db-shm", "test.db"):
        file.with_name(name).rename(file.parent / "away" / name)
    with pytest.raises(Unavailable):
        full.read(count)
    for name in ("test.db-wal", "test.db-shm", "test.db"):
        (file.parent / "away" / name).rename(file.with_name(name))
    assert full.read(count) == 10
    full.write(add)
    assert full.read(integrity) == ["ok"]


@pytest.mark.parametrize("seen_away", [False, True], ids=["at-once", "noticed-while-away"])
@pytest.mark.parametrize("in_log", [False, True], ids=["log-in-part", "log-whole"])
def test_a_backup_that_is_put_in_its_place_is_used_at_once(
    full: Db, file: Path, open_db: Callable[..., Db], *, in_log: bool, seen_away: bool
) -> None:
    """The log of the former file is still there: it is not the backup's."""
    backup = file.with_name("backup.db")
    full.copy_file(backup)
    for number in range(50):
        if number == 25 and not in_log:
            full.outside(lambda c: c.exec_driver_sql("PRAGMA wal_checkpoint(PASSIVE)").one())
        full.write(replace_mine)
    others = [open_db(), open_db(checkpoints=True)]
    assert [other.read(count) for other in others] == [50, 50]
    if seen_away:
        file.rename(file.with_name("former.db"))
        for one in (full, others[0]):
            with pytest.raises(Unavailable):
                one.read(count)
    backup.replace(file)
    full.write(lambda c: add(c, number=10))
    for one in (*others, full):
        assert one.read(count) == 11
        one.write(add)
        assert one.read(integrity) == ["ok"]
        one.write(lambda c: c.exec_driver_sql("DELETE FROM tally WHERE rowid = (SELECT max(rowid) FROM tally)"))


def test_a_former_file_is_left_as_it_was(full: Db, file: Path) -> None:
    backup, former = file.with_name("backup.db"), file.with_name("former.db")
    full.copy_file(backup)
    full.outside(lambda c: c.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").one())
    file.rename(former)
    backup.rename(file)
    for _ in range(5):
        full.write(add)
    connection = sqlite3.connect(former)
    assert connection.execute("SELECT count(*) FROM tally").fetchone() == (10,)
    connection.close()


# -- which library


@pytest.mark.parametrize(
    ("version", "sound"),
    [
        ((3, 7, 0), False),
        ((3, 40, 1), False),
        ((3, 44, 5), False),
        ((3, 44, 6), True),
        ((3, 44, 99), True),
        ((3, 45, 0), False),
        ((3, 45, 3), False),
        ((3, 50, 6), False),
        ((3, 50, 7), True),
        ((3, 51, 0), False),
        ((3, 51, 2), False),
        ((3, 51, 3), True),
        ((3, 52, 0), True),
        ((4, 0, 0), True),
    ],
)
def test_which_versions_are_sound(version: tuple[int, ...], *, sound: bool) -> None:
    assert sqlite.is_sound(version) is sound
    library: Any = SimpleNamespace(sqlite_version_info=version, sqlite_version=".".join(map(str, version)))
    assert ("bug" in sqlite.said_of(library)) is not sound


@pytest.mark.parametrize("sound", [False, True])
def test_who_does_checkpoints(open_db: Callable[..., Db], monkeypatch: pytest.MonkeyPatch, *, sound: bool) -> None:
    """With a SQLite that has the bug, one process alone."""
    monkeypatch.setattr(sqlite, "is_sound", lambda version: sound)
    one, other = open_db(checkpoints=True), open_db()
    schema.upgrade(one)
    one.write(tally)

    def after(db: Db, much: int) -> float:
        for _ in range(much):
            db.write(lambda c: c.exec_driver_sql("INSERT INTO tally VALUES ('x', 0, zeroblob(2000000))"))
        return db.gauges()["wal_bytes"]

    assert after(one, 20) < 20 * 2**20  # it has some 16 MiB at most, and what one unit writes
    assert after(other, 20) > 36 * 2**20
    assert after(one, 1) > 36 * 2**20  # its length; what is in it was brought into the file
    log, done = other.outside(lambda c: c.exec_driver_sql("PRAGMA wal_checkpoint(NOOP)").one())[1:]
    assert log == done or sqlite3.sqlite_version_info < (3, 51)
    query = "PRAGMA wal_autocheckpoint"
    assert one.read(lambda c: c.exec_driver_sql(query).scalar()) == sqlite.WAL_PAGES
    assert other.read(lambda c: c.exec_driver_sql(query).scalar()) == (sqlite.WAL_PAGES_OF_OTHERS if sound else 0)


# -- many at once

WORK = f"""
import sys
import time
from scraper.config.settings import Database
from scraper.database import Db
url, who, what = sys.argv[1:]
db = Db(Database(url=url))
if what == "write":
    for number in range({UNITS}):
        db.write(lambda c: c.exec_driver_sql(f"INSERT INTO tally VALUES ('{{who}}', {{number}}, randomblob({PART}))"))
else:
    for _ in range({UNITS} * 5):
        db.read(lambda c: c.exec_driver_sql("SELECT count(*), sum(number) FROM tally").one())
"""
# Looks at one state until it is told to end.
LOOK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN")
connection.execute("SELECT count(*) FROM tally").fetchone()
print("looking", flush=True)
sys.stdin.read()
"""


def test_a_long_reader_is_named_and_stops_nobody(
    db: Db,
    database: Database,
    file: Path,
    started: Callable[..., "subprocess.Popen[str]"],
    open_db: Callable[..., Db],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    much = WRITERS * UNITS * PART
    monkeypatch.setattr(wal, "LONG_BYTES", much // 4)  # 64 MiB would take longer
    db.write(tally)
    one = open_db(checkpoints=True)
    assert one.file is not None
    keeper = wal.Keeper(one, one.file)
    reader = started(LOOK, file)
    assert reader.stdout is not None
    assert reader.stdout.readline() == "looking\n"
    others = [started(WORK, database.url, f"{what}-{n}", what) for n in range(WRITERS) for what in ("write", "read")]

    def ended() -> bool:
        keeper.look(idle=False)
        return all(process.poll() is not None for process in others)

    with caplog.at_level(logging.WARNING, "scraper.database.wal"):
        until(ended, "all have done their work", 60)
    assert [process.returncode for process in others] == [0] * len(others)
    assert db.read(lambda c: c.exec_driver_sql("SELECT count(*), count(DISTINCT who || number) FROM tally").one()) == (
        WRITERS * UNITS,
        WRITERS * UNITS,
    )
    assert one.gauges()["wal_bytes"] >= much
    keeper.look(idle=False)
    told = [vars(record) for record in caplog.records]
    assert len(told) == 1  # once in a while
    assert told[0]["oldest_reader"] == reader.pid
    assert "python" in told[0]["command"]
    assert told[0]["wal_bytes"] > much // 4
    reader.communicate("")
    keeper.look(idle=True)
    assert one.gauges()["wal_bytes"] == 0
    assert one.read(integrity) == ["ok"]


SWARM = """
import sys
import time
from scraper.config.settings import Database
from scraper.database import Db
url, who, number = sys.argv[1], sys.argv[2], int(sys.argv[3])
db = Db(Database(url=url), checkpoints=who == "0")
while True:
    db.write(lambda c: c.exec_driver_sql(f"INSERT INTO tally VALUES ('{who}', {number}, randomblob(9000))"))
    print(number, flush=True)
    number += 1
"""


@pytest.mark.timeout(120)
def test_writers_that_are_killed_lose_nothing_that_they_were_told_is_stored(
    db: Db, database: Database, started: Callable[..., "subprocess.Popen[str]"]
) -> None:
    db.write(tally)
    following = [0] * WRITERS
    for turn in range(ROUNDS):
        swarm = [started(SWARM, database.url, who, following[who]) for who in range(WRITERS)]
        for process in swarm:
            assert process.stdout is not None
            for _ in range(10 + turn):
                assert process.stdout.readline()
        for who, process in enumerate(swarm):
            process.kill()
            told = [int(line) for line in (process.stdout or "")] if process.stdout else []
            process.wait()
            rows = db.read(
                lambda c, who=who: (
                    c.exec_driver_sql(  # type: ignore[misc]
                        f"SELECT number FROM tally WHERE who = '{who}' ORDER BY rowid"
                    )
                    .scalars()
                    .all()
                )
            )
            assert list(rows) == list(range(len(rows)))  # none is missing, none is there twice, none came later
            last = told[-1] if told else following[who] + 9 + turn
            assert len(rows) - 1 - last in (0, 1)  # stored, and not yet told
            following[who] = len(rows)
        assert db.read(integrity) == ["ok"]


# -- copies


def test_a_copy_is_whole_while_others_write(
    full: Db, database: Database, file: Path, started: Callable[..., "subprocess.Popen[str]"]
) -> None:
    full.write(lambda c: add(c, "large", much=10**6, times=30))
    swarm = [started(SWARM, database.url, who, 0) for who in range(1, 3)]
    for process in swarm:
        assert process.stdout is not None
        process.stdout.readline()
    seen: list[int] = []

    def progress(left: int, of: int) -> None:
        seen.append(of)
        for process in swarm:
            assert process.stdout is not None
            process.stdout.readline()  # all go on meanwhile

    copy = file.with_name("copy.db")
    full.copy_file(copy, progress)
    assert len(seen) > 2
    assert len(set(seen)) == 1  # it was not begun anew
    for process in swarm:
        process.kill()
    with Db(Database(url=f"sqlite:///{copy}")) as made:
        assert made.read(integrity) == ["ok"]
        for who in ("1", "2"):
            query = f"SELECT number FROM tally WHERE who = '{who}' ORDER BY rowid"
            rows = made.read(lambda c, query=query: c.exec_driver_sql(query).scalars().all())  # type: ignore[misc]
            assert list(rows) == list(range(len(rows)))
    assert copy.stat().st_mode & 0o777 == 0o600
    with pytest.raises(Conflict, match="is there already"):
        full.copy_file(copy)
    with pytest.raises(Unusable, match="cannot be copied to"):
        full.copy_file(file.parent / "none" / "copy.db")
    assert sorted(path.name for path in file.parent.iterdir() if "part" in path.name) == []


def test_a_copy_that_is_broken_off_leaves_nothing(full: Db, file: Path) -> None:
    def interrupted(left: int, of: int) -> None:
        raise KeyboardInterrupt

    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    copy = file.with_name("copy.db")
    killed = [f"copy.db.{gone.pid}.part", f"copy.db.{gone.pid}.part-journal"]
    kept = [f"copy.db.{os.getppid()}.part", f"other.db.{gone.pid}.part"]
    for name in (*killed, *kept):
        file.with_name(name).touch()
        os.utime(file.with_name(name), (0, 0))
    with pytest.raises(KeyboardInterrupt):
        full.copy_file(copy, interrupted)
    assert sorted(path.name for path in file.parent.iterdir() if "part" in path.name) == sorted(kept)
    assert not copy.exists()


def test_a_damaged_file_is_told_in_one_clear_line(full: Db, file: Path) -> None:
    full.write(lambda c: add(c, "large", much=PART, times=30))
    full.outside(lambda c: c.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").one())
    full.close()
    with file.open("r+b") as damaged:
        damaged.seek(8192)
        damaged.write(os.urandom(file.stat().st_size // 2))

    def told(action: Callable[[], object]) -> str:
        with pytest.raises(BowerbirdError) as failed:
            action()
        return str(failed.value)

    for text in (
        told(lambda: full.write(add)),
        told(lambda: full.read(lambda c: c.exec_driver_sql("SELECT sum(length(much)) FROM tally").scalar())),
        told(lambda: full.copy_file(file.with_name("copy.db"))),
    ):
        assert str(file) in text
        assert "\n" not in text
    assert not file.with_name("copy.db").exists()
    assert not file.with_name("copy.db.part").exists()


def test_who_leaves_waits_for_those_that_write_and_not_for_who_holds_the_lock(tmp_path: Path) -> None:
    database = Database(url=f"sqlite:///{tmp_path}/a.db", timeout=30)
    with Db(database) as db, contextlib.closing(sqlite3.connect(tmp_path / "a.db", isolation_level=None)) as other:
        db.write(tally)
        db.hurried = True
        other.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        with pytest.raises(Unavailable, match="locked"):
            db.write(add)
        assert time.monotonic() - began < 5
        with ThreadPoolExecutor(1) as pool:
            writing = pool.submit(db.write, add)
            time.sleep(0.05)  # the lock is held for as long as others write, not for a moment
            other.execute("COMMIT")
            writing.result()


def test_who_only_reads_waits_for_a_lock_no_longer_than_his_patience(tmp_path: Path) -> None:
    file = tmp_path / "locked.db"
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("PRAGMA locking_mode=EXCLUSIVE")
    other.execute("CREATE TABLE tally (who text)")
    with Db(Database(url=f"sqlite:///{file}", timeout=30)) as db:
        db.read_patience_s = 0.3
        began = time.monotonic()
        with pytest.raises(Unavailable, match="locked"):
            db.read(lambda c: c.exec_driver_sql("SELECT 1 FROM tally").all())
        assert 0.3 <= time.monotonic() - began < 5
    other.close()
