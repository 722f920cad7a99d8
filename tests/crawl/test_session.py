"""What a source brings along goes to its own origins alone; a login holds, is made anew, or fails by name."""

import asyncio
import logging
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest

from scraper.config.load import load
from scraper.config.secrets import environment, filled, missing
from scraper.config.settings import Http, Login, Source
from scraper.crawl import session
from scraper.crawl.engine import Before, Engine
from scraper.crawl.fetcher import Fetcher
from scraper.crawl.session import COOKIES_A_HOST, Session
from scraper.crawl.store import Store
from scraper.database import runs, sources
from scraper.database.connection import now
from scraper.errors import BadConfig, VisitFailed
from tests.crawl.test_engine import HTTP, Crawler, links, source
from tests.site import Site, html, running

ONE_BY_ONE = Http(delay=0, per_host=1, retries=0, allow_networks=HTTP.allow_networks)
USER, PASSWORD, KEY = "ann", "s3cr3t-passw0rd", "k3y-of-the-sh0p"
VARIABLES = {"SHOP_USER": USER, "SHOP_PASSWORD": PASSWORD, "SHOP_KEY": KEY}
FORM = {"user": "${SHOP_USER}", "password": "${SHOP_PASSWORD}"}


async def crawl(
    crawler: Crawler, watched: Source, http: Http = ONE_BY_ONE, variables: Mapping[str, str] = VARIABLES
) -> dict[str, Any]:
    """Run a source once, with variables in the environment. Returns the run's row."""
    crawler.db.write(lambda c: sources.sync(c, [watched], lambda s, last: None))
    run = crawler.db.write(lambda c: runs.request(c, watched.name, now()))
    store = Store(crawler.db, "test")
    await Engine(store, http, [run], variables=variables).run([watched], Before(now()))
    store.close()
    return crawler.db.read(lambda c: runs.one(c, run, now()))


@dataclass
class Asked:
    """One request to the shop."""

    method: str
    path: str
    cookie: str
    form: dict[str, str]


