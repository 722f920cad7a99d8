"""An index of vectors by their nearness, where PostgreSQL has the extension pgvector: HNSW, a table for each model.

What `vectors` holds is what counts; these tables follow it. They are filled from its newest row down, and who writes a
vector enters it in the same transaction. So one is whole as soon as nothing in `vectors` is older than the oldest in it.
The graph is of half-precision numbers, which take half the memory, by their distance: of vectors of length one it tells
the same as their cosine, and rounding spoils it less. What it finds is ordered by the cosine of the whole numbers.
"""

import hashlib
import logging
import re
import struct
from collections.abc import Iterator, Sequence
from functools import partial

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from scraper.database.bulk import VECTORS, in_turn
from scraper.database.connection import Db
from scraper.errors import Unusable

LEAST = (0, 8)  # the first version that goes on looking until it has found as many as are wanted
NUMBERS_MOST = 4000  # in a vector, for the index: what a half-precision one may have
WORTH_IT = 50_000  # vectors of a model: fewer are all looked at as soon, in some 75 MB of memory, and none is missed
LOOKED_AT_LEAST = 100  # candidates: of the ten nearest next to none is missed
LOOKED_AT_MOST = 1000
PORTION = 25  # vectors entered in one transaction, some 4 ms each: the storing of what was scraped waits
FLOAT_BYTES = 4

log = logging.getLogger(__name__)


def version(connection: Connection) -> str | None:
    """Return the version of the extension, where the database has it."""
    if connection.dialect.name == "sqlite":
        return None
    row = connection.exec_driver_sql(
        "SELECT extversion FROM pg_extension WHERE extname = 'vector' AND to_regtype('vector') IS NOT NULL"
    ).first()
    return None if row is None else str(row[0])


def is_new_enough(found: str) -> bool:
    """Say whether a version of the extension is one that is used here."""
    return tuple(int(number) for number in re.findall(r"\d+", found)[:2]) >= LEAST


def keep(db: Db) -> Iterator[int]:
    """Make the tables that are lacking and fill them, portion by portion; yields of how many vectors.

    Raises Unavailable; Unusable where it cannot be done, as without the right to make tables.
    """
    found = db.read(version)
    if found is None or not is_new_enough(found):
        return
    try:
        for model, size in db.read(_models):
            if size // FLOAT_BYTES > NUMBERS_MOST:
                continue
            if not db.read(partial(_is_there, table=_table(model, size))):
                db.write(partial(_make, model=model, size=size))
            filled = 0
            while count := db.write(partial(_fill, model=model, size=size)):
                filled += count
                yield count
            if filled:
                log.info("vectors are found by an index from now on", extra={"model": model, "vectors": filled})
    except DBAPIError as error:
        raise Unusable(f"{db.shown}: no index of vectors can be made: {' '.join(str(error.orig).split())}") from error


def enter(connection: Connection, model: str, size: int) -> None:
    """Enter what this transaction has written to `vectors`; it has VECTORS in turn. size: of each vector, in bytes.

    An empty table is left to keep(): it cannot be told what of it is new.
    """
    if connection.dialect.name == "sqlite" or not _is_there(connection, table := _table(model, size)):
        return
    _insert(connection, table, model, size, f"v.id > (SELECT max(vector_id) FROM {table}) ORDER BY v.id")


def covers(connection: Connection, model: str, size: int) -> bool:
    """Say whether the vectors of a model are all in a table, and are any."""
    if connection.dialect.name == "sqlite" or not _is_there(connection, table := _table(model, size)):
        return False
    older = _older(table)
    query = f"SELECT EXISTS (SELECT FROM {table}) AND NOT EXISTS (SELECT FROM vectors v WHERE {older})"
    return bool(connection.scalar(text(query), {"model": model, "size": size}))


