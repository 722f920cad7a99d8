"""HEAD: what GET would answer, without its body (RFC 9110 section 9.3.2), on every path."""

import asyncio
import contextlib
from http import HTTPStatus

from starlette.types import ASGIApp, Message, Receive, Scope, Send


async def answer(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Have an application begin its answer to GET, and end it there: a stream would have no end of its own."""
    begun = asyncio.Event()
    failed = False

    async def begin(message: Message) -> None:
        nonlocal failed
        if failed:
            return
        await send(message)  # the first one begins the answer
        await send({"type": "http.response.body", "body": b""})
        failed = message["status"] >= HTTPStatus.INTERNAL_SERVER_ERROR  # why is told after the answer
        if not failed:
            begun.set()
            await asyncio.get_running_loop().create_future()  # until it is cancelled

    asked = asyncio.ensure_future(app({**scope, "method": "GET"}, receive, begin))
    started = asyncio.ensure_future(begun.wait())
    try:
        await asyncio.wait([asked, started], return_when=asyncio.FIRST_COMPLETED)
    finally:
        started.cancel()
        asked.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asked
