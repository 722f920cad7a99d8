"""GET /search: what was stored, by its words."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from api.dashboard.views import page
from api.deps import Cursor, TheDb, Word, after_text, pointer
from scraper.database import Connection, documents
from scraper.database.connection import now
from scraper.search.query import QUERY_MOST, BadQuery
from scraper.search.text import search

ROWS = 20

router = APIRouter(include_in_schema=False)


@page(router, "/search", "search.html")
def show_search(
    request: Request,
    db: TheDb,
    q: Annotated[str, Query(max_length=QUERY_MOST, pattern=r"^[^\x00]*$")] = "",
    source: Word = None,
    cursor: Cursor = None,
) -> dict[str, Any]:
    """A box, and what is found."""
    text = after_text(cursor)
    offset = int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 6 else 0

    def unit(c: Connection) -> dict[str, Any]:
        found: list[dict[str, Any]] = []
        problem = None
        if q.strip():
            try:
                found = search(c, q, now(), source=source or None, limit=ROWS + 1, offset=offset)
            except BadQuery as error:
                problem = str(error)
        more = pointer(offset + ROWS) if len(found) > ROWS else None
        return {"rows": found[:ROWS], "next": more, "problem": problem, "behind": documents.behind(c)}

    return db.read(unit) | {"q": q, "source": source}
