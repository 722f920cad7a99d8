"""The misbehaving web: each way in which a server can answer wrongly, byte by byte, and the names it may end with.

A case may end in each of its names; ``stored`` is one of them. More than one name stands where the protocol leaves it
open which rule was broken first.
"""

import gzip
import socket
import struct
import threading
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from scraper.kernel.process import readable
from tests.site import Answer, Request

STORED = "stored"
PAGE = b"<title>fine</title><p>hello"
OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
GZIP = OK + b"Content-Encoding: gzip\r\n"
CLOSED_S = 20.0  # how long a server waits for the other end to give up


@dataclass(frozen=True)
class Case:
    """One misbehaviour. timeout: what a whole answer may take, in seconds."""

    name: str
    answer: Answer
    ends: tuple[str, ...]
    timeout: float = 2.0

    @property
    def path(self) -> str:
        """Where a site serves it."""
        return "/" + "".join(c if c.isalnum() else "-" for c in self.name)


# -- what a server does on its socket


def sends(data: bytes) -> Answer:
    """Send these very bytes, and close."""

    def answer(end: socket.socket, request: Request) -> bool:
        end.sendall(data.replace(b"{host}", request.headers["host"].encode()))
        return False

    return answer


def makes(head: bytes, body: Callable[[], bytes]) -> Answer:
    """Send a head with its length, and a body that is made when it is first asked for."""
    made = cache(body)
    _MAKERS.append(made)

    def answer(end: socket.socket, request: Request) -> bool:
        end.sendall(head + b"Content-Length: %d\r\n\r\n" % len(made()))
        end.sendall(made())
        return False

    return answer


_MAKERS: list[Callable[[], bytes]] = []


def make_all() -> None:
    """Make all bodies now, so that memory that grows later is not theirs."""
    for make in _MAKERS:
        make()