def nearest(
    connection: Connection, model: str, vector: bytes, count: int, among: Sequence[int] | None = None
) -> list[tuple[int, float]]:
    """Return the passages nearest to a vector as (number, cosine), the nearest first: by the index, a few may be missed.

    among: the numbers of those that are meant, which are looked at one by one; None: all.
    """
    table, numbers = _table(model, len(vector)), len(vector) // FLOAT_BYTES
    connection.exec_driver_sql(
        f"SELECT set_config('hnsw.ef_search', '{min(LOOKED_AT_MOST, max(LOOKED_AT_LEAST, count))}', true),"
        f" set_config('hnsw.iterative_scan', 'strict_order', true),"
        f" set_config('hnsw.max_scan_tuples', '{max(20_000, 2 * count)}', true)"
    )
    chosen = (
        f"SELECT vector_id, vector FROM {table}"
        f" ORDER BY CAST(vector AS halfvec({numbers})) <-> CAST(:vector AS halfvec({numbers})) LIMIT :count"
        if among is None
        else f"SELECT n.vector_id, n.vector FROM {table} n JOIN vectors v ON v.id = n.vector_id"
        " WHERE v.model = :model AND v.chunk_id = ANY(CAST(:among AS bigint[]))"
    )
    query = (
        f"SELECT v.chunk_id, -(c.vector <#> CAST(:vector AS vector)) AS score FROM ({chosen}) c"
        " JOIN vectors v ON v.id = c.vector_id ORDER BY score DESC, v.chunk_id LIMIT :count"
    )
    given = {"vector": _written(vector), "count": count, "model": model, "among": among and list(among)}
    return [(row.chunk_id, row.score) for row in connection.execute(text(query), given)]


def _models(connection: Connection) -> list[tuple[str, int]]:
    """Return the models that have made so many vectors that it is worth it, with the bytes of the newest of each."""
    nth = "SELECT FROM vectors v WHERE v.model = m.model OFFSET :others LIMIT 1"
    newest = "SELECT length(v.vector) FROM vectors v WHERE v.model = m.model ORDER BY v.id DESC LIMIT 1"
    query = (
        f"SELECT m.model, ({newest}) AS size FROM (SELECT DISTINCT model FROM vectors) m"
        f" WHERE EXISTS ({nth}) ORDER BY m.model"
    )
    return [(row.model, row.size) for row in connection.execute(text(query), {"others": WORTH_IT - 1})]


def _table(model: str, size: int) -> str:
    return f"vectors_near_{hashlib.sha256(model.encode()).hexdigest()[:12]}_{size // FLOAT_BYTES}"


def _is_there(connection: Connection, table: str) -> bool:
    """Say whether a table is there: with its column, which goes with the extension."""
    query = "SELECT FROM pg_attribute WHERE attrelid = to_regclass(:name) AND attname = 'vector' AND NOT attisdropped"
    return connection.execute(text(query), {"name": table}).first() is not None


def _make(connection: Connection, model: str, size: int) -> None:
    in_turn(connection, VECTORS)  # whoever writes one has seen that the table is not there
    table, numbers = _table(model, size), size // FLOAT_BYTES
    if _is_there(connection, table):
        return
    connection.exec_driver_sql(f"DROP TABLE IF EXISTS {table}")
    connection.exec_driver_sql(
        f"CREATE TABLE {table} (vector_id bigint PRIMARY KEY REFERENCES vectors (id) ON DELETE CASCADE,"
        f" vector vector({numbers}) NOT NULL)"
    )
    connection.exec_driver_sql(
        f"CREATE INDEX {table}_hnsw ON {table} USING hnsw ((vector::halfvec({numbers})) halfvec_l2_ops)"
    )


def _fill(connection: Connection, model: str, size: int) -> int:
    """Enter the next portion of older vectors. Returns how many."""
    in_turn(connection, VECTORS)
    table = _table(model, size)
    return _insert(connection, table, model, size, f"{_older(table)} ORDER BY v.id DESC LIMIT {PORTION}")


def _older(table: str) -> str:
    """What is of the model and not in its table yet."""
    return (
        "v.model = :model AND octet_length(v.vector) = :size"
        f" AND v.id < (SELECT coalesce(min(vector_id), 9223372036854775807) FROM {table})"
    )


def _insert(connection: Connection, table: str, model: str, size: int, which: str) -> int:
    query = (
        "SELECT v.id, v.vector FROM vectors v WHERE v.model = :model AND octet_length(v.vector) = :size"
        f" AND {which} FOR KEY SHARE"
    )
    found = connection.execute(text(query), {"model": model, "size": size}).all()
    if found:
        made = text(f"INSERT INTO {table} (vector_id, vector) VALUES (:id, CAST(:vector AS vector))")
        connection.execute(made, [{"id": row.id, "vector": _written(row.vector)} for row in found])
    return len(found)


def _written(vector: bytes) -> str:
    """A vector as pgvector reads it."""
    return str(list(struct.unpack(f"<{len(vector) // FLOAT_BYTES}f", vector)))
