"""copy: everything that is stored, from one database into another, and proof that it arrived."""

import hashlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Table, Text, func, insert, select, tuple_

from scraper.database import schema
from scraper.database.bulk import Bulk
from scraper.database.connection import Db
from scraper.database.models import metadata
from scraper.errors import Conflict, Unusable

ROWS_AT_ONCE = 500
BYTES_AT_ONCE = 8 * 2**20

Progress = Callable[[str, int, int], None]
Key = tuple[Any, ...]


def copy(source: Db, target: Db, progress: Progress) -> dict[str, int]:
    """Copy all rows into a database that has none, and compare; return how many rows each table has.

    In portions, so that no transaction is long; begun again, it goes on where it was. Nothing may be scraped into either
    meanwhile. progress: told the table, how many of its rows are there, and how many there are to be.

    Raises Unusable if the two differ afterwards, Conflict if the target has rows that are not the source's; Unavailable.
    """
    found = source.read(schema.current)
    if found != schema.HEAD:
        raise Unusable(f"{source.shown}: has tables of version {found}; `bowerbird db upgrade` first")
    schema.upgrade(target)
    counts = {
        table.name: _copy(_Rows(source, table), _Rows(target, table), progress) for table in metadata.sorted_tables
    }
    if not target.is_sqlite:
        target.write(_number_on)
    return counts


def _copy(here: "_Rows", there: "_Rows", progress: Progress) -> int:
    name, put = here.table.name, Bulk(lambda _: insert(here.table))
    count = here.count()
    after = there.last()
    done, digest = there.digest(None)
    if after is not None and (done, digest) != here.digest(after):
        raise Conflict(f"{there.db.shown}: has rows of its own in {name}; copy into an empty database")
    progress(name, done, count)
    while rows := here.after(after):
        there.put(put, rows)
        after = here.key_of(rows[-1])
        done += len(rows)
        progress(name, done, count)
    if here.digest(None) != there.digest(None):
        raise Unusable(
            f"{there.db.shown}: {name} differs from the original; was something scraped meanwhile? Stop the service, and copy "
            "into an empty database"
        )
    return done


class _Rows:
    """The rows of a table of a database, in the order of its key."""

    def __init__(self, db: Db, table: Table) -> None:
        self.db = db
        self.table = table
        self._keys = list(table.primary_key)

    def key_of(self, row: Row[Any]) -> Key:
        return tuple(getattr(row, key.name) for key in self._keys)

    def count(self) -> int:
        return self.db.read(lambda c: int(c.scalar(select(func.count()).select_from(self.table)) or 0))

    def last(self) -> Key | None:
        query = select(*self._keys).order_by(*(key.desc() for key in self._order())).limit(1)
        row = self.db.read(lambda c: c.execute(query).first())
        return tuple(row) if row is not None else None

    def put(self, statement: Bulk, rows: list[Row[Any]]) -> None:
        self.db.write(lambda c: statement.run(c, [dict(row._mapping) for row in rows]))

    def after(self, key: Key | None) -> list[Row[Any]]:
        """The next rows; fewer of them if they are large."""
        return self.db.read(lambda c: self._after(c, key))

    def _after(self, connection: Connection, key: Key | None) -> list[Row[Any]]:
        order = self._order()
        query = select(self.table).order_by(*order).limit(ROWS_AT_ONCE)
        if key is not None:
            query = query.where(order[0] > key[0] if len(key) == 1 else tuple_(*order) > key)
        rows: list[Row[Any]] = []
        size = 0
        for row in connection.execute(query):
            rows.append(row)
            size += sum(len(value) for value in row if isinstance(value, bytes | str))
            if size > BYTES_AT_ONCE:
                break
        return rows

    def _order(self) -> list[ColumnElement[Any]]:
        """The key, texts by their bytes: what comes first in a language differs from server to server."""
        plain = self.db.is_sqlite
        return [key.collate("C") if isinstance(key.type, Text) and not plain else key for key in self._keys]

    def digest(self, last: Key | None) -> tuple[int, str]:
        """How many rows there are up to a key, or in all, and a hash of everything in them."""
        digest, count = hashlib.sha256(), 0
        for row in self._all():
            digest.update(repr([_plain(value) for value in row]).encode("utf-8", "surrogatepass"))
            count += 1
            if last is not None and self.key_of(row) == last:
                break
        return count, digest.hexdigest()

    def _all(self) -> Iterator[Row[Any]]:
        key = None
        while rows := self.after(key):
            yield from rows
            key = self.key_of(rows[-1])


def _plain(value: Any) -> Any:
    """A value as it is in both databases: JSONB keeps no order of names, and a server has a time zone of its own."""
    if isinstance(value, dict):
        return sorted((name, _plain(member)) for name, member in value.items())
    if isinstance(value, list):
        return [_plain(member) for member in value]
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, float) and value.is_integer():  # in JSONB, 1e23 is the whole number of that name
        return int(Decimal(repr(value)))
    return value


def _number_on(connection: Connection) -> None:
    """New rows get numbers after those that were copied."""
    for table in metadata.sorted_tables:
        if "id" in table.c:
            following = select(func.coalesce(func.max(table.c.id), 0) + 1).scalar_subquery()
            connection.execute(select(func.setval(func.pg_get_serial_sequence(table.name, "id"), following, False)))