def floods(head: bytes, piece: bytes) -> Answer:
    """Send the same again and again for as long as somebody reads."""

    def answer(end: socket.socket, request: Request) -> bool:
        end.sendall(head)
        block = piece * (65536 // len(piece) + 1)
        while True:
            end.sendall(block)

    return answer


def drips(head: bytes, piece: bytes, every_s: float = 0.02) -> Answer:
    """Send a little, again and again, so that no single read takes long."""

    def answer(end: socket.socket, request: Request) -> bool:
        end.sendall(head)
        while not readable(end.fileno(), every_s):
            end.sendall(piece)
        return False

    return answer


def stalls(data: bytes) -> Answer:
    """Send these bytes and then nothing more, until the other end closes."""

    def answer(end: socket.socket, request: Request) -> bool:
        end.sendall(data)
        end.settimeout(CLOSED_S)
        end.recv(1)
        return False

    return answer


def resets(data: bytes) -> Answer:
    """Send these bytes and break the connection off."""

    def answer(end: socket.socket, request: Request) -> bool:
        end.sendall(data)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return False

    return answer


def moves(location: bytes, status: bytes = b"302 Found", more: bytes = b"") -> Answer:
    """Redirect; {host} stands for this site."""
    return sends(b"HTTP/1.1 " + status + b"\r\nLocation: " + location + b"\r\n" + more + b"Content-Length: 0\r\n\r\n")


def chunk(data: bytes) -> bytes:
    """Return one chunk."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def whole(body: bytes, head: bytes = OK) -> bytes:
    """Return a whole answer with the right length."""
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


def zipped(data: bytes) -> Answer:
    """Send a body as it is, said to be gzip."""
    return sends(whole(data, GZIP))


def coded(coding: bytes, body: bytes) -> Answer:
    """Send a body as it is, said to be in some coding."""
    return sends(whole(body, OK + b"Content-Encoding: " + coding + b"\r\n"))


def says(status: bytes, body: bytes = PAGE, more: bytes = b"") -> Answer:
    """Send a page under another status."""
    return sends(whole(body, b"HTTP/1.1 " + status + b"\r\nContent-Type: text/html\r\n" + more))


# -- the tables

TIME = [
    Case("header that drips", drips(OK + b"X: ", b"y"), ("timeout",), 0.4),
    Case("headers that drip", drips(OK, b"X: y\r\n", 0.05), ("timeout",), 0.4),
    Case("status line that drips", drips(b"HTTP/1.1 200 ", b"O"), ("timeout",), 0.4),
    Case("body that drips", drips(OK + b"Content-Length: 100000\r\n\r\n", b"x"), ("timeout",), 0.4),
    Case("body without length that drips", drips(OK + b"\r\n", b"x"), ("timeout",), 0.4),
    Case("chunks that drip", drips(CHUNKED, b"1\r\nx\r\n"), ("timeout",), 0.4),
    Case("chunk extension that drips", drips(CHUNKED + b"1;", b"x"), ("timeout",), 0.4),
    Case("gzip that drips", drips(GZIP + b"\r\n" + gzip.compress(PAGE)[:10], b"\0"), ("timeout",), 0.4),
    Case("interim answers that drip", drips(b"", b"HTTP/1.1 102 Processing\r\n\r\n"), ("timeout", "protocol"), 0.4),
    Case("trailer that drips", drips(CHUNKED + b"0\r\nX: ", b"y"), ("timeout",), 0.4),
    Case("blank lines that drip", drips(b"", b"\r\n"), ("timeout", "protocol"), 0.4),
    Case("redirect that stalls", stalls(b"HTTP/1.1 302 Found\r\nLocation: /"), ("timeout",), 0.4),
    Case("stall before the answer", stalls(b""), ("timeout",), 0.4),
    Case("stall in the status line", stalls(b"HTTP/1.1 2"), ("timeout",), 0.4),
    Case("stall in the header", stalls(OK + b"X: "), ("timeout",), 0.4),
    Case("stall after the header", stalls(OK + b"Content-Length: 9\r\n\r\n"), ("timeout",), 0.4),
    Case("stall in the body", stalls(OK + b"Content-Length: 9\r\n\r\nhe"), ("timeout",), 0.4),
    Case("stall in a chunk", stalls(CHUNKED + b"9\r\nhe"), ("timeout",), 0.4),
    Case("stall in a chunk size", stalls(CHUNKED + b"1"), ("timeout",), 0.4),
    Case("stall before the last chunk", stalls(CHUNKED + chunk(PAGE)), ("timeout",), 0.4),
    Case("stall in the trailers", stalls(CHUNKED + chunk(PAGE) + b"0\r\n"), ("timeout", STORED), 0.4),
    Case("whole answer and then a stall", stalls(whole(PAGE)), (STORED,)),
]

CUT = ("incomplete_body",)
CLOSES = [
    Case("close without an answer", sends(b""), ("protocol",)),
    Case("close in the version", sends(b"HTT"), ("protocol",)),
    Case("close in the status line", sends(b"HTTP/1.1 200"), ("protocol",)),
    Case("close after the status line", sends(b"HTTP/1.1 200 OK\r\n"), ("protocol",)),
    Case("close in a header name", sends(OK + b"X-Some"), ("protocol",)),
    Case("close in a header value", sends(OK + b"X: some"), ("protocol",)),
    Case("close before the blank line", sends(OK), ("protocol",)),
    Case("close after an interim answer", sends(b"HTTP/1.1 100 Continue\r\n\r\n"), ("protocol",)),
    Case("close before the body", sends(OK + b"Content-Length: 5\r\n\r\n"), CUT),
    Case("close in the body", sends(OK + b"Content-Length: 5\r\n\r\nhell"), CUT),
    Case("close before the first chunk", sends(CHUNKED), CUT),
    Case("close in a chunk size", sends(CHUNKED + b"5"), CUT),
    Case("close in a chunk", sends(CHUNKED + b"5\r\nhe"), CUT),
    Case("close after a chunk", sends(CHUNKED + chunk(PAGE)), CUT),
    Case("close after the last chunk's size", sends(CHUNKED + chunk(PAGE) + b"0"), CUT),
    Case("close in the trailers", sends(CHUNKED + chunk(PAGE) + b"0\r\nX: y\r\n"), CUT),
    Case("reset before the answer", resets(b""), ("protocol", "connect")),
    Case("reset in the header", resets(OK + b"X"), ("protocol",)),
    Case("reset in a body with length", resets(OK + b"Content-Length: 50\r\n\r\nhello"), (*CUT, "protocol")),
    Case("reset in a body without length", resets(OK + b"\r\nhello"), (*CUT, "protocol")),
]

LARGE = ("header_too_large",)
HEADERS = [
    Case("endless header value", floods(OK + b"X: ", b"y"), LARGE),
    Case("endless header name", floods(OK, b"y"), (*LARGE, "protocol")),
    Case("endless headers", floods(OK, b"X: y\r\n"), LARGE),
    Case("endless folded header", floods(OK + b"X: y\r\n", b" y\r\n"), (*LARGE, "protocol")),
    Case("endless status line", floods(b"HTTP/1.1 200 ", b"O"), (*LARGE, "protocol")),
    Case("endless blank lines", floods(b"", b"\r\n"), (*LARGE, "protocol", "timeout")),
    Case("endless interim answers", floods(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), (*LARGE, "protocol")),
    Case("endless header of an interim answer", floods(b"HTTP/1.1 103 Early Hints\r\n", b"Link: x\r\n"), LARGE),
    Case("header of 1 MB", sends(OK + b"X: " + b"y" * 2**20 + b"\r\n\r\nhello"), LARGE),
    Case("100,000 headers", sends(OK + b"".join(b"X-%d: y\r\n" % n for n in range(100_000)) + b"\r\nhello"), LARGE),
    Case(
        "1,000 cookies", sends(OK + b"".join(b"Set-Cookie: c%d=v\r\n" % n for n in range(1000)) + b"\r\nhello"), LARGE
    ),
    Case("cookie of 100 KB", sends(OK + b"Set-Cookie: c=" + b"v" * 100_000 + b"\r\n\r\nhello"), LARGE),
    Case("reason of 1 MB", sends(b"HTTP/1.1 200 " + b"O" * 2**20 + b"\r\n\r\nhello"), (*LARGE, "protocol")),
    Case("version of 1 MB", sends(b"HTTP/1." + b"1" * 2**20 + b" 200 OK\r\n\r\nhello"), (*LARGE, "protocol")),
    Case("header without a colon", sends(OK + b"nonsense\r\n\r\nhello"), ("protocol", STORED)),
    Case("header without a name", sends(OK + b": y\r\n\r\nhello"), ("protocol", STORED)),
    Case("space before the colon", sends(OK + b"Content-Length : 5\r\n\r\nhello"), ("protocol",)),
    Case("folded header", sends(OK + b"X: a\r\n b\r\nContent-Length: 5\r\n\r\nhello"), ("protocol", STORED)),
    Case("NUL in a header", sends(OK + b"X: a\0b\r\n\r\nhello"), ("protocol",)),
    Case("bare CR in a header", sends(OK + b"X: a\rY: b\r\n\r\nhello"), ("protocol",)),
    Case("bare LF for line ends", sends(b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello"), (STORED,)),
    Case(
        "an interim answer that closes",
        sends(b"HTTP/1.1 103 Early Hints\r\nConnection: close\r\n\r\n" + whole(PAGE)),
        (STORED,),
    ),
    Case("bytes above 127 in a header", sends(OK + b"X: \xff\xfe\r\n\r\nhello"), (STORED,)),
    Case("control characters in a header", sends(OK + b"X: \x01\x1b[2J\r\n\r\nhello"), ("protocol", STORED)),
    Case("header injected by a cookie", sends(OK + b"Set-Cookie: a=b\r\n\r\nHTTP/1.1 200 OK\r\n\r\nx"), (STORED,)),
    Case("etag of 50 KB", sends(whole(PAGE, OK + b'ETag: "' + b"e" * 50_000 + b'"\r\n')), (STORED,)),
    Case("last-modified of rubbish", sends(whole(PAGE, OK + b"Last-Modified: \xff\x80 soon\r\n")), (STORED,)),
]

LENGTH = ("protocol",)


def length(value: bytes, body: bytes = b"hello", more: bytes = b"") -> Answer:
    """Send a body under any length."""
    return sends(OK + b"Content-Length: " + value + b"\r\n" + more + b"\r\n" + body)


LENGTHS = [
    Case("length of letters", length(b"abc"), LENGTH),
    Case("negative length", length(b"-5"), LENGTH),
    Case("negative zero length", length(b"-0", b""), LENGTH),
    Case("length with a plus", length(b"+5"), LENGTH),
    Case("hexadecimal length", length(b"0x5"), LENGTH),
    Case("broken length", length(b"5.0"), LENGTH),
    Case("length with a space inside", length(b"5 5"), LENGTH),
    Case("empty length", length(b""), LENGTH),
    Case("two lengths in one header", length(b"5, 6"), LENGTH),
    Case("the same length twice in one header", length(b"5, 5"), (*LENGTH, STORED)),
    Case("two lengths", length(b"5", more=b"Content-Length: 6\r\n"), LENGTH),
    Case("the same length twice", length(b"5", more=b"Content-Length: 5\r\n"), (*LENGTH, STORED)),
    Case("length above 64 bits", length(b"9" * 30), (*LENGTH, "body_too_large")),
    Case("length that is -1 in 64 bits", length(b"18446744073709551615"), (*LENGTH, "body_too_large")),
    Case("length of 10,000 digits", length(b"9" * 10_000), (*LENGTH, "body_too_large")),
    Case("length in other digits", length("\u0665".encode()), LENGTH),
    Case("length with leading zeros", length(b"0000005"), (STORED,)),
    Case("length with white space around", length(b" \t5 \t"), (STORED,)),
    Case("length of 10 GB", length(b"9999999999"), ("body_too_large",)),
    Case("body longer than announced", length(b"5", PAGE * 100), (STORED, "protocol")),
    Case("body shorter than announced", length(b"50"), CUT),
    Case("length of zero and a body", length(b"0"), ("no_content", "protocol")),
    Case("length and chunks", length(b"5", chunk(PAGE) + b"0\r\n\r\n", b"Transfer-Encoding: chunked\r\n"), LENGTH),
    Case(
        "chunks and length",
        sends(OK + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n" + chunk(PAGE) + b"0\r\n\r\n"),
        LENGTH,
    ),
    Case(
        "second answer inside the first",
        sends(whole(PAGE) + b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 4\r\n\r\nevil"),
        (STORED, "protocol"),
    ),
]


def transfers(coding: bytes, body: bytes = chunk(PAGE) + b"0\r\n\r\n") -> Answer:
    """Send a body under any transfer coding."""
    return sends(OK + b"Transfer-Encoding: " + coding + b"\r\n\r\n" + body)


def chunks(data: bytes) -> Answer:
    """Send these bytes as the chunks."""
    return sends(CHUNKED + data)


END = b"0\r\n\r\n"
NOT_CHUNKED = ("protocol", "decode", STORED)
CHUNKS = [
    Case("chunk size of letters", chunks(b"zz\r\nhello\r\n" + END), LENGTH),
    Case("negative chunk size", chunks(b"-1\r\nhello\r\n" + END), LENGTH),
    Case("chunk size with 0x", chunks(b"0x5\r\nhello\r\n" + END), LENGTH),
    Case("empty chunk size", chunks(b"\r\nhello\r\n" + END), LENGTH),
    Case("chunk size above 64 bits", chunks(b"1" + b"0" * 16 + b"5\r\nhello\r\n" + END), LENGTH),
    Case("chunk size of 64 bits", chunks(b"f" * 16 + b"\r\nhello"), (*LENGTH, *CUT, "body_too_large")),
    Case("chunk size of 1 GB", chunks(b"40000000\r\nhello"), (*CUT, "body_too_large")),
    Case("chunk size with many zeros", chunks(b"0" * 5000 + b"5\r\nhello\r\n" + END), (*LENGTH, STORED)),
    Case("chunk size with a space", chunks(b"5 \r\nhello\r\n" + END), (*LENGTH, STORED)),
    Case("chunk longer than its size", chunks(b"3\r\nhello\r\n" + END), LENGTH),
    Case("chunk without its line end", chunks(b"5\r\nhello" + END), LENGTH),
    Case("chunks with bare LF", chunks(b"5\nhello\n0\n\n"), (*LENGTH, STORED)),
    Case("chunks with an extension after a space", chunks(b"5 ;q\r\nhello\r\n" + END), (STORED,)),
    Case("chunks with an extension", chunks(b'5;a="b;c"\r\nhello\r\n' + END), (STORED,)),
    Case("chunk extension of 100 KB", chunks(b"5;" + b"x" * 100_000 + b"\r\nhello\r\n" + END), (*LENGTH, *LARGE, STORED)),
    Case(
        "endless chunk extension",
        floods(CHUNKED + b"5;", b"x"),
        ("timeout", "protocol", "header_too_large", "body_too_large"),
        1.0,
    ),
    Case("endless chunk size", floods(CHUNKED, b"0"), ("timeout", "protocol"), 1.0),
    Case("endless chunks of one byte", floods(CHUNKED, b"1\r\nx\r\n"), ("body_too_large", "timeout"), 1.0),
    Case("endless chunks with extensions", floods(CHUNKED, b"1;%s\r\nx\r\n" % (b"y" * 3000)), ("body_too_large", "timeout", "protocol"), 1.0),
    Case("trailers", chunks(chunk(PAGE) + b"0\r\nX: y\r\n\r\n"), (STORED,)),
    Case(
        "trailers that mean something",
        chunks(chunk(PAGE) + b"0\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\nLocation: /\r\n\r\n"),
        (STORED, "protocol"),
    ),
    Case("endless trailers", floods(CHUNKED + b"0\r\n", b"X: y\r\n"), LARGE),
    Case("endless trailer value", floods(CHUNKED + b"0\r\nX: ", b"y"), (*LARGE, "protocol"), 1.0),
    Case("endless trailer name", floods(CHUNKED + b"0\r\n", b"y"), (*LARGE, "protocol"), 1.0),
    Case("1 MB trailer", chunks(b"0\r\nX: " + b"y" * 2**20 + b"\r\n\r\n"), (*LARGE, "protocol", "no_content")),
    Case("chunked twice", transfers(b"chunked, chunked"), NOT_CHUNKED),
    Case("chunked before identity", transfers(b"chunked, identity"), NOT_CHUNKED),
    Case("gzip and chunked", transfers(b"gzip, chunked", chunk(gzip.compress(PAGE)) + END), ("protocol", "decode")),
    Case("a coding that looks like chunked", transfers(b"xchunked"), NOT_CHUNKED),
    Case("chunked with a vertical tab", transfers(b"\x0bchunked"), NOT_CHUNKED),
    Case("chunked in quotes", transfers(b'"chunked"'), NOT_CHUNKED),
    Case("chunked in capitals", transfers(b"CHUNKED"), (STORED,)),
    Case("identity as a transfer coding", transfers(b"identity", PAGE), NOT_CHUNKED),
    Case("unknown transfer coding", transfers(b"magic", PAGE), NOT_CHUNKED),
    Case("chunked in HTTP 1.0", sends(b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(PAGE) + END), NOT_CHUNKED),
]  # fmt: skip

NOT_HTTP = ("protocol",)
PROTOCOL = [
    Case("HTTP 0.9", sends(b"<html><title>old</title></html>"), NOT_HTTP),
    Case("greeting of SSH", sends(b"SSH-2.0-OpenSSH_9.2\r\n"), NOT_HTTP),
    Case("greeting of SMTP", sends(b"220 mail.example ESMTP\r\n"), NOT_HTTP),
    Case("answer of Redis", sends(b"-ERR unknown command 'GET'\r\n"), NOT_HTTP),
    Case("answer of TLS", sends(b"\x15\x03\x01\x00\x02\x02\x46"), NOT_HTTP),
    Case("frame of HTTP 2", sends(b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x05\x00\x00\x40\x00"), NOT_HTTP),
    Case("request for an answer", sends(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"), NOT_HTTP),
    Case("greeting of a radio", sends(b"ICY 200 OK\r\n\r\nhello"), NOT_HTTP),
    Case("version in small letters", sends(b"http/1.1 200 OK\r\n\r\nhello"), NOT_HTTP),
    Case("version 3", sends(b"HTTP/3.0 200 OK\r\n\r\nhello"), NOT_HTTP),
    Case("version 2", sends(b"HTTP/2.0 200 OK\r\n\r\nhello"), (*NOT_HTTP, STORED)),
    Case("no version", sends(b"200 OK\r\n\r\nhello"), NOT_HTTP),
    Case("no status", sends(b"HTTP/1.1\r\n\r\nhello"), NOT_HTTP),
    Case("status of letters", sends(b"HTTP/1.1 abc OK\r\n\r\nhello"), NOT_HTTP),
    Case("status of two digits", sends(b"HTTP/1.1 20 OK\r\n\r\nhello"), NOT_HTTP),
    Case("status of four digits", sends(b"HTTP/1.1 2000 OK\r\n\r\nhello"), NOT_HTTP),
    Case("negative status", sends(b"HTTP/1.1 -200 OK\r\n\r\nhello"), NOT_HTTP),
    Case("status of many digits", sends(b"HTTP/1.1 " + b"2" * 1000 + b" OK\r\n\r\nhello"), NOT_HTTP),
    Case("status 000", sends(b"HTTP/1.1 000 OK\r\n\r\nhello"), (*NOT_HTTP, "no_content")),
    Case("status 099", sends(b"HTTP/1.1 099 OK\r\n\r\nhello"), (*NOT_HTTP, "no_content")),
    Case("status 999", says(b"999 Denied"), (*NOT_HTTP, "http_5xx", "http_4xx")),
    Case("status 600", says(b"600 What"), (*NOT_HTTP, "http_5xx")),
    Case("no reason", sends(b"HTTP/1.1 200\r\nContent-Type: text/html\r\n\r\nhello"), (STORED,)),
    Case("zeros", sends(b"\0" * 10_000), NOT_HTTP),
    Case("endless zeros", floods(b"", b"\0"), NOT_HTTP),
    Case("endless letters", floods(b"", b"x"), NOT_HTTP),
    Case("byte order mark before the answer", sends(b"\xef\xbb\xbf" + whole(PAGE)), NOT_HTTP),
    Case("blank line before the answer", sends(b"\r\n" + whole(PAGE)), (*NOT_HTTP, STORED)),
]

NOTHING = ("no_content",)
STATUS = [
    Case("101 unasked", sends(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\nxx"), NOT_HTTP),
    Case("101 without an upgrade", sends(b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + whole(PAGE)), NOT_HTTP),
    Case("upgrade with a 200", sends(whole(PAGE, OK + b"Upgrade: h2c\r\nConnection: Upgrade\r\n")), (STORED, "protocol")),
    Case("103 before the answer", sends(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + whole(PAGE)), (STORED,)),
    Case("103 with a length", sends(b"HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\n" + whole(PAGE)), (STORED, "protocol")),
    Case("ten interim answers", sends(b"HTTP/1.1 102 Processing\r\n\r\n" * 10 + whole(PAGE)), (STORED, "protocol")),
    Case("eleven interim answers", sends(b"HTTP/1.1 102 Processing\r\n\r\n" * 11 + whole(PAGE)), NOT_HTTP),
    Case("204", sends(b"HTTP/1.1 204 No Content\r\n\r\n"), NOTHING),
    Case("204 with a body", says(b"204 No Content"), (*NOTHING, "protocol")),
    Case("205 with a body", says(b"205 Reset Content"), NOTHING),
    Case("206 unasked", says(b"206 Partial Content", more=b"Content-Range: bytes 0-9/100\r\n"), NOTHING),
    Case("304 unasked", sends(b'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\n\r\n'), NOTHING),
    Case("304 unasked with a body", says(b"304 Not Modified"), (*NOTHING, "protocol")),
    Case("300", says(b"300 Multiple Choices"), (*NOTHING, "bad_redirect")),
    Case("305", says(b"305 Use Proxy", more=b"Location: http://10.0.0.1/\r\n"), (*NOTHING, "bad_redirect")),
    Case("306", says(b"306 Switch Proxy", more=b"Location: http://10.0.0.1/\r\n"), (*NOTHING, "bad_redirect")),
    Case("200 with nothing", sends(whole(b"")), NOTHING),
    Case("200 with white space", sends(whole(b" \r\n\t ")), (*NOTHING, STORED)),
    Case("401 that wants a password", says(b"401 No", more=b'WWW-Authenticate: Basic realm="x"\r\n'), ("http_4xx",)),
    Case("407 that wants a password", says(b"407 No", more=b'Proxy-Authenticate: Basic realm="x"\r\n'), ("http_4xx",)),
    Case("404 of 1 GB", floods(b"HTTP/1.1 404 No\r\n\r\n", b"x"), ("http_4xx",)),
    Case("404 with a gzip bomb", says(b"404 No", b"\x1f\x8b", b"Content-Encoding: gzip\r\n"), ("http_4xx",)),
    Case("408", says(b"408 Slow"), ("timeout", "http_4xx")),
    Case("429 for ever", says(b"429 Slow", more=b"Retry-After: " + b"9" * 400 + b"\r\n"), ("rate_limited",)),
    Case("429 until rubbish", says(b"429 Slow", more=b"Retry-After: Fri, 99 Foo 0000 99:99:99 GMT\r\n"), ("rate_limited",)),
    Case("503 until the year 9999", says(b"503 Away", more=b"Retry-After: Fri, 31 Dec 9999 23:59:59 GMT\r\n"), ("http_5xx",)),
    Case("503 until yesterday", says(b"503 Away", more=b"Retry-After: Mon, 01 Jan 1900 00:00:00 +2359\r\n"), ("http_5xx",)),
    Case("500 that drips", drips(b"HTTP/1.1 500 Oops\r\n\r\n", b"x"), ("http_5xx", "timeout"), 0.4),
]  # fmt: skip


@cache
def bomb(size: int = 200 * 2**20) -> bytes:
    """Return a gzip file that holds so many zeros."""
    squeeze = zlib.compressobj(9, zlib.DEFLATED, 31)
    block = b"\0" * 2**20
    return b"".join(squeeze.compress(block) for _ in range(size // len(block))) + squeeze.flush()


def deflate_bomb() -> bytes:
    """Return a zlib stream that holds 200 MB of zeros."""
    squeeze = zlib.compressobj(9)
    block = b"\0" * 2**20
    return b"".join(squeeze.compress(block) for _ in range(200)) + squeeze.flush()


def with_dictionary() -> bytes:
    """Return a zlib stream that wants a dictionary nobody has."""
    squeeze = zlib.compressobj(zdict=b"hello")
    return squeeze.compress(PAGE) + squeeze.flush()


PACKED = gzip.compress(PAGE)
BAD_CRC = PACKED[:-8] + b"\0\0\0\0" + PACKED[-4:]
BAD_SIZE = PACKED[:-4] + b"\xff\xff\xff\xff"
NAMED = PACKED[:3] + b"\x08" + PACKED[4:10]
BOMBED = ("decoded_too_large",)
DAMAGED = ("decode",)
CODINGS = [
    Case("gzip bomb", makes(GZIP, bomb), BOMBED),
    Case("deflate bomb", makes(OK + b"Content-Encoding: deflate\r\n", deflate_bomb), BOMBED),
    Case("raw deflate bomb", makes(OK + b"Content-Encoding: deflate\r\n", lambda: bomb()[10:-8]), BOMBED),
    Case("gzip bomb in gzip", makes(OK + b"Content-Encoding: gzip, gzip\r\n", lambda: gzip.compress(bomb())), BOMBED),
    Case("gzip bomb in chunks", lambda end, request: sends(GZIP + b"Transfer-Encoding: chunked\r\n\r\n" + chunk(bomb()) + END)(end, request), BOMBED),
    Case("two gzip bombs on top of each other", makes(OK + b"Content-Encoding: gzip\r\nContent-Encoding: gzip\r\n", lambda: gzip.compress(bomb())), BOMBED),
    Case("gzip bomb of many members", makes(GZIP, lambda: bomb(2**20) * 100), BOMBED),
    Case("10,000 empty gzip members", makes(GZIP, lambda: gzip.compress(b"") * 10_000), ("decode", "decoded_too_large", "no_content")),
    Case("endless gzip members", floods(GZIP + b"\r\n", gzip.compress(b"")), ("body_too_large", "decode", "timeout")),
    Case("endless gzip header", floods(GZIP + b"\r\n" + NAMED, b"n"), ("body_too_large", "timeout")),
    Case("endless gzip of empty blocks", floods(GZIP + b"\r\n" + PACKED[:10], b"\0\0\0\xff\xff"), ("body_too_large", "timeout")),
    Case("gzip with a long name", zipped(NAMED + b"n" * 100_000 + b"\0" + PACKED[10:]), (STORED,)),
    Case("gzip with a bad checksum", zipped(BAD_CRC), DAMAGED),
    Case("gzip with a bad size", zipped(BAD_SIZE), DAMAGED),
    Case("cut gzip", zipped(PACKED[:-5]), DAMAGED),
    Case("gzip header alone", zipped(PACKED[:10]), DAMAGED),
    Case("gzip with bits turned", zipped(PACKED[:14] + bytes(b ^ 0x55 for b in PACKED[14:])), DAMAGED),
    Case("gzip with an unknown method", zipped(PACKED[:2] + b"\x07" + PACKED[3:]), DAMAGED),
    Case("empty gzip", zipped(b""), ("no_content", "decode")),
    Case("gzip of nothing", zipped(gzip.compress(b"")), ("no_content",)),
    Case("plain text said to be gzip", zipped(PAGE), DAMAGED),
    Case("gzip and rubbish after it", zipped(PACKED + b"rubbish"), (STORED, "decode")),
    Case("gzip and zeros after it", zipped(PACKED + b"\0" * 512), (STORED,)),
    Case("second gzip member is cut", zipped(PACKED + PACKED[:-5]), DAMAGED),
    Case("gzip said to be deflate", coded(b"deflate", PACKED), (STORED, "decode")),
    Case("raw deflate", coded(b"deflate", zlib.compress(PAGE, wbits=-15)), (STORED,)),
    Case("deflate with a bad checksum", coded(b"deflate", zlib.compress(PAGE)[:-4] + b"\0\0\0\0"), DAMAGED),
    Case("deflate that wants a dictionary", coded(b"deflate", with_dictionary()), DAMAGED),
    Case("gzip twice", coded(b"gzip, gzip", gzip.compress(PACKED)), (STORED, "decode")),
    Case("gzip three times", coded(b"gzip, gzip, gzip", gzip.compress(gzip.compress(PACKED))), DAMAGED),
    Case("gzip thousandfold", coded(b"gzip," * 1000 + b"gzip", PACKED), DAMAGED),
    Case("gzip in capitals", coded(b"GZIP", PACKED), (STORED,)),
    Case("gzip by its old name", coded(b"x-gzip", PACKED), (STORED,)),
    Case("gzip and empty names", coded(b", gzip ,,", PACKED), (STORED,)),
    Case("identity", coded(b"identity", PAGE), (STORED,)),
    Case("brotli unasked", coded(b"br", b"\x0b\x02\x80hello\x03"), DAMAGED),
    Case("zstd unasked", coded(b"zstd", b"\x28\xb5\x2f\xfd\x04\x00\x29\x00\x00hello\x9d\x1e\xcd\x2c"), DAMAGED),
    Case("zstd window of 8 TB", coded(b"zstd", b"\x28\xb5\x2f\xfd\x00\xff" + b"\0" * 50), DAMAGED),
    Case("compress unasked", coded(b"compress", b"\x1f\x9d\x90hello"), DAMAGED),
    Case("brotli over gzip", coded(b"gzip, br", PACKED), DAMAGED),
    Case("gzip over brotli", coded(b"br, gzip", PACKED), DAMAGED),
    Case("unknown coding", coded(b"rot13", PAGE), DAMAGED),
    Case("charset for a coding", coded(b"utf-8", PAGE), (STORED,)),
    Case("coding of 50 KB", coded(b"x" * 50_000, PAGE), DAMAGED),
    Case("coding of other letters", coded(b"\xff\xfegzip", PAGE), DAMAGED),
]  # fmt: skip

BODIES = [
    Case("endless body", floods(OK + b"\r\n", b"x"), ("body_too_large",)),
    Case("endless chunked body", floods(CHUNKED, chunk(b"x" * 60_000)), ("body_too_large",)),
    Case("endless zeros in the body", floods(OK + b"\r\n", b"\0"), ("body_too_large",)),
    Case("body of one byte", sends(whole(b"x")), (STORED,)),
    Case("body with an answer in it", sends(whole(whole(PAGE))), (STORED,)),
]


def to(name: str, location: str | bytes, *ends: str) -> Case:
    """A redirect to somewhere."""
    return Case("to " + name, moves(location.encode() if isinstance(location, str) else location), ends)


BLOCKED = "blocked_address"
SCHEME = "blocked_scheme"
BAD = "bad_redirect"
REDIRECTS = [
    to("a private address", "http://10.0.0.1/", BLOCKED),
    to("a private address, secure", "https://192.168.0.1/", BLOCKED),
    to("another private address", "http://172.31.255.255/", BLOCKED),
    to("metadata", "http://169.254.169.254/latest/meta-data/", BLOCKED),
    to("metadata in decimal", "http://2852039166/", BLOCKED),
    to("metadata in hexadecimal", "http://0xA9FEA9FE/", BLOCKED),
    to("metadata in hexadecimal parts", "http://0xa9.0xfe.0xa9.0xfe/", BLOCKED),
    to("metadata in octal", "http://0251.0376.0251.0376/", BLOCKED),
    to("metadata in one octal number", "http://025177524776/", BLOCKED),
    to("metadata in mixed parts", "http://169.0xfe.0251.254/", BLOCKED),
    to("metadata in three parts", "http://169.254.43518/", BLOCKED),
    to("a short address", "http://10.1/", BLOCKED),
    to("a shorter address", "http://0/", BLOCKED),
    to("nowhere in particular", "http://0.0.0.0/", BLOCKED),
    to("an address with a dot at its end", "http://10.0.0.1./", BLOCKED),
    to("an address in wide digits", "http://\uff11\uff10.0.0.1/", BLOCKED),
    to("an address in circled digits", "http://\u2460\u24ea.\u24ea.\u24ea.\u2460/", BLOCKED),
    to("an address with other dots", "http://10\u30020\u30020\u30021/", BLOCKED),
    to("an address with escapes", "http://%31%30.0.0.1/", BLOCKED),
    to("an address with a soft hyphen", "http://1\u00ad0.0.0.1/", BLOCKED),
    to("shared address space", "http://100.64.0.1/", BLOCKED),
    to("benchmarking", "http://198.18.0.1/", BLOCKED),
    to("broadcast", "http://255.255.255.255/", BLOCKED),
    to("multicast", "http://224.0.0.1/", BLOCKED),
    to("reserved", "http://240.0.0.1/", BLOCKED),
    to("documentation", "http://192.0.2.1/", BLOCKED),
    to("loopback by IPv6", "http://[::1]/", BLOCKED),
    to("unspecified by IPv6", "http://[::]/", BLOCKED),
    to("link-local by IPv6", "http://[fe80::1]/", BLOCKED),
    to("unique local by IPv6", "http://[fd00::1]/", BLOCKED),
    to("multicast by IPv6", "http://[ff02::1]/", BLOCKED),
    to("mapped", "http://[::ffff:10.0.0.1]/", BLOCKED),
    to("mapped in hexadecimal", "http://[::ffff:a9fe:a9fe]/", BLOCKED),
    to("mapped in full", "http://[0:0:0:0:0:ffff:10.0.0.1]/", BLOCKED),
    to("compatible", "http://[::10.0.0.1]/", BLOCKED),
    to("translated", "http://[64:ff9b::a9fe:a9fe]/", BLOCKED),
    to("translated locally", "http://[64:ff9b:1::a9fe:a9fe]/", BLOCKED),
    to("6to4", "http://[2002:a9fe:a9fe::1]/", BLOCKED),
    to("Teredo", "http://[2001:0:a9fe:a9fe::1]/", BLOCKED),
    to("discard", "http://[100::1]/", BLOCKED),
    to("a zone", "http://[fe80::1%25eth0]/", BLOCKED, BAD, "invalid_url"),
    to("a private address with a user", "http://good.example@10.0.0.1/", "invalid_url", BLOCKED),
    to("a user and a password", "http://u:p@{host}/fine", "invalid_url"),
    to("an empty user", "http://@{host}/fine", STORED, "invalid_url"),
    to("a private address before a fragment", "http://10.0.0.1#@good.example/", BLOCKED),
    to("a private address before a query", "http://10.0.0.1?@good.example/", BLOCKED),
    to("a private address by backslashes", "http:\\\\10.0.0.1\\", BLOCKED),
    to("a private address by a relative backslash", "\\\\10.0.0.1/", BLOCKED),
    to("a private address by slash and backslash", "/\\10.0.0.1/", BLOCKED),
    to("a host with a backslash and an at", "http://10.0.0.1\\@{host}/", BLOCKED),
    to("a private address without a scheme", "//10.0.0.1/", BLOCKED),
    to("a private address with three slashes", "http:///10.0.0.1/", BLOCKED),
    to("a private address with a tab", "ht\ttp://10.0.\t0.1/", BLOCKED),
    to("a private address with spaces around", "  http://10.0.0.1/  ", BLOCKED),
    to("a scheme in capitals", "HTTP://10.0.0.1/", BLOCKED),
    to("a scheme without slashes", "https:10.0.0.1", BLOCKED),
    to("the same scheme without slashes", "http:10.0.0.1", "http_4xx", BLOCKED),
    to("script", "javascript:alert(1)", SCHEME),
    to("script in capitals with a tab", "JaVa\tScript:alert(1)", SCHEME),
    to("data", "data:text/html,<h1>hi", SCHEME),
    to("a file", "file:///etc/passwd", SCHEME),
    to("a file of this host", "file://localhost/etc/passwd", SCHEME),
    to("ftp", "ftp://10.0.0.1/", SCHEME),
    to("gopher", "gopher://10.0.0.1:6379/_FLUSHALL", SCHEME),
    to("a socket", "unix:/run/docker.sock", SCHEME),
    to("mail", "mailto:a@b.example", SCHEME),
    to("about", "about:blank", SCHEME),
    to("a blob", "blob:http://{host}/1", SCHEME),
    to("the source of a page", "view-source:http://{host}/fine", SCHEME),
    to("a jar", "jar:http://{host}/a.jar!/x", SCHEME),
    to("a websocket", "ws://{host}/", SCHEME),
    to("an unknown scheme", "x-scheme://{host}/", SCHEME),
    to("a port out of range", "http://127.0.0.1:99999/", BAD, "invalid_url"),
    to("a negative port", "http://127.0.0.1:-1/", BAD, "invalid_url"),
    to("a port of letters", "http://127.0.0.1:abc/", BAD, "invalid_url"),
    to("two ports", "http://127.0.0.1:80:80/", BAD, "invalid_url"),
    to("port zero", "http://127.0.0.1:0/", "invalid_url", BAD),
    to("a closed port", "http://127.0.0.1:1/", "connect"),
    Case("to TLS where there is none", moves(b"https://{host}/"), ("tls", "timeout", "robots_unreachable"), 0.4),
    to("an open bracket", "http://[", BAD, "invalid_url"),
    to("an unclosed bracket", "http://[::1/", BAD, "invalid_url"),
    to("letters in brackets", "http://[zz]/", BAD, "invalid_url"),
    to("letters after brackets", "http://[::1]x/", BAD, "invalid_url"),
    to("too many parts", "http://1.2.3.4.5/", BAD, "invalid_url"),
    to("a part above 255", "http://256.256.256.256/", BAD, "invalid_url"),
    to("no host", "http://", BAD, "invalid_url"),
    to("a host of a dot", "http://./", BAD, "invalid_url", "dns"),
    to("a host with a space", "http://a b/", BAD, "invalid_url"),
    to("a host with a percent sign", "http://a%zz/", BAD, "invalid_url"),
    to("a host of 300 letters", "http://" + "a" * 300 + "/", "dns", BAD, "invalid_url"),
    to("a host with an empty label", "http://a..invalid/", "dns", BAD, "invalid_url"),
    to("a host that does not exist", "http://no-such-host.invalid/", "dns"),
    to("a broken punycode host", "http://xn--a.invalid/", "dns", BAD, "invalid_url"),
    to("nothing", "", BAD),
    to("a space", " ", BAD),
    to("a NUL", b"/fi\0ne", "protocol", BAD),
    to("a NUL in escapes", "/%00", "http_4xx", BAD),
    to("60 KB", "/" + "x" * 60_000, BAD),
    to("1 MB", "/" + "x" * 2**20, "header_too_large", "protocol"),
    to("non-ASCII in UTF-8", "/\u00fc", STORED),
    to("non-ASCII in Latin-1", b"/\xfc", STORED, "http_4xx"),
    to("broken UTF-8", b"/\xc3\x28\xff", "http_4xx", BAD),
    to("a new line in escapes", "/%0d%0aX-Injected:%20yes", "http_4xx"),
    to("two places at once", b"/fine\r\nLocation: /other", BAD, "protocol", "http_4xx"),
    to("itself", "#again", "too_many_redirects"),
    to("itself by a query", "?", "too_many_redirects", "http_4xx"),
    to("a good page", "/fine", STORED),
    Case("a redirect without a Location", says(b"301 Moved"), (BAD,)),
    Case("a redirect with an endless body", floods(b"HTTP/1.1 302 F\r\nLocation: /fine\r\n\r\n", b"x"), (STORED, "body_too_large")),
    Case("a redirect with a gzip lie", moves(b"/fine", more=b"Content-Encoding: gzip\r\n"), (STORED,)),
    Case("a redirect with a bomb", makes(b"HTTP/1.1 302 F\r\nLocation: /fine\r\nContent-Encoding: gzip\r\n", bomb), (STORED,)),
    Case("a redirect that drips", drips(b"HTTP/1.1 302 F\r\nLocation: /fine\r\n\r\n", b"x"), (STORED, "timeout"), 0.4),
    Case("a redirect whose body is cut", sends(b"HTTP/1.1 302 Found\r\nLocation: /fine\r\nContent-Length: 50\r\n\r\nx"), (STORED,)),
    Case("a redirect that keeps the method", moves(b"/fine", b"308 Permanent"), (STORED,)),
    Case("a meta refresh to a private address", sends(whole(b'<meta http-equiv=refresh content="0;url=http://10.0.0.1/">x')), (STORED,)),
    Case("a refresh header", sends(whole(PAGE, OK + b"Refresh: 0; url=http://10.0.0.1/\r\n")), (STORED,)),
]  # fmt: skip


def typed(kind: bytes, body: bytes = PAGE) -> Answer:
    """Send a body under some content type."""
    return sends(whole(body, b"HTTP/1.1 200 OK\r\nContent-Type: " + kind + b"\r\n"))


PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20
OTHER = ("content_type",)
TYPES = [
    Case("a picture", typed(b"image/png", PNG), OTHER),
    Case("a picture said to be a page", typed(b"text/html", PNG), (STORED, *OTHER, "no_content")),
    Case("a PDF said to be a page", typed(b"text/html", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n" + PNG), (STORED, *OTHER)),
    Case("a zip said to be a page", typed(b"text/html", b"PK\x03\x04" + PNG), (STORED, *OTHER)),
    Case("a program said to be a page", typed(b"text/html", b"\x7fELF\x02\x01\x01" + b"\0" * 5000), (STORED, *OTHER)),
    Case("a page said to be a picture", typed(b"image/png"), OTHER),
    Case("a page said to be bytes", typed(b"application/octet-stream"), OTHER),
    Case("a page said to be a program", typed(b"application/javascript"), OTHER),
    Case("a stream of pictures", floods(b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=x\r\n\r\n", b"--x\r\n\r\n"), OTHER),
    Case("an endless film", floods(b"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\n\r\n", b"\0"), OTHER),
    Case("no type", sends(whole(PAGE, b"HTTP/1.1 200 OK\r\n")), (STORED,)),
    Case("empty type", typed(b""), (STORED,)),
    Case("type of rubbish", typed(b"\xff;;;/=="), OTHER),
    Case("type with a wrong subtype", typed(b"text/html/html"), (STORED, *OTHER)),
    Case("type of 50 KB", typed(b"text/html; x=" + b"y" * 50_000), (STORED,)),
    Case("type with 5,000 charsets", typed(b"text/html" + b"; charset=x" * 5000), (STORED,)),
    Case("type with spaces after charset", typed(b"text/html; charset" + b" " * 50_000 + b"x"), (STORED,)),
    Case("the same type twice", typed(b"text/html\r\nContent-Type: text/html; charset=utf-8"), (STORED,)),
    Case("a type with commas in quotes", typed(b'application/ld+json; profile="http://a,http://b"'), (STORED,)),
    Case("two types in one header", typed(b"image/png, text/html"), (STORED,)),
    Case("two types", typed(b"text/html\r\nContent-Type: image/png"), (STORED, *OTHER)),
    Case("a download", sends(whole(PAGE, OK + b'Content-Disposition: attachment; filename="../../etc/passwd"\r\n')), (STORED,)),
]  # fmt: skip


def page(name: str, body: Callable[[], bytes | str], *ends: str, kind: bytes = b"text/html; charset=utf-8") -> Case:
    """A page that is hard to read; it is made when it is first asked for."""

    def made() -> bytes:
        text = body()
        return text.encode() if isinstance(text, str) else text

    return Case(name, makes(b"HTTP/1.1 200 OK\r\nContent-Type: " + kind + b"\r\n", made), ends, 5.0)


def fixed(name: str, body: bytes | str, *ends: str, kind: bytes = b"text/html; charset=utf-8") -> Case:
    """A small page that is hard to read."""
    return page(name, lambda: body, *ends, kind=kind)


JSON = b"application/json"
READ = (STORED, "parse_limit")
ANY_JSON = (STORED, "parse_limit", "decode")
PAGES = [
    page("one line of 8 MB", lambda: "<p>" + "x" * 8_000_000, *READ),
    page("one line of 8 MB of spaces", lambda: "<title>" + " " * 8_000_000, *READ),
    page("one word of 8 MB in a link", lambda: '<a href="' + "x" * 8_000_000 + '">', *READ),
    page("one tag name of 8 MB", lambda: "<" + "x" * 8_000_000 + ">", *READ),
    page("one attribute name of 8 MB", lambda: "<p " + "x" * 8_000_000 + ">", *READ),
    page("one comment of 8 MB", lambda: "<!--" + "x" * 8_000_000, *READ),
    page("one script of 8 MB", lambda: "<script>" + "</s" * 2_500_000, *READ),
    page("100,000 levels", lambda: "<div>" * 100_000 + "x", "parse_limit"),
    page("1,000,000 levels", lambda: "<b>" * 1_000_000, "parse_limit"),
    page("100,000 levels of formatting", lambda: "<b><i>" * 50_000 + "</b></i>" * 50_000, *READ),
    page("10,000 tables in each other", lambda: "<table><tr><td>" * 10_000, *READ),
    page("10,000 forms in each other", lambda: "<form>" * 10_000, *READ),
    page("100,000 links", lambda: "".join(f'<a href="/{n}">x</a>' for n in range(100_000)), *READ),
    page("100,000 same links", lambda: '<a href="/same">x</a>' * 100_000, *READ),
    page("100,000 links in each other", lambda: "<a href=/x>" * 100_000, *READ),
    page("100,000 fragments", lambda: "".join(f'<a href="#{n}">x</a>' for n in range(100_000)), *READ),
    page("10,000 links of 2 KB", lambda: "".join(f'<a href="/{n}{"x" * 700}">' for n in range(10_000)), *READ),
    page("100,000 attributes", lambda: "<p " + " ".join(f"a{n}=x" for n in range(100_000)) + ">x", *READ),
    page("100,000 same attributes", lambda: "<p " + "class=x " * 100_000 + ">x", *READ),
    page("1,000,000 cells", lambda: "<table><tr>" + "<td>" * 1_000_000, *READ),
    page("500,000 paragraphs", lambda: "<p>x" * 500_000, *READ),
    page("1,000,000 entities", lambda: "&amp;" * 1_000_000, *READ),
    page("1,000,000 unknown entities", lambda: "&foo;" * 1_000_000, *READ),
    page("1,000,000 ampersands", lambda: "&" * 1_000_000, *READ),
    page("1,000,000 less-than signs", lambda: "<" * 1_000_000, *READ),
    page("1,000,000 stray end tags", lambda: "</p>" * 1_000_000, *READ),
    page("1,000,000 open comments", lambda: "<!-- -" * 1_000_000, *READ),
    page("500,000 quotes", lambda: "<a '\"=" * 500_000, *READ),
    page("entity of a million digits", lambda: "&#" + "1" * 1_000_000 + ";", *READ),
    page("500,000 NUL bytes", lambda: b"<title>a\0b</title>" + b"\0" * 500_000, *READ),
    page("5,000,000 NUL bytes and nothing else", lambda: b"\0" * 5_000_000, *READ, "no_content"),
    page("1,000 bases", lambda: "<base href='http://10.0.0.1/'>" * 1000 + "<a href=x>", *READ),
    page("entity bomb in a page", lambda: entity_bomb("html"), *READ),
    fixed("base that is no URL", "<base href='http://['><a href=x>", STORED),
    fixed("base with script", "<base href='javascript:'><a href=x>", STORED),
    fixed("lone surrogates", "<title>&#xD800;&#xDFFF;&#55296;</title><a href='/&#xD800;'>x", STORED),
    fixed("lone surrogates in UTF-8", b"<title>\xed\xa0\x80\xed\xbf\xbf</title>x", STORED),
    fixed("code points that are none", "<title>&#x110000;&#0;&#x80;&#xFFFF;&#x1FFFF;</title>x", STORED),
    fixed("overlong UTF-8", b"<title>\xc0\xbcscript\xc0\xbe \xf8\x88\x80\x80\x80</title>x", STORED),
    fixed("UTF-8 cut in a letter", b"<title>\xe2\x82", STORED),
    fixed("UTF-7", b"<title>+ADw-script+AD4-</title>x", STORED, kind=b"text/html; charset=utf-7"),
    fixed("UTF-16 said to be UTF-8", "<title>x</title>".encode("utf-16"), STORED),
    fixed("UTF-16 of odd length", b"\xff\xfe<\0t\0i", STORED),
    fixed("UTF-32", "<title>x</title>".encode("utf-32"), STORED),
    fixed("UTF-8 said to be UTF-16", PAGE, STORED, kind=b"text/html; charset=utf-16"),
    fixed("Shift JIS said to be UTF-8", "<title>\u3042</title>".encode("shift_jis"), STORED),
    fixed("unknown charset", PAGE, STORED, kind=b"text/html; charset=klingon"),
    fixed("charset that is a Python codec", PAGE, STORED, kind=b"text/html; charset=base64"),
    fixed("charset that unpacks", PAGE, STORED, kind=b"text/html; charset=zlib_codec"),
    fixed("charset that escapes", b"<title>\\x41\\", STORED, kind=b"text/html; charset=unicode_escape"),
    fixed("charset idna", b"<title>\xff", STORED, kind=b"text/html; charset=idna"),
    fixed("charset with NUL", PAGE, STORED, kind=b"text/html; charset=utf\x00-8".replace(b"\0", b"%00")),
    fixed("charset of escapes", b"\x1b$B" + bytes(range(128, 256)), STORED, kind=b"text/html; charset=iso-2022-jp"),
    fixed("charset hz", b"~{<title>~", STORED, kind=b"text/html; charset=hz-gb-2312"),
    fixed("charset of replacement", b"<title>\x1b", STORED, kind=b"text/html; charset=iso-2022-kr"),
    fixed("frameset", "<frameset><frame src='http://10.0.0.1/'></frameset>", STORED),
    fixed("template and svg", "<template><svg><title>x</title><a href=/x></svg></template>", STORED),
    fixed("plain text without end", "<plaintext>" + "<a href=/x>" * 100, STORED),
    fixed("doctype without end", "<!DOCTYPE html [", STORED),
    fixed("processing instructions", "<?xml version='1.0'?><?php exit(1) ?><p>x", STORED),
    fixed("CDATA", "<![CDATA[<a href=/x>]]><p>x", STORED),
    fixed("only a comment", "<!-- -->", STORED),
    fixed("only a byte order mark", b"\xef\xbb\xbf", STORED, "no_content"),
    fixed("links of every bad kind", "".join(f"<a href='{href}'>" for href in (
        "http://[", "//", "///", "javascript:x", "data:,", "\x01", "http://%", "http://a:b:c", "\\\\", "?", "&#0;", "http:",
    )), STORED),
    page("JSON of 100,000 levels", lambda: "[" * 100_000 + "]" * 100_000, *ANY_JSON, kind=JSON),
    page("JSON objects of 100,000 levels", lambda: '{"a":' * 100_000 + "1" + "}" * 100_000, *ANY_JSON, kind=JSON),
    page("JSON number of a million digits", lambda: '{"a":' + "9" * 1_000_000 + "}", *ANY_JSON, kind=JSON),
    page("JSON exponent of a million", lambda: '{"a": 1e1000000, "b": [NaN, -Infinity]}', *ANY_JSON, kind=JSON),
    page("JSON of 200,000 members", lambda: "[" + ",".join(f'{{"id":{n}}}' for n in range(200_000)) + "]", *ANY_JSON, kind=JSON),
    page("JSON of one key", lambda: "{" + ",".join('"a":1' for _ in range(200_000)) + "}", *ANY_JSON, kind=JSON),
    fixed("JSON with lone surrogates", '{"a": "\\ud800", "\\udfff": "\\u0000"}', *ANY_JSON, kind=JSON),
    fixed("JSON that is none", '{"a": ', *ANY_JSON, kind=JSON),
    fixed("JSON with a byte order mark", b'\xef\xbb\xbf{"a": 1}', STORED, kind=JSON),
    fixed("JSON that is a page", PAGE, *ANY_JSON, kind=JSON),
    page("XML entity bomb", lambda: entity_bomb("a"), *ANY_JSON, kind=b"application/xml"),
    page("XML of 100,000 levels", lambda: "<a>" * 100_000, *ANY_JSON, kind=b"application/xml"),
    fixed("XML with a file in it", '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>', *ANY_JSON, kind=b"text/xml"),
]  # fmt: skip


def entity_bomb(root: str, use: str = "&e9;") -> str:
    """Return a document whose entities stand for a billion letters."""
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10))
    return f'<!DOCTYPE {root} [<!ENTITY e0 "aaaaaaaaaa">{entities}]><{root}>{use}</{root}>'


CASES: Sequence[Case] = (
    *TIME,
    *CLOSES,
    *HEADERS,
    *LENGTHS,
    *CHUNKS,
    *PROTOCOL,
    *STATUS,
    *CODINGS,
    *BODIES,
    *REDIRECTS,
    *TYPES,
    *PAGES,
)


# -- robots.txt


def robots(body: bytes, status: bytes = b"200 OK", more: bytes = b"") -> Answer:
    """Answer with a robots.txt."""
    return sends(whole(body, b"HTTP/1.1 " + status + b"\r\nContent-Type: text/plain\r\n" + more))


DENY = b"User-agent: *\nDisallow: /\n"


def crowded() -> bytes:
    """Return a robots.txt of 100 KB in which each of many agents has each of many rules."""
    agents = "".join(f"User-agent: a{n}\n" for n in range(3000))
    return (agents + "".join(f"Disallow: /{n}\n" for n in range(3000))).encode()


DENIED = ("robots_denied",)
AWAY = ("robots_unreachable",)
ROBOTS = [
    Case("robots of 5 MB that allows", robots(b"# padding\n" * 500_000), (STORED,)),
    Case("robots of 5 MB that denies at its start", robots(DENY + b"# padding\n" * 500_000), DENIED),
    Case("robots of 5 MB that denies at its end", robots(b"# padding\n" * 500_000 + DENY), (STORED,)),
    Case("robots that denies before 500 KiB", robots(b"# padding\n" * 50_000 + DENY), DENIED),
    Case("robots of one line of 5 MB", robots(b"User-agent: " + b"x" * 5_000_000), (STORED,)),
    Case("endless robots that denies at its start", floods(b"HTTP/1.1 200 OK\r\n\r\n" + DENY, b"# x\n"), (*DENIED, *AWAY)),
    Case("endless robots", floods(b"HTTP/1.1 200 OK\r\n\r\n", b"# x\n"), (STORED, *AWAY)),
    Case("robots that drips", drips(b"HTTP/1.1 200 OK\r\n\r\n", b"#"), AWAY, 0.4),
    Case("robots that stalls", stalls(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"), AWAY, 0.4),
    Case("robots that closes", sends(b""), AWAY),
    Case("robots that is cut", sends(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nUser-agent: *"), AWAY),
    Case("robots that is no HTTP", sends(b"SSH-2.0-x\r\n"), AWAY),
    Case("robots with endless headers", floods(OK, b"X: y\r\n"), AWAY),
    Case("robots in a gzip bomb", makes(GZIP, bomb), AWAY),
    Case("robots in bad gzip", zipped(b"User-agent: *"), AWAY),
    Case("robots in gzip", zipped(gzip.compress(DENY)), DENIED),
    Case("robots 500", robots(b"", b"500 Oops"), AWAY),
    Case("robots 503", robots(b"User-agent: *\nAllow: /\n", b"503 Away"), AWAY),
    Case("robots 503 for ever", robots(b"", b"503 Away", b"Retry-After: " + b"9" * 50 + b"\r\n"), AWAY),
    Case("robots 429", robots(b"", b"429 Slow"), AWAY),
    Case("robots 400", robots(DENY, b"400 Bad"), (STORED,)),
    Case("robots 401", robots(DENY, b"401 No"), (STORED,)),
    Case("robots 403", robots(DENY, b"403 No"), (STORED,)),
    Case("robots 404", robots(DENY, b"404 No"), (STORED,)),
    Case("robots 410", robots(DENY, b"410 Gone"), (STORED,)),
    Case("robots 204", sends(b"HTTP/1.1 204 No Content\r\n\r\n"), (STORED,)),
    Case("robots 304 unasked", sends(b"HTTP/1.1 304 Not Modified\r\n\r\n"), (STORED, *AWAY)),
    Case("robots 101", sends(b"HTTP/1.1 101 Switching Protocols\r\n\r\n"), AWAY),
    Case("robots moved", moves(b"/moved-robots"), DENIED),
    Case("robots moved in a circle", moves(b"/robots.txt"), (STORED, *AWAY)),
    Case("robots moved nowhere", says(b"302 Found", b""), (STORED, *AWAY)),
    Case("robots moved to a file", moves(b"file:///etc/passwd"), (STORED, *AWAY, SCHEME)),
    Case("robots moved to a private address", moves(b"http://10.0.0.1/robots.txt"), (STORED, *AWAY, BLOCKED)),
    Case("robots with a byte order mark", robots(b"\xef\xbb\xbf" + DENY), DENIED),
    Case("robots with CR line ends", robots(DENY.replace(b"\n", b"\r")), DENIED),
    Case("robots with CRLF line ends", robots(DENY.replace(b"\n", b"\r\n")), DENIED),
    Case("robots with bytes that are no text", robots(bytes(range(256)) * 100), (STORED,)),
    Case("robots with NULs", robots(b"User-agent: *\0\nDis\0allow: /\n"), (STORED, *DENIED)),
    Case("robots that is a page", robots(b"<html><body>User-agent: *</body></html>"), (STORED,)),
    Case("robots said to be a picture", sends(whole(DENY, b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n")), (STORED, *DENIED)),
    Case("robots with a negative crawl-delay", robots(b"User-agent: *\nCrawl-delay: -9\n"), (STORED,)),
    Case("robots with a crawl-delay of letters", robots(b"User-agent: *\nCrawl-delay: soon\n"), (STORED,)),
    Case("robots with a crawl-delay that is no number", robots(b"User-agent: *\nCrawl-delay: nan\n"), (STORED,)),
    Case("robots with a strange request-rate", robots(b"User-agent: *\nRequest-rate: 0/0 9999-99\n"), (STORED,)),
    Case("robots with 50,000 rules", robots(b"User-agent: *\n" + b"".join(b"Disallow: /no/%d\n" % n for n in range(20_000))), (STORED,)),
    Case("robots with rules that take long", robots(b"User-agent: *\nDisallow: /" + b"*a" * 8 + b"b$\n"), (STORED,)),
    Case("robots with 3,000 agents and 3,000 rules", makes(OK, crowded), (STORED,)),
    Case("robots with 1,000 stars", robots(b"User-agent: *\nDisallow: /" + b"*" * 1000 + b"b$\n"), (STORED,)),
]  # fmt: skip


class Refuser:
    """A port where nobody answers: it takes connections and closes them at once, or never takes them."""

    def __init__(self, manner: str) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=0 if manner == "full" else 16)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/"
        self._waiting: list[socket.socket] = []
        if manner == "full":
            for _ in range(4):
                end = socket.socket()
                end.setblocking(False)
                end.connect_ex(self._listener.getsockname())
                self._waiting.append(end)
        else:
            threading.Thread(target=self._refuse, args=(manner,), daemon=True).start()

    def _refuse(self, manner: str) -> None:
        while True:
            try:
                end, _ = self._listener.accept()
            except OSError:
                return
            if manner == "reset":
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            if manner == "silent":
                self._waiting.append(end)
            else:
                end.close()

    def close(self) -> None:
        """Let go of everything."""
        self._listener.close()
        for end in self._waiting:
            end.close()
