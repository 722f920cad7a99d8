"""What browsers, curl and Scrapy can read, we can too."""

import asyncio
import contextlib
import gzip
import socket

import pytest
from parsel import Selector

from scraper.config.settings import Expression, FieldRule, Http, ItemRule, Noise, Source
from scraper.crawl import http1
from scraper.crawl.fetcher import Fetcher, _merged
from scraper.crawl.fetcher import Request as Asked
from scraper.errors import VisitFailed
from scraper.extract.convert import convert
from scraper.extract.page import Page
from scraper.extract.visible import blocks
from scraper.urls import fingerprint
from tests.crawl.test_engine import HTTP, Crawler, links, source
from tests.site import Request, Site, html, running

EMPTY = b"Content-Length: 0\r\n\r\n"


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1.500,-", "1500"),
        ("1.500,\u2013 \u20ac", "1500"),
        ("1,500.-", "1500"),
        ("12,-", "12"),
        ("0,999 \u20ac/kWh", "0.999"),
        ("0,125", "0.125"),
        ("1234,567", "1234.567"),
        ("1,234", "1234"),
        ("-1,234", "-1234"),
        ("1,234,567", "1234567"),
        ("$.99", "0.99"),
        ("from ,5", "0.5"),
        ("v1.2.3", "123"),
        ("1.500", "1.500"),
        ("1.234,56", "1234.56"),
        ("5-10", "5"),
    ],
)
def test_a_price_is_what_a_person_reads(text: str, number: str) -> None:
    assert convert(text, "decimal", "") == number


def test_a_date_of_digits_has_eight() -> None:
    assert convert("20251203", "date", "") == "2025-12-03"
    with pytest.raises(ValueError, match="no date"):
        convert("202512", "date", "")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("?session=5f2b9c0d1e2f3a4b5c6d7e8f", "?session=5f2b9c0d1e2f3a4b5c6d7e90", False),
        ("?sid=1234567890123456", "?sid=1234567890123457", False),
        ("?sid=" + "0a" * 16, "?sid=" + "1b" * 16, True),
        ("?s=" + "0a" * 20, "", True),
    ],
)
def test_an_id_of_a_session_is_as_long_as_a_hash(one: str, other: str, same: bool) -> None:
    assert (fingerprint("http://a.org/" + one) == fingerprint("http://a.org/" + other)) is same


@pytest.mark.parametrize("cookies", [True, False])
async def test_who_is_sent_back_with_a_cookie_gets_the_page(cookies: bool, crawler: Crawler, site: Site) -> None:
    def page(request: Request) -> bytes:
        if "seen=1" in request.headers.get("cookie", ""):
            return html("<p>in")
        return b"HTTP/1.1 302 Found\r\nSet-Cookie: seen=1; Path=/\r\nLocation: /check\r\n" + EMPTY

    site.raw("/", page, close=False)
    site.raw("/check", b"HTTP/1.1 302 Found\r\nLocation: /\r\n" + EMPTY, close=False)
    run = await crawler.run(source(site, http={"cookies": cookies}))
    assert run["pages"] == cookies
    assert [failure["reason"] for failure in crawler.rows("failures")] == ([] if cookies else ["too_many_redirects"])


@pytest.mark.parametrize("packed", [False, True])
async def test_a_sitemap_may_be_larger_than_a_page(packed: bool, crawler: Crawler, site: Site) -> None:
    text = f"<urlset><url><loc>{site.url}/a</loc></url>" + "<url/>" * 50_000 + "</urlset>"
    body = gzip.compress(text.encode()) if packed else text.encode()
    coding = b"Content-Encoding: gzip\r\n" if packed else b""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\n" + coding + b"Content-Length: %d\r\n\r\n" % len(body)
    site.raw("/map.xml", head + body, close=False)
    site.page("/a", "x")
    wanted = Source(name="s", sitemaps=(site.url + "/map.xml",))
    run = await crawler.run(wanted, Http(delay=0, allow_networks=HTTP.allow_networks, max_body=20_000))
    assert (run["state"], run["pages"], run["failures"]) == ("done", 1, 0)


