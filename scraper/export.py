"""Rows as JSONL or CSV, streamed in bounded memory."""

import csv
import io
import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Literal

from scraper.database import Db, listing

Format = Literal["jsonl", "csv"]
MEDIA = {"jsonl": "application/x-ndjson", "csv": "text/csv; charset=utf-8"}
ITEM_COLUMNS = ("id", "source", "kind", "key", "url", "first_seen", "last_seen", "changed_at", "removed_at")
PAGE_COLUMNS = (
    "id", "source", "url", "final_url", "status", "content_type", "title", "depth", "content_hash", "bytes",
    "fetched_at", "changed_at",
)  # fmt: skip


def lines(db: Db, what: Literal["items", "pages"], filters: dict[str, Any], form: Format) -> Iterator[str]:
    """Yield the lines of an export, each with its end. Raises Unavailable."""
    rows = listing.stream(db, what, filters)
    if form == "jsonl":
        for row in rows:
            yield as_json(row) + "\n"
        return
    yield from _csv(
        rows, ITEM_COLUMNS if what == "items" else PAGE_COLUMNS, _fields(db, filters) if what == "items" else []
    )


def _fields(db: Db, filters: dict[str, Any]) -> list[str]:
    """The names of all fields: a pass of its own, so that the rows need not be kept."""
    names: dict[str, None] = {}
    for row in listing.stream(db, "items", filters):
        names.update(dict.fromkeys(row["data"]))
    return list(names)


def _csv(rows: Iterator[dict[str, Any]], columns: tuple[str, ...], fields: list[str]) -> Iterator[str]:
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow([*columns, *(_cell(f"data.{name}" if name in columns else name) for name in fields)])
    yield buffer.getvalue()
    for row in rows:
        buffer.seek(0)
        buffer.truncate()
        writer.writerow([_cell(row[name]) for name in columns] + [_cell(row["data"].get(name)) for name in fields])
        yield buffer.getvalue()


def _cell(value: Any) -> str:
    """A cell that no spreadsheet takes for a formula."""
    if isinstance(value, list | dict):
        cell = json.dumps(value, ensure_ascii=False, default=text)
    else:
        cell = "" if value is None else text(value)
    return "'" + cell if cell[:1] in ("=", "+", "-", "@", "\t", "\r") and not _is_number(cell) else cell


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def as_json(row: dict[str, Any]) -> str:
    """Return a row as one line of JSON, whatever takes U+2028 for the end of a line."""
    return json.dumps(row, ensure_ascii=False, default=text).replace("\u2028", "\\u2028")


def text(value: Any) -> str:
    """Return what JSON has no word for, as text; instants as the API tells them."""
    return value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else str(value)
