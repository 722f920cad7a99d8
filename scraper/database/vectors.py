"""chunks and vectors: passages of texts, and where each of them stands among the others by a model's measure.

A vector is written in the same transaction as its passage, so neither is there without the other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, delete, exists, func, insert, or_, select

from scraper.database import pgvector
from scraper.database.bulk import IN_MOST, VECTORS, in_turn, reserve
from scraper.database.models import chunks, items, pages, vectors

LOAD_AT_ONCE = 5000


@dataclass(frozen=True, slots=True)
class Passages:
    """The passages of a page or an item, in order, each with its vector as bytes of 32-bit floats."""

    of: str
    subject_id: int
    source: str
    kind: str | None
    url: str
    title: str
    at: datetime
    texts: Sequence[str]
    vectors: Sequence[bytes]


def put(connection: Connection, model: str, passages: Passages) -> None:
    """Keep the passages of a page or an item and their vectors by a model.

    Where the passages are as they were, the vectors of other models stay beside these; else all are forgotten. Vectors are
    written in turn, so that their numbers grow with the commits: who has seen one has seen all before it.
    """
    in_turn(connection, VECTORS)
    mine = (chunks.c.subject_id == passages.subject_id) & (chunks.c.of == passages.of)
    there = connection.execute(select(chunks.c.id, chunks.c.text).where(mine).order_by(chunks.c.number)).all()
    if [row.text for row in there] == list(passages.texts):
        ids = [row.id for row in there]
        drop = delete(vectors).where(vectors.c.chunk_id == bindparam("chunk"), vectors.c.model == model)
        if ids:
            connection.execute(drop, [{"chunk": chunk_id} for chunk_id in ids])
    else:
        forget(connection, passages.of, [passages.subject_id])
        ids = _enter(connection, passages)
    if ids:
        rows = [
            {"chunk_id": chunk_id, "model": model, "vector": vector}
            for chunk_id, vector in zip(ids, passages.vectors, strict=True)
        ]
        connection.execute(insert(vectors), rows)
        pgvector.enter(connection, model, len(passages.vectors[0]))


def _enter(connection: Connection, passages: Passages) -> list[int]:
    """Make the chunks. Their numbers must not be those of chunks that are gone: SQLite's own counter gives them."""
    if not passages.texts:
        return []
    named = {name: getattr(passages, name) for name in ("of", "subject_id", "source", "kind", "url", "title", "at")}
    rows = [{**named, "number": number, "text": text} for number, text in enumerate(passages.texts)]
    if connection.dialect.name != "sqlite":
        ids = reserve(connection, chunks, len(rows))
        connection.execute(insert(chunks), [{**row, "id": made} for row, made in zip(rows, ids, strict=True)])
        return ids
    connection.execute(insert(chunks), rows)
    mine = (chunks.c.subject_id == passages.subject_id) & (chunks.c.of == passages.of)
    return list(connection.scalars(select(chunks.c.id).where(mine).order_by(chunks.c.number)))


def forget(connection: Connection, of: str, ids: Sequence[int]) -> None:
    """Drop the passages of pages or items, and their vectors."""
    for start in range(0, len(ids), IN_MOST):
        mine = (chunks.c.of == of) & chunks.c.subject_id.in_(ids[start : start + IN_MOST])
        connection.execute(delete(vectors).where(vectors.c.chunk_id.in_(select(chunks.c.id).where(mine))))
        connection.execute(delete(chunks).where(mine))


def after(connection: Connection, model: str, number: int) -> list[Any]:
    """Return (id, chunk_id, vector) of the vectors of a model that came after a number, in order, at most LOAD_AT_ONCE."""
    newer = (vectors.c.model == model) & (vectors.c.id > number)
    columns = (vectors.c.id, vectors.c.chunk_id, vectors.c.vector)
    return list(connection.execute(select(*columns).where(newer).order_by(vectors.c.id).limit(LOAD_AT_ONCE)))


def chosen(connection: Connection, named: Mapping[str, str], since: datetime | None) -> list[int]:
    """Return the numbers of the passages whose of, source or kind are these, and that are no older."""
    meant = [chunks.c[name] == value for name, value in named.items()]
    if since is not None:
        meant.append(chunks.c.at >= since)
    return list(connection.scalars(select(chunks.c.id).where(*meant)))


def count(connection: Connection, model: str) -> int:
    """Return how many vectors a model has made."""
    return int(connection.scalar(select(func.count()).select_from(vectors).where(vectors.c.model == model)) or 0)


def newest(connection: Connection, model: str) -> int:
    """Return the number of the last vector of a model."""
    return int(connection.scalar(select(func.max(vectors.c.id)).where(vectors.c.model == model)) or 0)


def passages(connection: Connection, ids: Sequence[int]) -> dict[int, dict[str, Any]]:
    """Return passages by their number; those that are gone, or whose page or item is, are left out."""
    of_page = exists().where(chunks.c.of == "page", pages.c.id == chunks.c.subject_id, pages.c.gone_at.is_(None))
    of_item = exists().where(chunks.c.of == "item", items.c.id == chunks.c.subject_id, items.c.removed_at.is_(None))
    found: dict[int, dict[str, Any]] = {}
    for start in range(0, len(ids), IN_MOST):
        some = chunks.c.id.in_(list(ids[start : start + IN_MOST]))
        for row in connection.execute(select(chunks).where(some, or_(of_page, of_item))):
            found[row.id] = row._asdict()
    return found