async def test_who_thinks_before_he_speaks_is_not_slow(
    crawler: Crawler, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http1, "RATE_OVER_S", 0.2)
    loop = asyncio.get_running_loop()
    told = loop.create_future()

    def answer(end: object, request: Request) -> bool:
        end.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")  # type: ignore[attr-defined]
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0.5), loop).result()
        end.sendall(b"hello")  # type: ignore[attr-defined]
        loop.call_soon_threadsafe(told.set_result, None)
        return True

    site.routes["/"] = answer
    run = await crawler.run(source(site))
    await told
    assert (run["pages"], run["failures"]) == (1, 0)


async def test_headers_of_a_source_are_in_the_place_of_ours(crawler: Crawler, site: Site) -> None:
    site.page("/", "x")
    await crawler.run(source(site, headers={"user-agent": "Mine/1", "ACCEPT": "application/json"}))
    raw = site.log[-1].headers
    assert (raw["user-agent"], raw["accept"]) == ("Mine/1", "application/json")


def test_a_header_is_sent_once_and_cookies_beside_each_other() -> None:
    made = _merged({"User-Agent": "x", "Accept": "y"}, {"accept": "z", "cookie": "a=1; b=2"}, {"Cookie": "b=3"})
    assert made == {"User-Agent": "x", "Accept": "z", "cookie": "a=1; b=3"}


@pytest.mark.parametrize(
    ("location", "asked"),
    [
        (b"Location: /ok\r\nLocation: /ok\r\n", "/ok"),
        ("Location: /caf\u00e9\r\n".encode("latin-1"), "/caf%E9"),
        ("Location: /caf\u00e9\r\n".encode(), "/caf%C3%A9"),
    ],
)
async def test_a_location_is_read_as_it_was_meant(location: bytes, asked: str, crawler: Crawler, site: Site) -> None:
    site.raw("/", b"HTTP/1.1 302 Found\r\n" + location + EMPTY, close=False)
    site.page(asked, "x")
    await crawler.run(source(site))
    assert site.paths() == ["/", asked]


async def test_two_locations_are_none(crawler: Crawler, site: Site) -> None:
    site.raw("/", b"HTTP/1.1 302 Found\r\nLocation: /a\r\nLocation: /b\r\n" + EMPTY, close=False)
    await crawler.run(source(site))
    assert [failure["reason"] for failure in crawler.rows("failures")] == ["bad_redirect"]


async def test_a_link_that_a_person_chose_is_followed_whatever_it_looks_like(crawler: Crawler, site: Site) -> None:
    site.page("/", links("/wiki/Node.js", "/other") + "<link rel=next href=/page2>")
    for path in ("/wiki/Node.js", "/page2", "/other"):
        site.page(path, "x")
    await crawler.run(source(site, follow=("a[href*=wiki]", "link[rel=next]")))
    assert sorted(site.paths()) == ["/", "/page2", "/wiki/Node.js"]


async def test_what_looks_like_a_file_is_none_of_all_links(crawler: Crawler, site: Site) -> None:
    site.page("/", links("/wiki/Node.js"))
    await crawler.run(source(site, item=(ItemRule(fields={"t": FieldRule(css="b")}),)))
    assert site.paths() == ["/"]


FEED = (
    '<?xml version="1.0"?><rss xmlns:g="http://base.google.com/ns/1.0"><channel><title>Shop</title><item><title><![CDATA[Chair & '
    "table]]></title><link>http://a.org/1</link><pubDate>Mon, 01 Jun 2026 10:00:00 GMT</pubDate><g:price>9.50</g:price>"
    '<rate currency="USD" value="{}"/></item></channel></rss>'
)
FIELDS = {
    "title": FieldRule(css="title::text"),
    "link": FieldRule(css="link::text"),
    "date": FieldRule(css="pubDate::text"),
    "day": FieldRule(xpath="pubDate/text()"),
    "price": FieldRule(xpath="*[local-name()='price']/text()"),
    "rate": FieldRule(css="rate::attr(value)"),
}


def xml(body: str, kind: str = "text/xml") -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


