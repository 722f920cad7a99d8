"""What a first look at all rows finds out: which columns there are, and which values each holds."""

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from scraper.database import Db
from scraper.errors import Conflict
from scraper.export.wanted import Column, Labels, Row, Told, Wanted

PULSE_ROWS = 500
FLOAT_EXACT = 2**53
INT_MOST = 2**63


class Kind(StrEnum):
    """What the values of a column are."""

    NONE = "none"  # there are none
    BOOL = "bool"
    INT = "int"
    LONG = "long"  # some of them are more than a float can tell apart
    FLOAT = "float"
    TEXT = "text"
    INSTANT = "instant"
    JSON = "json"  # lists or tables
    MIXED = "mixed"


_BOTH = {frozenset({Kind.INT, Kind.LONG}): Kind.LONG, frozenset({Kind.INT, Kind.FLOAT}): Kind.FLOAT}


def kind_of(value: Any) -> Kind:
    """Return what a value is."""
    if value is None:
        return Kind.NONE
    if isinstance(value, bool):
        return Kind.BOOL
    if isinstance(value, int):
        size = abs(value)
        return Kind.INT if size <= FLOAT_EXACT else Kind.LONG if size < INT_MOST else Kind.MIXED
    if isinstance(value, float):
        return Kind.FLOAT
    if isinstance(value, datetime):
        return Kind.INSTANT
    return Kind.JSON if isinstance(value, list | dict) else Kind.TEXT


def joined(one: Kind, other: Kind) -> Kind:
    """Return what a column is that holds values of both kinds."""
    if one is other or other is Kind.NONE:
        return one
    return other if one is Kind.NONE else _BOTH.get(frozenset({one, other}), Kind.MIXED)


@dataclass(slots=True)
class Table:
    """The columns of a table, each with what it holds."""

    columns: dict[Column, Kind]
    labels: Labels
    found: dict[str, Column] = field(default_factory=dict)  # the fields of items

    def see(self, row: Row, *, whole: bool) -> None:
        """Take the values of a row into account; whole: its fields are columns."""
        if whole:
            for name in row["data"]:
                if name not in self.found:
                    column = self.found[name] = self.labels.field(name)
                    self.columns[column] = Kind.NONE
        for column, kind in self.columns.items():
            if kind is not Kind.MIXED:
                self.columns[column] = joined(kind, kind_of(column.of(row)))


@dataclass(frozen=True, slots=True)
class Looked:
    """The tables that the rows fill, by name, and the id of the last row."""

    tables: dict[str, Table]
    until: int


def look(
    db: Db, wanted: Wanted, told: Told, table_of: Callable[[Row], str] = lambda row: ""
) -> Generator[bytes, None, Looked]:
    """Return the tables, after a pass over all rows: so they need not be kept. Yields nothing, now and then.

    What is stored meanwhile is not in it: rows after the last one are left to another export, and so are new fields.
    """
    tables: dict[str, Table] = {}
    until = 0
    for count, row in enumerate(wanted.rows(db, told, "looking"), 1):
        name = table_of(row)
        if name not in tables:
            tables[name] = empty(wanted)
        tables[name].see(row, whole=wanted.what == "items" and not wanted.fields)
        until = row["id"]
        if count % PULSE_ROWS == 0:
            yield b""
    return Looked(tables, until)


def empty(wanted: Wanted) -> Table:
    """Return the table before any row was seen."""
    columns = wanted.fixed if wanted.chosen is None else wanted.chosen
    return Table(dict.fromkeys(columns, Kind.NONE), Labels(column.label for column in columns))


def fits(column: Column, kind: Kind, row: Row) -> Any:
    """Return the value of a column. Raises Conflict if it is none of its kind any more."""
    value = column.of(row)
    if value is not None and kind is not Kind.MIXED and joined(kind, kind_of(value)) is not kind:
        raise Conflict(f"row {row['id']} changed while it was exported: {column.label} is no {kind} now; export again")
    return value
