"""notes: short remarks on a page, or for a person. The same remark is there once, in the same words or in others.

notes_wanted: texts that a model is to make notes of. They stay until that is done, or was tried often enough.
"""

import hashlib
import unicodedata
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from scraper.database.bulk import NOTES, in_turn
from scraper.database.models import notes, notes_wanted

TEXT_MOST = 2000
TRIES_MOST = 6
LEASE_S = 600.0  # longer than any model takes to answer
AGAIN_S = 20.0  # after a first failure; four times as long after each other

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


def want(connection: Connection, about: str, text: str, at: datetime) -> None:
    """Have notes be made of a text."""
    values = {"about": about, "text": text, "attempts": 0, "not_before": at, "created_at": at}
    connection.execute(insert(notes_wanted).values(**values))


def claim(connection: Connection, at: datetime, limit: int) -> list[Row[Any]]:
    """Take the next texts that notes are to be made of, the oldest first; they come again if nothing is heard of them."""
    free = notes_wanted.c.claimed_at.is_(None) | (notes_wanted.c.claimed_at <= at - timedelta(seconds=LEASE_S))
    due = (
        select(notes_wanted.c.id).where(notes_wanted.c.not_before <= at, free).order_by(notes_wanted.c.id).limit(limit)
    )
    ids = list(connection.scalars(due.with_for_update(skip_locked=True)))
    taken = update(notes_wanted).where(notes_wanted.c.id.in_(ids)).values(claimed_at=at).returning(*notes_wanted.c)
    return sorted(connection.execute(taken), key=lambda row: int(row.id)) if ids else []


def again(connection: Connection, wanted: Row[Any], at: datetime) -> bool:
    """Have a text whose notes could not be made be tried again, later each time. Returns False if it was tried often enough, and is dropped."""
    mine = notes_wanted.c.id == wanted.id
    tried = wanted.attempts + 1
    if tried >= TRIES_MOST:
        connection.execute(delete(notes_wanted).where(mine))
        return False
    later = at + timedelta(seconds=AGAIN_S * 4**wanted.attempts)
    connection.execute(update(notes_wanted).where(mine).values(attempts=tried, not_before=later, claimed_at=None))
    return True


def made(connection: Connection, wanted_id: int) -> None:
    """The notes of a text are made."""
    connection.execute(delete(notes_wanted).where(notes_wanted.c.id == wanted_id))


def take_up(connection: Connection) -> None:
    """Whoever had texts in hand may be gone: all may be taken again. Notes that are made twice are there once."""
    connection.execute(update(notes_wanted).where(notes_wanted.c.claimed_at.is_not(None)).values(claimed_at=None))


def next_wanted(connection: Connection) -> datetime | None:
    """Return when the next text may be taken, of those that nobody has in hand; None if there is none."""
    waiting = select(func.min(notes_wanted.c.not_before)).where(notes_wanted.c.claimed_at.is_(None))
    found: datetime | None = connection.scalar(waiting)
    return found
