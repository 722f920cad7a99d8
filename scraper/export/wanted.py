"""What is to be exported: which rows of which list, and which of their columns."""

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from scraper.database import Db, listing
from scraper.errors import BowerbirdError

log = logging.getLogger(__name__)

What = Literal["items", "pages", "changes", "failures", "runs"]
WHATS: tuple[What, ...] = get_args(What)
Row = dict[str, Any]
Told = Callable[[str, int], None]

INSIDE = "data."  # what a field of an item is called where it might be taken for a column
TOLD_ROWS = 500

COLUMNS: dict[What, tuple[str, ...]] = {
    "items": ("id", "source", "kind", "key", "url", "first_seen", "last_seen", "changed_at", "removed_at"),
    "pages": (
        "id", "source", "url", "final_url", "status", "content_type", "title", "depth", "content_hash", "bytes",
        "fetched_at", "changed_at", "gone_at", "canonical_url", "duplicate_of",
    ),
    "changes": ("id", "at", "source", "of", "kind", "change", "item_id", "page_id", "fields"),
    "failures": (
        "id", "source", "url", "reason", "message", "attempts", "first_at", "last_at", "resolved_at",
    ),
    "runs": (
        "id", "source", "kind", "state", "queued_at", "started_at", "finished_at", "pages", "known", "items", "bytes",
        "failures", "pages_per_s", "message",
    ),
}  # fmt: skip
# What is there as well, and only written when it is asked for.
_ASKED: dict[What, tuple[str, ...]] = {"items": ("data", "page_id"), "pages": ("headers",)}


class Unfit(BowerbirdError):
    """An export cannot be made as it was asked for."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its label, and where its value stands in a row."""

    label: str
    name: str
    inside: str | None = None  # a field of the item

    def of(self, row: Row) -> Any:
        """Return its value in a row; None where there is none."""
        return row.get(self.name) if self.inside is None else row["data"].get(self.inside)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which rows, and which columns of them in which order; no fields: all of them.

    Fields are names of columns, and for items also data.NAME. Filters are those of the list. Raises Unfit.
    """

    what: What = "items"
    filters: Mapping[str, Any] = field(default_factory=dict)
    fields: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        there = (*COLUMNS[self.what], *_ASKED.get(self.what, ()))
        for name in self.fields:
            inside = self.what == "items" and len(name) > len(INSIDE) and name.startswith(INSIDE)
            if name not in there and not inside:
                hint = f"; a field of the item is {INSIDE}{name}" if self.what == "items" else ""
                raise Unfit(f"{self.what} have no column {name!r}; there are: {', '.join(there)}{hint}")

    @property
    def chosen(self) -> tuple[Column, ...] | None:
        """The columns that were asked for, or None: all that are found."""
        if not self.fields:
            return None
        labels = Labels(name for name in self.fields if not name.startswith(INSIDE))
        return tuple([self._column(name, labels) for name in dict.fromkeys(self.fields)])

    def _column(self, name: str, labels: "Labels") -> Column:
        if name in COLUMNS[self.what] or name in _ASKED.get(self.what, ()):
            return Column(name, name)
        return labels.field(name.removeprefix(INSIDE))

    @property
    def fixed(self) -> tuple[Column, ...]:
        """The columns that every row has."""
        return tuple([Column(name, name) for name in COLUMNS[self.what]])

    def rows(self, db: Db, told: Told, part: str, until: int | None = None) -> Iterator[Row]:
        """Yield the rows, the oldest first; until: the id of the last one, None for the newest of now. Raises Unavailable.

        told: is called with part and how many there were, now and then and at the end.
        """
        count = 0
        unseen = {name.removeprefix(INSIDE) for name in self.fields if name.startswith(INSIDE)}
        if until is None:
            until = db.read(lambda connection: listing.newest(connection, self.what))
        for row in listing.stream(db, self.what, dict(self.filters)):
            if row["id"] > until:
                break
            if unseen:
                unseen -= row["data"].keys()
            yield row
            count += 1
            if count % TOLD_ROWS == 0:
                told(part, count)
        if count and unseen and part == "writing":
            log.warning("none of these items has the field %s", ", ".join(sorted(unseen)))
        told(part, count)


class Labels:
    """Gives each field of items a label that no other column has."""

    def __init__(self, taken: Iterator[str]) -> None:
        self._taken = set(taken)

    def field(self, name: str) -> Column:
        """Return the column of a field: its own name, or data.NAME where a column is called so."""
        label = f"{INSIDE}{name}" if name in self._taken else name
        while label in self._taken:
            label += "_"
        self._taken.add(label)
        return Column(label, "data", name)
