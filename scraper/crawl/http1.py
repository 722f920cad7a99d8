"""HTTP/1.1 over connections of our own: pinned to checked addresses, kept alive, bounded in every direction.

httpx's own pool costs more the more requests are in flight, and connects to whatever a name resolves to at that
moment; so pages go through here, and through httpx where a proxy is asked for.
"""

import asyncio
import re
import ssl
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import cast

import certifi
import httptools

from scraper.crawl.addresses import Network, checked_parts, resolve
from scraper.errors import Failure, VisitFailed
from scraper.urls import Parts

MAX_HEADER_BYTES = 64 * 1024
MAX_HEADERS = 200
MAX_INTERIM = 10
CONNECT_TIMEOUT_S = 10.0
NEXT_ADDRESS_S = 0.25  # RFC 8305 section 5: the connection attempt delay
OVERHEAD_MOST = 256 * 1024
OVERHEAD_TIMES = 8  # chunks of one byte each have some six bytes around it
UNREAD_S = 2.0
_NO_HEADER = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")  # RFC 9110 section 5.5; a tab may be in a value
_MEMBER = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*"?)+')  # between commas that are in no quotes
_TYPE = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+/[!#$%&'*+.^_`|~0-9a-z-]+")
_CHARSET = re.compile(r";\s*charset\s*=[^;]+", re.IGNORECASE)
BODY_UNREAD = {301, 302, 303, 307, 308}
RATE_LEAST = 1024  # bytes in a second
RATE_OVER_S = 10.0
IDLE_S = 15.0
IDLE_PER_HOST = 64  # no more than were in flight at once: what finishes together goes on together

HeadersSeen = Callable[[int, Mapping[str, str]], None]
PieceSeen = Callable[[bytes], None]


@dataclass(frozen=True, slots=True)
class Seen:
    """Who is told of an answer while it comes, and how slowly it may do so, in bytes a second."""

    headers: HeadersSeen
    piece: PieceSeen | None = None
    least_rate: int = RATE_LEAST


@dataclass(slots=True)
class Answer:
    """One response as it came: not decoded, redirects not followed."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)
    wire_bytes: int = 0
    latency_s: float = 0.0  # from the request to the end of the header
    set_cookies: list[str] = field(default_factory=list)

    def take_header(self, name: bytes, value: bytes) -> None:
        """Note a header; those of one name are joined, as RFC 9110 section 5.3 has it, cookies never.

        Of several media types the last one counts (section 8.3).
        """
        key = name.decode("latin-1").lower()
        text = value.decode("latin-1")
        if key == "set-cookie":
            self.set_cookies.append(text)
            return
        held = self.headers.get(key)
        if key == "location" and held is not None:
            if held != text:
                raise VisitFailed(Failure.BAD_REDIRECT, f"two Locations: {held[:200]!r} and {text[:200]!r}")
            return
        if key == "content-type" and (held is not None or "," in text):
            self.headers[key] = _last_type(text if held is None else f"{held},{text}")
            return
        between = "\n" if key == "x-robots-tag" else ", "  # whose names of robots hold to the end of their line
        self.headers[key] = f"{held}{between}{text}" if held is not None else text


def _last_type(said: str) -> str:
    """Of several media types the last that is one; with the charset of one before it of the same kind (Fetch standard)."""
    chosen = essence = charset = ""
    for one in _MEMBER.findall(said):
        kind = one.partition(";")[0].strip().lower()
        if not _TYPE.fullmatch(kind) or kind == "*/*":
            continue
        own = _CHARSET.search(one)
        charset = own[0].strip() if own else charset if kind == essence else ""
        chosen, essence = one.strip(), kind
        if charset and not own:
            chosen += charset
    return chosen or said.strip()


@cache
def tls_context() -> ssl.SSLContext:
    """Return the context that verifies servers by the system's certificates, or certifi's where there are none."""
    context = ssl.create_default_context()
    if not context.cert_store_stats()["x509_ca"]:
        context.load_verify_locations(certifi.where())
    return context


class Stale(Exception):
    """A kept connection that the server had closed, with or without having seen the request."""


class Connection(asyncio.Protocol):
    """One connection to one address. Carries one exchange at a time."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.reusable = True
        self.idle_since = 0.0
        self.answer = Answer()
        self._done: asyncio.Future[Answer] | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._in_body = self._until_close = self._complete = False
        self._header_bytes = self._header_count = self._interim = self._measured = 0
        self._asked_at = 0.0

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are of no such class

    def data_received(self, data: bytes) -> None:
        if self._done is None or self._done.done():
            self.close()  # bytes that nobody asked for
            return
        self.answer.wire_bytes += len(data)
        body = len(self.answer.body)
        if self.answer.wire_bytes - body > MAX_HEADER_BYTES + OVERHEAD_MOST + OVERHEAD_TIMES * body:
            kind = Failure.PROTOCOL if self._in_body else Failure.HEADER_TOO_LARGE
            self._fail(kind, "the header, the trailer or the sizes of chunks have no end")
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError as error:
            cause = error.__context__
            if not isinstance(cause, VisitFailed):
                raise
            self._end(cause)  # as it is: it may say more than its name
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(Failure.PROTOCOL, f"the response is not valid HTTP: {error}")

    def connection_lost(self, exc: Exception | None) -> None:
        self.reusable = False
        if self._done is None or self._done.done():
            return
        if self._in_body and (self._until_close and exc is None or self.answer.status in BODY_UNREAD):
            self._done.set_result(self.answer)
        elif self._in_body:
            self._fail(Failure.INCOMPLETE_BODY, "the connection closed before the body was complete")
        elif self.answer.wire_bytes:
            self._fail(Failure.PROTOCOL, "the connection closed inside the response header")
        else:
            self._fail(Failure.PROTOCOL, "the connection closed without an answer")

    # -- httptools callbacks

    def on_message_begin(self) -> None:
        if self._complete:
            raise VisitFailed(Failure.PROTOCOL, "more than one response to one request")
        self._header_bytes = 0
        self.answer.headers = {}
        self.answer.set_cookies = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_bytes += len(name) + len(value) + 4
        self._header_count += 1
        if self._header_bytes > MAX_HEADER_BYTES or self._header_count > MAX_HEADERS:
            raise VisitFailed(Failure.HEADER_TOO_LARGE, f"more than {MAX_HEADERS} headers or {MAX_HEADER_BYTES} bytes")
        if _NO_HEADER.search(value) or name[-1:].isspace():
            raise VisitFailed(Failure.PROTOCOL, f"the header {name[:40]!r} has letters that belong into none")
        if self._in_body:
            return  # trailers change nothing (RFC 9110 section 6.5.1)
        self.answer.take_header(name, value)

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:
            self._interim += 1
            if status == 101 or self._interim > MAX_INTERIM:
                raise VisitFailed(Failure.PROTOCOL, f"unasked-for {status} responses")
            return
        self.answer.status = status
        self.answer.latency_s = time.monotonic() - self._asked_at
        self._in_body = True
        headers = self.answer.headers
        coding = headers.get("transfer-encoding")
        if coding is not None and coding.strip().lower() != "chunked":
            raise VisitFailed(Failure.PROTOCOL, f"the transfer coding {coding[:40]!r} was not asked for")
        self._until_close = "content-length" not in headers and coding is None
        self._seen.headers(status, headers)
        if status in BODY_UNREAD:
            if 0 <= _length(headers) <= OVERHEAD_MOST:  # it is worth the connection, if it comes soon
                self._watch_for(UNREAD_S, self._do_without_body)
            else:
                self._do_without_body()

    def _do_without_body(self) -> None:
        """Take the answer for whole: what a redirect says is in its header."""
        self.reusable = False
        if self._done is not None and not self._done.done():
            self._done.set_result(self.answer)

    def on_body(self, data: bytes) -> None:
        if len(self.answer.body) + len(data) > self._max_body:
            raise VisitFailed(Failure.BODY_TOO_LARGE, f"the body is longer than {self._max_body} bytes")
        if not self.answer.body and self.answer.status not in BODY_UNREAD:
            self._measured = self.answer.wire_bytes - len(data)
            self._watch_for(RATE_OVER_S, self._check_rate)
        self.answer.body += data
        if self._seen.piece is not None:
            self._seen.piece(data)

    def on_message_complete(self) -> None:
        if not self._in_body:
            return
        self._complete = True
        if not self._parser.should_keep_alive():
            self.reusable = False
        if self._done is not None and not self._done.done():
            self._done.set_result(self.answer)

    # -- one exchange

    async def exchange(self, request: bytes, max_body: int, seen: Seen) -> Answer:
        """Send a request and return its whole answer. Raises VisitFailed; then the connection is of no more use."""
        assert self.transport is not None
        self.answer = Answer()
        if self.transport.is_closing():  # it was closed before anything was asked
            raise VisitFailed(Failure.PROTOCOL, "the connection closed without an answer")
        self._parser = httptools.HttpResponseParser(self)
        self._parser.set_dangerous_leniencies(
            lenient_spaces_after_chunk_size=True,  # RFC 9112 section 7.1.1: BWS
            lenient_optional_cr_before_lf=True,  # section 2.2: a line feed alone ends a line too
            lenient_keep_alive=True,  # an interim answer says "close", and the final one comes
            lenient_headers=True,  # section 5.2: folded lines; what else it lets pass is looked at in on_header()
        )
        self._max_body = max_body
        self._seen = seen
        self._header_bytes = self._header_count = self._interim = 0
        self._in_body = self._until_close = self._complete = False
        loop = asyncio.get_running_loop()
        self._done = loop.create_future()
        self._asked_at = time.monotonic()
        try:
            self.transport.write(request)
            return await self._done
        except BaseException:
            self.close()
            raise
        finally:
            if self._watch is not None:
                self._watch.cancel()
            self._done = None

    def _check_rate(self) -> None:
        """Give up on a body that only trickles."""
        came, self._measured = self.answer.wire_bytes - self._measured, self.answer.wire_bytes
        least = self._seen.least_rate
        if came < least * RATE_OVER_S:
            self._fail(Failure.TIMEOUT, f"less than {least} bytes/s over {RATE_OVER_S:g} s")
            return
        self._watch_for(RATE_OVER_S, self._check_rate)

    def _watch_for(self, after_s: float, then: Callable[[], None]) -> None:
        """Have something done after a while, in place of what was to be done, unless the exchange is over by then."""
        if self._watch is not None:
            self._watch.cancel()
        self._watch = asyncio.get_running_loop().call_later(after_s, then)

    def _fail(self, failure: Failure, message: str) -> None:
        self._end(VisitFailed(failure, message))

    def _end(self, failed: VisitFailed) -> None:
        failed.wire_bytes = self.answer.wire_bytes
        if self._done is not None and not self._done.done():
            self._done.set_exception(failed)
        self.close()

    def close(self) -> None:
        """Drop the connection at once."""
        self.reusable = False
        if self.transport is not None:
            self.transport.abort()


async def _open(where: Parts, address: str) -> Connection:
    secure = where.scheme == "https"
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            _, connection = await asyncio.get_running_loop().create_connection(
                Connection,
                address,
                where.port,
                ssl=tls_context() if secure else None,
                server_hostname=where.host if secure else None,
            )
        return connection
    except TimeoutError as error:
        said = str(error) or f"no connection within {CONNECT_TIMEOUT_S:g} s"
    except ssl.SSLError as error:
        why = getattr(error, "verify_message", "") or error.reason or str(error) or type(error).__name__
        raise VisitFailed(Failure.TLS, f"no trusted TLS connection: {why}") from None
    except OSError as error:
        said = str(error) or f"the connection ended while it was made ({type(error).__name__})"
    raise VisitFailed(Failure.CONNECT, f"{where.host}:{where.port}: {said}")


def _drop(task: "asyncio.Task[Connection]") -> None:
    """Close a connection that came too late."""
    if not task.cancelled() and task.exception() is None:
        task.result().close()


class Pool:
    """Connections to all hosts, kept alive for a while between requests."""

    def __init__(self) -> None:
        self._idle: defaultdict[tuple[str, str, int], list[Connection]] = defaultdict(list)

    async def ask(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        max_body: int,
        headers_seen: HeadersSeen,
        allowed: tuple[Network, ...],
        *,
        fresh: bool = False,
        least_rate: int = RATE_LEAST,
        piece_seen: PieceSeen | None = None,
    ) -> Answer:
        """Ask for one URL once. The caller sets the deadline. fresh: on a new connection.

        least_rate: bytes in a second, below which a body is given up; 0: none. piece_seen: given each piece of the body.
        Raises VisitFailed, and Stale if a kept connection turned out to be closed.
        """
        where = checked_parts(url)
        key = (where.scheme, where.host, where.port)
        request = _request(method, where, headers, body)
        seen = Seen(headers_seen, piece_seen, least_rate)
        connection = None if fresh or method != "GET" else self._reuse(key)
        if connection is not None:
            try:
                return await self._exchange(key, connection, request, max_body, seen)
            except VisitFailed:
                if connection.answer.wire_bytes:
                    raise
                for other in self._idle.pop(key, []):  # most likely closed as well
                    other.close()
                raise Stale from None
        connection = await self._connect(where, allowed)
        return await self._exchange(key, connection, request, max_body, seen)

    async def _exchange(
        self, key: tuple[str, str, int], connection: Connection, request: bytes, max_body: int, seen: Seen
    ) -> Answer:
        answer = await connection.exchange(request, max_body, seen)
        idle = self._idle[key]
        if connection.reusable and len(idle) < IDLE_PER_HOST:
            connection.idle_since = time.monotonic()
            idle.append(connection)
        else:
            connection.close()
        return answer

    def _reuse(self, key: tuple[str, str, int]) -> Connection | None:
        idle = self._idle[key]
        while idle:
            connection = idle.pop()
            if connection.reusable and time.monotonic() - connection.idle_since < IDLE_S:
                return connection
            connection.close()
        return None

    async def _connect(self, where: Parts, allowed: tuple[Network, ...]) -> Connection:
        """Return a connection to the first address that takes one; one that is silent holds up the next for a moment only (RFC 8305)."""
        addresses = await resolve(where.host, allowed)
        if len(addresses) == 1:
            return await _open(where, addresses[0])
        trying: set[asyncio.Task[Connection]] = set()
        last: VisitFailed | None = None
        try:
            for number, address in enumerate(addresses, 1):
                trying.add(asyncio.create_task(_open(where, address)))
                left = number == len(addresses)
                while trying:
                    done, trying = await asyncio.wait(
                        trying, timeout=None if left else NEXT_ADDRESS_S, return_when=asyncio.FIRST_COMPLETED
                    )
                    for task in done:
                        if not isinstance(error := task.exception(), VisitFailed):
                            trying |= done - {task}
                            return task.result()
                        last = error
                    if not left:
                        break
        finally:
            for task in trying:  # one that is done already is dropped too
                task.add_done_callback(_drop)
                task.cancel()
        raise last or VisitFailed(Failure.CONNECT, f"{where.host}:{where.port}: has no address")

    def prune(self) -> None:
        """Close the connections that have been idle for too long."""
        now = time.monotonic()
        for key in list(self._idle):
            kept = []
            for connection in self._idle[key]:
                if connection.reusable and now - connection.idle_since < IDLE_S:
                    kept.append(connection)
                else:
                    connection.close()
            if kept:
                self._idle[key] = kept
            else:
                del self._idle[key]

    def close(self) -> None:
        """Drop all idle connections."""
        for idle in self._idle.values():
            for connection in idle:
                connection.close()
        self._idle.clear()


def _length(headers: Mapping[str, str]) -> int:
    text = headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdigit() else -1


def _request(method: str, where: Parts, headers: Mapping[str, str], body: bytes) -> bytes:
    host = f"[{where.host}]" if ":" in where.host else where.host
    if where.port != (443 if where.scheme == "https" else 80):
        host = f"{host}:{where.port}"
    lines = [f"{method} {where.path} HTTP/1.1", f"Host: {host}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if body or method not in ("GET", "HEAD"):
        lines.append(f"Content-Length: {len(body)}")
    return octets("\r\n".join(lines) + "\r\n\r\n") + body


def octets(text: str) -> bytes:
    """Return what stands in a header as it is sent: what a server said goes back as it came, all else as UTF-8."""
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")
