"""httpx's own transport, for what ours cannot do: HTTP/2, and proxies (HTTP, SOCKS).

Its connections, too, go to the addresses that were checked, and all that is received is bounded.
"""

import asyncio
import contextlib
import re
import ssl
import time
from collections.abc import AsyncGenerator, Coroutine, Iterable, Mapping
from contextvars import ContextVar
from typing import Any
from urllib.parse import unquote, urlsplit

import certifi
import httpcore

from scraper.crawl.addresses import Network, checked_literal, checked_parts, resolve
from scraper.crawl.http1 import BODY_UNREAD, MAX_HEADER_BYTES, MAX_HEADERS, Answer, HeadersSeen, Stale, octets
from scraper.errors import Failure, VisitFailed
from scraper.urls import Parts

try:
    from socksio import ProtocolError as _SocksError

    REFUSED: tuple[type[Exception], ...] = (httpcore.ProxyError, httpcore.ConnectError, _SocksError)
except ImportError:  # the extra is not installed, and no such proxy can be set
    REFUSED = (httpcore.ProxyError, httpcore.ConnectError)

try:
    from h2.exceptions import H2Error as _Http2Error

    PROTOCOL: tuple[type[Exception], ...] = (httpcore.ProtocolError, _Http2Error, ValueError)
except ImportError:  # the extra is not installed, and HTTP/2 cannot be asked for
    PROTOCOL = (httpcore.ProtocolError, ValueError)

CONNECTIONS_MOST = 512
HUNG_MOST = 64
CANCEL = 8  # RFC 9113 section 7
UNREAD_S = 0.5
UNREAD_MOST = 256 * 1024  # bytes of a body that is not wanted, which are read for the sake of the connection
IDLE_S = 15.0

# The server has done nothing with a request: it closed the connection, or went away, before (RFC 9113 sections 6.8, 8.7).
_UNTOUCHED = re.compile(
    r"without sending a response|ConnectionTerminated|ConnectionState\.CLOSED|StreamReset.*error_code:(?:7|ErrorCodes\.REFUSED_STREAM)"
)
Way = tuple[str, bool, tuple[Network, ...]]  # proxy, HTTP/2, networks that may be asked


# The connections that were made for the request under way: httpcore forgets those whose handshake fails.
_opened: ContextVar[list[httpcore.AsyncNetworkStream]] = ContextVar("opened")


class Straight(httpcore.AnyIOBackend):
    """Connects, and notes what it opened."""

    async def connect_tcp(self, host: str, port: int, *how: Any, **named: Any) -> httpcore.AsyncNetworkStream:
        """Connect. how, named: as httpcore has them. Raises httpcore.ConnectError."""
        stream = await super().connect_tcp(host, port, *how, **named)
        _opened.get().append(stream)
        return stream


class Pinned(Straight):
    """Connects to addresses that were checked, whatever the name leads to a moment later."""

    def __init__(self, allowed: tuple[Network, ...]) -> None:
        self._allowed = allowed

    async def connect_tcp(self, host: str, port: int, *how: Any, **named: Any) -> httpcore.AsyncNetworkStream:
        """Connect to the first address that answers. Raises VisitFailed, httpcore.ConnectError."""
        last: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in await resolve(host, self._allowed):
            try:
                return await super().connect_tcp(address, port, *how, **named)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                last = error
        raise last


def _tls() -> ssl.SSLContext:
    """A context of its own: httpcore has it offer HTTP/2, which ours could not speak."""
    context = ssl.create_default_context()
    if not context.cert_store_stats()["x509_ca"]:
        context.load_verify_locations(certifi.where())
    return context


def _proxy(address: str) -> httpcore.Proxy | None:
    """Who is asked instead of the site; user and password from its address."""
    if not address:
        return None
    where = urlsplit(address)
    auth = (unquote(where.username), unquote(where.password or "")) if where.username else None
    bare = where._replace(netloc=where.netloc.rpartition("@")[2], path="", query="", fragment="").geturl()
    return httpcore.Proxy(bare, auth=auth)


