"""GET /search: what was stored, by its words, by its meaning, or by both."""

from typing import Annotated, Any

from anyio import from_thread
from fastapi import APIRouter, Query, Request

from api.dashboard.views import page
from api.deps import Cursor, TheDb, TheSearch, Word, after_text, pointer
from scraper.database import documents
from scraper.database.connection import now
from scraper.enrichment.question import NoVector
from scraper.search.find import Mode, Question
from scraper.search.query import QUERY_MOST, BadQuery
from scraper.search.semantic import NoVectors

ROWS = 20

router = APIRouter(include_in_schema=False)


@page(router, "/search", "search.html")
def show_search(
    request: Request,
    db: TheDb,
    search: TheSearch,
    q: Annotated[str, Query(max_length=QUERY_MOST, pattern=r"^[^\x00]*$")] = "",
    mode: Mode | None = None,
    source: Word = None,
    cursor: Cursor = None,
) -> dict[str, Any]:
    """A box, and what is found."""
    text = after_text(cursor)
    offset = int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 6 else 0
    best = search.best_mode(db)
    found: list[dict[str, Any]] = []
    problem = None
    if q.strip():
        chosen = mode or best
        try:
            vector = from_thread.run(search.vector, q, chosen)
            found = search.find(db, Question(q, chosen, source or None, None, ROWS + 1, offset, vector), now())
        except (BadQuery, NoVector, NoVectors) as error:
            problem = str(error)
    more = pointer(offset + ROWS) if len(found) > ROWS else None
    told = {"rows": found[:ROWS], "next": more, "problem": problem, "behind": db.read(documents.behind)}
    return told | {
        "q": q,
        "source": source,
        "mode": mode or best,
        "by_meaning": best != "text" or mode not in (None, "text"),
    }
