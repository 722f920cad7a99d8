"""GET /api/events: what happens to the machinery, as a list or live."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection
from contextlib import ExitStack, aclosing
from datetime import datetime
from functools import partial
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.encoders import jsonable_encoder
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from starlette.types import Receive, Scope, Send

from api.deps import Paging, TheDb, TheStreams, Word
from api.stream import RESYNC, Place, Said, place_of
from scraper import export

router = APIRouter(prefix="/api", tags=["events"])

RETRY_MS = 1000


@router.get("/events", responses={200: {"content": {"text/event-stream": {}}}})
async def stream_events(
    request: Request,
    streams: TheStreams,
    db: TheDb,
    page: Paging,
    since: Annotated[str | None, Query(max_length=40)] = None,
    kind: Word = None,
    level: Word = None,
    last_event_id: Annotated[str | None, Header()] = None,
) -> Response:
    """Server-sent events, from now on, or all that came after `Last-Event-ID` (or `since`).

    Kinds: process, service, shared_state, run, alarm, change, and pulse (that something moved; only if asked for); several
    with commas. With `Accept: application/json` a list without changes, the newest first. An event named `resync` says that
    something after that id is there no more: look at the whole again, and go on from the id that it carries.
    """
    kinds = frozenset(word.strip() for word in kind.split(",")) if kind else None
    place = place_of(last_event_id) or place_of(since)
    # A list has ids of events alone, a stream such as name a place among changes too.
    after = (place.event or place.change) if place is not None else None
    wanted = {"kinds": kinds, "level": level, "after": after}
    accept = request.headers.get("accept", "")
    if "application/json" in accept and "text/event-stream" not in accept:
        listed = await to_thread.run_sync(lambda: page.answer(db, "events", **wanted))
        return JSONResponse(jsonable_encoder(listed, custom_encoder={datetime: export.text}))
    with ExitStack() as stack:
        stack.enter_context(streams.seat())
        found = streams.follow(await streams.newest() if place is None else place, kinds)
        told = _lines(found, kinds, level, partial(request.app.state.keys.holds, request.state.caller))
        return Stream(told, stack.pop_all())


class Stream(StreamingResponse):
    """Lines for as long as somebody listens. What was taken for them is given back, also when nobody ever did."""

    def __init__(self, lines: AsyncIterator[bytes], taken: ExitStack) -> None:
        super().__init__(lines, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})
        self._taken = taken

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._taken:
            await super().__call__(scope, receive, send)


async def _lines(
    found: AsyncGenerator[list[tuple[Place, Said]], None],
    kinds: Collection[str] | None,
    level: str | None,
    may: Callable[[], Awaitable[bool]],
) -> AsyncIterator[bytes]:
    """may: whether who listens still has his key."""
    yield format_sse_event(retry=RETRY_MS)
    async with aclosing(found):
        async for told in found:
            if not await may():
                return
            if not told:
                yield KEEPALIVE_COMMENT
            lines = [
                said.text + f"id: {place}\n\n".encode()
                for place, said in told
                if said.kind == RESYNC or ((kinds is None or said.kind in kinds) and level in (None, said.level))
            ]
            if lines:
                yield b"".join(lines)
