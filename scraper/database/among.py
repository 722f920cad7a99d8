"""Statements about the rows that have one of many values."""

from collections import namedtuple
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, CursorResult, Dialect
from sqlalchemy.sql.compiler import SQLCompiler

from scraper.database.bulk import COUNTED, IN_MOST, element, processor, written


class Among:
    """A statement with `column.in_(bindparam(..., expanding=True))`, compiled once; its values go to the driver without a detour.

    SQLAlchemy writes the text of such a statement anew each time, and names each value, which takes longer than the database
    takes to find them; and the driver parses it anew, for it has not seen that many values before.
    """

    def __init__(self, build: Callable[[str], Any]) -> None:
        """build: returns the statement for a dialect, by its name. It has one list."""
        self._build = build
        self._ready: dict[str, _Ready] = {}

    def rows(self, connection: Connection, values: Sequence[Any], **more: Any) -> list[Any]:
        """Return what it finds, or returns, for these values, as named tuples. more: its other parameters, by name."""
        ready = self._for(connection)
        return [row for result in ready.run(connection, values, more) for row in ready.read(result.all())]

    def run(self, connection: Connection, values: Sequence[Any], **more: Any) -> int:
        """Run it for these values. Returns how many rows of the table it touched."""
        return sum(max(result.rowcount, 0) for result in self._for(connection).run(connection, values, more))

    def _for(self, connection: Connection) -> "_Ready":
        dialect = connection.dialect
        ready = self._ready.get(dialect.name)
        if ready is None:
            ready = self._ready[dialect.name] = _Ready(self._build(dialect.name), dialect)
        return ready


class _Ready:
    """A compiled statement: its text, how values become the driver's parameters, and what the driver finds becomes rows."""

    def __init__(self, statement: Any, dialect: Dialect) -> None:
        compiled: SQLCompiler = statement.compile(dialect=dialect)
        self._names = compiled.positiontup or []
        binds = {name: compiled.binds[name] for name in self._names}
        (self._list,) = (name for name, bind in binds.items() if bind.expanding)
        listed = binds.pop(self._list).type
        self._convert = processor(listed, dialect)
        self._written = written(listed, dialect) if dialect.name != "sqlite" else None
        self._array = f"= ANY (%s::{element(listed, dialect)}[])"
        self._parts = str(compiled).split(f"IN (__[POSTCOMPILE_{self._list}])")
        self._texts: dict[int, str] = {}
        self._others = {name: (bind.effective_value, processor(bind.type, dialect)) for name, bind in binds.items()}
        columns = list(statement.exported_columns)
        self._row: Any = namedtuple("Row", [str(column.key) for column in columns], rename=True)  # type: ignore[misc]
        # psycopg reads what a server says by its types.
        typed = columns if dialect.name == "sqlite" else []
        read = [column.type.dialect_impl(dialect).result_processor(dialect, None) for column in typed]
        self._read = [(place, convert) for place, convert in enumerate(read) if convert is not None]

    def run(
        self, connection: Connection, values: Sequence[Any], more: Mapping[str, Any]
    ) -> Iterator[CursorResult[Any]]:
        """Run it for each portion of the values. Raises KeyError for a parameter that it does not have."""
        others = {}
        for name, (value, convert) in self._others.items():
            value = more.get(name, value)
            others[name] = convert(value) if convert is not None else value
        if unknown := more.keys() - others.keys():
            raise KeyError(*unknown)
        for start in range(0, len(values), IN_MOST):
            some = self._listed(values[start : start + IN_MOST])
            given: list[Any] = []
            for name in self._names:
                given += some if name == self._list else (others[name],)
            text = self._text(len(some))
            yield connection.exec_driver_sql(text, tuple(given), execution_options=COUNTED)

    def _listed(self, values: Sequence[Any]) -> list[Any]:
        """The values as the driver takes them: one array, or one after the other, as many as a text is kept for."""
        if self._written is not None:
            return ["{" + ",".join(map(self._written, values)) + "}"]
        done = list(values) if self._convert is None else list(map(self._convert, values))
        return done + done[-1:] * (_round(len(done)) - len(done))

    def _text(self, count: int) -> str:
        text = self._texts.get(count)
        if text is None:
            marks = self._array if self._written is not None else f"IN ({', '.join('?' * count)})"
            text = self._texts[count] = marks.join(self._parts)
        return text

    def read(self, rows: Sequence[Any]) -> list[Any]:
        """Make of what the driver found what it means."""
        if not self._read:
            return list(rows)
        made = []
        for row in rows:
            cells = list(row)
            for place, convert in self._read:
                cells[place] = convert(cells[place])
            made.append(self._row(*cells))
        return made


def _round(count: int) -> int:
    """The next power of two: so few texts are parsed once each."""
    return 1 << (count - 1).bit_length()
