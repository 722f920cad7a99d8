"""The tables' versions: what is made at once equals what the steps make; a step is done once, whole, and keeps every row."""

import importlib
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection

from scraper.config.settings import Database
from scraper.database import Db, schema
from scraper.database.models import WORDS, metadata
from scraper.errors import Unusable
from tests.postgres import Server
from tests.support import Project

pytestmark = pytest.mark.databases("sqlite", "postgresql", "pgbouncer")
AFTER = "9001"
AT_ONCE = 6
ROOT = Path(schema.__file__).parents[2]

STEP = """
import sqlalchemy as sa
from alembic import op

revision = "{after}"
down_revision = "{before}"

def upgrade():
    with open({done!r}, "a") as done:
        done.write("done\\n")
    with op.batch_alter_table("pages") as batch:
        batch.alter_column("status", type_=sa.BigInteger(), existing_type=sa.Integer())
        batch.add_column(sa.Column("mood", sa.Text(), nullable=False, server_default="calm"))
    {then}
"""

PAGE = (
    "INSERT INTO pages (id, source, fingerprint, run_id, url, final_url, status, content_type, depth, content_hash, bytes,"
    " headers, body, stored_bytes, fetched_at, changed_at) VALUES ({n}, 's', {mark}, 1, 'u', 'u', 200, 't', 0, 'h', 1,"
    " '{{}}', {mark}, 1, '2024-01-01', '2024-01-01')"
)
ITEM = (
    "INSERT INTO items (id, source, kind, key, url, page_id, run_id, data, first_seen, last_seen, changed_at)"
    " VALUES ({n}, 's', 'k', 'key-{n}', 'u', {n}, 1, '{{}}', '2024-01-01', '2024-01-01', '2024-01-01')"
)
VERSION = (
    "INSERT INTO item_versions (id, item_id, source, at, until, data)"
    " VALUES ({n}, {n}, 's', '2024-01-01', '2024-01-01', '{{}}')"
)
ROWS = 40


def fill(connection: Connection) -> None:
    """Pages, with an item each, with an earlier version each."""
    sqlite = connection.dialect.name == "sqlite"
    for number in range(1, ROWS + 1):
        mark = f"x'{number:032x}'" if sqlite else f"'\\x{number:032x}'::bytea"
        for text in (PAGE, ITEM, VERSION):
            connection.exec_driver_sql(text.format(n=number, mark=mark).replace("%", "%%"))


def is_ours(_: Any, name: str | None, kind: str, *__: Any) -> bool:
    """Whether the models say it: how words are found is each database's own."""
    return not str(name).startswith(WORDS) and (kind, name) != ("column", "words")


def counts(db: Db) -> list[int]:
    def unit(connection: Connection) -> list[int]:
        tables = ("pages", "items", "item_versions")
        return [connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one() for table in tables]

    return db.read(unit)


def made(db: Db) -> dict[str, Any]:
    """Everything that the database itself says of the tables, their columns in no order."""

    def unit(connection: Connection) -> dict[str, Any]:
        if connection.dialect.name == "sqlite":
            found: dict[str, Any] = {}
            rows = connection.exec_driver_sql("SELECT type, name, tbl_name, sql FROM sqlite_master").all()
            for kind, name, table, sql in rows:
                found[f"{kind} {name}"] = "".join((sql or "").split()).replace('"', "") if kind == "index" else table
                if kind == "table":
                    for what in ("table_info", "foreign_key_list"):
                        said = connection.exec_driver_sql(f"SELECT * FROM pragma_{what}('{name}')").all()
                        found[f"{what} {name}"] = sorted(str(tuple(row)[1:]) for row in said)
                    found[f"counts {name}"] = "AUTOINCREMENT" in sql.upper()
            return found
        queries = {
            "columns": "SELECT table_name, column_name, data_type, is_nullable, column_default, is_identity"
            " FROM information_schema.columns WHERE table_schema = 'public'",
            "indexes": "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'",
            "constraints": "SELECT conname, conrelid::regclass::text, pg_get_constraintdef(oid) FROM pg_constraint"
            " WHERE connamespace = 'public'::regnamespace",
        }
        return {
            what: sorted(str(tuple(row)) for row in connection.exec_driver_sql(query))
            for what, query in queries.items()
        }

    return db.read(unit)


@pytest.fixture
def another(database: Database, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Db]:
    """A second database of the same kind, empty."""
    if database.url.startswith("sqlite"):
        with Db(Database(url=f"sqlite:///{tmp_path / 'another.db'}")) as one:
            assert one.file is not None
            one.file.create = True
            yield one
        return
    server: Server = request.getfixturevalue("postgres")
    with server.database() as address, Db(address.settings(pooled=database.transaction_pooler)) as one:
        yield one


