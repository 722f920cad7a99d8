"""Engines and units of work.

A unit is a function over a connection. write() runs it inside BEGIN IMMEDIATE (SQLite) or BEGIN, read() inside BEGIN;
the whole unit runs again when the database says that it could not keep this one.
"""

import contextlib
import json
import logging
import os
import random
import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

import orjson
from sqlalchemy import Connection, CursorResult, Dialect, create_engine, pool
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from scraper import transaction
from scraper.config.masking import HIDDEN
from scraper.config.settings import Database
from scraper.database import postgres
from scraper.database.sqlite import File, driver
from scraper.errors import Unavailable, Unusable

log = logging.getLogger(__name__)

# What comes of values that a database does not take: of its driver, and of what makes them ready for it.
UNSTORABLE = (SQLAlchemyError, TypeError, ValueError, ArithmeticError, RecursionError)

T = TypeVar("T")
Unit = Callable[[Connection], T]

RETRIES = 5
LOCK_TOLD_S = 2.0
HURRIED_S = 0.5  # who leaves waits for others that write, not for who holds the lock
TOLD_SILENT_S = 5.0
CROWD = 4  # so many wait in vain: no more need to
SIGN_OF_LIFE_OPCODES = 200_000  # of SQLite's virtual machine: some ten milliseconds
# Of SQLite's result codes: another connection writes.
SQLITE_BUSY, SQLITE_LOCKED = 5, 6
SQLITE_READONLY = 8
# SQLSTATE of PostgreSQL: serialisation failure, deadlock, and a server that ended the connection: this transaction is
# lost, the next one may win.
LOST = {"40001", "40P01", "57P01", "57P02", "25P03"}
# Waited in vain for a lock, too slow, too many connections, shutting down, disk full, read-only: it may pass.
PASSES = {"55P03", "57014", "53000", "53100", "53200", "53300", "57P03", "25006"}
# A value is larger than what a server keeps: no waiting makes it smaller (class 54, "program limit exceeded").
TOO_LARGE = "54"
# What a server, libpq or PgBouncer says where no waiting helps: who we are, what we ask for, whom we trust.
NEVER = (
    *("password authentication failed", "sasl authentication failed", "no password supplied", "no pg_hba.conf entry"),
    *("certificate verify failed", "root certificate file", "server certificate for", "does not support ssl"),
    *("no such database", "no such user", "invalid connection option", "invalid sslmode", "invalid uri"),
)
ABSENT = re.compile(r'(database|role) ".*" does not exist')
MENDS_ITSELF = ("locked", "busy", "full", "i/o error", "unable to open", "readonly", "read-only")
CORRUPT = ("malformed", "not a database", "corrupt")
NO_TABLES = "has no tables (yet); a starting service makes them, or `bowerbird db upgrade`"
UNDEFINED_TABLE = "42P01"
MAY_NOT = {
    "42501": "this role needs CREATE on the schema, and must own the tables in it",
    "3F000": "make that schema, or set the search_path of this role to one that is there",
}


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


def shown(url: str | URL) -> str:
    """Return a database's address without its passwords, wherever in it they stand."""
    parsed = make_url(url)
    secret = {name: HIDDEN for name in parsed.query if "password" in name.lower()}
    return parsed.update_query_dict(secret).render_as_string(hide_password=True)


