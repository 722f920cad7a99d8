"""Through proxies, and by HTTP/2: the same pages, the same names for what goes wrong, the same refusals."""

import asyncio
import contextlib
import gc
import gzip
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from scraper.config.settings import Http
from scraper.crawl import fetcher as fetching
from scraper.crawl.carrier import Carrier, Pinned, _asked, _proxy
from scraper.crawl.engine import Before, Engine
from scraper.crawl.fetcher import Fetcher
from scraper.crawl.fetcher import Request as Asked
from scraper.crawl.store import Store
from scraper.database import runs, sources
from scraper.database.connection import now
from scraper.errors import VisitFailed
from scraper.urls import parts
from tests.crawl.test_engine import Crawler, links, source
from tests.crawl.test_fetcher import MISBEHAVIOUR, WELL, fetch
from tests.site import Request, Site, running
from tests.support import free_port, until

HTTP = Http(allow_networks=("127.0.0.0/8",), timeout=2.0, max_body=100_000, delay=0, retries=0)


def received(end: socket.socket, size: int) -> bytes:
    """Return so many bytes."""
    data = b""
    while len(data) < size:
        chunk = end.recv(size - len(data))
        if not chunk:
            raise OSError
        data += chunk
    return data


def pass_on(one: socket.socket, other: socket.socket) -> None:
    """Pass on what comes from one end to the other, until there is no more."""
    with contextlib.suppress(OSError):
        while chunk := one.recv(65536):
            other.sendall(chunk)
    with contextlib.suppress(OSError):
        other.shutdown(socket.SHUT_WR)


def join(one: socket.socket, other: socket.socket) -> None:
    """Join two connections until both ends are silent."""
    back = threading.Thread(target=pass_on, args=(other, one), daemon=True)
    back.start()
    pass_on(one, other)
    back.join()


