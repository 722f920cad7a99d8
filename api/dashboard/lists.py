"""What the pages with lists share: one part of a list, and the way to the next."""

from typing import Any

from api.deps import before_of, pointer
from scraper.database import Connection, listing

ROWS = 50
COUNT_MOST = 10_000


def part(c: Connection, name: str, filters: dict[str, Any], cursor: str | None, limit: int = ROWS) -> dict[str, Any]:
    """Return rows of a list, and the cursor of the next ones."""
    rows = listing.rows(c, name, filters, before_of(cursor), limit + 1)
    more = len(rows) > limit
    rows = rows[:limit]
    return {"rows": rows, "next": pointer(rows[-1]["id"]) if more else None}
