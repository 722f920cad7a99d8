"""GET /api/search: over the text of all pages and items as they are now."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException, Query

from api.deps import Cursor, TheDb, Word, after_text, pointer
from scraper.database.connection import now
from scraper.search.query import QUERY_MOST, BadQuery
from scraper.search.text import MOST, search

router = APIRouter(prefix="/api", tags=["search"])

FAR = 10_000


@router.get("/search")
def search_all(
    db: TheDb,
    q: Annotated[str, Query(min_length=1, max_length=QUERY_MOST, pattern=r"^[^\x00]*$")],
    mode: Literal["text"] = "text",
    source: Word = None,
    kind: Word = None,
    limit: Annotated[int, Query(ge=1, le=MOST)] = 20,
    cursor: Cursor = None,
) -> dict[str, Any]:
    """Pages and items by their words, the best first.

    All words have to be there; "a phrase", bird*, -not, this OR that; source:, kind:, of:page, of:item, since:7d.
    """
    text = after_text(cursor)
    offset = int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 6 else 0
    try:
        found = db.read(
            lambda c: search(c, q, now(), source=source, kind=kind, limit=limit + 1, offset=min(offset, FAR))
        )
    except BadQuery as error:
        raise HTTPException(422, f"q: {error}") from None
    more = len(found) > limit and offset + limit < FAR
    return {"items": found[:limit], "next": pointer(offset + limit) if more else None}
