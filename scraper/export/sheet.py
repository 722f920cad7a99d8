"""CSV (RFC 4180), made so that no spreadsheet takes a cell for a formula."""

import csv
import io
import re
from collections.abc import Generator, Sequence
from typing import Any

from scraper.database import Db
from scraper.export.style import Style
from scraper.export.tables import look
from scraper.export.wanted import Column, Told, Unfit, Wanted
from scraper.export.words import plain

BOM = b"\xef\xbb\xbf"
PIECE = 2**16
# https://owasp.org/www-community/attacks/CSV_Injection, with the full-width forms that spreadsheets take for the same.
FORMULA = tuple("=+-@\t\r\n＝＋－＠")
# What begins as a formula after a mark at which some spreadsheets separate too: in quotes it is no cell of its own.
_INSIDE = re.compile(rf"[;\t]\s*[{re.escape(''.join(FORMULA))}]")
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")


def guarded(cell: str) -> str:
    """Return a cell that no spreadsheet takes for a formula. A number stays one."""
    return "'" + cell if cell.startswith(FORMULA) and not _NUMBER.fullmatch(cell) else cell


def write(db: Db, wanted: Wanted, style: Style, told: Told) -> Generator[bytes, None, None]:
    """Yield the file in pieces. Raises Unavailable; Unfit if it cannot go on with the columns of the style."""
    columns, until = yield from _columns(db, wanted, told)
    lines = _Lines(style.guard)
    if style.columns is None:
        yield BOM if style.bom else b""
        lines.add([column.label for column in columns])
    else:
        columns = _as_before(columns, style, exactly=bool(wanted.fields))
    for row in wanted.rows(db, told, "writing", until):
        lines.add([column.of(row) for column in columns])
        if lines.size > PIECE:
            yield lines.taken()
    yield lines.taken()


def _columns(db: Db, wanted: Wanted, told: Told) -> Generator[bytes, None, tuple[Sequence[Column], int | None]]:
    if wanted.chosen is not None:
        return wanted.chosen, None
    if wanted.what != "items":
        return wanted.fixed, None
    looked = yield from look(db, wanted, told)
    table = looked.tables.get("")
    return (list(table.columns) if table is not None else wanted.fixed), looked.until


def _as_before(columns: Sequence[Column], style: Style, *, exactly: bool) -> list[Column]:
    """The columns in the order in which a file has them already. What rows have no more stays empty."""
    shown = guarded if style.guard else str
    known = {shown(column.label): column for column in columns}
    before = style.columns or ()
    lacking = [label for label in known if label not in before]
    if lacking or (exactly and list(known) != list(before)):
        why = f"it has no column {lacking[0]!r}" if lacking else f"its columns are {','.join(before)}"
        raise Unfit(f"cannot be appended to: {why}; name columns with --fields, or write it anew with -O")
    return [known.get(label, Column(label, "")) for label in before]


class _Lines:
    """Gathers lines until they are worth a piece."""

    def __init__(self, guard: bool) -> None:
        self._buffer = io.StringIO()
        self._writer = csv.writer(self._buffer)
        self._quoting = csv.writer(self._buffer, quoting=csv.QUOTE_ALL)
        self._guard = guard

    def add(self, cells: Sequence[Any]) -> None:
        """Add a line."""
        shown = [plain(cell) for cell in cells]
        if not self._guard:
            self._writer.writerow(shown)
            return
        whole = any(_INSIDE.search(cell) for cell in shown if ";" in cell or "\t" in cell)
        (self._quoting if whole else self._writer).writerow([guarded(cell) for cell in shown])

    @property
    def size(self) -> int:
        return self._buffer.tell()

    def taken(self) -> bytes:
        """Return what was gathered, and forget it."""
        piece = self._buffer.getvalue().encode()
        self._buffer.seek(0)
        self._buffer.truncate()
        return piece
