"""check, checkpoint, vacuum: look after the database."""

from typing import Any

from sqlalchemy import Connection, func, select, text

from scraper.database import schema
from scraper.database.connection import Db
from scraper.database.models import changes, failures, items, pages, runs, urls
from scraper.errors import Unavailable, Unusable

_ORPHANS = {
    "items without a page": "SELECT count(*) FROM items LEFT JOIN pages ON pages.id = items.page_id WHERE pages.id IS NULL",
    "versions without an item": (
        "SELECT count(*) FROM item_versions LEFT JOIN items ON items.id = item_versions.item_id WHERE items.id IS NULL"
    ),
}


PATIENCE_S = 2.0  # with readers of an earlier state


def check(db: Db) -> list[str]:
    """Return what is wrong, nothing if all is well. Raises Unavailable, Unusable."""
    return db.read(lambda connection: _check(db, connection))


def checkpoint(db: Db) -> tuple[int, int]:
    """Bring SQLite's WAL into the database; return its bytes before and after. Raises Unusable, Unavailable."""
    if db.file is None:
        raise Unusable(f"{db.shown}: has no write-ahead log of ours; PostgreSQL does its own checkpoints")
    before = db.file.wal_bytes()
    busy = db.outside(lambda c: c.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").one(), PATIENCE_S)[0]
    if busy:
        seen = "; ".join(
            f"process {pid} ({command.strip()})" for (pid, _), command in sorted(db.file.readers().items())
        )
        raise Unavailable(
            f"{db.shown}: somebody still looks at an earlier state{': ' + seen if seen else ''}; end that first"
        )
    return before, db.file.wal_bytes()


def vacuum(db: Db) -> tuple[int, int]:
    """Write the database anew without its gaps; return its bytes before and after. Raises Unusable, Unavailable."""
    before = db.read(_bytes)
    db.outside(lambda c: c.exec_driver_sql("VACUUM"))
    if db.file is not None:
        db.outside(lambda c: c.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").one(), PATIENCE_S)
    return before, db.read(_bytes)


def _bytes(connection: Connection) -> int:
    if connection.dialect.name == "sqlite":
        query = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"
    else:
        query = "SELECT pg_database_size(current_database())"
    return int(connection.exec_driver_sql(query).scalar_one())


def _check(db: Db, connection: Connection) -> list[str]:
    faults: list[str] = []
    if (version := schema.current(connection)) is None:
        return ["there are no tables yet; `bowerbird db upgrade` makes them"]
    if schema.is_newer(version):
        return [
            f"a newer version made the tables ({version}, this one knows {schema.HEAD}); install that version again"
        ]
    if db.is_sqlite:
        rows = connection.exec_driver_sql("PRAGMA integrity_check(20)").scalars()
        faults += [f"integrity: {row}" for row in rows if row != "ok"]
        if faults:  # what else there is to see cannot be seen in a file that is damaged
            return faults
        broken = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
        faults += [f"foreign key: table {row[0]}, row {row[1]} points to nothing in {row[2]}" for row in broken[:20]]
    for name, query in _ORPHANS.items():
        count = connection.scalar(text(query))
        if count:
            faults.append(f"{count} {name}")
    return faults


def sizes(connection: Connection) -> list[dict[str, Any]]:
    """Return how many rows the larger tables have, about: by their last number."""
    named = {"pages": pages, "items": items, "changes": changes, "urls": urls, "runs": runs, "failures": failures}
    return [{"name": name, "rows": int(connection.scalar(select(func.max(t.c.id))) or 0)} for name, t in named.items()]