class Carrier:
    """Pools of httpx's transport, one for each way."""

    def __init__(self) -> None:
        self._pools: dict[Way, httpcore.AsyncConnectionPool] = {}
        self._left: list[httpcore.AsyncConnectionPool] = []  # what is under way there may end
        self._hung: dict[Way, int] = {}
        self._active: dict[httpcore.AsyncConnectionPool, int] = {}
        self._closing: set[asyncio.Future[None]] = set()

    def _pool(self, way: Way) -> httpcore.AsyncConnectionPool:
        if way not in self._pools:
            proxy, http2, allowed = way
            self._pools[way] = httpcore.AsyncConnectionPool(
                _tls(),
                proxy=_proxy(proxy),
                max_connections=CONNECTIONS_MOST,
                keepalive_expiry=IDLE_S,
                http2=http2,
                network_backend=Straight() if proxy else Pinned(allowed),
            )
        return self._pools[way]

    async def ask(
        self,
        way: Way,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        max_body: int,
        headers_seen: HeadersSeen,
        *,
        fresh: bool = False,
    ) -> Answer:
        """Ask for one URL once. The caller sets the deadline. fresh: over no connection that was made before.

        Raises VisitFailed, TimeoutError, and Stale if a kept connection turned out to be closed.
        """
        if fresh:
            self._leave(way)
        where = checked_parts(url)
        if way[0]:  # whoever resolves the name for us will not look at what it is
            checked_literal(where.host, way[2])
        answer = Answer()
        began = time.monotonic()
        opened: list[httpcore.AsyncNetworkStream] = []
        _opened.set(opened)
        named = [(name.encode(), octets(value)) for name, value in headers.items()]
        if body:
            named.append((b"Content-Length", str(len(body)).encode()))
        async with (
            self._named(way, answer, opened, kept=method == "GET" and not fresh),
            self._in_use(self._pool(way)) as pool,
            pool.stream(method, _asked(where), headers=named, content=body or None) as response,
        ):
            answer.status = response.status
            answer.latency_s = time.monotonic() - began
            try:
                await _receive(answer, response, headers_seen, max_body)
            except VisitFailed:
                await _leave(response)
                raise
        return answer

    @contextlib.asynccontextmanager
    async def _in_use(self, pool: httpcore.AsyncConnectionPool) -> AsyncGenerator[httpcore.AsyncConnectionPool]:
        """A pool while a request is under way; one that was left is closed after its last."""
        self._active[pool] = self._active.get(pool, 0) + 1
        try:
            yield pool
        finally:
            self._active[pool] -= 1
            if not self._active[pool]:
                del self._active[pool]
                if pool in self._left:
                    self._left.remove(pool)
                    self._close(pool.aclose())

    @contextlib.asynccontextmanager
    async def _named(
        self, way: Way, answer: Answer, opened: list[httpcore.AsyncNetworkStream], *, kept: bool
    ) -> AsyncGenerator[None]:
        """Give what goes wrong our names, and leave no connection behind. kept: it may be asked once more, on a new connection."""
        try:
            yield
        except asyncio.CancelledError:  # the time is up
            if not answer.status:
                self._leave_behind(way, opened)
            raise
        except httpcore.TimeoutException:
            raise TimeoutError from None
        except REFUSED as error:
            for stream in opened:
                await stream.aclose()
            kind = Failure.TLS if isinstance(error.__cause__, ssl.SSLError) or "SSL" in str(error) else Failure.CONNECT
            raise VisitFailed(kind, f"{'through the proxy: ' if way[0] else ''}{error}") from None
        except httpcore.NetworkError as error:
            if kept and not opened and not answer.status:
                raise Stale from None
            cut = Failure.INCOMPLETE_BODY if answer.status else Failure.PROTOCOL
            raise VisitFailed(cut, f"the connection broke: {error}") from None
        except PROTOCOL as error:
            if kept and not opened and not answer.status and _UNTOUCHED.search(str(error)):
                raise Stale from None
            raise VisitFailed(_fault(str(error), answer), f"the response is not valid HTTP: {error}") from None

    def _leave_behind(self, way: Way, opened: list[httpcore.AsyncNetworkStream]) -> None:
        """Close connections on which a request never came to an answer.

        httpcore counts those that hang while they are made as taken for ever, so a pool that has many of them is left.
        """
        for stream in opened if not way[1] else ():  # over HTTP/2 others may be using it
            self._close(stream.aclose())
        if way[1] and not opened:  # the connection may be dead, and would be taken again and again
            self._leave(way)
        self._hung[way] = self._hung.get(way, 0) + len(opened)
        if self._hung[way] >= HUNG_MOST:
            self._leave(way)

    def _leave(self, way: Way) -> None:
        """Make new connections from now on; what is under way over the others may end."""
        self._hung.pop(way, None)
        if (pool := self._pools.pop(way, None)) is None:
            return
        if pool in self._active:
            self._left.append(pool)
        else:
            self._close(pool.aclose())

    def _close(self, closing: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(closing)
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Drop all connections."""
        await asyncio.gather(*self._closing, return_exceptions=True)
        for pool in (*self._pools.values(), *self._left):
            await pool.aclose()
        self._pools.clear()
        self._left.clear()


def _asked(where: Parts) -> httpcore.URL:
    """The address as it stands: of a text, httpcore would drop what follows a semicolon."""
    return httpcore.URL(scheme=where.scheme, host=where.host, port=where.port, target=where.path)


async def _receive(answer: Answer, response: httpcore.Response, headers_seen: HeadersSeen, max_body: int) -> None:
    _take_headers(answer, response.headers)
    headers_seen(answer.status, answer.headers)
    if answer.status in BODY_UNREAD:  # what a redirect says is in its header
        await _leave(response)
        return
    async for chunk in response.aiter_stream():
        answer.wire_bytes += len(chunk)
        if len(answer.body) + len(chunk) > max_body:
            raise VisitFailed(Failure.BODY_TOO_LARGE, f"the body is longer than {max_body} bytes")
        answer.body += chunk


async def _leave(response: httpcore.Response) -> None:
    """Leave a body unread: over HTTP/2 what is not read uses up the room of all requests of the connection, until none gets any.

    A short one is read all the same, if it comes soon: it is worth the connection.
    """
    length = next((value for name, value in response.headers if name.lower() == b"content-length"), b"")
    if length.isdigit() and int(length) <= UNREAD_MOST:
        with contextlib.suppress(
            *PROTOCOL, httpcore.NetworkError, httpcore.TimeoutException, TimeoutError, RuntimeError
        ):
            async with asyncio.timeout(UNREAD_S):
                async for _ in response.aiter_stream():
                    pass
                return
    if response.extensions.get("http_version") == b"HTTP/2":
        with contextlib.suppress(*PROTOCOL, httpcore.NetworkError):
            await _reset(response)


async def _reset(response: httpcore.Response) -> None:
    """Have the server send no more of an answer, and give the connection back the room that it took (RFC 9113 section 5.4.2).

    httpcore has no way to say so. Where its insides are others than these, the connection is closed.
    """
    stream: Any = response.stream
    while hasattr(stream, "_stream"):
        stream = stream._stream
    try:
        connection, number, request = stream._connection, stream._stream_id, stream._request
        state, waiting = connection._h2_state, connection._events.get(number, ())
        for event in waiting:
            if (size := getattr(event, "flow_controlled_length", 0)) > 0:
                state.acknowledge_received_data(size, number)
        state.reset_stream(number, error_code=CANCEL)
        await connection._write_outgoing_data(request)
    except AttributeError:
        await response.extensions["network_stream"].aclose()


def _fault(said: str, answer: Answer) -> Failure:
    if "buffer too long" in said or "header list" in said.lower():
        return Failure.HEADER_TOO_LARGE
    cut = "without sending complete" in said or "StreamReset" in said or "ConnectionTerminated" in said
    return Failure.INCOMPLETE_BODY if answer.status and cut else Failure.PROTOCOL


def _take_headers(answer: Answer, headers: Iterable[tuple[bytes, bytes]]) -> None:
    size = 0
    for number, (name, value) in enumerate(headers, 1):
        size += len(name) + len(value) + 4
        if number > MAX_HEADERS or size > MAX_HEADER_BYTES:
            raise VisitFailed(Failure.HEADER_TOO_LARGE, f"more than {MAX_HEADERS} headers or {MAX_HEADER_BYTES} bytes")
        answer.take_header(name, value)
    answer.wire_bytes += size
