"""Idempotency-Key: a call that is repeated, because its answer was lost, is answered as it was and done once.

https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/
"""

import hashlib
from functools import partial

from anyio import to_thread
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import of_error, problem
from scraper.database import Db, answers
from scraper.database.connection import now
from scraper.errors import BowerbirdError

KEY_MOST = 200
BODY_MOST = 2**20
UNDER = "/api/"
KEPT = ("content-type", "etag", "location")  # the headers that say what was made; all others are of one answer
NEVER = "/api/tokens"  # its answer is told once, and kept nowhere; a name in use answers 409 all the same


class Idempotency:
    """ASGI middleware around the API's POST calls that carry a key."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        key = Headers(scope=scope).get("idempotency-key") if scope["type"] == "http" else None
        path = scope.get("path", "")
        if key is None or scope["method"] != "POST" or not path.startswith(UNDER) or path.startswith(NEVER):
            await self._app(scope, receive, send)
            return
        if not 0 < len(key) <= KEY_MOST:
            await problem(422, f"Idempotency-Key: 1 to {KEY_MOST} characters")(scope, receive, send)
            return
        body = await _body(receive)
        if body is None:
            await problem(413, f"with an Idempotency-Key a body has at most {BODY_MOST} bytes")(scope, receive, send)
            return
        await self._once(_named(scope, key), body, scope, receive, send)

    async def _once(self, key: str, body: bytes, scope: Scope, receive: Receive, send: Send) -> None:
        db: Db = scope["app"].state.db
        receive = _given(body, receive)
        digest = hashlib.sha256(b"\0".join([scope["path"].encode(), scope["query_string"], body])).hexdigest()
        try:
            before = await to_thread.run_sync(
                lambda: db.write(partial(answers.begin, key=key, digest=digest, at=now()))
            )
        except BowerbirdError as error:
            await of_error(error)(scope, receive, send)
            return
        if before is not None:
            await _again(before, digest)(scope, receive, send)
            return
        answer = _Kept(send)
        try:
            await self._app(scope, receive, answer)
        finally:
            await to_thread.run_sync(_keep, db, key, answer)


def _named(scope: Scope, key: str) -> str:
    """A key belongs to who uses it."""
    caller = scope.get("state", {}).get("caller")
    return f"{getattr(caller, 'key', '')}:{key}"


async def _body(receive: Receive) -> bytes | None:
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        size += len(message.get("body", b""))
        if size > BODY_MOST:
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


def _given(body: bytes, receive: Receive) -> Receive:
    """The body, and then what comes: who leaves is known to have left when he does."""
    left = [{"type": "http.request", "body": body, "more_body": False}]

    async def given() -> Message:
        return left.pop() if left else await receive()

    return given


def _again(before: answers.Answer, digest: str) -> ASGIApp:
    if before.digest != digest:
        return problem(422, "this Idempotency-Key was used for another call; make a new one for each")
    if before.status is None:
        return problem(409, "the call with this Idempotency-Key is being worked on; ask again in a moment")
    replayed = {"Idempotency-Replayed": "true", **(before.headers or {})}
    return Response(before.body or b"", status_code=before.status, headers=replayed)


class _Kept:
    """Passes an answer on, and keeps it."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = bytearray()

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name: value for name, value in Headers(raw=message["headers"]).items() if name in KEPT}
        elif message["type"] == "http.response.body":
            self.body += message.get("body", b"")
        await self._send(message)


def _keep(db: Db, key: str, answer: _Kept) -> None:
    """A fault of ours may be tried again; all else stays as it was answered."""
    try:
        if 0 < answer.status < 500 and len(answer.body) <= BODY_MOST:
            db.write(lambda c: answers.finish(c, key, answer.status, answer.headers, bytes(answer.body)))
        else:
            db.write(lambda c: answers.forget(c, key))
    except BowerbirdError:  # the key stays taken for a while, and nothing is done twice
        return
