"""Engines and units of work.

A unit is a function over a connection. write() runs it inside BEGIN IMMEDIATE (SQLite) or BEGIN, read() inside BEGIN;
the whole unit runs again when the database says that it could not keep this one.
"""

import contextlib
import json
import logging
import os
import random
import sqlite3
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self, TypeVar

from sqlalchemy import (
    Connection,
    CursorResult,
    Dialect,
    create_engine,
    event,
    insert,
    inspect,
    pool,
    select,
    update,
)
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.schema import CreateColumn

from scraper.config.settings import Database
from scraper.database.models import SCHEMA_VERSION, meta, metadata
from scraper.errors import Unavailable, Unusable

log = logging.getLogger(__name__)

T = TypeVar("T")
Unit = Callable[[Connection], T]

RETRIES = 5
LOCK_SLICE_S = 0.25
DROPPED = {"urls_by_host", "urls_by_run"}  # indexes of earlier versions
LOCK_TOLD_S = 2.0
SIGN_OF_LIFE_OPCODES = 200_000  # of SQLite's virtual machine: some ten milliseconds
# SQLSTATE of PostgreSQL: serialisation failure, deadlock, lock timeout: this transaction lost, the next one may win.
LOST = {"40001", "40P01", "55P03"}
MENDS_ITSELF = ("locked", "busy", "full", "i/o error", "unable to open", "readonly", "read-only")
CORRUPT = ("malformed", "not a database", "corrupt")


def now() -> datetime:
    """Return this instant, in UTC."""
    return datetime.now(UTC)


def made_id(result: CursorResult[Any]) -> int:
    """Return the id of the row that an INSERT made."""
    key = result.inserted_primary_key
    assert key is not None
    return int(key[0])