class Db:
    """The database, for one process. Thread-safe: each thread gets a connection of its own."""

    def __init__(self, settings: Database, role: str = "bowerbird", *, checkpoints: bool = False) -> None:
        """Connects only when it is first asked. Raises Unusable if the URL or its driver cannot be used.

        checkpoints: this process brings SQLite's WAL into the database; one of all should.
        """
        self._pid = os.getpid()
        self.touched = time.monotonic()
        self.waiting: str | None = None  # for whom, when it takes long
        self.hurried = False  # whoever uses us is about to leave
        self.settings = settings
        self.patience_s = settings.timeout  # for how long a unit that writes waits for a lock of SQLite's
        self.read_patience_s = settings.timeout  # for how long a unit that only reads waits for a lock of SQLite's
        self._under_way: dict[object, float] = {}
        self._answered = 0.0
        self._ahead = timedelta()  # how far the database's clock is ahead of ours
        self.file: File | None = None
        try:
            self.url = make_url(settings.url)
            if self.is_sqlite:
                self.file = _file(self.url, settings, checkpoints=checkpoints)
            application = f"bowerbird/{role}/{os.getpid()}"
            self.engine = create_engine(self.url, **_options(settings, self.url, self._connect_file, application))
        except ImportError as error:
            raise Unusable(f"[database] url: {error}; for PostgreSQL install bowerbird[postgres]") from None
        except (SQLAlchemyError, ValueError) as error:
            raise Unusable(
                f"[database] url: {error}; write sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST:PORT/NAME"
            ) from None
        self.dialect: Dialect = self.engine.dialect
        self._is_looked_at = False
        self.shown = shown(self.url)

    @property
    def is_sqlite(self) -> bool:
        """Whether this is SQLite."""
        return self.url.get_backend_name() == "sqlite"

    @property
    def tells_life(self) -> bool:
        """Whether a unit under way gives signs of life: SQLite does, a server elsewhere leaves us waiting."""
        return self.is_sqlite

    def now(self) -> datetime:
        """Return this instant by the database's clock, which is the same for all who share it; in UTC."""
        return now() + self._ahead

    @property
    def replaced(self) -> bool:
        """Whether another SQLite file took the place of the one that was open: what is remembered of that is wrong."""
        return self.file is not None and self.file.replaced

    def touch(self) -> None:
        """Note a sign of life: when the last one was is told by `touched`, in monotonic seconds."""
        self.touched = time.monotonic()

    def _connect_file(self) -> Any:
        assert self.file is not None
        made = self.file.connect()
        made.set_progress_handler(self.touch, SIGN_OF_LIFE_OPCODES)
        return made

    def write(self, unit: Unit[T], *, deadline: bool = True) -> T:
        """Run a unit in a transaction that may write. deadline: a statement that takes very long is cut off.

        Raises Unavailable, Unusable, or what the unit raises.
        """
        return self._run(unit, writes=True, deadline=deadline)

    def read(self, unit: Unit[T], *, deadline: bool = True) -> T:
        """Run a unit that only reads, and sees one state of the database throughout.

        Raises Unavailable, Unusable, or what the unit raises.
        """
        return self._run(unit, writes=False, deadline=deadline)

    def _run(self, unit: Unit[T], *, writes: bool, deadline: bool) -> T:
        if os.getpid() != self._pid:
            raise RuntimeError(f"this database belongs to process {self._pid}; make one in the process that uses it")
        if len(self._under_way) >= CROWD and (silent_s := self.silent_s) > TOLD_SILENT_S:
            raise Unavailable(f"{self.shown}: has not answered for {silent_s:.0f} s")
        ours = object()
        self._under_way[ours] = time.monotonic()
        try:
            return self._persist(unit, writes=writes, deadline=deadline)
        except PoolTimeout:
            raise Unavailable(f"{self.shown}: all connections are in use; raise [database] max_overflow") from None
        finally:
            del self._under_way[ours]
            self._answered = time.monotonic()
            self.waiting = None

    @property
    def silent_s(self) -> float:
        """For how long a server that was asked has answered nobody, in seconds. SQLite tells its life itself."""
        oldest = min(list(self._under_way.values()), default=None)
        if oldest is None or self.is_sqlite:
            return 0.0
        return time.monotonic() - max(oldest, self._answered)

    @property
    def trouble(self) -> str | None:
        """What a unit under way waits for, if that takes long."""
        if self.waiting is None and (silent_s := self.silent_s) > TOLD_SILENT_S:
            return f"{self.shown}: has not answered for {silent_s:.0f} s"
        return self.waiting

    def _persist(self, unit: Unit[T], *, writes: bool, deadline: bool) -> T:
        """Run a unit, again if the database could not keep it. A lock is waited for in slices: a long wait is no silence."""
        began = time.monotonic()
        patience_s = self.patience_s if writes else self.read_patience_s
        attempt = 0
        while True:
            self.touch()
            self._follow_file()
            once = _Once[T]()
            try:
                self._once(unit, once, writes=writes, deadline=deadline)
                return once.result[0]
            except DBAPIError as error:
                waited_s = time.monotonic() - began
                if self._is_locked(error) and waited_s < (min(patience_s, HURRIED_S) if self.hurried else patience_s):
                    self._wait_for_lock(waited_s)
                    continue
                attempt += 1
                lost = self._is_lost(error)
                if lost and once.number is not None and once.result and self._has_committed(once.number):
                    return once.result[0]
                if lost and attempt < RETRIES:
                    time.sleep(random.random() * 0.05 * 2**attempt)
                    continue
                if self._code(error) == SQLITE_READONLY:
                    self.engine.dispose()  # whoever opened it so can never write, even when others can again
                raise self._translated(error) from error

    def _once(self, unit: Unit[T], once: "_Once[T]", *, writes: bool, deadline: bool) -> None:
        with self.engine.connect() as connection:
            if not self.is_sqlite and not writes:
                connection.execution_options(isolation_level="REPEATABLE READ")
            with transaction.inside(), connection.begin():
                if self.is_sqlite:
                    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
                else:
                    self._look_at_encoding(connection)
                    asked = now()
                    begun = postgres.begin(connection, self.settings, writes=writes, deadline=deadline)
                    once.number = begun.number
                    self._ahead = begun.at - (asked + (now() - asked) / 2)
                once.result.append(unit(connection))

    def _look_at_encoding(self, connection: Connection) -> None:
        if not self._is_looked_at and (kept := postgres.encoding(connection)) != "UTF8":
            raise Unusable(
                f"{self.shown}: keeps texts in {kept}, not in every script: CREATE DATABASE ... ENCODING 'UTF8'"
            )
        self._is_looked_at = True

    def _has_committed(self, number: int) -> bool:
        """Say whether a transaction whose connection broke while it was committed is in the database all the same.

        To do its unit again without an answer might do it twice, so the server is asked until it answers. Raises Unavailable.
        """
        end = time.monotonic() + self.settings.timeout
        wait = 0.02
        while True:
            self.touch()
            try:
                with self.engine.connect() as connection:
                    found = postgres.has_committed(connection, number)
                if found is not None:
                    return found
                error = None
            except DBAPIError as failed:
                error = failed
            if self.hurried or time.monotonic() > end:
                text = f"{self.shown}: does not say whether it stored what it was given last"
                raise Unavailable(text) from error
            self.waiting = f"{self.shown}: is asked whether it stored what it was given last"
            time.sleep(wait)
            wait = min(wait * 2, 1.0)

    def _follow_file(self) -> None:
        """Leave a file that was deleted or replaced: what is written to it is seen by nobody."""
        if self.file is not None and self.file.moved():
            log.warning("the database file was replaced or deleted", extra={"file": str(self.file.path)})
            self.engine.dispose()

    def _wait_for_lock(self, waited_s: float) -> None:
        if waited_s > LOCK_TOLD_S and not self.waiting:
            self.waiting = f"{self.url.database}: locked by another program"
            log.warning("waiting for the database, another program has locked it", extra={"file": self.url.database})

    @staticmethod
    def _code(error: DBAPIError) -> int:
        """The primary result code of SQLite, 0 if it is not SQLite's error."""
        return (getattr(error.orig, "sqlite_errorcode", None) or 0) & 0xFF

    def _is_locked(self, error: DBAPIError) -> bool:
        """SQLite: another process writes."""
        return self._code(error) in (SQLITE_BUSY, SQLITE_LOCKED)

    @staticmethod
    def _is_lost(error: DBAPIError) -> bool:
        state = getattr(error.orig, "sqlstate", None) or ""
        return bool(error.connection_invalidated) or state in LOST or state.startswith("08")

    def _translated(self, error: DBAPIError) -> Exception:
        text = " ".join(str(error.orig).split())
        low = text.lower()
        if low.startswith("no such table") or getattr(error.orig, "sqlstate", None) == UNDEFINED_TABLE:
            return Unavailable(f"{self.shown}: {NO_TABLES}")
        if self.is_sqlite:
            if any(word in low for word in CORRUPT):
                return Unusable(
                    f"{self.url.database}: {text}; the file is damaged or no SQLite database: restore a backup, or move "
                    "it away to start with an empty one"
                )
            if any(word in low for word in MENDS_ITSELF):
                return Unavailable(f"{self.url.database}: {text}{_remedy(low)}")
        elif (state := getattr(error.orig, "sqlstate", None)) in MAY_NOT:
            return Unusable(f"{self.shown}: {text}; {MAY_NOT[state]}")
        elif any(word in low for word in NEVER) or ABSENT.search(low):
            return Unusable(f"{self.shown}: {text}; correct [database] url")
        elif str(state or "").startswith(TOO_LARGE):
            return error
        elif (
            error.connection_invalidated
            or type(error).__name__ in ("OperationalError", "InterfaceError")
            or getattr(error.orig, "sqlstate", None) in PASSES
        ):
            return Unavailable(f"{self.shown}: {text}")
        return error

    def outside(self, unit: Unit[T], patience_s: float | None = None) -> T:
        """Run what may not be inside a transaction, such as VACUUM. Raises Unavailable, Unusable.

        patience_s: for how long SQLite waits for others, if not for as long as the settings say.
        """
        patience_ms = int((self.settings.timeout if patience_s is None else patience_s) * 1000)
        try:
            with self.engine.connect() as connection:
                if not self.is_sqlite:
                    connection.execution_options(isolation_level="AUTOCOMMIT")
                    return unit(connection)
                before = connection.exec_driver_sql("PRAGMA busy_timeout").scalar()
                connection.exec_driver_sql(f"PRAGMA busy_timeout={patience_ms}")
                try:
                    return unit(connection)
                finally:
                    connection.exec_driver_sql(f"PRAGMA busy_timeout={before}")
        except DBAPIError as error:
            raise self._translated(error) from error

    def copy_file(self, to: Path, progress: Callable[[int, int], None] = lambda left, of: None) -> None:
        """Copy a SQLite database to another file while it is in use. progress: told the pages left, and all of them.

        Raises Unavailable, Unusable; Conflict if the file is there.
        """
        if self.file is None:
            raise Unusable(f"{self.shown}: is copied by its own tools: pg_dump, pg_basebackup")
        try:
            source = self.file.connect()
        except self.file.library.Error as error:
            raise Unusable(f"{self.file.path}: cannot be copied: {error}") from None
        try:
            self.file.copy(source, to, progress)
        finally:
            source.close()

    @contextlib.contextmanager
    def without_foreign_keys(self) -> Iterator[None]:
        """Have SQLite not look after foreign keys: to drop a table, as a step of a migration may, would delete its children."""
        if self.file is None:
            yield
            return
        self.file.foreign_keys = False
        self.engine.dispose()
        try:
            yield
        finally:
            self.file.foreign_keys = True
            self.engine.dispose()

    def gauges(self) -> dict[str, float]:
        """Return how many connections of this process are open and in use, and the bytes of SQLite's WAL."""
        made = self.engine.pool
        found = {"connections_in_use": float(made.checkedout())} if isinstance(made, pool.QueuePool) else {}
        if isinstance(made, pool.QueuePool):
            found["connections_open"] = float(made.checkedin() + made.checkedout())
        if self.file is not None:
            found["wal_bytes"] = float(self.file.wal_bytes())
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give all connections back."""
        with contextlib.suppress(SQLAlchemyError):
            self.engine.dispose()
        if self.file is not None:
            self.file.let_go()


def _remedy(low: str) -> str:
    if "full" in low:
        return "; free some space on that disk"
    if "disk i/o error" in low:
        return "; see whether that disk is full, or failing"
    if "readonly" in low or "read-only" in low or "unable to open" in low:
        return "; make the file and its directory writable for this user"
    return ""


class _Once(Generic[T]):
    """One try at a unit: what it returned, and the number of its transaction, as far as it came."""

    def __init__(self) -> None:
        self.result: list[T] = []
        self.number: int | None = None


def _file(url: URL, settings: Database, *, checkpoints: bool) -> File:
    """The file of a SQLite URL. Raises ValueError for one that names none."""
    if not url.database or url.database == ":memory:":
        raise ValueError("a database in memory ends with each process; name a file: sqlite:///bowerbird.db")
    if url.query:
        raise ValueError(f"SQLite takes no {', '.join(sorted(url.query))} after the file's name")
    return File(Path(url.database), settings, checkpoints=checkpoints)


_plain_json = json.JSONEncoder(ensure_ascii=False).encode


def _json(value: Any) -> str:
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # a whole number of more than 64 bits
        return _plain_json(value)


def _options(settings: Database, url: URL, connect_file: Callable[[], Any], application: str) -> dict[str, Any]:
    options: dict[str, Any] = {"hide_parameters": True, "json_serializer": _json}
    if url.get_backend_name() != "sqlite":
        return options | postgres.options(settings, url, application)
    return {
        **options,
        "module": driver(),
        "creator": connect_file,
        "poolclass": pool.QueuePool,
        "pool_size": settings.pool_size,
        "max_overflow": settings.max_overflow,
        "pool_timeout": settings.timeout,
    }
