"""Statements that run for many rows at once."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from itertools import repeat
from operator import itemgetter
from typing import Any, cast

from sqlalchemy import (
    Connection,
    Dialect,
    Insert,
    LargeBinary,
    String,
    Table,
    Text,
    bindparam,
    column,
    func,
    select,
)
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects import sqlite
from sqlalchemy.sql.compiler import SQLCompiler

from scraper.database.models import Instant, Json

# The matters that one transaction at a time has in hand.
TABLES, EVENTS, SOURCES, RUNS, CHANGES, NOTICES, VECTORS, NOTES = range(8)
FIRST_MATTER = 7215460139

IN_MOST = 500  # values in one IN: databases have a limit
COUNTED = {"preserve_rowcount": True}

Processor = Callable[[Any], Any]


def upsert(dialect: str, table: Any) -> Any:
    """Return an INSERT that knows ON CONFLICT, in the words of a database."""
    if dialect == "sqlite":
        return sqlite.insert(table)
    from sqlalchemy.dialects import postgresql  # noqa: PLC0415  0.02 s that SQLite need not pay

    return postgresql.insert(table)


def reserve(connection: Connection, table: Table, count: int) -> list[int]:
    """Return ids for so many new rows of a table: made in one go, they need not be asked back row by row.

    In SQLite whoever writes is alone, so the next numbers are free.
    """
    if connection.dialect.name == "sqlite":
        last = connection.scalar(_last(table)) or 0
        return list(range(last + 1, last + 1 + count))
    sequence = func.nextval(func.pg_get_serial_sequence(table.name, "id"))
    return list(connection.scalars(select(sequence).select_from(func.generate_series(1, count).alias())))


@lru_cache(maxsize=16)
def _last(table: Table) -> Any:
    return select(func.max(table.c.id))


def given(dialect: str, columns: Sequence[str]) -> Any:
    """Return rows of texts that a statement is given, to be joined with a table: any number of them in one parameter.

    The parameter is called "rows": a JSON list of lists. SQLite would go through a whole table for `(a, b) IN (...)`.
    """
    rows = bindparam("rows", type_=Text())
    if dialect == "sqlite":
        each = func.json_each(rows).table_valued("value", name="each_row")
        cells = [func.json_extract(each.c.value, f"$[{place}]") for place in range(len(columns))]
    else:
        from sqlalchemy.dialects.postgresql import JSONB  # noqa: PLC0415  0.02 s that SQLite need not pay

        each = func.jsonb_array_elements(sql_cast(rows, JSONB)).table_valued(column("value", JSONB), name="each_row")
        cells = [each.c.value[place].astext for place in range(len(columns))]
    return select(*(cell.label(name) for cell, name in zip(cells, columns, strict=True))).subquery("given")


def in_turn(connection: Connection, matter: int) -> None:
    """Wait until no other transaction has this matter in hand, and have it until ours ends.

    What is not there yet cannot be locked, so who looks and then makes something needs this. In SQLite who writes is alone.
    """
    if connection.dialect.name != "sqlite":
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({FIRST_MATTER + matter})")


class Bulk:
    """A statement for many rows, compiled once; its values go to the driver without a detour.

    SQLAlchemy's executemany builds each row's parameters anew, which takes longer than the database takes to store them.
    """

    def __init__(self, build: Callable[[str], Any]) -> None:
        """build: returns the statement for a dialect, by its name."""
        self._build = build
        self._ready: dict[str, _Ready] = {}

    def run(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> int:
        """Run it for rows that have the same keys. Returns how many rows of the table it touched."""
        if not rows:
            return 0
        dialect = connection.dialect
        ready = self._ready.get(dialect.name)
        if ready is None:
            make = _Rows if dialect.name == "sqlite" else _Columns
            ready = self._ready[dialect.name] = make(self._build(dialect.name), dialect, list(rows[0]))
        result = connection.exec_driver_sql(ready.sql, ready.values(rows), execution_options=COUNTED)
        return max(result.rowcount, 0)


class _Ready(ABC):
    """A compiled statement: its text, and how a row becomes the driver's parameters."""

    def __init__(self, statement: Any, dialect: Dialect, keys: list[str]) -> None:
        columns = keys if isinstance(statement, Insert) else None
        compiled: SQLCompiler = statement.compile(dialect=dialect, column_keys=columns)
        names = compiled.positiontup or []
        self._binds = [compiled.binds[name] for name in names]
        self.sql = str(compiled)
        defaults = {column.key: cast(Any, column.default).arg for column in compiled.insert_prefetch}
        self._row = [
            None if bind.required else defaults.get(name, bind.effective_value)
            for name, bind in zip(names, self._binds, strict=True)
        ]
        self._given = [place for place, bind in enumerate(self._binds) if bind.required]
        self._pick = itemgetter(*(names[place] for place in self._given))
        self._convert = [processor(bind.type, dialect) for bind in self._binds]
        for place, convert in enumerate(self._convert):
            if convert is not None and place not in self._given:
                self._row[place] = convert(self._row[place])

    def _columns(self, rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, Sequence[Any]]]:
        """The values that rows give, column by column, each with its place. Raises KeyError for a row that lacks one."""
        picked = [self._pick(row) for row in rows]
        return zip(self._given, zip(*picked, strict=True) if len(self._given) > 1 else [picked], strict=True)

    @abstractmethod
    def values(self, rows: Sequence[Mapping[str, Any]]) -> Any:
        """Return the rows as the driver takes them. Raises KeyError for one that lacks a value."""


