"""Parquet, in groups of rows, with the types that the values have."""

from collections.abc import Generator, Iterator
from typing import Any

from scraper.database import Db
from scraper.export.extras import needed
from scraper.export.style import Style
from scraper.export.tables import Kind, Table, empty, fits, look
from scraper.export.wanted import Column, Row, Told, Wanted
from scraper.export.words import plain

BATCH_ROWS = 500
GROUP_ROWS = 10_000
GROUP_BYTES = 2**20  # rows may be long
PAGES = {"data_page_size": 2**17, "dictionary_pagesize_limit": 2**17}  # each column keeps one of either


def library() -> Any:
    """Return pyarrow, with the system's own allocator: that gives back what it does not need, Arrow's keeps it.

    Raises Lacking.
    """
    needed("pyarrow.parquet", "parquet")
    arrow = needed("pyarrow", "parquet")
    arrow.set_memory_pool(arrow.system_memory_pool())
    return arrow


def write(db: Db, wanted: Wanted, style: Style, told: Told) -> Generator[bytes, None, None]:
    """Yield the file in pieces. Raises Unavailable; Conflict if a value changes its type meanwhile."""
    arrow = library()
    looked = yield from look(db, wanted, told)
    table = looked.tables.get("") or empty(wanted)
    schema = arrow.schema([(column.label, _type(arrow, kind)) for column, kind in table.columns.items()])
    sink = _Sink()
    with arrow.parquet.ParquetWriter(sink, schema, compression="zstd", **PAGES) as writer:
        group: list[Any] = []
        for cells in _batches(wanted.rows(db, told, "writing", looked.until), table):
            made = [arrow.array(column, of.type) for column, of in zip(cells, schema, strict=True)]
            group.append(arrow.record_batch(made, schema=schema))
            if sum(batch.num_rows for batch in group) >= GROUP_ROWS or sum(b.nbytes for b in group) >= GROUP_BYTES:
                writer.write_table(arrow.Table.from_batches(group, schema))
                group = []
            yield sink.taken()
        if group:
            writer.write_table(arrow.Table.from_batches(group, schema))
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


def _batches(rows: Iterator[Row], table: Table) -> Iterator[list[list[Any]]]:
    """Some rows at a time, as a list of cells a column: as Python has them they take ten times the room."""
    cells: list[list[Any]] = [[] for _ in table.columns]
    for count, row in enumerate(rows, 1):
        for place, (column, kind) in zip(cells, table.columns.items(), strict=True):
            place.append(_cell(column, kind, row))
        if count % BATCH_ROWS == 0:
            yield cells
            cells = [[] for _ in table.columns]
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
