"""What is particular to PostgreSQL: how to connect, what each transaction says first, and what its set-up needs."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import URL, Connection, create_engine, pool
from sqlalchemy.exc import DBAPIError

from scraper.config.settings import Database

STATEMENT_LEAST_S = 60.0
UNKNOWN_NUMBER = "22023"  # SQLSTATE: a transaction of the future
PROBE_S = 5.0
FEW = 2  # connections of a process in which one thread asks the database
# libpq's: a connection whose other end is gone is noticed within a minute. What the URL says counts.
KEPT_ALIVE = {"keepalives_idle": 20, "keepalives_interval": 10, "keepalives_count": 3, "tcp_user_timeout": 60_000}
SUPABASE_POOLER = ".pooler.supabase.com"
SUPABASE_DIRECT = ".supabase.co"
SUPABASE_TRANSACTION_PORT = 6543


@dataclass(frozen=True, slots=True)
class Begun:
    """A transaction that has begun: when, by the server's clock, and its number if it writes."""

    at: datetime
    number: int | None


def for_one_thread(settings: Database) -> Database:
    """Return the settings for a process in which one thread asks the database: it needs no large pool."""
    return replace(settings, pool_size=min(settings.pool_size, FEW), max_overflow=0)


def options(settings: Database, url: URL, application: str) -> dict[str, Any]:
    """Return how an engine for this database is made."""
    connect: dict[str, Any] = {
        "connect_timeout": max(2, int(min(settings.timeout, 30))),
        "application_name": application[:60],
        "client_encoding": "utf8",
        **KEPT_ALIVE,
    }
    made: dict[str, Any] = {
        "connect_args": {
            name: value for name, value in connect.items() if name not in url.query or name == "client_encoding"
        },
        "paramstyle": "format",
        # Whatever the server's default is: what is looked at after a lock was waited for has to be what is there then.
        "isolation_level": "READ COMMITTED",
    }
    # Never prepared on the server: behind a transaction pooler the next transaction is on another connection.
    made["connect_args"]["prepare_threshold"] = None
    if settings.transaction_pooler:
        return {**made, "poolclass": pool.NullPool}
    return {
        **made,
        "pool_size": settings.pool_size,
        "max_overflow": settings.max_overflow,
        "pool_timeout": settings.timeout,
        "pool_recycle": int(settings.pool_recycle),
        "pool_pre_ping": True,
    }


def is_silent(settings: Database, url: URL) -> bool:
    """Say whether the server takes connections and then says nothing for seconds: it is frozen, or what stands before it."""
    import psycopg  # noqa: PLC0415  an extra

    made = options(replace(settings, timeout=min(settings.timeout, PROBE_S)), url, "bowerbird probe")
    engine = create_engine(url, poolclass=pool.NullPool, connect_args=made["connect_args"])
    try:
        with engine.connect():
            return False
    except DBAPIError as error:
        return isinstance(error.orig, psycopg.errors.ConnectionTimeout)
    finally:
        engine.dispose()


def begin(connection: Connection, settings: Database, *, writes: bool, deadline: bool) -> Begun:
    """Say how long this transaction may wait, for itself alone: behind a transaction pooler a plain SET stays with a stranger.

    One statement, one round trip. deadline: whether a statement may be cut off; a migration may not.
    """
    lock = int(settings.timeout * 1000)
    statement = int(max(STATEMENT_LEAST_S, settings.timeout * 2) * 1000) if deadline else 0
    number = "txid_current()" if writes else "NULL"
    # Of this transaction: said of the connection, it would leave it one that writes whatever the server says.
    read_only = "" if writes else ", set_config('transaction_read_only', 'on', true)"
    row = connection.exec_driver_sql(
        f"SELECT extract(epoch FROM clock_timestamp())::float8, {number},"
        f" set_config('statement_timeout', '{statement}', true),"
        f" set_config('lock_timeout', '{lock if deadline else 0}', true),"
        f" set_config('idle_in_transaction_session_timeout', '{statement}', true),"
        f" set_config('TimeZone', 'UTC', true), set_config('DateStyle', 'ISO', true){read_only}"
    ).one()
    return Begun(datetime.fromtimestamp(row[0], UTC), row[1])


def encoding(connection: Connection) -> str:
    """Return in which encoding a database keeps its texts; the server tells each who connects."""
    driver: Any = connection.connection.driver_connection
    return str(driver.info.parameter_status("server_encoding") or "UTF8")


def has_committed(connection: Connection, number: int) -> bool | None:
    """Say whether a transaction was committed: the answer to its COMMIT was lost with the connection.

    None: it is still under way. Nobody hears of its end any more, so it is ended, unless it is about to be committed.
    """
    try:
        found = connection.exec_driver_sql(f"SELECT txid_status({number:d})").scalar()
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) == UNKNOWN_NUMBER:  # the server crashed before it wrote of it anywhere
            return False
        raise
    if found == "in progress":
        connection.exec_driver_sql(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_xid = '{number % 2**32:d}'::xid"
        )
        return None
    return bool(found == "committed")


def advice(settings: Database, url: URL) -> Iterator[str]:
    """Yield what is to be said of the settings before anybody connects."""
    host, port = url.host or "", url.port or 5432
    if host.endswith(SUPABASE_POOLER) and port == SUPABASE_TRANSACTION_PORT and not settings.transaction_pooler:
        yield (
            f"port {port} of Supabase is its pooler in transaction mode: set [database] transaction_pooler = true, or better "
            "use port 5432, its session mode, which is made for services that stay connected"
        )
    if host.endswith(SUPABASE_POOLER) and port != SUPABASE_TRANSACTION_PORT and settings.transaction_pooler:
        yield f"port {port} of Supabase is its session mode: [database] transaction_pooler = true only costs speed there"
    if host.endswith((SUPABASE_POOLER, SUPABASE_DIRECT)) and "sslmode" not in url.query:
        yield "add ?sslmode=require to the URL: Supabase is reached over the internet"


def seats(connection: Connection, settings: Database, scrapers: int, workers: int) -> str | None:
    """Say if our processes may open more connections than the server takes, None if all is well."""
    if settings.transaction_pooler:
        return None
    most: int = connection.exec_driver_sql(
        "SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int"
        " - coalesce(current_setting('reserved_connections', true)::int, 0)"
    ).scalar_one()
    each = settings.pool_size + settings.max_overflow
    wanted = workers * each + (scrapers + 1) * FEW
    if wanted <= most:
        return None
    return (
        f"{workers} API workers may open {each} connections each (pool_size + max_overflow), {wanted} in all, and the server "
        f"takes {most}: lower [database] max_overflow, or raise its max_connections"
    )
