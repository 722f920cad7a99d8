"""GET /api/search, /api/retrieve: over the text of all pages and items, by words, by meaning, or both."""

from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, HTTPException, Query

from api.deps import Cursor, TheDb, TheSearch, Word, after_text, pointer
from scraper.database.connection import now
from scraper.search.find import Mode, Question
from scraper.search.query import QUERY_MOST, BadQuery
from scraper.search.text import MOST

router = APIRouter(prefix="/api", tags=["search"])

FAR = 10_000
Asked = Annotated[str, Query(min_length=1, max_length=QUERY_MOST, pattern=r"^[^\x00]*$")]


@router.get("/search")
async def search_all(
    db: TheDb,
    search: TheSearch,
    q: Asked,
    mode: Mode = "text",
    source: Word = None,
    kind: Word = None,
    limit: Annotated[int, Query(ge=1, le=MOST)] = 20,
    cursor: Cursor = None,
) -> dict[str, Any]:
    """Pages and items by their words (text), their meaning (semantic), or both (hybrid), the best first.

    All words have to be there; "a phrase", bird*, -not, this OR that; source:, kind:, of:page, of:item, since:7d. What says
    the same as a result before it is that one's `same`. versions:all finds words also in what pages and items were before,
    and in what is gone: such a result has `until`, and `version` where another came after it.
    """
    text = after_text(cursor)
    offset = min(int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 6 else 0, FAR)
    try:
        question = Question(q, mode, source, kind, limit + 1, offset, await search.vector(q, mode))
        found = await to_thread.run_sync(search.find, db, question, now())
    except BadQuery as error:
        raise HTTPException(422, f"q: {error}") from None
    more = len(found) > limit and offset + limit < FAR
    return {"items": found[:limit], "next": pointer(offset + limit) if more else None}


@router.get("/retrieve")
async def retrieve_passages(
    db: TheDb,
    search: TheSearch,
    q: Asked,
    mode: Mode | None = None,
    source: Word = None,
    kind: Word = None,
    limit: Annotated[int, Query(ge=1, le=50)] = 8,
) -> dict[str, Any]:
    """The passages that answer a question best, each with where it is from: for what a language model is given.

    Without a mode: by words and meaning where there are vectors, else by words.
    """
    try:
        chosen: Mode = mode if mode is not None else await to_thread.run_sync(search.best_mode, db)
        question = Question(q, chosen, source, kind, limit, 0, await search.vector(q, chosen))
        found = await to_thread.run_sync(search.retrieve, db, question, now())
    except BadQuery as error:
        raise HTTPException(422, f"q: {error}") from None
    return {"items": found, "next": None}
