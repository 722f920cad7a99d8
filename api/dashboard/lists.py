"""What the pages with lists share: one part of a list, and the way to the next."""

from collections.abc import Sequence
from typing import Any

from api.deps import after_text, pointer
from scraper.database import Connection, listing

ROWS = 50
COUNT_MOST = 10_000


def without_echoes(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Changes without those of pages that are told already by the items on them, of the same visit."""
    told = {(row["page_id"], row["at"]) for row in rows if row["of"] == "item"}
    return [row for row in rows if row["of"] == "item" or (row["page_id"], row["at"]) not in told]


def part(c: Connection, name: str, filters: dict[str, Any], cursor: str | None, limit: int = ROWS) -> dict[str, Any]:
    """Return rows of a list, and the cursor of the next ones."""
    text = after_text(cursor)
    before = int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 19 else None
    rows = listing.rows(c, name, filters, before, limit + 1)
    more = len(rows) > limit
    rows = rows[:limit]
    return {"rows": rows, "next": pointer(rows[-1]["id"]) if more else None}
