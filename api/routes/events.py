"""GET /api/events: what happens to the machinery, as a list or live."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.encoders import jsonable_encoder
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event

from api.deps import Paging, TheDb, TheStreams, Word
from scraper import export

router = APIRouter(prefix="/api", tags=["events"])

RETRY_MS = 1000

EventId = Annotated[int | None, Query(ge=0, lt=2**63)]


@router.get("/events", responses={200: {"content": {"text/event-stream": {}}}})
async def stream_events(
    request: Request,
    streams: TheStreams,
    db: TheDb,
    page: Paging,
    since: EventId = None,
    kind: Word = None,
    level: Word = None,
    last_event_id: Annotated[str | None, Header()] = None,
) -> Response:
    """Server-sent events, from now on, or all that came after `Last-Event-ID` (or `since`).

    With `Accept: application/json` a list, the newest first. An event named `resync` says that something after that id is
    there no more: look at the whole again, and go on from the id that it carries.
    """
    accept = request.headers.get("accept", "")
    if "application/json" in accept and "text/event-stream" not in accept:
        listed = await to_thread.run_sync(lambda: page.answer(db, "events", kind=kind, level=level))
        return JSONResponse(jsonable_encoder(listed))
    streams.check()
    last = int(last_event_id) if last_event_id and last_event_id.isdecimal() and len(last_event_id) < 19 else since
    found = streams.follow(await streams.newest() if last is None else last)
    return StreamingResponse(
        _lines(found, kind, level), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"}
    )


async def _lines(
    found: AsyncGenerator[list[dict[str, Any]], None], kind: str | None, level: str | None
) -> AsyncIterator[bytes]:
    yield format_sse_event(retry=RETRY_MS)
    async with aclosing(found):
        async for rows in found:
            if not rows:
                yield KEEPALIVE_COMMENT
            for row in rows:
                if row["kind"] == "resync" or (kind in (None, row["kind"]) and level in (None, row["level"])):
                    yield format_sse_event(event=row["kind"], id=str(row["id"]), data_str=export.as_json(row))
