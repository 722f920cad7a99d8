"""httpx's own transport, for what ours cannot do: HTTP/2, and proxies (HTTP, SOCKS).

Its connections, too, go to the addresses that were checked, and all that is received is bounded.
"""

import ssl
import time
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from typing import Any
from urllib.parse import unquote, urlsplit

import certifi
import httpcore

from scraper.crawl.addresses import Network, checked_literal, checked_parts, resolve
from scraper.crawl.http1 import MAX_HEADER_BYTES, MAX_HEADERS, Answer, HeadersSeen
from scraper.errors import Failure, VisitFailed

try:
    from socksio import ProtocolError as _SocksError

    REFUSED: tuple[type[Exception], ...] = (httpcore.ProxyError, httpcore.ConnectError, _SocksError)
except ImportError:  # the extra is not installed, and no such proxy can be set
    REFUSED = (httpcore.ProxyError, httpcore.ConnectError)

CONNECTIONS_MOST = 512
IDLE_S = 15.0

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
        for address in await resolve(host, port, self._allowed):
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
    ) -> Answer:
        """Ask for one URL once. The caller sets the deadline. Raises VisitFailed, TimeoutError."""
        where = checked_parts(url)
        if way[0]:  # whoever resolves the name for us will not look at what it is
            checked_literal(where.host, way[2])
        answer = Answer()
        began = time.monotonic()
        opened: list[httpcore.AsyncNetworkStream] = []
        _opened.set(opened)
        named = [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
        if body:
            named.append((b"Content-Length", str(len(body)).encode()))
        try:
            async with self._pool(way).stream(method, url, headers=named, content=body or None) as response:
                answer.status = response.status
                answer.latency_s = time.monotonic() - began
                _take_headers(answer, response.headers)
                headers_seen(answer.status, answer.headers)
                async for chunk in response.aiter_stream():
                    answer.wire_bytes += len(chunk)
                    if len(answer.body) + len(chunk) > max_body:
                        raise VisitFailed(Failure.BODY_TOO_LARGE, f"the body is longer than {max_body} bytes")
                    answer.body += chunk
        except httpcore.TimeoutException:
            raise TimeoutError from None
        except REFUSED as error:
            for stream in opened:
                await stream.aclose()
            kind = Failure.TLS if isinstance(error.__cause__, ssl.SSLError) or "SSL" in str(error) else Failure.CONNECT
            raise VisitFailed(kind, f"{'through the proxy: ' if way[0] else ''}{error}") from None
        except httpcore.NetworkError as error:
            cut = Failure.INCOMPLETE_BODY if answer.status else Failure.PROTOCOL
            raise VisitFailed(cut, f"the connection broke: {error}") from None
        except httpcore.ProtocolError as error:
            raise VisitFailed(_named(str(error), answer), f"the response is not valid HTTP: {error}") from None
        return answer

    async def close(self) -> None:
        """Drop all connections."""
        for pool in self._pools.values():
            await pool.aclose()
        self._pools.clear()


def _named(said: str, answer: Answer) -> Failure:
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
