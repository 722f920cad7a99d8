"""check: whether the database is sound."""

from sqlalchemy import Connection, text

from scraper.database.connection import Db

_ORPHANS = {
    "items without a page": "SELECT count(*) FROM items LEFT JOIN pages ON pages.id = items.page_id WHERE pages.id IS NULL",
    "versions without an item": (
        "SELECT count(*) FROM item_versions LEFT JOIN items ON items.id = item_versions.item_id WHERE items.id IS NULL"
    ),
}


def check(db: Db) -> list[str]:
    """Return what is wrong, nothing if all is well. Raises Unavailable, Unusable."""
    return db.read(lambda connection: _check(db, connection))


def _check(db: Db, connection: Connection) -> list[str]:
    faults: list[str] = []
    if db.version(connection) is None:
        return ["there are no tables yet; `bowerbird db upgrade` makes them"]
    if db.is_sqlite:
        rows = connection.exec_driver_sql("PRAGMA integrity_check(20)").scalars()
        faults += [f"integrity: {row}" for row in rows if row != "ok"]
        broken = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
        faults += [f"foreign key: table {row[0]}, row {row[1]} points to nothing in {row[2]}" for row in broken[:20]]
    for name, query in _ORPHANS.items():
        count = connection.scalar(text(query))
        if count:
            faults.append(f"{count} {name}")
    return faults
