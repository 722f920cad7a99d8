"""POST /api/ask, and notes on anything."""

import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, HTTPException, Path
from fastapi.encoders import jsonable_encoder
from fastapi.responses import StreamingResponse
from fastapi.sse import format_sse_event
from pydantic import Field

from api.deps import Given, Text, TheDb, TheNoter, TheSearch
from scraper.database import notes
from scraper.database.connection import now
from scraper.enrichment.model import NoRecord
from scraper.search.find import Mode, Question
from scraper.search.query import QUERY_MOST, BadQuery

router = APIRouter(prefix="/api", tags=["search"])

About = Annotated[str, Path(min_length=1, max_length=2048, pattern=r"^[^\x00]*$")]


class Ask(Given):
    """A question, over what it is asked, and for whom what it tells is noted."""

    question: Text = Field(min_length=1, max_length=QUERY_MOST)
    mode: Mode | None = None
    source: Text | None = Field(default=None, max_length=100)
    limit: int = Field(default=6, ge=1, le=20)
    note_for: Text | None = Field(default=None, min_length=1, max_length=200)


@router.post("/ask", responses={200: {"content": {"text/event-stream": {}}}})
async def ask(asked: Ask, db: TheDb, search: TheSearch, noter: TheNoter) -> StreamingResponse:
    """Answer a question from what was stored, word by word: events `passages`, `words`, and `done` or `failed`.

    With `note_for` a model notes down what the question tells of whoever asks, meanwhile and afterwards; also when the
    service ends before that is done, with its next start.
    """
    try:
        mode: Mode = asked.mode if asked.mode is not None else await to_thread.run_sync(search.best_mode, db)
        text = search.loosely(asked.question)
        question = Question(text, mode, asked.source, None, asked.limit, 0, await search.vector(text, mode))
        found = await to_thread.run_sync(search.retrieve, db, question, now())
        found = await to_thread.run_sync(search.for_models, db, found)
    except BadQuery as error:
        raise HTTPException(422, f"question: {error}") from None
    if asked.note_for is not None:
        await noter.want(asked.note_for, asked.question)
    lines = _told(search, asked.question, found)
    return StreamingResponse(lines, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


async def _told(search: TheSearch, question: str, found: list[dict[str, Any]]) -> AsyncIterator[bytes]:
    yield format_sse_event(event="passages", data_str=_json(found))
    try:
        async for said in search.asking.answer(question, found):
            yield format_sse_event(event="words", data_str=_json(said))
    except NoRecord as error:
        told = {"reason": str(error.trouble), "message": error.said}
        yield format_sse_event(event="failed", data_str=_json(told))
        return
    yield format_sse_event(event="done", data_str="{}")


def _json(value: Any) -> str:
    return json.dumps(jsonable_encoder(value), ensure_ascii=False)


class Noted(Given):
    """Notes on something."""

    notes: list[Text] = Field(min_length=1, max_length=100)


@router.get("/notes/{about:path}")
def list_notes(about: About, db: TheDb) -> dict[str, Any]:
    """The notes on something, the newest first."""
    return {"items": db.read(lambda c: notes.listed(c, about)), "next": None}


@router.post("/notes/{about:path}")
async def add_notes(about: About, noted: Noted, db: TheDb, search: TheSearch) -> dict[str, list[str]]:
    """Add notes; what is there already, in the same words or in others, is not added again. Answers what was."""
    return {"added": await search.add_notes(db, about, list(noted.notes))}


@router.delete("/notes/{about:path}")
def forget_notes(about: About, db: TheDb) -> dict[str, int]:
    """Drop all notes on something."""
    return {"dropped": db.write(lambda c: notes.forget(c, about))}