def resolved_url(url: str, base: Path) -> str:
    """Return a database URL with a relative SQLite path made absolute, relative to the configuration's directory."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite" and parsed.database:
        parsed = parsed.set(database=str((base / Path(parsed.database).expanduser()).absolute()))
    return parsed.render_as_string(hide_password=False)


def sqlite_file(url: str) -> Path | None:
    """Return the file of a SQLite URL, or None for another database."""
    parsed = make_url(url)
    return Path(parsed.database or "") if parsed.get_backend_name() == "sqlite" else None


class Db:
    """The database, for one process. Thread-safe: each thread gets a connection of its own."""

    def __init__(self, settings: Database, role: str = "bowerbird") -> None:
        """Raises Unusable if the URL or its driver cannot be used. Connects only when it is first asked."""
        self._pid = os.getpid()
        self.touched = time.monotonic()
        self.waiting: str | None = None  # for whom, when it takes long
        self.hurried = False  # whoever uses us is about to leave
        self.settings = settings
        try:
            self.url = make_url(settings.url)
            self.engine = create_engine(self.url, **_options(settings, self.url, role))
        except (ArgumentError, NoSuchModuleError, ImportError, ValueError) as error:
            raise Unusable(f"[database] url: {error}; for PostgreSQL install bowerbird[postgres]") from None
        self.dialect: Dialect = self.engine.dialect
        self.shown = self.url.render_as_string(hide_password=True)
        if self.is_sqlite:
            event.listen(self.engine, "connect", self._prepare_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)

    @property
    def is_sqlite(self) -> bool:
        """Whether this is SQLite."""
        return self.url.get_backend_name() == "sqlite"

    @property
    def tells_life(self) -> bool:
        """Whether a unit under way gives signs of life: SQLite does, a server elsewhere leaves us waiting."""
        return self.is_sqlite

    def touch(self) -> None:
        """Note a sign of life: when the last one was is told by `touched`, in monotonic seconds."""
        self.touched = time.monotonic()

    def _prepare_sqlite(self, connection: sqlite3.Connection, record: object) -> None:
        connection.isolation_level = None
        connection.set_progress_handler(self.touch, SIGN_OF_LIFE_OPCODES)
        for pragma in (
            f"busy_timeout={int(min(self.settings.timeout, LOCK_SLICE_S) * 1000)}",
            "journal_mode=wal",
            "synchronous=normal",
            "foreign_keys=on",
            "temp_store=memory",
            "cache_size=-16384",
            "journal_size_limit=67108864",
            "wal_autocheckpoint=4000",
        ):
            connection.execute(f"PRAGMA {pragma}")

    def write(self, unit: Unit[T]) -> T:
        """Run a unit in a transaction that may write. Raises Unavailable, Unusable, or what the unit raises."""
        return self._run(unit, writes=True)

    def read(self, unit: Unit[T]) -> T:
        """Run a unit that only reads. Raises Unavailable, Unusable, or what the unit raises."""
        return self._run(unit, writes=False)

    def _run(self, unit: Unit[T], *, writes: bool) -> T:
        if os.getpid() != self._pid:
            raise RuntimeError(f"this database belongs to process {self._pid}; make one in the process that uses it")
        try:
            return self._persist(unit, writes=writes)
        except PoolTimeout:
            raise Unavailable(f"{self.shown}: all connections are in use; raise [database] max_overflow") from None
        finally:
            self.waiting = None

    def _persist(self, unit: Unit[T], *, writes: bool) -> T:
        """Run a unit, again if the database could not keep it. A lock is waited for in slices: a long wait is no silence."""
        began = time.monotonic()
        attempt = 0
        while True:
            self.touch()
            try:
                with self.engine.connect() as connection:
                    connection = connection.execution_options(writes=writes)
                    with connection.begin():
                        return unit(connection)
            except DBAPIError as error:
                waited_s = time.monotonic() - began
                if self._is_locked(error) and not self.hurried and waited_s < self.settings.timeout:
                    self._wait_for_lock(waited_s)
                    continue
                attempt += 1
                state = getattr(error.orig, "sqlstate", None)
                if attempt < RETRIES and (error.connection_invalidated or state in LOST):
                    time.sleep(random.random() * 0.05 * 2**attempt)
                    continue
                raise self._translated(error) from error

    def _wait_for_lock(self, waited_s: float) -> None:
        if waited_s > LOCK_TOLD_S and not self.waiting:
            self.waiting = f"{self.url.database}: locked by another program"
            log.warning("waiting for the database, another program has locked it", extra={"file": self.url.database})

    @staticmethod
    def _is_locked(error: DBAPIError) -> bool:
        """SQLite: another process writes."""
        code = getattr(error.orig, "sqlite_errorcode", None)
        return code is not None and code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)

    def _translated(self, error: DBAPIError) -> Exception:
        text = " ".join(str(error.orig).split())
        low = text.lower()
        if self.is_sqlite:
            if any(word in low for word in CORRUPT):
                return Unusable(
                    f"{self.url.database}: {text}; the file is damaged or no SQLite database: restore a backup, or move "
                    "it away to start with an empty one"
                )
            if any(word in low for word in MENDS_ITSELF):
                return Unavailable(f"{self.url.database}: {text}{_remedy(low)}")
        elif error.connection_invalidated or type(error).__name__ in ("OperationalError", "InterfaceError"):
            return Unavailable(f"{self.shown}: {text}")
        return error

    def upgrade(self) -> None:
        """Bring the tables to this version; safe when several processes do so at once.

        Raises Unusable for a database of a newer version, Unavailable while there is none.
        """
        if self.is_sqlite and self.url.database:
            folder = Path(self.url.database).parent
            if not folder.is_dir():
                raise Unusable(
                    f"{folder}: there is no such directory for the database; make it or change [database] url"
                )
        self.write(self._upgrade)

    def _upgrade(self, connection: Connection) -> None:
        if not self.is_sqlite:
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7215460139)")
        found = self.version(connection)
        if found is not None and found > SCHEMA_VERSION:
            raise Unusable(
                f"{self.shown}: was made by a newer version (schema {found}, this one knows {SCHEMA_VERSION}); "
                "install that version again"
            )
        if found == SCHEMA_VERSION:
            return
        metadata.create_all(connection)
        if found is not None:
            self._complete(connection)
        if found is None:
            connection.execute(insert(meta).values(name="schema_version", value=str(SCHEMA_VERSION)))
        else:
            connection.execute(update(meta).where(meta.c.name == "schema_version").values(value=str(SCHEMA_VERSION)))

    def _complete(self, connection: Connection) -> None:
        """Give tables of an earlier version what they lack; what was stored stays."""
        seen = inspect(connection)
        quote = self.dialect.identifier_preparer.quote
        for table in metadata.sorted_tables:
            there = {column["name"] for column in seen.get_columns(table.name)}
            for column in table.columns:
                if column.name not in there:
                    made = CreateColumn(column).compile(dialect=self.dialect)
                    connection.exec_driver_sql(f"ALTER TABLE {quote(table.name)} ADD COLUMN {made}")
            known = {index["name"] for index in seen.get_indexes(table.name)}
            for name in DROPPED & known:
                connection.exec_driver_sql(f"DROP INDEX {quote(name)}")
            for index in table.indexes:
                if index.name not in known:
                    index.create(connection)

    @staticmethod
    def version(connection: Connection) -> int | None:
        """Return the version of the tables, or None if there are none yet."""
        if not inspect(connection).has_table("meta"):
            return None
        found = connection.scalar(select(meta.c.value).where(meta.c.name == "schema_version"))
        return int(found) if found is not None else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give all connections back."""
        with contextlib.suppress(SQLAlchemyError):
            self.engine.dispose()


def _remedy(low: str) -> str:
    if "full" in low:
        return "; free some space on that disk"
    if "readonly" in low or "read-only" in low or "unable to open" in low:
        return "; make the file and its directory writable for this user"
    return ""


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes", True)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _options(settings: Database, url: URL, role: str) -> dict[str, Any]:
    options: dict[str, Any] = {"hide_parameters": True, "json_serializer": json.JSONEncoder(ensure_ascii=False).encode}
    if url.get_backend_name() == "sqlite":
        return {
            **options,
            "poolclass": pool.QueuePool,
            "pool_size": settings.pool_size,
            "max_overflow": settings.max_overflow,
            "pool_timeout": settings.timeout,
            "connect_args": {"timeout": min(settings.timeout, LOCK_SLICE_S), "check_same_thread": False},
        }
    options["paramstyle"] = "format"  # by place, as SQLite's: that is how Bulk hands values over
    options["connect_args"] = {
        "connect_timeout": max(2, int(min(settings.timeout, 30))),
        "application_name": f"bowerbird/{role}/{os.getpid()}"[:60],
        "prepare_threshold": None,  # safe behind a transaction pooler, and costs nothing measurable
    }
    if settings.transaction_pooler:
        return {**options, "poolclass": pool.NullPool}
    return {
        **options,
        "pool_size": settings.pool_size,
        "max_overflow": settings.max_overflow,
        "pool_timeout": settings.timeout,
        "pool_recycle": int(settings.pool_recycle),
        "pool_pre_ping": True,
    }