@dataclass
class Shop:
    """A site with a login: its pages are for those who have its cookie. Answers 401 or sends strangers to the form."""

    refuses: bool = False
    forgets_after: int | None = None
    forgets_all: bool = False
    sends_on_to: str = ""
    takes_none: bool = False
    method: str = "post"
    action: str = "/enter"
    form_at: str = "/login"  # where /login leads
    in_place: bool = False  # strangers are shown the form where they are
    landing: tuple[int, dict[str, str], str] = (303, {"Location": "/welcome"}, "")
    logs_out_at: str = ""
    forbids: str = ""
    leads_on: bool = False  # from the login page, whoever is logged in
    log: list[Asked] = field(default_factory=list)
    served: int = 0
    entered: int = 0
    known: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        shop = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                shop.answer(self, "GET", dict(parse_qsl(self.path.partition("?")[2], keep_blank_values=True)))

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                shop.answer(self, "POST", dict(parse_qsl(body.decode(), keep_blank_values=True)))

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._lock = threading.Lock()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, to: BaseHTTPRequestHandler, method: str, form: dict[str, str]) -> None:
        """Answer one request."""
        path, cookie = to.path.partition("?")[0], to.headers.get("Cookie", "")
        with self._lock:
            self.log.append(Asked(method, path, cookie, form))
            status, headers, body = self._judge(path, cookie, form)
        to.send_response(status)
        for name, value in headers.items():
            to.send_header(name, value)
        to.send_header("Content-Type", "text/html")
        to.send_header("Content-Length", str(len(body)))
        to.end_headers()
        to.wfile.write(body.encode())

    def _judge(self, path: str, cookie: str, form: dict[str, str]) -> tuple[int, dict[str, str], str]:
        if path == "/robots.txt":
            return 404, {}, ""
        if path == "/login" and self.leads_on and self._is_member(cookie):
            return 302, {"Location": "/welcome"}, ""
        if path == "/login" != self.form_at:
            return 301, {"Location": self.form_at}, ""
        if path == self.form_at:
            return 200, {}, self._form()
        if path == "/broken":
            return 500, {}, "oh"
        return self._to_members(path, cookie, form)

    def _is_member(self, cookie: str) -> bool:
        return bool(self.known & {value.partition("=")[2] for value in cookie.split("; ")})

    def _to_members(self, path: str, cookie: str, form: dict[str, str]) -> tuple[int, dict[str, str], str]:
        if path == self.logs_out_at:
            self.known.clear()
        if path == "/enter" and self.sends_on_to:
            return 307, {"Location": self.sends_on_to}, ""
        if path == "/enter":
            right = {"user": USER, "password": PASSWORD, "token": "t0ken", "empty": "", "stay": "yes", "go": "Go"}
            if self.takes_none or form != right:
                return 200, {}, self._form()
            number = f"sess10n-{self.entered}"
            self.entered += 1
            self.known.add(number)
            status, headers, body = self.landing
            return status, {"Set-Cookie": f"shop={number}; Path=/; HttpOnly", **headers}, body
        if self.forgets_all and path != "/welcome":
            self.known.clear()
        if not self._is_member(cookie):
            if self.in_place:
                return 200, {}, self._form()
            return (401, {}, "who?") if self.refuses else (302, {"Location": self.form_at + "?next=" + path}, "")
        if path == self.forbids:
            return 403, {}, "no"
        self.served += path != "/welcome"
        if path != "/welcome" and self.served == self.forgets_after:
            self.known.clear()
        return 200, {}, links("/1", "/2", "/3", "/4")

    def _form(self) -> str:
        return (
            '<form action="/search"><input name="q"></form>'
            f'<form action="{self.action}" method="{self.method}"><input name="user"><input name="password" type="password">'
            '<input type="hidden" name="token" value="t0ken"><input type="hidden" name="empty">'
            '<input type="checkbox" name="stay" value="yes" checked><input type="checkbox" name="also" value="no">'
            '<input type="submit" name="go" value="Go"></form>'
        )

    def times(self, method: str, path: str) -> int:
        """Return how often a path was asked for."""
        return sum((asked.method, asked.path) == (method, path) for asked in self.log)

    def source(self, **more: Any) -> Source:
        """Return a source that logs in."""
        given = {"login": Login(url=self.url + "/login", form=FORM), **more}
        return Source(name="s", start=(self.url + "/",), follow=True, **given)

    def close(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def shop() -> Iterator[Shop]:
    made = Shop()
    yield made
    made.close()


# -- headers and cookies of the file


async def test_secrets_go_to_the_sources_own_origin_and_to_no_other(crawler: Crawler, site: Site) -> None:
    with running() as other:
        site.page("/", links("/1"))
        site.page("/1", "x")
        target = f"{other.url}/there".encode()
        site.raw("/out", b"HTTP/1.1 302 F\r\nLocation: " + target + b"\r\nContent-Length: 0\r\n\r\n", close=False)
        other.page("/there", "x")
        watched = source(
            site,
            "/",
            "/out",
            headers={"X-Key": "key ${SHOP_KEY}!", "Authorization": "Bearer ${SHOP_KEY}"},
            cookies={"a": "${SHOP_USER}", "b": "2"},
        )
        run = await crawl(crawler, watched)
        assert run["pages"] == 3
        for request in site.log:
            if request.path != "/robots.txt":
                assert request.headers["x-key"] == f"key {KEY}!"
                assert request.headers["authorization"] == f"Bearer {KEY}"
                assert request.headers["cookie"] == f"a={USER}; b=2"
        assert {request.path for request in other.log} == {"/robots.txt", "/there"}
        for request in other.log:
            assert not {"x-key", "authorization", "cookie"} & set(request.headers)


async def test_secrets_come_along_again_when_a_redirect_leads_back(crawler: Crawler, site: Site) -> None:
    with running() as other:
        there, back = f"{other.url}/there".encode(), f"{site.url}/back".encode()
        site.raw("/", b"HTTP/1.1 302 F\r\nLocation: " + there + b"\r\nContent-Length: 0\r\n\r\n")
        other.raw("/there", b"HTTP/1.1 302 F\r\nLocation: " + back + b"\r\nContent-Length: 0\r\n\r\n")
        site.page("/back", "x")
        await crawl(crawler, source(site, headers={"X-Key": "${SHOP_KEY}"}))
        assert site.log[-1].headers["x-key"] == KEY
        assert not any("x-key" in request.headers for request in other.log)


# -- cookies of the sites


async def test_cookies_are_kept_only_if_they_are_wanted(crawler: Crawler, site: Site) -> None:
    site.page("/", links("/1"), Set_Cookie="a=1; Path=/")
    site.page("/1", "x")
    await crawl(crawler, source(site))
    assert not any("cookie" in request.headers for request in site.log)
    await crawl(crawler, source(site, http={"cookies": True}))
    assert [request.headers.get("cookie") for request in site.log[-2:]] == [None, "a=1"]


async def test_a_cookie_that_a_redirect_sets_is_sent_to_its_target(crawler: Crawler, site: Site) -> None:
    away = b"HTTP/1.1 302 F\r\nLocation: /\r\nSet-Cookie: seen=1\r\nContent-Length: 0\r\n\r\n"
    site.raw("/", lambda asked: html("x") if "cookie" in asked.headers else away)
    run = await crawl(crawler, source(site, http={"cookies": True}))
    assert (run["state"], site.paths()) == ("done", ["/", "/"])


@pytest.mark.parametrize(
    ("received", "asked", "sent"),
    [
        (["a=1"], "/", "a=1"),
        (["a=1", "b=2; HttpOnly; SameSite=Strict"], "/", "a=1; b=2"),
        (["a=1", "a=2"], "/", "a=2"),
        (["a=1; Path=/in"], "/", None),
        (["a=1; Path=/in"], "/in/x", "a=1"),
        (["a=1; Path=/", "a=1; Path=/; Max-Age=0"], "/", None),
        (["a=1; Path=/; Max-Age=0", "a=2; Path=/"], "/", "a=2"),
        (["a=1; Expires=Thu, 01 Jan 1970 00:00:00 GMT"], "/", None),
        (["a=1; Expires=Thu, 01 Jan 2099 00:00:00 GMT"], "/", "a=1"),
        (["a=1; Secure"], "/", None),
        (["a=1; Domain=evil.org"], "/", None),
        (["a=1; Domain=org"], "/", None),
        (["a=1; Domain=shop.org"], "/", "a=1"),
        (["a=" + "x" * 5000], "/", None),
        (["a=" + "x" * 4050 + "; Path=/; HttpOnly; SameSite=Lax"], "/", "a=" + "x" * 4050),
        (['a=1; Path="/"; HttpOnly'], "/in/x", "a=1"),
        (["a=1; Path=foo"], "/x", "a=1"),
        ([f"c{number}=1" for number in range(61)], "/", "; ".join(sorted(f"c{number}=1" for number in range(61)))),
        ([""], "/", None),
        (["="], "/", None),
    ],
)
def test_a_cookie_is_kept_as_the_site_meant_it(received: list[str], asked: str, sent: str | None) -> None:
    made = Session(Source(name="s", start=("http://www.shop.org/",)), Http(cookies=True), {})
    made.took("http://www.shop.org/", received)
    found = made.headers_for("http://www.shop.org" + asked).get("Cookie")
    assert (sorted(found.split("; ")) if found else None) == (sent.split("; ") if sent else None)
    assert "Cookie" not in made.headers_for("http://other.org/")


@pytest.mark.parametrize("host", ["www.shop.org", "127.0.0.1", "localhost", "[::1]", "www.shop.org:8080"])
def test_a_host_may_set_a_bounded_number_of_cookies(host: str) -> None:
    made = Session(Source(name="s", start=(f"http://{host}/",)), Http(cookies=True), {})
    for number in range(500):
        made.took(f"http://{host}/", [f"c{number}=x"])
    sent = made.headers_for(f"http://{host}/")["Cookie"].split("; ")
    assert len(sent) == COOKIES_A_HOST
    assert "c499=x" in sent


# -- the login


async def test_a_login_fills_in_the_form_once_and_keeps_the_cookie(crawler: Crawler, shop: Shop) -> None:
    run = await crawl(crawler, shop.source(), HTTP)
    assert (run["state"], run["pages"], run["failures"]) == ("done", 5, 0)
    assert (shop.times("GET", "/login"), shop.times("POST", "/enter")) == (1, 1)
    sent = next(asked.form for asked in shop.log if asked.path == "/enter")
    assert sent == {"user": USER, "password": PASSWORD, "token": "t0ken", "empty": "", "stay": "yes", "go": "Go"}
    assert {asked.cookie for asked in shop.log if asked.path in ("/", "/1", "/2", "/3", "/4")} == {"shop=sess10n-0"}


async def test_a_form_that_is_sent_by_get_is_one_too(crawler: Crawler, shop: Shop) -> None:
    shop.method = "get"
    shop.action = "/enter?stale=1"
    run = await crawl(crawler, shop.source())
    assert (run["state"], shop.times("GET", "/enter"), shop.times("POST", "/enter")) == ("done", 1, 0)


@pytest.mark.parametrize("method", ["post", "get"])
async def test_a_wrong_password_is_told(crawler: Crawler, shop: Shop, method: str) -> None:
    shop.method = method
    run = await crawl(crawler, shop.source(), variables={**VARIABLES, "SHOP_PASSWORD": "wr0ng"})
    failure = crawler.rows("failures")[0]
    assert (run["state"], run["pages"], failure["reason"]) == ("failed", 0, "http_4xx")
    assert "did not take user and password" in failure["message"]
    assert shop.url + "/login" in failure["message"]
    assert "wr0ng" not in failure["message"]
    assert shop.served == 0


async def test_a_wrong_password_is_sent_once_however_many_urls_wait_for_it(crawler: Crawler, shop: Shop) -> None:
    starts = tuple(f"{shop.url}/{number}" for number in range(6))
    await crawl(crawler, replace(shop.source(), start=starts), variables={**VARIABLES, "SHOP_PASSWORD": "wr0ng"})
    assert shop.times("POST", "/enter") == 1
    assert len(crawler.rows("failures")) == 6


async def test_a_page_without_that_form_is_told(crawler: Crawler, shop: Shop) -> None:
    watched = shop.source(login=Login(url=shop.url + "/login", form={"e-mail": "x"}))
    run = await crawl(crawler, watched)
    failure = crawler.rows("failures")[0]
    assert (run["state"], failure["reason"]) == ("failed", "extract")
    assert "no form with the fields e-mail" in failure["message"]


async def test_a_form_that_goes_to_another_origin_is_not_sent(crawler: Crawler, shop: Shop, site: Site) -> None:
    shop.action = site.url + "/enter"
    run = await crawl(crawler, shop.source())
    failure = crawler.rows("failures")[0]
    assert (run["state"], failure["reason"]) == ("failed", "bad_redirect")
    assert "another origin" in failure["message"]
    assert site.log == []


@pytest.mark.parametrize("refuses", [pytest.param(True, id="401"), pytest.param(False, id="sent to the form")])
async def test_who_is_logged_out_in_between_logs_in_again_once(
    crawler: Crawler, shop: Shop, monkeypatch: pytest.MonkeyPatch, refuses: bool
) -> None:
    monkeypatch.setattr(session, "LOGIN_SOONEST_S", 0.0)
    shop.refuses = refuses
    shop.forgets_after = 3
    run = await crawl(crawler, shop.source())
    assert (run["state"], run["pages"], run["failures"]) == ("done", 5, 0)
    assert shop.times("POST", "/enter") == 2


@pytest.mark.parametrize("how", ["moved", "in place"])
async def test_the_login_page_is_known_where_it_is_and_by_its_form(
    crawler: Crawler, shop: Shop, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(session, "LOGIN_SOONEST_S", 0.0)
    shop.forgets_after = 3
    shop.form_at, shop.in_place = ("/login/", False) if how == "moved" else ("/login", True)
    run = await crawl(crawler, shop.source())
    assert (run["state"], run["pages"], run["failures"]) == ("done", 5, 0)
    assert shop.times("POST", "/enter") == 2
    assert not [page for page in crawler.rows("pages") if "login" in page["final_url"]]


async def test_a_page_that_has_the_form_after_a_login_too_is_a_page(
    crawler: Crawler, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "LOGIN_SOONEST_S", 0.0)
    shop.logs_out_at, shop.in_place = "/2", True  # it shows the form, whoever asks
    run = await crawl(crawler, shop.source())
    assert (run["state"], run["pages"], run["failures"]) == ("done", 5, 0)


async def test_a_link_that_logs_out_costs_a_login_and_no_other_page(
    crawler: Crawler, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "LOGIN_SOONEST_S", 0.0)
    shop.logs_out_at = "/2"
    run = await crawl(crawler, shop.source())
    failures = crawler.rows("failures")
    assert (run["pages"], [failure["url"] for failure in failures]) == (4, [shop.url + "/2"])
    assert "in spite of the login" in failures[0]["message"]


async def test_a_page_that_is_for_others_costs_no_page_that_is_for_us(
    crawler: Crawler, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is logged in is led on from the login page, and is logged in still."""
    monkeypatch.setattr(session, "LOGIN_SOONEST_S", 0.0)
    shop.forbids, shop.leads_on = "/2", True
    run = await crawl(crawler, shop.source())
    (failure,) = crawler.rows("failures")
    assert (run["pages"], failure["url"], failure["message"]) == (4, shop.url + "/2", "403 from the server")
    assert shop.times("POST", "/enter") == 1


async def test_what_is_wrong_with_the_page_after_the_login_is_not_the_logins(crawler: Crawler, shop: Shop) -> None:
    shop.landing = (303, {"Location": "/broken"}, "")
    run = await crawl(crawler, shop.source(), HTTP)
    assert (run["state"], run["pages"], shop.times("POST", "/enter")) == ("done", 5, 1)


async def test_a_login_that_fails_in_whatever_way_is_not_tried_by_every_page(crawler: Crawler, shop: Shop) -> None:
    shop.landing = (500, {}, "oh")
    starts = tuple(f"{shop.url}/{number}" for number in range(6))
    await crawl(crawler, replace(shop.source(), start=starts))
    assert shop.times("POST", "/enter") == 1
    assert {failure["message"][:7] for failure in crawler.rows("failures")} == {"login: "}


@pytest.mark.parametrize("in_flight", [1, 2])
async def test_a_session_that_ends_while_many_are_under_way_stops_nobody(
    crawler: Crawler, shop: Shop, monkeypatch: pytest.MonkeyPatch, in_flight: int
) -> None:
    """Who logs in for all needs a place at the host: the others, who wait for that, must not have them all."""
    monkeypatch.setattr(session, "LOGIN_SOONEST_S", 0.0)
    shop.forgets_after = 3
    watched = shop.source(http={"per_host": in_flight})
    other = Source(name="o", start=("http://127.0.0.1:1/",), http={"per_host": 8})
    crawler.db.write(lambda c: sources.sync(c, [watched, other], lambda s, last: None))
    run = crawler.db.write(lambda c: runs.request(c, "s", now()))
    store = Store(crawler.db, "test")
    async with asyncio.timeout(60):
        await Engine(store, HTTP, [run], variables=VARIABLES).run([watched, other], Before(now()))
    store.close()
    ended = crawler.db.read(lambda c: runs.one(c, run, now()))
    assert (ended["state"], ended["pages"], ended["failures"]) == ("done", 5, 0)


def test_a_cookie_of_the_site_takes_the_place_of_the_one_that_was_given() -> None:
    made = Session(Source(name="s", start=("http://a.org/",), cookies={"sid": "old", "b": "2"}), Http(cookies=True), {})
    made.took("http://a.org/", ["sid=new; Path=/"])
    assert made.headers_for("http://a.org/")["Cookie"] == "b=2; sid=new"


def test_a_name_without_a_dot_may_name_itself() -> None:
    made = Session(Source(name="s", start=("http://intranet/",)), Http(cookies=True), {})
    made.took("http://intranet/", ["sid=1; Domain=intranet; Path=/"])
    assert made.headers_for("http://intranet/")["Cookie"] == "sid=1"


def test_what_is_hidden_is_what_is_secret() -> None:
    made = Session(
        Source(
            name="s", start=("http://a.org/",), login=Login(url="http://a.org/in", form={"u": "me", "p": "pässw#1"})
        ),
        Http(),
        {},
    )
    assert made._without_secrets("http://a.org/home?p=p%e4ssw%231&q=P%C3%A4ssw%231") == "http://a.org/home?p=***&q=***"


async def test_what_is_not_for_us_has_a_login_made_anew_ever_later(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Session(
        Source(name="s", start=("http://a.org/",), login=Login(url="http://a.org/in", form=FORM)), Http(), VARIABLES
    )
    logins: list[float] = []

    async def log_in(*_: object) -> None:
        logins.append(time.monotonic())

    async def enter(_: str) -> None:
        """Admit all."""

    monkeypatch.setattr(session, "LOGIN_SOONEST_S", 0.01)
    monkeypatch.setattr(session, "LOGIN_AGAIN_S", 0.04)
    monkeypatch.setattr(made, "_log_in", log_in)
    fetcher = Fetcher()
    await made.log_in(fetcher, Http(), enter)
    made.showed(again=False, refused=False)
    made.showed(again=True, refused=False)
    for _ in range(2):
        await made.log_in(fetcher, Http(), enter, refused_at=time.monotonic())
        made.showed(again=False, refused=False)
        made.showed(again=True, refused=True)
    with pytest.raises(VisitFailed, match="in spite of the login"):
        await made.log_in(fetcher, Http(), enter, refused_at=time.monotonic())
    rests = [later - before for before, later in pairwise(logins)]
    assert [rest >= least for rest, least in zip(rests, (0.01, 0.02), strict=False)] == [True, True]
    await made.log_in(
        fetcher, Http(), enter, refused_at=logins[-1] - 1.0
    )  # sent before that login: it says nothing of it


async def test_a_password_goes_to_no_other_origin_by_a_redirect(crawler: Crawler, shop: Shop, site: Site) -> None:
    shop.sends_on_to = site.url + "/steal"
    run = await crawl(crawler, shop.source())
    assert (run["state"], crawler.rows("failures")[0]["reason"]) == ("failed", "bad_redirect")
    assert site.log == []


async def test_a_login_that_does_not_hold_is_not_tried_in_a_circle(crawler: Crawler, shop: Shop) -> None:
    shop.refuses = shop.forgets_all = True
    run = await crawl(crawler, shop.source())
    assert run["pages"] == 0
    assert {failure["reason"] for failure in crawler.rows("failures")} == {"http_4xx"}
    assert "in spite of the login" in crawler.rows("failures")[0]["message"]
    assert shop.times("POST", "/enter") == 1


@pytest.mark.parametrize(
    ("setter", "cookie", "other"),
    [
        ("http://evil.co.uk/", "sid=1; Domain=co.uk", "http://shop.co.uk/"),
        ("http://evil.com.au/", "sid=1; Domain=.com.au", "http://shop.com.au/"),
        ("http://127.0.0.1/", "sid=1; Domain=0.0.1", "http://10.0.0.1/"),
        ("http://127.0.0.1/", "sid=1; domain = .0.1; Path=/", "http://8.8.0.1/"),
    ],
)
def test_a_cookie_crosses_to_no_other_site(setter: str, cookie: str, other: str) -> None:
    made = Session(Source(name="s", start=("http://shop.org/",)), Http(cookies=True), {})
    made.took(setter, [cookie])
    assert "Cookie" not in made.headers_for(other)


def test_a_cookie_of_an_address_goes_back_to_it() -> None:
    made = Session(Source(name="s", start=("http://127.0.0.1/",)), Http(cookies=True), {})
    made.took("http://127.0.0.1/", ["sid=1; Domain=127.0.0.1; Path=/"])
    assert made.headers_for("http://127.0.0.1/x")["Cookie"] == "sid=1"


def test_a_cookie_without_a_domain_is_for_its_host_alone() -> None:
    made = Session(Source(name="s", start=("http://shop.test/",)), Http(cookies=True), {})
    made.took("http://shop.test/", ["own=1; Path=/", "all=2; Path=/; Domain=shop.test"])
    assert made.headers_for("http://shop.test/")["Cookie"] == "own=1; all=2"
    assert made.headers_for("http://other.shop.test/")["Cookie"] == "all=2"


def test_a_cookie_of_blanks_costs_no_time() -> None:
    made = Session(Source(name="s", start=("http://shop.test/",)), Http(cookies=True), {})
    began = time.process_time()
    made.took("http://shop.test/", ["a=b;path=" + " " * 4000 + 'x"y'])
    assert time.process_time() - began < 1


def test_a_cookie_that_expired_is_sent_no_more() -> None:
    made = Session(Source(name="s", start=("http://shop.org/",)), Http(cookies=True), {})
    made.took("http://shop.org/", ["a=1; Path=/"])
    made.took("http://shop.org/", ["a=; Path=/; Max-Age=0"])
    assert "Cookie" not in made.headers_for("http://shop.org/")


def everything(folder: Path) -> bytes:
    """Return all bytes of all files in a directory."""
    return b"".join(file.read_bytes() for file in sorted(folder.iterdir()))


async def test_no_secret_is_in_the_database_or_in_the_logs(
    crawler: Crawler, shop: Shop, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    kept = {"headers": {"X-Key": "${SHOP_KEY}"}, "cookies": {"k": "${SHOP_KEY}"}}
    await crawl(crawler, shop.source(**kept))
    shop.takes_none = True
    shop.known.clear()
    for method in ("post", "get"):
        shop.method = method
        await crawl(crawler, shop.source(**kept))
    assert crawler.rows("pages")
    assert crawler.rows("failures")
    crawler.db.close()
    stored = everything(tmp_path)
    logged = "".join(str(vars(record)) + record.getMessage() for record in caplog.records)
    for secret in (PASSWORD, KEY, "sess10n-0"):
        assert secret.encode() not in stored
        assert secret not in logged
    assert b"${SHOP_PASSWORD}" in stored


# -- variables


def test_variables_are_filled_in_by_their_names() -> None:
    assert filled("a ${X}${Y_1} $X {X} ${} ${1}", {"X": "${Y_1}", "Y_1": "y"}) == "a ${Y_1}y $X {X} ${} ${1}"
    assert list(missing("${X} ${Y} ${Z}", {"X": "x", "Y": ""})) == ["Y", "Z"]
    with pytest.raises(KeyError, match="Z"):
        filled("${Z}", {})


def test_the_environment_is_stronger_than_the_file_beside_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("SHOP_KEY=from the file\nSHOP_USER='ann ${HOME}'\n")
    monkeypatch.setenv("SHOP_KEY", "from outside")
    monkeypatch.delenv("SHOP_USER", raising=False)
    found = environment(tmp_path)
    assert (found["SHOP_KEY"], found["SHOP_USER"]) == ("from outside", "ann ${HOME}")


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('headers = { X-Key = "${SHOP_KEY}" }', "headers"),
        ('cookies = { k = "a ${SHOP_KEY} b" }', "cookies"),
        ('login = { url = "http://a.org/in", form = { user = "me", password = "${SHOP_KEY}" } }', "login"),
        ('[source.headers]\nX-Key = "${SHOP_KEY}"', "headers"),
        ('[source.login]\nurl = "http://a.org/in"\nform = { password = "${SHOP_KEY}" }', "login"),
    ],
)
def test_a_variable_that_is_not_set_is_one_clear_problem(tmp_path: Path, text: str, key: str) -> None:
    file = tmp_path / "bowerbird.toml"
    file.write_text(f'[[source]]\nname = "s"\nstart = ["http://a.org/"]\n{text}\n')
    for environ in ({}, {"SHOP_KEY": ""}):
        with pytest.raises(BadConfig) as caught:
            load(file, environ=environ)
        assert len(caught.value.problems) == 1
        said = str(caught.value)
        assert said.startswith(f"{file}:")
        assert key in said
        assert "the variable SHOP_KEY, which is not set" in said
    load(file, environ={"SHOP_KEY": KEY})
    (tmp_path / ".env").write_text(f"SHOP_KEY={KEY}\n")
    assert KEY not in str(load(file, environ={}))


async def test_a_variable_that_is_gone_later_leaves_out_its_source_alone(
    crawler: Crawler, site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.page("/", "x")
    lacking = Source(name="lacking", start=(site.url + "/no",), headers={"X-Key": "${SHOP_KEY}"})
    crawler.db.write(lambda c: sources.sync(c, [lacking, source(site)], lambda s, last: None))
    run = crawler.db.write(lambda c: runs.request(c, "s", now()))
    store = Store(crawler.db, "test")
    await Engine(store, ONE_BY_ONE, [run], variables={}).run([lacking, source(site)], Before(now()))
    store.close()
    assert site.paths() == ["/"]
    told = next(vars(record) for record in caplog.records if "variable" in vars(record))
    assert (told["source"], told["variable"]) == ("lacking", "SHOP_KEY")
    (event,) = [event for event in crawler.rows("events") if event["event"] == "left out"]
    assert (event["name"], event["facts"]["variable"]) == ("lacking", "SHOP_KEY")


@pytest.mark.parametrize(
    ("url", "said", "kept"),
    [
        ("https://a.org/", "__Host-s=1; Secure; Path=/", True),
        ("https://a.org/", "__Host-s=1; Secure; Path=/; Domain=a.org", False),
        ("https://a.org/", "__Host-s=1; Secure; Path=/x", False),
        ("https://a.org/", "__Secure-s=1", False),
        ("http://a.org/", "s=1; Secure", False),
        ("http://a.org/", "s=1", True),
    ],
)
def test_a_cookie_is_as_safe_as_it_says(url: str, said: str, kept: bool) -> None:
    made = Session(Source(name="s", start=(url,)), Http(cookies=True), {})
    made.took(url, [said])
    assert ("Cookie" in made.headers_for("https://a.org/")) is kept


def test_what_https_set_is_not_changed_by_http() -> None:
    made = Session(Source(name="s", start=("https://a.org/",)), Http(cookies=True), {})
    made.took("https://a.org/", ["s=right; Secure"])
    made.took("http://a.org/", ["s=wrong"])
    assert made.headers_for("https://a.org/")["Cookie"] == "s=right"


def test_a_header_of_cookies_holds_whole_ones() -> None:
    made = Session(Source(name="s", start=("http://a.org/",), cookies={n: n * 6000 for n in "abc"}), Http(), {})
    assert made.headers_for("http://a.org/")["Cookie"] == "; ".join(f"{n}={n * 6000}" for n in "ab")