@pytest.mark.parametrize("kind", ["text/xml", "application/rss+xml; charset=utf-8"])
async def test_a_page_of_xml_is_read_as_xml(kind: str, crawler: Crawler, site: Site) -> None:
    site.raw("/", xml(FEED.format("1.0"), kind), close=False)
    await crawler.run(source(site, item=(ItemRule(select=Expression(css="item"), fields=FIELDS),)))
    (item,) = crawler.rows("items")
    expected = Selector(FEED.format("1.0"), type="xml").css("item")
    assert item["data"] == {
        "title": "Chair & table",
        "link": "http://a.org/1",
        "date": "Mon, 01 Jun 2026 10:00:00 GMT",
        "day": "Mon, 01 Jun 2026 10:00:00 GMT",
        "price": "9.50",
        "rate": "1.0",
    }
    assert item["data"]["date"] == expected.css("pubDate::text").get()
    assert item["data"]["price"] == expected.xpath("*[local-name()='price']/text()").get()


async def test_a_page_of_xml_changes_where_an_attribute_does(crawler: Crawler, site: Site) -> None:
    for rate in ("1.0", "1.0", "1.1"):
        site.raw("/", xml(FEED.format(rate)), close=False)
        await crawler.run(source(site))
    (created, changed) = crawler.rows("changes")
    assert (created["change"], changed["change"]) == ("created", "changed")


async def test_text_changes_where_it_looks_like_a_tag(crawler: Crawler, site: Site) -> None:
    for who in ("joe", "eve"):
        site.raw("/", xml(f"Mail to\n<{who}@example.com>\n", "text/plain"), close=False)
        await crawler.run(source(site))
    assert [change["change"] for change in crawler.rows("changes")] == ["created", "changed"]


@pytest.mark.parametrize("kind", ["text/xml", "application/xml", "application/xhtml+xml", "text/plain"])
def test_html_that_calls_itself_something_else_is_html(kind: str) -> None:
    page = Page("http://a.org/", 200, {"content-type": kind}, b"<!DOCTYPE html><html><P>Hi <B>there")
    assert (page.is_xml, page.is_text, page.css("b::text").get()) == (False, False, "there")


@pytest.mark.parametrize(
    "body",
    ["", "<", "<a", "<a><b></a>", "<a>" * 5000, "<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;&nbsp;</a>", "x" * 100, "\0"],
)
def test_xml_of_any_kind_is_read_or_named(body: str) -> None:
    page = Page("http://a.org/", 200, {"content-type": "text/xml"}, body.encode())
    with contextlib.suppress(VisitFailed):
        assert isinstance(blocks(page, Noise()), list)
        assert page.css("a") is not None
        assert page.title is None


async def test_an_address_that_is_silent_holds_the_next_up_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    with running("127.0.0.63") as site, contextlib.ExitStack() as open_ones:
        site.page("/", "x")
        for silent in ("127.0.0.61", "127.0.0.62"):  # a full queue: whoever knocks hears nothing
            listener = open_ones.enter_context(socket.socket())
            listener.bind((silent, site.port))
            listener.listen(0)
            for _ in range(4):
                knocking = open_ones.enter_context(socket.socket())
                knocking.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    knocking.connect((silent, site.port))
        found = [(0, 0, 0, "", (f"127.0.0.{n}", site.port)) for n in (61, 62, 63)]
        monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: found)

        async def admit(target: str) -> None:
            """Every hop is allowed."""

        fetcher = Fetcher()
        http = Http(timeout=http1.CONNECT_TIMEOUT_S * 0.9, allow_networks=HTTP.allow_networks)
        fetched = await fetcher.fetch(Asked(f"http://many.test:{site.port}/"), http, admit=admit)
        assert (fetched.status, fetched.body) == (200, b"x")
        await fetcher.close()


async def test_of_addresses_that_all_refuse_the_last_one_is_told(
    monkeypatch: pytest.MonkeyPatch, site: Site, crawler: Crawler
) -> None:
    found = [(0, 0, 0, "", (f"127.0.0.{n}", 1)) for n in (61, 62)]
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: found)
    await crawler.run(
        Source(name="s", start=("http://many.test:1/",)), Http(retries=0, allow_networks=HTTP.allow_networks)
    )
    assert [failure["reason"] for failure in crawler.rows("failures")] == ["connect"]