@dataclass
class Proxy:
    """A proxy for HTTP (absolute addresses, and CONNECT) and for SOCKS5. names: where it finds the hosts it is asked for."""

    names: dict[str, tuple[str, int]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._ends: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                end, _ = self._listener.accept()
                self._ends.append(end)
                threading.Thread(target=self._serve, args=(end,), daemon=True).start()

    def _serve(self, end: socket.socket) -> None:
        with end, contextlib.suppress(OSError):
            first = end.recv(1)
            if first == b"\x05":
                self._socks(end)
            elif first:
                self._http(end, first)

    def _socks(self, end: socket.socket) -> None:
        """RFC 1928, without a password."""
        received(end, received(end, 1)[0])
        end.sendall(b"\x05\x00")
        _, _, _, kind = received(end, 4)
        host = socket.inet_ntoa(received(end, 4)) if kind == 1 else received(end, received(end, 1)[0]).decode()
        port = int.from_bytes(received(end, 2), "big")
        self.asked.append(f"{host}:{port}")
        with socket.create_connection(self.names.get(host, (host, port)), 5) as site:
            end.sendall(b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00")
            join(end, site)

    def _http(self, end: socket.socket, unread: bytes) -> None:
        method, target, head = self._head(end, unread)
        where = target if method == "CONNECT" else target.split("/")[2]
        host, _, port = where.rpartition(":") if ":" in where else (where, "", "80")
        with socket.create_connection(self.names.get(host, (host, int(port))), 5) as site:
            if method == "CONNECT":
                end.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
                join(end, site)
                return
            threading.Thread(target=pass_on, args=(site, end), daemon=True).start()
            while True:
                kept = [line for line in head if not line.lower().startswith("proxy-")]
                path = "/" + target.split("/", 3)[3]
                site.sendall("\r\n".join([f"{method} {path} HTTP/1.1", *kept]).encode() + b"\r\n\r\n")
                method, target, head = self._head(end, b"")

    def _head(self, end: socket.socket, unread: bytes) -> tuple[str, str, list[str]]:
        while b"\r\n\r\n" not in unread:
            unread += received(end, 1)
        head = unread.decode("latin-1").removesuffix("\r\n\r\n")
        self.heads.append(head)
        first, *lines = head.split("\r\n")
        method, target, _ = first.split(" ")
        self.asked.append(target)
        return method, target, lines

    def drop(self) -> None:
        """Close the connections that are open."""
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._ends.clear()

    def close(self) -> None:
        """Listen no more."""
        self._listener.close()


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    made = Proxy()
    yield made
    made.close()


def address(proxy: Proxy, kind: str) -> str:
    """Return a proxy's address. kind: http, socks5."""
    return f"{kind}://127.0.0.1:{proxy.port}"


KINDS = pytest.mark.parametrize("kind", ["http", "socks5"])


# -- proxies


@KINDS
async def test_pages_are_stored_through_a_proxy(crawler: Crawler, site: Site, proxy: Proxy, kind: str) -> None:
    site.page("/robots.txt", "User-agent: *\nDisallow: /no", kind="text/plain")
    site.page("/", links("/1", "/2?a=b", "/no"))
    site.page("/1", "one")
    site.page("/2?a=b", "two")
    run = await crawler.run(source(site, http={"proxy": address(proxy, kind)}), HTTP)
    assert (run["state"], run["pages"]) == ("done", 3)
    assert sorted(site.paths()) == ["/", "/1", "/2?a=b"]
    if kind == "http":
        assert sorted(proxy.asked) == sorted(site.url + request.path for request in site.log)
    else:
        assert set(proxy.asked) == {f"127.0.0.1:{site.port}"}


@KINDS
async def test_a_proxy_looks_up_the_names(crawler: Crawler, site: Site, proxy: Proxy, kind: str) -> None:
    """Whoever asks through a proxy may know no names at all."""
    proxy.names["shop.invalid"] = ("127.0.0.1", site.port)
    site.page("/", "x")
    fetched = await fetch("http://shop.invalid/", replace(HTTP, proxy=address(proxy, kind), allow_networks=()))
    assert fetched.body == b"x"
    assert site.log[0].headers["host"] == "shop.invalid"


@KINDS
@pytest.mark.parametrize(
    "url",
    [
        "http://10.0.0.1/",
        "http://127.0.0.1:{port}/",
        "http://[::1]/",
        "http://169.254.169.254/latest",
        "http://[fd00::1]/",
    ],
)
async def test_a_private_address_is_not_asked_through_a_proxy_either(
    site: Site, proxy: Proxy, kind: str, url: str
) -> None:
    with pytest.raises(VisitFailed) as caught:
        await fetch(url.format(port=site.port), replace(HTTP, proxy=address(proxy, kind), allow_networks=()))
    assert caught.value.failure == "blocked_address"
    assert "allow_networks" in caught.value.message
    assert (proxy.asked, site.log) == ([], [])


@KINDS
async def test_a_redirect_to_a_private_address_is_refused_through_a_proxy(site: Site, proxy: Proxy, kind: str) -> None:
    proxy.names["shop.invalid"] = ("127.0.0.1", site.port)
    site.raw("/", f"HTTP/1.1 302 F\r\nLocation: {site.url}/in\r\nContent-Length: 0\r\n\r\n".encode())
    with pytest.raises(VisitFailed) as caught:
        await fetch("http://shop.invalid/", replace(HTTP, proxy=address(proxy, kind), allow_networks=()))
    assert caught.value.failure == "blocked_address"
    assert site.paths() == ["/"]


@pytest.mark.parametrize("http2", [False, True])
@pytest.mark.parametrize(
    ("length", "body", "closes"), [(100, b"x", False), (100, b"x", True), (20_000_000, b"x" * 200_000, False)]
)
async def test_the_body_of_a_redirect_is_not_waited_for(
    site: Site, proxy: Proxy, length: int, body: bytes, closes: bool, http2: bool
) -> None:
    head = f"HTTP/1.1 302 F\r\nLocation: /there\r\nContent-Length: {length}\r\n\r\n".encode()
    site.raw("/", head + body, close=closes)
    site.page("/there", "there")
    way = replace(HTTP, http2=True) if http2 else replace(HTTP, proxy=f"http://127.0.0.1:{proxy.port}")
    fetched = await fetch(site.url + "/", way)
    assert (fetched.final_url, fetched.body) == (site.url + "/there", b"there")


@KINDS
@pytest.mark.parametrize(("data", "failure"), [pytest.param(d, f, id=name) for name, d, f in MISBEHAVIOUR])
async def test_misbehaviour_has_the_same_name_through_a_proxy(
    site: Site, proxy: Proxy, kind: str, data: bytes, failure: str
) -> None:
    with pytest.raises(VisitFailed) as caught:
        await fetch(site.raw("/x", data), replace(HTTP, proxy=address(proxy, kind)))
    assert caught.value.failure == failure, caught.value.message


@KINDS
@pytest.mark.parametrize("data", [pytest.param(d, id=name) for name, d in WELL])
async def test_what_is_well_formed_is_read_through_a_proxy(site: Site, proxy: Proxy, kind: str, data: bytes) -> None:
    fetched = await fetch(site.raw("/x", data), replace(HTTP, proxy=address(proxy, kind)))
    assert (fetched.status, fetched.body) == (200, b"hello")


@KINDS
async def test_the_deadline_holds_through_a_proxy(site: Site, proxy: Proxy, kind: str) -> None:
    over = threading.Event()

    def silent(end: socket.socket, request: Request) -> bool:
        over.wait(5)
        return False

    site.routes["/x"] = silent
    began = time.monotonic()
    with pytest.raises(VisitFailed) as caught:
        await fetch(site.url + "/x", replace(HTTP, timeout=0.3, proxy=address(proxy, kind)))
    over.set()
    assert caught.value.failure == "timeout"
    assert time.monotonic() - began < 2


@KINDS
async def test_a_proxy_that_is_away_is_told_as_such(site: Site, kind: str) -> None:
    with pytest.raises(VisitFailed) as caught:
        await fetch(site.url + "/x", replace(HTTP, proxy=f"{kind}://127.0.0.1:{free_port()}"))
    assert caught.value.failure == "connect"
    assert "through the proxy" in caught.value.message


@KINDS
def test_a_proxy_that_speaks_something_else_has_a_name_and_is_left(kind: str) -> None:
    """The connection is closed then and there, not when the garbage is collected."""
    closed = threading.Event()

    def speak(listener: socket.socket) -> None:
        end, _ = listener.accept()
        with end, contextlib.suppress(OSError):
            end.sendall(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
            while end.recv(65536):
                pass
        closed.set()

    async def ask(port: int) -> tuple[str, bool]:
        with pytest.raises(VisitFailed) as caught:
            await fetch("http://93.184.216.34/", replace(HTTP, proxy=f"{kind}://127.0.0.1:{port}", timeout=1.0))
        return caught.value.failure, await asyncio.to_thread(closed.wait, 1.0)

    with socket.create_server(("127.0.0.1", 0)) as listener, warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # what was not closed is not to be blamed on another test
        threading.Thread(target=speak, args=(listener,), daemon=True).start()
        failure, left = asyncio.run(ask(listener.getsockname()[1]))
        gc.collect()
    assert failure in ("protocol", "connect")
    assert left


async def test_user_and_password_of_a_proxy_are_for_the_proxy(site: Site, proxy: Proxy) -> None:
    site.page("/x", "x")
    await fetch(site.url + "/x", replace(HTTP, proxy=f"http://ann:p%40ss@127.0.0.1:{proxy.port}"))
    assert "Proxy-Authorization: Basic YW5uOnBAc3M=" in proxy.heads[0]
    assert not any(name.startswith("proxy-") for name in site.log[0].headers)


def test_the_address_of_a_proxy_is_taken_apart() -> None:
    assert _proxy("") is None
    made: Any = _proxy("http://ann:p%40ss@[::1]:3128/x?y")
    assert (made.url.scheme, made.url.host, made.url.port, made.url.target) == (b"http", b"::1", 3128, b"/")
    assert made.auth == (b"ann", b"p@ss")
    plain: Any = _proxy("socks5://proxy.example:1080")
    assert (plain.url.scheme, plain.auth) == (b"socks5", None)


# -- the other way to a site itself


@pytest.mark.parametrize(("data", "failure"), [pytest.param(d, f, id=name) for name, d, f in MISBEHAVIOUR])
async def test_misbehaviour_has_the_same_name_where_http2_is_spoken(site: Site, data: bytes, failure: str) -> None:
    with pytest.raises(VisitFailed) as caught:
        await fetch(site.raw("/x", data), replace(HTTP, http2=True))
    assert caught.value.failure == failure, caught.value.message


async def test_names_are_checked_where_http2_is_spoken(site: Site) -> None:
    site.page("/", "x")
    with pytest.raises(VisitFailed) as caught:
        await fetch(f"http://localhost:{site.port}/", replace(HTTP, http2=True, allow_networks=()))
    assert caught.value.failure == "blocked_address"
    assert site.log == []
    with pytest.raises(VisitFailed) as caught:
        await Pinned(()).connect_tcp("no-such-host.invalid", 80)
    assert caught.value.failure == "dns"


@pytest.mark.parametrize("version", ["1", "2"])
def test_the_pools_are_kept_apart_by_way(version: str) -> None:
    carrier = Carrier()
    one = carrier._pool(("", version == "2", ()))
    assert carrier._pool(("", version == "2", ())) is one
    assert carrier._pool((f"http://127.0.0.1:{version}", version == "2", ())) is not one


# -- HTTP/2 over TLS, by a server of this world

NGINX = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
needs_nginx = pytest.mark.skipif(not NGINX or not shutil.which("openssl"), reason="needs nginx and openssl")
CONFIG = """
daemon off; master_process off; pid {path}/nginx.pid; error_log {path}/error.log;
events {{ }}
http {{
  access_log {path}/access.log combined; default_type text/html; root {path}/pages; keepalive_requests 7;
  client_body_temp_path {path}/t; proxy_temp_path {path}/t; fastcgi_temp_path {path}/t; uwsgi_temp_path {path}/t;
  scgi_temp_path {path}/t;
  server {{
    listen 127.0.0.1:{port} ssl http2; server_name localhost; ssl_certificate {path}/c.pem; ssl_certificate_key {path}/k.pem;
    location /br {{ add_header Content-Encoding br; }}
    location /gz {{ add_header Content-Encoding gzip; }}
    location /404 {{ return 404; }}
    location /moved {{ return 301 /; }}
    location /long {{ add_header X-Long "{long}"; }}
  }}
}}
"""


@dataclass
class Secure:
    """A server that speaks HTTP/2 over TLS, with a certificate of its own making."""

    path: Path
    url: str

    def check(self, at: str = "/", *, trusted: bool = True, http: str = "http2 = true") -> dict[str, Any]:
        """Return what `sources check` says of a page, in a process that trusts the certificate, or does not."""
        (self.path / "bowerbird.toml").write_text(
            f'[http]\nallow_networks = ["127.0.0.0/8", "::1/128"]\ndelay = 0\nretries = 0\nmax_body = "100 KiB"\n{http}\n'
            f'[[source]]\nname = "s"\nstart = ["{self.url}{at}"]\n'
        )
        trust = {"SSL_CERT_FILE": str(self.path / "c.pem")} if trusted else {}
        done = subprocess.run(
            [sys.executable, "-m", "scraper", "sources", "check", "s"],
            cwd=self.path,
            env={**os.environ, **trust},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.stdout.startswith("{"), done.stderr
        told: dict[str, Any] = json.loads(done.stdout)
        return told

    def asked(self) -> str:
        """Return the server's own log."""
        return (self.path / "access.log").read_text()


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    path, port = tmp_path_factory.mktemp("secure"), free_port()
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        "k.pem",
        "-out",
        "c.pem",
        "-days",
        "2",
    ]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run([*command, *names], cwd=path, check=True, capture_output=True)
    pages = path / "pages"
    pages.mkdir()
    (pages / "index.html").write_text("<title>Secure</title>" + links("/a"))
    (pages / "big").write_text("x" * 200_000)
    (pages / "br").write_text("x")
    (pages / "long").write_text("x")
    (pages / "gz").write_bytes(gzip.compress(b"\0" * 5_000_000))
    (path / "nginx.conf").write_text(CONFIG.format(path=path, port=port, long="y" * 3000))
    with (path / "out.log").open("wb") as log:
        server = subprocess.Popen([str(NGINX), "-p", str(path), "-c", str(path / "nginx.conf")], stdout=log, stderr=log)
    try:
        until(lambda: server.poll() is not None or _listens(port), "nginx listens")
        assert server.poll() is None, (path / "out.log").read_text()
        yield Secure(path, f"https://127.0.0.1:{port}")
    finally:
        server.terminate()
        server.wait()


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@needs_nginx
def test_http2_is_spoken_where_it_is_wanted_and_only_there(secure: Secure) -> None:
    told = secure.check("/?two")
    assert (told["status"], told["title"], told["failure"]) == (200, "Secure", None)
    told = secure.check("/?one", http="")
    assert (told["status"], told["failure"]) == (200, None)
    until(lambda: "?one" in secure.asked(), "it is in the log")
    assert '"GET /?two HTTP/2.0" 200' in secure.asked()
    assert '"GET /?one HTTP/1.1" 200' in secure.asked()


@needs_nginx
async def test_a_server_that_ends_its_connections_now_and_then_costs_no_page(
    secure: Secure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(secure.path / "c.pem"))
    fetcher = Fetcher()

    async def admit(target: str) -> None:
        """Every hop is allowed."""

    async def some(lane: int) -> None:
        for number in range(30):
            found = await fetcher.fetch(Asked(f"{secure.url}/?{lane}.{number}"), way, admit=admit)
            assert found.status == 200

    way = replace(HTTP, http2=True, timeout=20.0)
    try:
        await asyncio.gather(*map(some, range(2)))
    finally:
        await fetcher.close()


@needs_nginx
def test_redirects_are_followed_by_http2(secure: Secure) -> None:
    told = secure.check("/moved")
    assert (told["final_url"], told["title"]) == (secure.url + "/", "Secure")


@needs_nginx
@pytest.mark.parametrize(
    ("path", "failure"),
    [("/big", "body_too_large"), ("/br", "decode"), ("/gz", "decoded_too_large"), ("/404", "http_4xx")],
)
def test_what_goes_wrong_by_http2_has_the_same_name(secure: Secure, path: str, failure: str) -> None:
    for http in ("http2 = true", ""):
        told = secure.check(path, http=http)
        assert (told["failure"] or {}).get("reason") == failure


@needs_nginx
@pytest.mark.parametrize("http", ["http2 = true", ""])
def test_a_certificate_that_nobody_trusts_is_tls(secure: Secure, http: str) -> None:
    told = secure.check(trusted=False, http=http)
    assert told["failure"]["reason"] == "tls"
    assert "certificate" in told["failure"]["message"].lower()


@needs_nginx
@KINDS
def test_tls_goes_through_a_proxy_to_the_site_itself(secure: Secure, proxy: Proxy, kind: str) -> None:
    way = f'http2 = true\nproxy = "{address(proxy, kind)}"'
    told = secure.check(f"/?{kind}", http=way)
    assert (told["title"], told["failure"]) == ("Secure", None)
    until(lambda: f"?{kind}" in secure.asked(), "it is in the log")
    assert f'"GET /?{kind} HTTP/2.0" 200' in secure.asked()
    assert set(proxy.asked) == {secure.url.removeprefix("https://")}
    told = secure.check(trusted=False, http=way)
    assert told["failure"]["reason"] == "tls"


def test_an_address_is_asked_for_as_it_stands() -> None:
    url = _asked(parts("http://a.org/item;id=1?q=;x"))
    assert url.target == b"/item;id=1?q=;x"


async def test_the_password_of_a_proxy_is_a_variable(crawler: Crawler, site: Site, proxy: Proxy) -> None:
    site.page("/", "x")
    watched = source(site, http={"proxy": f"http://ann:${{PROXY_PASSWORD}}@127.0.0.1:{proxy.port}"})
    crawler.db.write(lambda c: sources.sync(c, [watched], lambda s, last: None))
    run = crawler.db.write(lambda c: runs.request(c, "s", now()))
    store = Store(crawler.db, "test")
    await Engine(store, HTTP, [run], variables={"PROXY_PASSWORD": "p%40ss"}).run([watched], Before(now()))
    store.close()
    assert "Proxy-Authorization: Basic YW5uOnBAc3M=" in proxy.heads[-1]


async def test_what_a_proxy_says_of_robots_holds_for_those_who_go_by_it(crawler: Crawler, site: Site) -> None:
    with running() as wall:  # it answers in place of every site
        site.page("/robots.txt", "User-agent: *\nDisallow: /", kind="text/plain")
        site.page("/", "x")
        wall.raw(site.url + "/robots.txt", b"HTTP/1.1 403 F\r\nContent-Length: 0\r\n\r\n")
        wall.raw(site.url + "/", b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 1\r\n\r\nx")
        by_it = await crawler.run(source(site, http={"proxy": wall.url}), HTTP)
        assert (by_it["state"], by_it["pages"]) == ("done", 1)
        await crawler.run(source(site), HTTP)
        assert [failure["reason"] for failure in crawler.rows("failures")] == ["robots_denied"]
        assert site.paths() == []


async def test_a_connection_of_http2_that_is_silent_is_left(site: Site) -> None:
    """What others are asked over it may end; from now on a new one is made."""
    carrier = Carrier()
    way = ("", True, ())
    before = carrier._pool(way)
    carrier._leave_behind(way, [])
    assert carrier._pool(way) is not before
    await carrier.close()


async def test_a_kept_connection_that_was_closed_meanwhile_costs_no_page(site: Site, proxy: Proxy) -> None:
    site.page("/x", "x")
    fetcher = Fetcher()
    http = replace(HTTP, proxy=address(proxy, "http"))
    for _ in range(3):
        found = await fetcher.fetch(fetching.Request(site.url + "/x"), http, admit=_all)
        assert found.body == b"x"
        proxy.drop()
    await fetcher.close()


async def _all(_: str) -> None:
    """Admit all."""
