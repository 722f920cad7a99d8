"""One SQLite file: a table for each kind of item, a column for each field."""

import sqlite3
import tempfile
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from scraper.database import Db
from scraper.errors import Unusable
from scraper.export.style import Style
from scraper.export.tables import PULSE_ROWS, Kind, Looked, Table, empty, fits, look
from scraper.export.wanted import Column, Row, Told, Unfit, Wanted
from scraper.export.words import plain

PIECE = 2**18
COLUMNS_MOST = 2000  # https://www.sqlite.org/limits.html
# No type where values differ: SQLite would make 7 of the text "007" in a column of numbers.
_TYPES = {Kind.BOOL: "BOOLEAN", Kind.INT: "INTEGER", Kind.LONG: "INTEGER", Kind.FLOAT: "REAL", Kind.MIXED: ""}


def write(db: Db, wanted: Wanted, style: Style, told: Told) -> Generator[bytes, None, None]:
    """Yield the file in pieces, once it is whole. Raises Unavailable; Unfit for too many columns.

    It is built in a temporary directory, which needs as much space. While it is, nothing is yielded now and then.
    """
    looked = yield from look(db, wanted, told, lambda row: row["kind"] if wanted.what == "items" else wanted.what)
    try:
        with tempfile.TemporaryDirectory(prefix="bowerbird-export-") as folder:
            file = Path(folder, "export.sqlite")
            yield from _filled(file, db, wanted, looked, told)
            with file.open("rb") as made:
                while piece := made.read(PIECE):
                    yield piece
    except (OSError, sqlite3.OperationalError) as error:
        raise Unusable(f"{tempfile.gettempdir()}: the file cannot be built there: {error}") from None


def _filled(file: Path, db: Db, wanted: Wanted, looked: Looked, told: Told) -> Generator[bytes, None, None]:
    # A stream goes on in whichever thread is free; only one at a time.
    with closing(sqlite3.connect(file, isolation_level=None, check_same_thread=False)) as made:
        made.execute("PRAGMA journal_mode = OFF")
        made.execute("PRAGMA synchronous = OFF")
        made.execute("BEGIN")
        tables = looked.tables or {wanted.what: empty(wanted)}
        inserts = {name: _created(made, title, tables[name]) for name, title in _unlike(list(tables)).items()}
        for rows in _batches(wanted.rows(db, told, "writing", looked.until)):
            for row in rows:
                name = row["kind"] if wanted.what == "items" else wanted.what
                if name not in tables:  # it changed meanwhile
                    continue
                cells = [_cell(column, kind, row) for column, kind in tables[name].columns.items()]
                made.execute(inserts[name], cells)
            yield b""
        made.execute("COMMIT")


def _created(made: sqlite3.Connection, title: str, table: Table) -> str:
    """Make a table. Returns the statement that fills it."""
    if len(table.columns) > COLUMNS_MOST:
        raise Unfit(f"{title} has {len(table.columns)} columns, SQLite takes {COLUMNS_MOST}; choose some by fields")
    names = _unlike([column.label for column in table.columns])
    shown = [_column(names[column.label], column, kind) for column, kind in table.columns.items()]
    made.execute(f"CREATE TABLE {_quoted(title)} ({', '.join(shown)})")
    return f"INSERT INTO {_quoted(title)} VALUES ({', '.join('?' * len(shown))})"


def _column(name: str, column: Column, kind: Kind) -> str:
    type_ = "INTEGER PRIMARY KEY" if column == Column("id", "id") else _TYPES.get(kind, "TEXT")
    return f"{_quoted(name)} {type_}".rstrip()


def _unlike(names: list[str]) -> dict[str, str]:
    """Names as SQLite takes them: it does not tell case apart, and keeps sqlite_ for itself."""
    taken: set[str] = set()
    found: dict[str, str] = {}
    for name in names:
        made = f"_{name}" if not name or name.lower().startswith("sqlite_") else name
        while made.lower() in taken:
            made += "_"
        taken.add(made.lower())
        found[name] = made
    return found


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _batches(rows: Iterator[Row]) -> Iterator[list[Row]]:
    batch: list[Row] = []
    for row in rows:
        batch.append(row)
        if len(batch) == PULSE_ROWS:
            yield batch
            batch = []
    yield batch


def _cell(column: Column, kind: Kind, row: Row) -> Any:
    value = fits(column, kind, row)
    if value is None or isinstance(value, bool | float | str):
        return value
    if isinstance(value, int) and kind in (Kind.INT, Kind.LONG, Kind.FLOAT):
        return value
    return value if isinstance(value, int) and -(2**63) <= value < 2**63 else plain(value)
