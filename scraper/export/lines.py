"""JSON Lines: one row a line, nothing lost."""

from collections.abc import Generator

from scraper.database import Db
from scraper.export.style import Style
from scraper.export.wanted import Told, Wanted
from scraper.export.words import as_json

PIECE = 2**16


def write(db: Db, wanted: Wanted, style: Style, told: Told) -> Generator[bytes, None, None]:
    """Yield the file in pieces. Raises Unavailable."""
    columns = wanted.chosen
    piece = bytearray()
    for row in wanted.rows(db, told, "writing"):
        shown = row if columns is None else {column.label: column.of(row) for column in columns}
        piece += as_json(shown).encode() + b"\n"
        if len(piece) > PIECE:
            yield bytes(piece)
            piece.clear()
    yield bytes(piece)
