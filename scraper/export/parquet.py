"""Parquet, in groups of rows, with the types that the values have."""

from collections.abc import Iterator
from typing import Any

from scraper.database import Db
from scraper.export.extras import needed
from scraper.export.style import Style
from scraper.export.tables import Kind, Table, empty, fits, look
from scraper.export.wanted import Column, Row, Told, Wanted
from scraper.export.words import plain

GROUP_ROWS = 10_000
GROUP_CHARACTERS = 4 * 2**20  # rows may be long


def library() -> Any:
    """Return pyarrow. Raises Lacking."""
    needed("pyarrow.parquet", "parquet")
    return needed("pyarrow", "parquet")


def write(db: Db, wanted: Wanted, style: Style, told: Told) -> Iterator[bytes]:
    """Yield the file in pieces. Raises Unavailable; Conflict if a value changes its type meanwhile."""
    arrow = library()
    looked = yield from look(db, wanted, told)
    table = looked.tables.get("") or empty(wanted)
    schema = arrow.schema([(column.label, _type(arrow, kind)) for column, kind in table.columns.items()])
    sink = _Sink()
    # The system's own allocator gives back what it does not need; Arrow's keep it.
    with arrow.parquet.ParquetWriter(
        sink, schema, compression="zstd", memory_pool=arrow.system_memory_pool()
    ) as writer:
        for group in _groups(wanted.rows(db, told, "writing", looked.until), table):
            made = [
                arrow.array(cells, field.type, memory_pool=arrow.system_memory_pool())
                for cells, field in zip(group, schema, strict=True)
            ]
            writer.write_batch(arrow.record_batch(made, schema=schema))
            yield sink.taken()
    yield sink.taken()


def _type(arrow: Any, kind: Kind) -> Any:
    types = {
        Kind.BOOL: arrow.bool_(),
        Kind.INT: arrow.int64(),
        Kind.LONG: arrow.int64(),
        Kind.FLOAT: arrow.float64(),
        Kind.INSTANT: arrow.timestamp("us", tz="UTC"),
    }
    return types.get(kind, arrow.string())


def _groups(rows: Iterator[Row], table: Table) -> Iterator[list[list[Any]]]:
    """Groups of rows, each as a list of cells a column."""
    cells: list[list[Any]] = [[] for _ in table.columns]
    size = count = 0
    for row in rows:
        for place, (column, kind) in zip(cells, table.columns.items(), strict=True):
            cell = _cell(column, kind, row)
            place.append(cell)
            size += len(cell) if isinstance(cell, str) else 0
        count += 1
        if count >= GROUP_ROWS or size > GROUP_CHARACTERS:
            yield cells
            cells = [[] for _ in table.columns]
            size = count = 0
    if count:
        yield cells


def _cell(column: Column, kind: Kind, row: Row) -> Any:
    value = fits(column, kind, row)
    return plain(value) if value is not None and kind in (Kind.JSON, Kind.MIXED) else value


class _Sink:
    """A file that is taken away piece by piece while it is written."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0
        self.closed = False

    def write(self, piece: Any) -> int:
        """Take a piece."""
        done = bytes(piece)
        self._pieces.append(done)
        self._size += len(done)
        return len(done)

    def tell(self) -> int:
        """Return how much was written."""
        return self._size

    def flush(self) -> None:
        """Do nothing: it is taken when it is taken."""

    def close(self) -> None:
        """End it; what is there can still be taken."""
        self.closed = True

    def readable(self) -> bool:
        """It cannot be read."""
        return False

    def writable(self) -> bool:
        """It can be written."""
        return True

    def seekable(self) -> bool:
        """It cannot go back: that part is taken already."""
        return False

    def taken(self) -> bytes:
        """Return what was written since the last time."""
        piece = b"".join(self._pieces)
        self._pieces.clear()
        return piece
