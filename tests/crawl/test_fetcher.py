"""Each way in which a server can misbehave ends as a named failure, in bounded time and memory."""

import asyncio
import gzip
import socket
import threading
import zlib
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scraper.config.settings import Http
from scraper.crawl.addresses import RESOLVERS, networks, resolve
from scraper.crawl.fetcher import Fetcher, decoded, retry_after
from scraper.crawl.fetcher import Request as Asked
from scraper.errors import VisitFailed
from scraper.records import Fetched
from scraper.urls import canonical
from tests.site import Request, Site, html

HTTP = Http(allow_networks=("127.0.0.0/8",), timeout=2.0, max_body=100_000)


async def fetch(url: str, http: Http = HTTP) -> Fetched:
    fetcher = Fetcher()

    async def admit(target: str) -> None:
        """Every hop is allowed."""

    try:
        return await fetcher.fetch(Asked(url), http, admit=admit)
    finally:
        await fetcher.close()


async def test_a_name_server_that_is_silent_keeps_nobody_else_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    answer, asked = threading.Event(), []

    def look_up(host: str, *_: object, **__: object) -> list[tuple[object, ...]]:
        asked.append(host)
        if host == "silent.invalid":
            answer.wait(60)
        return [(0, 0, 0, "", ("127.0.0.1", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    allowed = networks(("127.0.0.0/8",))
    waiting = [asyncio.create_task(resolve("silent.invalid", allowed)) for _ in range(2 * RESOLVERS)]
    try:
        async with asyncio.timeout(30):
            assert await resolve("other.invalid", allowed) == ["127.0.0.1"]
        waiting.pop().cancel()
    finally:
        answer.set()
    assert {tuple(found) for found in await asyncio.gather(*waiting)} == {("127.0.0.1",)}
    assert asked.count("silent.invalid") == 1
    assert await resolve("silent.invalid", allowed) == ["127.0.0.1"]  # and what was answered is not kept
    assert asked.count("silent.invalid") == 2


OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n"
BOMB = gzip.compress(b"\0" * 50_000_000)

MISBEHAVIOUR = [
    ("no answer", b"", "protocol"),
    ("not http", b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "protocol"),
    ("cut header", b"HTTP/1.1 200 OK\r\nContent-", "protocol"),
    ("short body", OK + b"Content-Length: 100\r\n\r\nhello", "incomplete_body"),
    ("cut chunked", OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "incomplete_body"),
    ("bad chunk size", OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n", "protocol"),
    ("two lengths", OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", "protocol"),
    ("negative length", OK + b"Content-Length: -5\r\n\r\nhello", "protocol"),
    ("many headers", OK + b"".join(b"X-%d: y\r\n" % n for n in range(500)) + b"\r\nhello", "header_too_large"),
    ("long header", OK + b"X: " + b"y" * 100_000 + b"\r\n\r\nhello", "header_too_large"),
    ("endless header", OK + b"X: " + b"y" * 1_000_000, "header_too_large"),
    ("long body", OK + b"\r\n" + b"x" * 200_000, "body_too_large"),
    ("announced long body", OK + b"Content-Length: 99999999\r\n\r\nx", "body_too_large"),
    ("gzip bomb", OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(BOMB) + BOMB, "decoded_too_large"),
    ("cut gzip", OK + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b"hello" * 99)[:-9], "decode"),
    ("no gzip", OK + b"Content-Encoding: gzip\r\n\r\nhello", "decode"),
    ("unknown coding", OK + b"Content-Encoding: br\r\n\r\nhello", "decode"),
    ("many codings", OK + b"Content-Encoding: gzip, gzip, gzip\r\n\r\nhello", "decode"),
    ("cut chunked, other case", OK + b"Transfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n", "incomplete_body"),
    ("many gzip members", OK + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b"") * 500, "decode"),
    ("upgrade", b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "protocol"),
    ("endless interim", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 50, "protocol"),
    ("nowhere", b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n", "bad_redirect"),
    ("to a file", b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n", "blocked_scheme"),
    (
        "to script",
        b"HTTP/1.1 302 Found\r\nLocation: javascript:alert(1)\r\nContent-Length: 0\r\n\r\n",
        "blocked_scheme",
    ),
    (
        "to a private address",
        b"HTTP/1.1 302 Found\r\nLocation: http://10.0.0.1/\r\nContent-Length: 0\r\n\r\n",
        "blocked_address",
    ),
    (
        "to metadata",
        b"HTTP/1.1 302 Found\r\nLocation: http://2852039166/\r\nContent-Length: 0\r\n\r\n",
        "blocked_address",
    ),
    (
        "with a password",
        b"HTTP/1.1 302 Found\r\nLocation: http://u:p@127.0.0.1/\r\nContent-Length: 0\r\n\r\n",
        "invalid_url",
    ),
    ("in a circle", b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", "too_many_redirects"),
]


@pytest.mark.parametrize(("data", "failure"), [pytest.param(d, f, id=name) for name, d, f in MISBEHAVIOUR])
async def test_misbehaviour_has_a_name(site: Site, data: bytes, failure: str) -> None:
    with pytest.raises(VisitFailed) as caught:
        await fetch(site.raw("/x", data))
    assert caught.value.failure == failure, caught.value.message


@pytest.mark.parametrize("cookie", ["", "Set-Cookie: seen=1\r\n"])
async def test_a_gate_of_cookies_is_told_as_one(site: Site, cookie: str) -> None:
    head = f"HTTP/1.1 302 F\r\n{cookie}Location: {site.url}/x\r\nContent-Length: 0\r\n\r\n"
    with pytest.raises(VisitFailed, match="in a circle") as caught:
        await fetch(site.raw("/x", head.encode()))
    assert ("cookies = true" in caught.value.message) == bool(cookie)


WELL = [
    ("with length", OK + b"Content-Length: 5\r\n\r\nhello"),
    ("chunked", OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\nContent-Encoding: gzip\r\n\r\n"),
    ("until close", OK + b"\r\nhello"),
    ("http 1.0", b"HTTP/1.0 200 OK\r\n\r\nhello"),
    ("a folded line", OK + b"X-A: a\r\n  b\r\nContent-Length: 5\r\n\r\nhello"),
    ("after interim", b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 5\r\n\r\nhello"),
    ("gzip", OK + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b"hello")),
    ("two gzip members", OK + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b"he") + gzip.compress(b"llo")),
    ("deflate", OK + b"Content-Encoding: deflate\r\n\r\n" + zlib.compress(b"hello")),
    ("raw deflate", OK + b"Content-Encoding: deflate\r\n\r\n" + zlib.compress(b"hello", wbits=-15)),
    ("identity", OK + b"Content-Encoding: identity\r\n\r\nhello"),
]


@pytest.mark.parametrize("data", [pytest.param(d, id=name) for name, d in WELL])
async def test_what_is_well_formed_is_read(site: Site, data: bytes) -> None:
    fetched = await fetch(site.raw("/x", data))
    assert (fetched.status, fetched.body) == (200, b"hello")


async def test_the_deadline_is_for_the_whole_answer(site: Site) -> None:
    def drip(end: object, request: object) -> bool:
        end.sendall(OK + b"Content-Length: 1000\r\n\r\n")  # type: ignore[attr-defined]
        for _ in range(200):
            end.sendall(b"x")  # type: ignore[attr-defined]
            hold.wait(0.05)
        return False

    hold = threading.Event()
    site.routes["/drip"] = drip
    with pytest.raises(VisitFailed) as caught:
        await fetch(site.url + "/drip", replace(HTTP, timeout=0.5))
    hold.set()
    assert caught.value.failure == "timeout"


async def test_a_closed_port_and_an_unknown_name() -> None:
    for url, failure in (("http://127.0.0.1:9/", "connect"), ("http://no-such-host.invalid/", "dns")):
        with pytest.raises(VisitFailed) as caught:
            await fetch(url)
        assert caught.value.failure == failure


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/",
        "http://localhost:{port}/",
        "http://0x7f000001:{port}/",
        "http://0177.0.0.1:{port}/",
        "http://[::ffff:127.0.0.1]:{port}/",
        "http://0.0.0.0:{port}/",
    ],
)
async def test_this_machine_is_not_asked_unless_it_is_allowed(site: Site, url: str) -> None:
    target = canonical(url.format(port=site.port))
    assert target
    with pytest.raises(VisitFailed) as caught:
        await fetch(target, replace(HTTP, allow_networks=()))
    assert caught.value.failure == "blocked_address"
    assert site.log == []


async def test_redirects_are_followed_and_connections_kept(site: Site) -> None:
    site.raw("/a", b"HTTP/1.1 301 Moved\r\nLocation: /b#part\r\nContent-Length: 2\r\n\r\nhi", close=False)
    site.page("/b", "there")
    fetched = await fetch(site.url + "/a")
    assert (fetched.url, fetched.final_url, fetched.body) == (site.url + "/a", site.url + "/b", b"there")


async def test_a_connection_that_the_server_closed_meanwhile_is_replaced(site: Site) -> None:
    site.raw("/x", html("x"))
    fetcher = Fetcher()

    async def admit(target: str) -> None:
        """Allowed."""

    for _ in range(5):
        assert (await fetcher.fetch(Asked(site.url + "/x"), HTTP, admit=admit)).body == b"x"
    await fetcher.close()


@given(st.binary(max_size=2000), st.sampled_from(["gzip", "deflate", "gzip, deflate", "x-gzip"]))
def test_decoding_garbage_ends_with_a_name(body: bytes, encoding: str) -> None:
    failure, size = None, 0
    try:
        size = len(decoded(body, encoding, 10_000))
    except VisitFailed as error:
        failure = error.failure
    assert failure in (None, "decode", "decoded_too_large")
    assert size <= 10_000


@given(st.binary(max_size=5000))
def test_decoding_gives_back_what_was_encoded(body: bytes) -> None:
    assert decoded(gzip.compress(body), "gzip", 10_000) == body
    assert decoded(zlib.compress(body), "deflate", 10_000) == body


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0),
        ("6, 6", 6.0),
        ("6,120", 120.0),
        ("6, soon", 6.0),
        ("3600, Wed, 21 Oct 2026 07:29:00 GMT", 3600.0),
        ("5, Wed, 21 Oct 2026 07:29:00 GMT", 60.0),
        ("Wednesday, 21-Oct-26 07:29:00 GMT", 60.0),
        ("3600,", 3600.0),
        ("3600.5", 3600.5),
        ("00000000000000003600", 3600.0),
        ("Wed, 21 Oct 2026 07:29:00 GMT", 60.0),
        ("Wed, 21 Oct 2026 07:27:00 GMT", 0.0),
        ("", None),
        ("soon", None),
        ("\u00b2", None),
        ("Wed, 21 Oct 99999999999999999999 07:29:00 GMT", None),
        ("-5", None),
    ],
)
def test_retry_after(value: str, seconds: float | None) -> None:
    now = datetime(2026, 10, 21, 7, 28, tzinfo=UTC)
    assert retry_after({"retry-after": value}, now) == seconds


async def test_a_redirect_whose_body_does_not_come_is_followed(site: Site) -> None:
    site.page("/there", "there")
    head = f"HTTP/1.1 302 Found\r\nLocation: {site.url}/there\r\nContent-Length: 50\r\n\r\n".encode()
    closed = threading.Event()

    def stalls(end: socket.socket, request: Request) -> bool:
        end.sendall(head)
        end.recv(1)
        closed.set()
        return False

    site.routes["/"] = stalls
    found = await fetch(site.url + "/", replace(HTTP, timeout=20.0))
    assert found.body == b"there"
    assert await asyncio.to_thread(closed.wait, 10)