@pytest.fixture
def step(tmp_path: Path) -> Callable[..., Path]:
    """Write the steps there are and one more; returns where they are."""

    def write(then: str = "pass") -> Path:
        scripts = tmp_path / "steps"
        shutil.copytree(schema.SCRIPTS, scripts)
        text = STEP.format(after=AFTER, before=schema.HEAD, done=str(tmp_path / "done"), then=then)
        (scripts / "versions" / f"{AFTER}_mood.py").write_text(text)
        return scripts

    return write


@pytest.fixture
def full(database: Database) -> Iterator[Db]:
    """A database of this version, with rows."""
    with Db(database) as one:
        schema.upgrade(one)
        one.write(fill)
        yield one


def test_the_steps_make_the_tables_that_are_made_at_once(db: Db, another: Db) -> None:
    config = Config()
    config.set_main_option("script_location", str(schema.SCRIPTS))

    def migrate(connection: Connection) -> None:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")

    another.write(migrate, deadline=False)
    assert another.read(schema.current) == db.read(schema.current) == schema.HEAD
    options: dict[str, Any] = {
        "compare_type": True,
        "compare_server_default": not db.is_sqlite,
    }  # of SQLite it misreads empty ones
    options |= {"include_object": is_ours}
    for one in (db, another):
        differing = one.read(lambda c: compare_metadata(MigrationContext.configure(c, opts=options), metadata))
        assert differing == []
    theirs, ours = made(another), made(db)
    for found in (theirs, ours):  # Alembic's own table
        for what in [what for what in found if "alembic_version" in what]:
            del found[what]
        for what, said in found.items():
            if isinstance(said, list):
                found[what] = [line for line in said if "alembic_version" not in line]
    assert theirs == ours


def test_a_step_keeps_every_row(full: Db, step: Callable[..., Path], tmp_path: Path) -> None:
    """SQLite cannot alter a column: the table is made anew and the former one dropped, to which other rows point."""
    before = made(full)
    assert schema.upgrade(full, AFTER, step()) == schema.HEAD
    assert full.read(schema.current) == AFTER
    assert counts(full) == [ROWS] * 3
    query = "SELECT count(*) FROM items JOIN pages ON pages.id = items.page_id WHERE pages.mood = 'calm'"
    assert full.read(lambda c: c.exec_driver_sql(query).scalar()) == ROWS
    after = made(full)
    for what in [what for what in before if what.startswith(("index ", "foreign_key_list", "indexes", "constraints"))]:
        assert after[what] == before[what]
    if full.file is not None:
        with Db(Database(url=f"sqlite:///{full.file.path}.before-{AFTER}")) as kept:
            assert counts(kept) == [ROWS] * 3
            assert kept.read(schema.current) == schema.HEAD
            assert made(kept) == before
        assert full.read(lambda c: c.exec_driver_sql("PRAGMA foreign_keys").scalar()) == 1
        assert full.read(lambda c: c.exec_driver_sql("PRAGMA integrity_check").scalar()) == "ok"
    assert schema.upgrade(full, AFTER, tmp_path / "steps") == AFTER
    assert (tmp_path / "done").read_text() == "done\n"


def test_a_step_that_several_want_is_done_once(full: Db, database: Database, step: Callable[..., Path]) -> None:
    scripts = step()
    code = (
        "import pathlib; from scraper.config.settings import Database; from scraper.database import Db, schema\n"
        f"print(schema.upgrade(Db({database!r}), {AFTER!r}, pathlib.Path({str(scripts)!r})))"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(AT_ONCE)
    ]
    ended = [(*process.communicate(timeout=90), process.returncode) for process in started]
    assert [code for _, _, code in ended] == [0] * AT_ONCE, ended
    assert {out.strip() for out, _, _ in ended} <= {schema.HEAD, AFTER}
    assert full.read(schema.current) == AFTER
    assert counts(full) == [ROWS] * 3
    assert (scripts.parent / "done").read_text() == "done\n"
    assert {path.name.partition("test.db")[2] for path in scripts.parent.glob("test.db*")} <= {
        "", "-wal", "-shm", f".before-{AFTER}"}  # fmt: skip
    if full.file is not None:
        with Db(Database(url=f"sqlite:///{full.file.path}.before-{AFTER}")) as kept:
            assert counts(kept) == [ROWS] * 3
            assert kept.read(schema.current) == schema.HEAD


