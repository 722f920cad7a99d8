"""Who may call: the token, the Origin and the Host of a request; and the headers of every answer."""

import base64
import binascii
import hmac
import ipaddress
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import problem

OPEN = {"/healthz"}
SCARCE = {"/api/events"}  # a page elsewhere could take all streams
SAFE = {"GET", "HEAD", "OPTIONS"}
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}


class Guard:
    """ASGI middleware in front of everything."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        state = scope["app"].state
        token = state.settings.server.token if hasattr(state, "settings") else ""
        refused = _refused(scope, token)
        await (refused or self._app)(scope, receive, guarded)


def _refused(scope: Scope, token: str) -> ASGIApp | None:
    headers = Headers(scope=scope)
    if not token and not _local(headers.get("host", "")):
        return problem(
            403, f"the Host {headers.get('host', '')!r} is not this machine; set [server] token to serve others"
        )
    if (scope["method"] not in SAFE or scope["path"] in SCARCE) and not _same_origin(headers):
        return problem(403, "a page of another origin may not do that here")
    if token and scope["path"] not in OPEN and not _knows(headers.get("authorization", ""), token):
        answer = problem(401, "the header Authorization: Bearer TOKEN is needed; TOKEN is [server] token of the config")
        answer.headers["WWW-Authenticate"] = 'Bearer, Basic realm="bowerbird", charset="UTF-8"'
        return answer
    return None


def _local(host: str) -> bool:
    """Without a token only names of this machine count: a foreign name that resolves to us is an attack."""
    try:
        name = urlsplit("//" + host).hostname or ""
    except ValueError:
        return False
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")


def _same_origin(headers: Headers) -> bool:
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = headers.get("origin")
    try:
        return origin is None or urlsplit(origin).netloc == headers.get("host", "")
    except ValueError:
        return False


def _knows(authorization: str, token: str) -> bool:
    """A bearer token, or the same as the password of Basic, which a browser can ask a person for."""
    scheme, _, given = authorization.partition(" ")
    if scheme.lower() == "basic":
        try:
            given = base64.b64decode(given).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return False
    elif scheme.lower() != "bearer":
        return False
    return hmac.compare_digest(given.strip().encode(), token.encode())
