"""notes: short remarks on a page, or for a person. The same remark is there once, in the same words or in others."""

import hashlib
import unicodedata
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from scraper.database.bulk import NOTES, in_turn
from scraper.database.models import notes

TEXT_MOST = 2000

Alike = Callable[[bytes, Sequence[bytes]], bool]


def digest(text: str) -> str:
    """Return a mark that is the same for a text in other case, with other spaces or punctuation at its end."""
    plain = " ".join(unicodedata.normalize("NFKC", text).casefold().split()).strip(" .!?,;:\"'")
    return hashlib.blake2b(plain.encode(), digest_size=16).hexdigest()


def add(
    connection: Connection,
    about: str,
    texts: Sequence[str],
    at: datetime,
    model: str | None,
    vectors: Sequence[bytes],
    alike: Alike,
) -> list[str]:
    """Add the notes that are new. Returns them.

    vectors: of the texts by the model, or none. alike: says whether a vector means the same as one of others. All who add
    notes do so one after the other, so that of several at the same time one is the first.
    """
    in_turn(connection, NOTES)
    rows = connection.execute(select(notes).where(notes.c.about == about)).all()
    marks = {row.digest for row in rows}
    known = [row.vector for row in rows if row.model == model and row.vector is not None]
    added = []
    for place, text in enumerate(texts):
        mark = digest(text)
        vector = vectors[place] if vectors else None
        if not text.strip() or mark in marks or (vector is not None and known and alike(vector, known)):
            continue
        values = {"about": about, "digest": mark, "text": text.strip()[:TEXT_MOST], "created_at": at}
        connection.execute(insert(notes).values(**values, model=model if vector is not None else None, vector=vector))
        marks.add(mark)
        if vector is not None:
            known.append(vector)
        added.append(text)
    return added


def listed(connection: Connection, about: str) -> list[dict[str, Any]]:
    """Return the notes on something, the newest first."""
    columns = (notes.c.id, notes.c.about, notes.c.text, notes.c.created_at)
    rows = connection.execute(select(*columns).where(notes.c.about == about).order_by(notes.c.id.desc()))
    return [row._asdict() for row in rows]


def forget(connection: Connection, about: str) -> int:
    """Drop all notes on something. Returns how many there were."""
    return connection.execute(delete(notes).where(notes.c.about == about)).rowcount
