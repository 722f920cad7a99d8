"""Who may call: the Host and the Origin of a request, and the key that it shows; and the headers of every answer.

Against requests that another page has a browser make: Sec-Fetch-Site and Origin, as in Go's http.CrossOriginProtection
(https://words.filippo.io/csrf/); a cookie alone never changes anything.
"""

import base64
import contextlib
import ipaddress
from urllib.parse import quote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.keys import ANYBODY, COOKIE, Caller, Keys
from api.problems import Page, of_error, path_of, problem, shown
from scraper.database.tokens import Scope as Wanted
from scraper.errors import BowerbirdError

OPEN = {"/healthz", "/login", "/static/bowerbird.css", "/static/icon.svg"}  # what asks for a key has to be seen
SCARCE = {"/api/events"}  # a page elsewhere could take all streams
ADMIN_UNDER = ("/api/tokens", "/tokens")
SAFE = {"GET", "HEAD", "OPTIONS"}
BODY_MOST = 2 * 2**20
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # with no-referrer a browser calls the Origin of our own forms "null"
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}


class Guard:
    """ASGI middleware in front of everything."""

    def __init__(self, app: ASGIApp, page: Page | None = None) -> None:
        self._app = app
        self._page = page  # for a person who is known, and asks for more than is his

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        try:
            refused = await _refused(scope, self._page) or _unreadable(scope)
        except BowerbirdError as error:
            refused = of_error(error)
        await (refused or self._app)(scope, receive, send)


def with_headers(send: Send) -> Send:
    """Put HEADERS on an answer, whoever gives it."""

    async def guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return guarded


def _unreadable(scope: Scope) -> ASGIApp | None:
    """No database takes a NUL in a text, so none is let in by the address."""
    if "\0" in scope["path"] or b"%00" in scope["query_string"] or b"\0" in scope["query_string"]:
        return problem(422, "the address has a NUL character")
    return None


def too_long(scope: Scope) -> ASGIApp | None:
    """A body that announces itself as too long is not read; one that does not is cut off where it is."""
    length = Headers(scope=scope).get("content-length", "")
    if length.isdecimal() and (len(length) > 18 or int(length) > BODY_MOST):
        return problem(413, f"a body has at most {BODY_MOST} bytes")
    return None


async def _refused(scope: Scope, page: Page | None) -> ASGIApp | None:
    headers = Headers(scope=scope)
    keys: Keys | None = getattr(scope["app"].state, "keys", None)
    if (keys is None or not keys.needed) and not (_local(headers.get("host", "")) and _near(scope)):
        return problem(
            403, f"the Host {headers.get('host', '')!r} is not this machine; set [server] token to serve others"
        )
    changes = scope["method"] not in SAFE
    path = path_of(scope)
    if (changes or path in SCARCE) and not _same_origin(headers):
        return problem(403, "a page of another origin may not do that here")
    scope.setdefault("state", {})["caller"] = ANYBODY
    if keys is None or not keys.needed or path in OPEN:
        return None
    client = (scope.get("client") or ("unknown", 0))[0]
    given = headers.get("authorization")
    if given is not None and (wait_s := keys.wait_s(client)) and not keys.knows(_bearer(given)):
        return problem(429, f"too many keys that are none; wait {wait_s} s", headers={"Retry-After": str(wait_s)})
    caller = await _caller(keys, headers)
    if caller is None:
        return _unknown(keys, client, headers, scope)
    scope["state"]["caller"] = caller
    beyond = _beyond(caller, headers, scope, changes=changes)
    return await shown(Request(scope), beyond, page) if beyond is not None else None


def _beyond(caller: Caller, headers: Headers, scope: Scope, *, changes: bool) -> JSONResponse | None:
    """What a caller who is known may not do."""
    if caller.by_cookie and changes and headers.get("origin") is None and headers.get("sec-fetch-site") is None:
        return problem(403, "a browser says where a request comes from, and this one does not; use a bearer token")
    path = path_of(scope)
    needed: Wanted = "admin" if path.startswith(ADMIN_UNDER) else "write" if changes else "read"
    if path != "/logout" and not caller.may(needed):
        return problem(403, f"the token {caller.name!r} has the scope {caller.scope}; this needs {needed}")
    return None


async def _caller(keys: Keys, headers: Headers) -> Caller | None:
    shown = headers.get("authorization")
    if shown is not None:
        return await keys.of_token(_bearer(shown))
    cookie = _cookie(headers)
    return await keys.of_cookie(cookie) if cookie else None


def _bearer(shown: str) -> str:
    """The token that a header shows, nothing where it is of another kind. By Basic it is the password, whoever the user is: clients of Scrapyd know no other way."""
    scheme, _, given = shown.partition(" ")
    if scheme.lower() == "basic":
        with contextlib.suppress(ValueError):
            return base64.b64decode(given.strip(), validate=True).decode().partition(":")[2]
        return ""
    return given.strip() if scheme.lower() == "bearer" else ""


def _cookie(headers: Headers) -> str:
    """Ours alone: what other programs of this host have set may be anything (RFC 6265 section 8.5)."""
    each = (part.partition("=") for said in headers.getlist("cookie") for part in said.split(";"))
    return next((value.strip() for name, _, value in each if name.strip() == COOKIE), "")


def _unknown(keys: Keys, client: str, headers: Headers, scope: Scope) -> ASGIApp:
    """Who shows no key, or one that is none: a person is asked for it, a program is told."""
    if (shown := headers.get("authorization")) is not None:
        keys.guessed_wrong(client, shown)
    if scope["method"] in ("GET", "HEAD") and "text/html" in headers.get("accept", ""):
        wanted = scope["path"] + (f"?{scope['query_string'].decode('latin-1')}" if scope["query_string"] else "")
        return RedirectResponse(f"/login?next={quote(wanted, safe='')}", status_code=303)
    said = "the header Authorization: Bearer TOKEN is needed; TOKEN is [server] token of the config, or one of `bowerbird token create`"
    answer = problem(401, said)
    answer.headers["WWW-Authenticate"] = 'Bearer realm="bowerbird"'
    return answer


def _near(scope: Scope) -> bool:
    """Whether a request comes from this machine, as far as that is known. The header Host may say anything."""
    client = scope.get("client")
    try:
        address = ipaddress.ip_address(client[0]) if client else None
    except ValueError:  # a socket of this machine
        return True
    inner = getattr(address, "ipv4_mapped", None) or address
    return inner is None or inner.is_loopback


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
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site not in (None, "same-origin", "none"):
        return False
    if origin == "null":  # what a browser says of our own forms where no referrer is sent
        return site == "same-origin"
    try:
        return origin is None or urlsplit(origin).netloc == headers.get("host", "")
    except ValueError:
        return False
