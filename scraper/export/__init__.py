"""What was stored, as files for other tools: streamed, in memory that does not grow with the rows.

A row comes from one list (`wanted.py`), goes through one writer (`lines.py`, `sheet.py`, `parquet.py`, `sqlite.py`,
`warc.py`), and leaves as bytes. What needs the types of its columns first looks at all rows once (`tables.py`).
"""

import zlib
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from enum import StrEnum

from scraper.database import Db
from scraper.export import lines, parquet, sheet, sqlite, warc
from scraper.export.extras import Lacking
from scraper.export.style import PLAIN, Style
from scraper.export.wanted import WHATS, Told, Unfit, Wanted, What
from scraper.export.words import as_json, text

__all__ = [
    "FORMATS", "PLAIN", "WHATS", "Format", "Lacking", "Style", "Told", "Unfit", "Wanted", "What", "as_json", "chunks", "media", "text",
]  # fmt: skip


class Format(StrEnum):
    """How rows are written."""

    JSONL = "jsonl"
    CSV = "csv"
    PARQUET = "parquet"
    SQLITE = "sqlite"
    WARC = "warc"


@dataclass(frozen=True, slots=True)
class Spec:
    """What is to be known of a format: its media type, the endings of its files, how it is written, what it needs.

    grows: a file of it can be written on. zips: it compresses in its own way.
    """

    media: str
    endings: tuple[str, ...]
    write: Callable[[Db, Wanted, Style, Told], Generator[bytes, None, None]]
    grows: bool = False
    zips: bool = False
    binary: bool = True
    library: Callable[[], object] = lambda: None


FORMATS: dict[Format, Spec] = {
    Format.JSONL: Spec(
        "application/x-ndjson", (".jsonl", ".jl", ".ndjson"), lines.write, grows=True, binary=False
    ),
    Format.CSV: Spec("text/csv; charset=utf-8", (".csv",), sheet.write, grows=True, binary=False),
    Format.PARQUET: Spec("application/vnd.apache.parquet", (".parquet",), parquet.write, library=parquet.library),
    Format.SQLITE: Spec("application/vnd.sqlite3", (".sqlite", ".sqlite3", ".db"), sqlite.write),
    Format.WARC: Spec("application/warc", (".warc",), warc.write, grows=True, zips=True, library=warc.library),
}  # fmt: skip
GZIP = "application/gzip"


def media(form: Format, style: Style) -> str:
    """Return the media type of an export."""
    return GZIP if style.gz else FORMATS[form].media


def chunks(
    db: Db, wanted: Wanted, form: Format, style: Style = PLAIN, told: Told = lambda part, count: None
) -> Generator[bytes, None, None]:
    """Return the pieces of an export; some are empty, so that who waits for one can be heard meanwhile.

    told: is called with what is done and for how many rows, now and then. Raises Unfit, Lacking at once; Unavailable and
    Conflict on the way.
    """
    spec = FORMATS[form]
    if form is Format.WARC:
        warc.check(wanted)
    spec.library()
    pieces = spec.write(db, wanted, style, told)
    return _zipped(pieces) if style.gz and not spec.zips else pieces


def _zipped(pieces: Iterable[bytes]) -> Generator[bytes, None, None]:
    packer = zlib.compressobj(6, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    for piece in pieces:
        yield packer.compress(piece)
    yield packer.flush()