@pytest.mark.databases("sqlite")
def test_a_copy_is_of_what_was_there_just_before(full: Db, step: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        schema.upgrade(full, AFTER, step("raise KeyError"))
    full.write(lambda c: c.exec_driver_sql("DELETE FROM item_versions"))  # it was used for some weeks
    shutil.rmtree(tmp_path / "steps")
    schema.upgrade(full, AFTER, step())
    with Db(Database(url=f"sqlite:///{tmp_path / 'test.db'}.before-{AFTER}")) as kept:
        assert counts(kept) == [ROWS, ROWS, 0]


@pytest.mark.parametrize(
    ("then", "raised"),
    [
        ("raise KeyError('half-way')", KeyError),
        ("op.execute('DROP TABLE usage'); op.execute('SELECT * FROM nothing')", Exception),
    ],
)
def test_a_step_that_fails_leaves_everything_as_it_was(
    full: Db, step: Callable[..., Path], then: str, raised: type[Exception]
) -> None:
    before = made(full)
    with pytest.raises(raised):
        schema.upgrade(full, AFTER, step(then))
    assert full.read(schema.current) == schema.HEAD
    assert made(full) == before
    assert counts(full) == [ROWS] * 3
    if full.file is not None:
        assert full.read(lambda c: c.exec_driver_sql("PRAGMA foreign_keys").scalar()) == 1
    full.write(lambda c: c.exec_driver_sql("DELETE FROM item_versions"))  # it goes on


@pytest.mark.databases("sqlite")
def test_a_step_that_would_leave_rows_without_their_page_is_not_done(full: Db, step: Callable[..., Path]) -> None:
    with pytest.raises(Unusable, match="would point to nothing"):
        schema.upgrade(full, AFTER, step("op.execute('DELETE FROM pages WHERE id > 10')"))
    assert counts(full) == [ROWS] * 3
    assert full.read(schema.current) == schema.HEAD


def test_a_newer_database_is_refused_and_left_alone(full: Db, database: Database, project: Project) -> None:
    full.write(lambda c: c.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'"))
    before = made(full)
    project.configure('[[source]]\nname = "a"\nstart = ["http://127.0.0.1:9/"]\n')
    env: dict[str, Any] = {
        "DATABASE_URL": database.url,
        "BOWERBIRD_DATABASE__TRANSACTION_POOLER": str(database.transaction_pooler).lower(),
    }
    commands = [("db", "upgrade"), ("serve",), ("scrape",)]
    for args in commands:
        ended = project.run(*args, **env)
        said = [line for line in ended.stderr.splitlines() if "9999" in line]
        assert ended.returncode != 0
        assert len(said) == 1, ended.stderr
        assert "newer version" in said[0]
        assert "Traceback" not in ended.stderr
    with pytest.raises(Unusable, match=f"tables 9999, this one knows {schema.HEAD}"):
        schema.upgrade(full)
    assert made(full) == before
    assert counts(full) == [ROWS] * 3
    assert not list(project.path.glob("*.before-*"))


def test_tables_from_before_the_first_version_are_refused(full: Db) -> None:
    full.write(lambda c: c.exec_driver_sql("DROP TABLE alembic_version"))
    with pytest.raises(Unusable, match="before the first release"):
        schema.upgrade(full)
    assert counts(full) == [ROWS] * 3


@pytest.mark.databases("sqlite", "postgresql")
def test_the_steps_can_be_run_as_a_module(project: Project, database: Database) -> None:
    project.configure("")
    command = [sys.executable, "-m", "scraper.database.migrations"]
    for was in ("made", "as it should be"):
        ended = subprocess.run(
            command,
            check=False,
            cwd=project.path,
            env={"DATABASE_URL": database.url, "PATH": ""},
            capture_output=True,
            text=True,
        )
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout.strip().endswith(f"version {schema.HEAD}, {was}")
    with Db(replace(database, timeout=1)) as one:
        assert one.read(schema.current) == schema.HEAD


@pytest.mark.databases("sqlite")
def test_what_is_installed_has_the_steps(tmp_path: Path) -> None:
    steps = {path for path in schema.SCRIPTS.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert {path.suffix for path in steps} == {".py", ".mako"}
    try:
        builder = importlib.import_module("hatchling.builders.wheel")
    except ImportError:  # then by what it would be told
        told = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
        assert "scraper" in told["only-include"]
        assert told.keys() == {"only-include"}
        return
    wheel = next(builder.WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"]))
    with zipfile.ZipFile(wheel) as packed:
        assert {str(path.relative_to(ROOT)) for path in steps} <= set(packed.namelist())
