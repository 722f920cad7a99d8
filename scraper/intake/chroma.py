"""What a folder of ChromaDB holds: the texts of its collections with their metadata, read and never written.

Vectors stay behind: those of another model are of no use beside ours, and an embedding task makes them anew.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from scraper.intake.found import Unreadable

FILE = "chroma.sqlite3"
DOCUMENT = "chroma:document"
AT_ONCE = 500
_COLLECTIONS = """
SELECT s.id, c.name FROM collections AS c JOIN segments AS s ON s.collection = c.id AND s.scope = 'METADATA' ORDER BY c.name
"""
_ROWS = "SELECT id, embedding_id FROM embeddings WHERE segment_id = ? AND id > ? ORDER BY id LIMIT ?"
_TOLD = "SELECT key, string_value, int_value, float_value, bool_value FROM embedding_metadata WHERE id = ?"


def is_folder(path: Path) -> bool:
    """Say whether a path is a folder of ChromaDB."""
    return (path / FILE).is_file()


def read(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name of a collection and a record of it: its id, its text, its metadata. Raises Unreadable."""
    try:
        with closing(sqlite3.connect(f"{(folder / FILE).absolute().as_uri()}?mode=ro", uri=True)) as connection:
            for segment, name in connection.execute(_COLLECTIONS).fetchall():
                for record in _records(connection, segment):
                    yield str(name), record
    except sqlite3.Error as error:
        raise Unreadable(f"is no ChromaDB that can be read: {error}") from None


def _records(connection: sqlite3.Connection, segment: str) -> Iterator[dict[str, Any]]:
    last = 0
    while rows := connection.execute(_ROWS, (segment, last, AT_ONCE)).fetchall():
        for number, own in rows:
            told = {key: _value(*values) for key, *values in connection.execute(_TOLD, (number,))}
            text = told.pop(DOCUMENT, None)
            yield {
                "id": own,
                "text": text or "",
                **{key: value for key, value in told.items() if key not in ("id", "text")},
            }
        last = rows[-1][0]


def _value(text: str | None, whole: int | None, number: float | None, truth: int | None) -> Any:
    if truth is not None:
        return bool(truth)
    return next((value for value in (text, whole, number) if value is not None), None)
