"""A database as some months leave it: filled by the driver alone, in bulk."""

from typing import Any

from bench.interface.months import Months, today
from bench.storage.places import plain
from scraper.config.settings import Database
from scraper.database import Db, schema

INSTANT = "%Y-%m-%d %H:%M:%S.%f"  # how SQLAlchemy keeps an instant in SQLite


def fill(url: str, sizes: dict[str, int]) -> None:
    """Make the tables and fill them. sizes: other than those of Months."""
    with Db(Database(url=url)) as db:
        schema.upgrade(db)
        if db.is_sqlite:
            _into_sqlite(db, Months(lambda at: at.strftime(INSTANT), today(), **sizes))
        else:
            _into_postgres(db, Months(lambda at: at, today(), **sizes))


def _into_sqlite(db: Db, months: Months) -> None:
    lent = db.engine.raw_connection()
    connection: Any = lent.driver_connection
    for pragma in ("synchronous=off", "cache_size=-2000000", "journal_mode=off", "foreign_keys=off"):
        connection.execute(f"PRAGMA {pragma}")
    connection.execute("BEGIN")
    for name, (columns, rows) in months.tables().items():
        marks = ", ".join("?" for _ in columns.split())
        named = ", ".join(f'"{column}"' for column in columns.split())
        connection.executemany(f"INSERT INTO {name} ({named}) VALUES ({marks})", rows())
    connection.execute("COMMIT")
    connection.execute("PRAGMA journal_mode=wal")
    lent.invalidate()


def _into_postgres(db: Db, months: Months) -> None:
    """Without a look at the foreign keys: what is put in fits."""
    import psycopg

    with psycopg.connect(plain(db.url.render_as_string(hide_password=False)), autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        for name, (columns, rows) in months.tables().items():
            named = ", ".join(f'"{column}"' for column in columns.split())
            with connection.cursor().copy(f"COPY {name} ({named}) FROM STDIN") as copy:
                for row in rows():
                    copy.write_row(row)
            if columns.startswith("id "):
                given = f"pg_get_serial_sequence('{name}', 'id')"
                connection.execute(f"SELECT setval({given}, (SELECT max(id) FROM {name}))")
        connection.execute("VACUUM ANALYZE")
        connection.execute("CHECKPOINT")