class _Rows(_Ready):
    """Run for one row after the other, by the driver: for SQLite that is the quickest way."""

    def values(self, rows: Sequence[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
        """Return the rows as the driver takes them. Raises KeyError for one that lacks a value."""
        columns: list[Iterable[Any]] = [repeat(value) for value in self._row]
        for place, cells in self._columns(rows):
            convert = self._convert[place]
            columns[place] = cells if convert is None else map(convert, cells)
        return list(zip(*columns, strict=False))  # what is the same for all rows has no end


class _Columns(_Ready):
    """Run once for all rows, which go to the server as an array for each column.

    A server parses, plans and answers one statement, not one for each row. The arrays are written here: psycopg takes
    longer over a list than over as many rows.
    """

    def __init__(self, statement: Any, dialect: Dialect, keys: list[str]) -> None:
        super().__init__(statement, dialect, keys)
        pieces = self.sql.partition(" RETURNING ")[0].split("%s")
        given = set(self._given)
        shown = [f"given.v{place}" if place in given else "%s" for place in range(len(self._binds))]
        text = "".join([piece + mark for piece, mark in zip(pieces, [*shown, ""], strict=True)])
        types = [self._binds[place].type for place in self._given]
        arrays = ", ".join(f"%s::{element(of, dialect)}[]" for of in types)
        rows = f" FROM unnest({arrays}) AS given ({', '.join(f'v{place}' for place in self._given)})"
        if isinstance(statement, Insert):
            head, _, rest = text.partition(" VALUES (")
            made, _, tail = rest.partition(")")
            before = f"{head} SELECT {made}"
        else:
            before, where, tail = text.partition(" WHERE ")
            tail = where + tail
        self.sql = before + rows + tail
        fixed = [place for place in range(len(self._binds)) if place not in given]
        first = before.count("%s")
        self._order = [*fixed[:first], *self._given, *fixed[first:]]
        self._written = [written(of, dialect) for of in types]

    def values(self, rows: Sequence[Mapping[str, Any]]) -> tuple[Any, ...]:
        """Return the columns as the driver takes them. Raises KeyError for a row that lacks a value."""
        values = self._row.copy()
        for (place, cells), write in zip(self._columns(rows), self._written, strict=True):
            values[place] = "{" + ",".join(["NULL" if cell is None else write(cell) for cell in cells]) + "}"
        return tuple([values[place] for place in self._order])


def element(of: Any, dialect: Dialect) -> str:
    """Return the type of an array's elements; documents go as text, and are cast where they are used."""
    return "TEXT" if isinstance(of, Json) else dialect.type_compiler_instance.process(of)


def written(of: Any, dialect: Dialect) -> Callable[[Any], str]:
    """Return how an element of an array is written."""
    if isinstance(of, Instant):
        return _instant_written
    if isinstance(of, LargeBinary):
        return lambda value: f'"\\\\x{value.hex()}"'
    if isinstance(of, Json):
        serialize = _serializer(dialect)
        return lambda value: _quoted(serialize(value))
    return _quoted if isinstance(of, String) else str


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


@lru_cache(maxsize=1024)
def _instant_written(value: datetime) -> str:
    return f'"{value.isoformat()}"'


def processor(of: Any, dialect: Dialect) -> Processor | None:
    """Return how a value of a type is made what the driver takes; None if it is that already."""
    if isinstance(of, Instant):
        return _instant(dialect)
    if isinstance(of, Json) and dialect.name == "sqlite":
        return _serializer(dialect)
    convert: Processor | None = of.dialect_impl(dialect).bind_processor(dialect)
    return convert


def _serializer(dialect: Dialect) -> Processor:
    """How a document is written: by the engine's own way, without the steps that SQLAlchemy puts before it."""
    return getattr(dialect, "_json_serializer", None) or json.dumps


@lru_cache(maxsize=8)
def _instant(dialect: Dialect) -> Processor | None:
    """One instant is in many columns of many rows, and of several tables."""
    convert: Processor | None = Instant().dialect_impl(dialect).bind_processor(dialect)
    return lru_cache(maxsize=1024)(convert) if convert is not None else None
