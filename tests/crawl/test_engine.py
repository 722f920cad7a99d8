"""The engine against a real site and a real database."""

import asyncio
import json
import sqlite3
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scraper.config.settings import Database, Expression, FieldRule, Http, ItemRule, Limits, Source
from scraper.crawl.engine import Before, Engine
from scraper.crawl.store import Store
from scraper.database import Db, frontier, listing, runs, schema, sources, visits
from scraper.database.connection import now
from scraper.errors import Unavailable, Unusable
from scraper.records import Link
from scraper.states import State
from tests.site import Request, Site, html, running
from tests.support import paced, until

Crawl = Callable[..., Coroutine[Any, Any, dict[str, Any]]]
pytestmark = pytest.mark.databases("sqlite", "postgresql", "pgbouncer")
sqlite_only = pytest.mark.databases("sqlite")
HTTP = Http(delay=0, per_host=8, retries=1, allow_networks=("127.0.0.0/8",))


class Crawler:
    """Runs sources to their end, in one database."""

    def __init__(self, database: Database) -> None:
        self.db = Db(database)
        schema.upgrade(self.db)

    async def run(self, source: Source, http: Http = HTTP, limits: Limits | None = None) -> dict[str, Any]:
        """Run a source once. Returns the run's row."""
        self.db.write(lambda c: sources.sync(c, [source], lambda s, last: None))
        run = self.db.write(lambda c: runs.request(c, source.name, now()))
        store = Store(self.db, "test")
        async with asyncio.timeout(100):
            await Engine(store, http, [run], limits=limits).run([source], Before(now()))
        store.close()
        return self.db.read(lambda c: runs.one(c, run, now()))

    def rows(self, name: str, **filters: Any) -> list[dict[str, Any]]:
        """Return rows of a list, the oldest first."""
        return self.db.read(lambda c: listing.rows(c, name, filters, None, 1000))[::-1]


def source(site: Site, *paths: str, **more: Any) -> Source:
    return Source(
        name="s", start=tuple(site.url + (path or "/") for path in paths or ("/",)), **{"follow": True, **more}
    )


def links(*hrefs: str) -> str:
    return "".join(f'<a href="{href}">x</a>' for href in hrefs)


async def test_every_reachable_page_is_stored_once(crawler: Crawler, site: Site) -> None:
    site.page("/", links("/a", "b", "/a#part", "?q=1&r=2", "?r=2&q=1", "mailto:x", "http://elsewhere.invalid/"))
    for path in ("/a", "/b", "/?q=1&r=2", "/c"):
        site.page(path, links("/c", "/"))
    run = await crawler.run(source(site))
    assert (run["state"], run["pages"], run["failures"]) == ("done", 5, 0)
    assert sorted(site.paths()) == ["/", "/?q=1&r=2", "/a", "/b", "/c"]
    assert len({page["final_url"] for page in crawler.rows("pages")}) == 5


async def test_depth_include_and_exclude(crawler: Crawler, site: Site) -> None:
    for number in range(6):
        site.page(f"/{number}", links(f"/{number + 1}", f"/skip/{number}", f"/other/{number}"))
    await crawler.run(source(site, "/0", max_depth=3, include=(r":\d+/\d$",), exclude=("skip",)))
    assert site.paths() == ["/0", "/1", "/2", "/3"]


async def test_max_pages_is_exact(crawler: Crawler, site: Site) -> None:
    site.raw("*", html(links(*(f"/{n}" for n in range(100)))), close=False)
    site.raw("/robots.txt", html("", status="404 No"), close=False)
    run = await crawler.run(source(site, max_pages=7))
    assert (run["state"], run["pages"]) == ("done", 7)
    assert "max_pages = 7" in run["message"]
    assert len(site.paths()) == 7


async def test_robots_is_obeyed_and_asked_once(crawler: Crawler, site: Site) -> None:
    site.page("/robots.txt", "User-agent: *\nDisallow: /no\nUser-agent: bowerbird\nDisallow: /never", kind="text/plain")
    for path in ("/", "/no", "/never"):
        site.page(path, links("/no", "/never"))
    await crawler.run(source(site))
    await crawler.run(source(site))
    assert set(site.paths()) == {"/", "/no"}
    assert [f["reason"] for f in crawler.rows("failures")] == ["robots_denied"]
    assert [r.path for r in site.log].count("/robots.txt") == 1


async def test_an_unreadable_robots_denies_everything(crawler: Crawler, site: Site) -> None:
    site.raw("/robots.txt", html("x", status="503 Away"))
    site.page("/", "x")
    run = await crawler.run(source(site), Http(delay=0, retries=0, allow_networks=HTTP.allow_networks))
    assert run["state"] == "failed"
    assert site.paths() == []
    assert crawler.rows("failures")[0]["reason"] == "robots_unreachable"


async def test_redirects_store_the_target_once(crawler: Crawler, site: Site) -> None:
    site.page("/", links("/old", "/new", "/older"))
    site.raw("/old", b"HTTP/1.1 301 M\r\nLocation: /new\r\nContent-Length: 0\r\n\r\n", close=False)
    site.raw("/older", b"HTTP/1.1 302 M\r\nLocation: /old\r\nContent-Length: 0\r\n\r\n", close=False)
    site.page("/new", "here")
    await crawler.run(source(site))
    assert sorted(page["final_url"] for page in crawler.rows("pages")) == [site.url + "/", site.url + "/new"]
    assert crawler.rows("failures") == []


async def test_a_failure_that_passes_is_tried_again(crawler: Crawler, site: Site) -> None:
    answers = [html("x", status="503 Away"), html("fine")]

    def answer(end: Any, request: Request) -> bool:
        end.sendall(answers.pop(0))
        return True

    site.routes["/"] = answer
    run = await crawler.run(source(site))
    assert (run["pages"], run["failures"], run["state"]) == (1, 0, "done")
    assert crawler.rows("failures")[0]["resolved_at"] is not None


async def test_each_failure_has_its_name(crawler: Crawler, site: Site) -> None:
    site.page("/", links("/404", "/500", "/204", "/png", "/empty", "/json", "/429"))
    for status, path in (("404 No", "/404"), ("500 Oops", "/500"), ("429 Slow", "/429")):
        site.raw(path, html("x", status=status), close=False)
    site.raw("/204", b"HTTP/1.1 204 Nothing\r\n\r\n", close=False)
    site.raw("/png", html("x", kind="image/png"), close=False)
    site.page("/empty", "")
    site.page("/json", '{"a": 1}', kind="application/json")
    run = await crawler.run(source(site), Http(delay=0, retries=0, allow_networks=HTTP.allow_networks))
    found = {f["url"].rpartition("/")[2]: f["reason"] for f in crawler.rows("failures")}
    assert found == {
        "404": "http_4xx",
        "500": "http_5xx",
        "429": "rate_limited",
        "204": "no_content",
        "png": "content_type",
        "empty": "no_content",
    }
    assert (run["pages"], run["failures"]) == (2, 6)


BOOK = ItemRule(
    kind="book",
    select=None,
    key=("sku",),
    fields={"sku": FieldRule(css="b::text"), "price": FieldRule(css="i::text", type="decimal")},
)


async def test_items_have_versions_and_changes(crawler: Crawler, site: Site) -> None:
    watched = source(site, item=(BOOK,))
    site.page("/", links("/1", "/2"))
    site.page("/1", "<b>one</b><i>£1.50</i>")
    site.page("/2", "<b>two</b><i>2,000.00</i>")
    await crawler.run(watched)
    site.page("/1", "<b>one</b><i>£1.75</i>")
    await crawler.run(watched)
    site.page("/", links("/1"))
    await crawler.run(watched)
    site.page("/", links("/1", "/2"))
    await crawler.run(watched)
    told = [(c["change"], c["fields"]) for c in crawler.rows("changes", of="item")]
    first = {"sku": [None, "one"], "price": [None, "1.50"]}
    assert ("created", first) in told
    assert told[2:] == [("changed", {"price": ["1.50", "1.75"]}), ("removed", {}), ("returned", {})]
    one, two = sorted(crawler.rows("items"), key=lambda item: str(item["key"]))
    assert (one["key"], one["data"], one["removed_at"]) == ("one", {"sku": "one", "price": "1.75"}, None)
    assert (two["data"]["price"], two["removed_at"]) == ("2000.00", None)


async def test_items_of_a_page_that_fails_are_not_taken_for_gone(crawler: Crawler, site: Site) -> None:
    watched = source(site, item=(BOOK,))
    http = Http(delay=0, retries=0, allow_networks=HTTP.allow_networks)
    site.page("/", links("/1", "/list"))
    site.page("/list", links("/2"))
    site.page("/1", "<b>one</b><i>1</i>")
    site.page("/2", "<b>two</b><i>2</i>")
    await crawler.run(watched, http)
    site.raw("/1", html("x", status="500 Oops"))
    site.raw("/list", html("x", status="500 Oops"))
    await crawler.run(watched, http)
    assert [item["removed_at"] for item in crawler.rows("items")] == [None, None]
    site.raw("/1", html("x", status="410 Gone"))
    site.page("/list", links("/2"))
    await crawler.run(watched, http)
    assert [item["key"] for item in crawler.rows("items") if item["removed_at"]] == ["one"]


async def test_an_unchanged_page_is_asked_conditionally_and_its_links_followed(crawler: Crawler, site: Site) -> None:
    watched = source(site, item=(BOOK,))
    site.page("/", links("/1"), ETag='"v1"')
    site.page("/1", "<b>one</b><i>1</i>")
    await crawler.run(watched)
    run = await crawler.run(watched)
    assert run["pages"] == 2
    assert site.paths() == ["/", "/1", "/", "/1"]
    assert site.log[-2].headers["if-none-match"] == '"v1"'
    assert [item["removed_at"] for item in crawler.rows("items")] == [None]
    assert len(crawler.rows("changes", of="page")) == 2


async def test_sitemaps_and_feeds_seed_the_crawl(crawler: Crawler, site: Site) -> None:
    site.page("/index.xml", f"<sitemapindex><sitemap><loc>{site.url}/map.xml</loc></sitemap></sitemapindex>")
    site.page("/map.xml", f"<urlset><url><loc>{site.url}/a</loc></url><url><loc>http://x.invalid/</loc></url></urlset>")
    site.page(
        "/feed", f"<rss><channel><item><link>{site.url}/b</link></item></channel></rss>", kind="application/rss+xml"
    )
    for path in ("/a", "/b"):
        site.page(path, "x")
    made = Source(name="s", sitemaps=(site.url + "/index.xml", site.url + "/feed"))
    run = await crawler.run(made)
    assert {page["final_url"] for page in crawler.rows("pages")} == {site.url + "/a", site.url + "/b"}
    assert run["state"] == "done"


async def test_a_feed_that_is_a_start_page_too_is_read_as_both(crawler: Crawler, site: Site) -> None:
    entries = "".join(f"<item><title>t{n}</title><link>{site.url}/{n}</link></item>" for n in range(2))
    site.page("/feed", f"<rss><channel>{entries}</channel></rss>", kind="application/rss+xml", ETag='"1"')
    for n in range(2):
        site.page(f"/{n}", "x")
    rule = ItemRule(select=Expression(css="item"), key=("t",), fields={"t": FieldRule(css="title")})
    made = Source(name="s", start=(site.url + "/feed",), sitemaps=(site.url + "/feed",), item=(rule,))
    for _ in range(2):  # once more with a 304
        run = await crawler.run(made)
        assert (run["pages"], run["items"], run["failures"]) == (3, 2, 0)
    site.page("/feed", f"<rss><channel>{entries[: len(entries) // 2]}", kind="application/rss+xml")
    run = await crawler.run(made)
    assert [failure["reason"] for failure in crawler.rows("failures")] == ["incomplete_body"]
    assert [item["removed_at"] for item in crawler.rows("items")] == [None, None]


async def test_a_sitemap_is_where_robots_txt_says_that_it_is(crawler: Crawler, site: Site) -> None:
    """On another host too, with what that one's index names; pages are those of the source all the same."""
    with running("127.0.0.2") as other:
        site.page("/robots.txt", f"Sitemap: {other.url}/index.xml", kind="text/plain")
        site.page("/a", "a")
        other.page("/index.xml", f"<sitemapindex><sitemap><loc>{other.url}/map.xml</loc></sitemap></sitemapindex>")
        entries = f"<url><loc>{site.url}/a</loc></url><url><loc>{other.url}/b</loc></url>"
        other.page("/map.xml", f"<urlset>{entries}</urlset>")
        other.page("/b", "b")
        run = await crawler.run(Source(name="s", sitemaps=(site.url + "/robots.txt",)))
        assert (run["pages"], run["failures"], site.paths()) == (1, 0, ["/a"])
        assert other.paths() == ["/index.xml", "/map.xml"]


async def test_a_run_that_found_no_page_says_why(crawler: Crawler, site: Site) -> None:
    site.page("/map.xml", "<urlset><url><loc>http://elsewhere.invalid/</loc></url></urlset>", kind="text/xml")
    run = await crawler.run(Source(name="s", sitemaps=(site.url + "/map.xml",)))
    assert (run["state"], run["pages"], run["failures"]) == ("done", 0, 0)
    assert "not on its hosts" in run["message"]


async def test_delay_and_places_hold_by_the_servers_own_log(crawler: Crawler, site: Site) -> None:
    site.page("/", links(*(f"/{n}" for n in range(6))))
    for n in range(6):
        site.page(f"/{n}", "x")
    await crawler.run(source(site), Http(delay=0.1, per_host=4, allow_networks=HTTP.allow_networks))
    times = [request.at for request in site.log]
    assert len(times) == 8
    assert paced(times, 0.1)


@pytest.mark.parametrize(("own", "at_once"), [(2, 2), (None, 4)])
async def test_a_source_has_no_more_in_flight_than_it_may(
    crawler: Crawler, site: Site, own: int | None, at_once: int
) -> None:
    """Its own concurrency counts over all of its hosts, and below that of the process."""
    lock, there, most = threading.Lock(), 0, 0
    full = threading.Event()

    def answer(request: Request) -> bytes:
        nonlocal there, most
        with lock:
            there += 1
            most = max(most, there)
            if there == 4:
                full.set()
        full.wait(0.2)  # for as many as may come
        with lock:
            there -= 1
        return html("x")

    with running("127.0.0.2") as other:
        for each in (site, other):
            each.page("/robots.txt", "", kind="text/plain")
            each.raw("*", answer)
        pages = tuple(f"{each.url}/{n}" for each in (site, other) for n in range(6))
        http = {"concurrency": own} if own else {}
        run = await crawler.run(Source(name="s", start=pages, http=http), replace(HTTP, per_host=2))
    assert (run["pages"], most) == (12, at_once)


async def test_the_crawl_delay_of_robots_raises_the_delay(crawler: Crawler, site: Site) -> None:
    site.page("/robots.txt", "User-agent: *\nCrawl-delay: 0.3", kind="text/plain")
    site.page("/", links("/1", "/2"))
    site.page("/1", "x")
    site.page("/2", "x")
    await crawler.run(source(site))
    times = [request.at for request in site.log if request.path != "/robots.txt"]
    assert paced(times, 0.3)


async def test_retry_after_pauses_the_host(crawler: Crawler, site: Site) -> None:
    def answer(end: Any, request: Request) -> bool:
        first = site.paths().count("/1") == 1
        end.sendall(html("x", status="429 Slow", Retry_After="4") if first else html("x"))
        return True

    site.page("/", links("/1", "/2"))
    site.routes["/1"] = answer
    site.page("/2", "x")
    run = await crawler.run(
        source(site), Http(delay=0, per_host=1, auto_throttle=False, allow_networks=HTTP.allow_networks)
    )
    refused = next(r.at for r in site.log if r.path == "/1")
    later = [r.at for r in site.log if r.at > refused]
    assert run["pages"] == 3
    assert min(later) - refused > 3.9


async def test_a_parser_function_reads_pages(crawler: Crawler, site: Site, tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "my_parser.py").write_text(
        "def parse(page):\n"
        "    if page.url.endswith('/bad'):\n"
        "        raise KeyError('no')\n"
        "    yield {'h': page.soup.h1.text, 'c': page.css('h1::text').get(), 'x': page.xpath('//h1/text()').getall()}\n"
        "    yield '/bad'\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    site.page("/", "<h1>Hi</h1>")
    site.page("/bad", "x")
    await crawler.run(source(site, parser="my_parser:parse", follow=False))
    assert [item["data"] for item in crawler.rows("items")] == [{"h": "Hi", "c": "Hi", "x": ["Hi"]}]
    failure = crawler.rows("failures")[0]
    assert failure["reason"] == "extract"
    assert "KeyError: 'no' at" in failure["message"]


async def test_a_stopped_engine_gives_back_and_goes_on(crawler: Crawler, site: Site) -> None:
    watched = source(site)
    site.page("/", links(*(f"/{n}" for n in range(30))))
    for n in range(30):
        site.page(f"/{n}", "x")
    crawler.db.write(lambda c: sources.sync(c, [watched], lambda s, last: None))
    run = crawler.db.write(lambda c: runs.request(c, "s", now()))
    store = Store(crawler.db, "test")
    engine = Engine(store, Http(delay=0.02, allow_networks=HTTP.allow_networks), [run])
    task = asyncio.create_task(engine.run([watched], Before(now())))
    async with asyncio.timeout(30):
        await asyncio.to_thread(until, lambda: engine.progress().pages >= 5)
        engine.stop()
        await task
    store.close()
    assert engine.progress().state is State.STOPPING
    claimed = crawler.db.read(lambda c: c.exec_driver_sql("SELECT count(*) FROM urls WHERE state = 'claimed'").scalar())
    assert claimed == 0
    done = await crawler.run(watched)
    assert (done["id"], done["pages"]) == (run, 31)
    assert len(site.paths()) == 31


async def test_expressions_that_take_for_ever_cost_the_redirect_alone(crawler: Crawler, site: Site) -> None:
    site.page("/", links("/r", "/fine"))
    site.raw("/r", f"HTTP/1.1 302 F\r\nLocation: /{'a' * 40}!\r\nContent-Length: 0\r\n\r\n".encode(), close=False)
    site.page("/fine", "x")
    run = await crawler.run(source(site, exclude=("/(a+)+$",)))
    assert run["pages"] == 2
    [failure] = crawler.rows("failures")
    assert (failure["reason"], "exclude" in failure["message"]) == ("extract", True)


async def test_a_304_after_a_redirect_is_not_taken_for_the_first_page(crawler: Crawler, site: Site) -> None:
    site.page("/", "first", ETag='"a"')
    await crawler.run(source(site))
    site.raw("/", b"HTTP/1.1 302 F\r\nLocation: /b\r\nContent-Length: 0\r\n\r\n", close=False)
    site.page("/b", "second", ETag='"a"')
    run = await crawler.run(source(site))
    assert run["state"] == "done"
    assert "if-none-match" not in site.log[-1].headers
    assert [page["final_url"] for page in crawler.rows("pages")] == [site.url + "/", site.url + "/b"]


async def test_a_tag_that_apache_added_to_is_known_again(crawler: Crawler, site: Site) -> None:
    """mod_deflate adds to the tag of a page on its way out, and knows it on the way in by its own name alone."""
    site.page("/", "x", ETag='"2c0e-gzip"')
    await crawler.run(source(site))

    def knows(request: Request) -> bytes:
        given = [tag.strip() for tag in request.headers.get("if-none-match", "").split(",")]
        return b'HTTP/1.1 304 Not Modified\r\nETag: "2c0e"\r\n\r\n' if '"2c0e"' in given else html("x")

    site.raw("/", knows, close=False)
    for _ in "ab":
        site.log.clear()
        run = await crawler.run(source(site))
        assert run["bytes"] < 100
    assert '"2c0e"' in site.log[-1].headers["if-none-match"]


async def test_what_the_database_lacks_is_no_failure_of_a_page(
    crawler: Crawler, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.raw("/", b'HTTP/1.1 200 OK\r\nETag: "a"\r\nContent-Length: 1\r\n\r\nx', close=False)
    await crawler.run(source(site))

    def lacking(connection: Any, page_id: int) -> None:
        raise Unusable("the disk is gone")

    monkeypatch.setattr("scraper.crawl.engine.pages.body_of", lacking)
    site.raw("/", b"HTTP/1.1 304 Not Modified\r\n\r\n", close=False)
    with pytest.raises(Unusable, match="the disk is gone"):
        await crawler.run(source(site, item=(BOOK,)))
    assert crawler.rows("failures") == []


async def test_a_304_keeps_the_charset_of_what_is_stored(crawler: Crawler, site: Site) -> None:
    watched = source(site, item=(ItemRule(fields={"t": FieldRule(css="b")}),))
    body = "<b>\u041f\u0440\u0438\u0432\u0435\u0442</b>".encode("cp1251")
    head = (
        b'HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=windows-1251\r\nETag: "a"\r\nContent-Length: %d\r\n\r\n'
    )
    site.raw("/", head % len(body) + body, close=False)
    await crawler.run(watched)
    site.raw("/", b"HTTP/1.1 304 Not Modified\r\n\r\n", close=False)
    await crawler.run(watched)
    assert [c["change"] for c in crawler.rows("changes", of="item")] == ["created"]


async def test_a_limit_takes_no_unvisited_item_for_gone(crawler: Crawler, site: Site) -> None:
    site.page("/", links(*(f"/{n}" for n in range(9))))
    for n in range(9):
        site.page(f"/{n}", f"<b>{n}</b><i>1</i>")
    await crawler.run(source(site, item=(BOOK,)))
    await crawler.run(source(site, item=(BOOK,), max_pages=3))
    assert [item["removed_at"] for item in crawler.rows("items")] == [None] * 9


async def test_a_refused_listing_takes_no_item_for_gone(crawler: Crawler, site: Site) -> None:
    watched = source(site, item=(BOOK,))
    site.page("/", links("/list", "/moved"))
    site.page("/list", links("/1"))
    site.raw("/moved", b"HTTP/1.1 301 M\r\nLocation: /2\r\nContent-Length: 0\r\n\r\n", close=False)
    site.page("/1", "<b>one</b><i>1</i>")
    site.page("/2", "<b>two</b><i>2</i>")
    await crawler.run(watched)
    site.raw("/list", html("x", status="403 No"), close=False)
    await crawler.run(watched)
    assert [item["removed_at"] for item in crawler.rows("items")] == [None, None]
    site.page("/list", links("/1"))
    site.raw("/moved", html("x", status="403 No"), close=False)
    await crawler.run(watched)
    assert [item["removed_at"] for item in crawler.rows("items")] == [None, None]


async def test_hostile_values_are_stored_clean(crawler: Crawler, site: Site) -> None:
    rule = ItemRule(fields={n: FieldRule(json=n) for n in ("a", "b", "c")}, key=("a",))
    deep = "[" * 300 + "]" * 300
    site.page("/", '{"a": "\\ud800x\\u0000", "b": NaN, "c": {"\\udfff": 1e999}}', kind="application/json")
    site.page("/deep", f'{{"a": {deep}, "b": 1}}', kind="application/json")
    run = await crawler.run(source(site, "/", "/deep", item=(rule,)))
    assert (run["pages"], run["failures"]) == (1, 1)
    item = crawler.rows("items")[0]
    json.dumps(item, default=str, allow_nan=False).encode()
    assert item["data"]["b"] is None
    assert crawler.rows("failures")[0]["reason"] == "parse_limit"


async def test_expressions_that_do_not_fit_the_values_find_nothing(crawler: Crawler, site: Site) -> None:
    fields = {
        "a": FieldRule(json="length(price)"),
        "b": FieldRule(jsonld="join(',', tags)"),
        "c": FieldRule(css="b::text", re="abc(d)?", default="none"),
        "d": FieldRule(css="b"),
    }
    site.page("/", '<b>abc</b><script type="application/ld+json">{"tags": 5}</script>' + links("/1"))
    site.page("/1", "x")
    run = await crawler.run(source(site, item=(ItemRule(fields=fields),)))
    assert (run["pages"], run["failures"]) == (2, 0)
    assert crawler.rows("items")[0]["data"] == {"a": None, "b": None, "c": "none", "d": "abc"}


async def test_a_source_may_allow_networks_of_its_own(crawler: Crawler, site: Site) -> None:
    site.page("/", "x")
    closed = Http(delay=0, retries=0)
    run = await crawler.run(source(site), closed)
    assert (run["state"], crawler.rows("failures")[0]["reason"]) == ("failed", "blocked_address")
    assert "allow_networks" in crawler.rows("failures")[0]["message"]
    run = await crawler.run(source(site, http={"allow_networks": ("127.0.0.0/8",)}), closed)
    assert run["state"] == "done"


async def test_a_name_that_does_not_exist_says_so(crawler: Crawler) -> None:
    run = await crawler.run(Source(name="s", start=("http://no-such-host.invalid/",)), Http(delay=0, retries=0))
    assert (run["state"], crawler.rows("failures")[0]["reason"]) == ("failed", "dns")


async def test_redirects_do_not_lead_around_exclude_nor_sitemaps_to_other_hosts(crawler: Crawler, site: Site) -> None:
    site.page("/", links("/out"))
    site.raw("/out", b"HTTP/1.1 302 F\r\nLocation: /private\r\nContent-Length: 0\r\n\r\n", close=False)
    site.page("/private", "x")
    with running("127.0.0.2") as other:
        site.page("/map.xml", f"<sitemapindex><sitemap><loc>{other.url}/x.xml</loc></sitemap></sitemapindex>")
        await crawler.run(source(site, exclude=("private",), sitemaps=(site.url + "/map.xml",)))
        assert other.log == []
    assert "/private" not in site.paths()
    assert crawler.rows("failures")[0]["reason"] == "bad_redirect"


async def test_a_feed_with_an_undeclared_prefix_is_read(crawler: Crawler, site: Site) -> None:
    site.page(
        "/feed", f"<rss><channel><item><media:thumbnail url='x'/><link>{site.url}/a</link></item></channel></rss>"
    )
    site.page("/a", "x")
    run = await crawler.run(Source(name="s", sitemaps=(site.url + "/feed",)))
    assert run["pages"] == 1


async def test_a_closed_kept_connection_is_replaced_in_turn(crawler: Crawler, site: Site) -> None:
    """A server that answers once a connection, and hangs up on the second request without a word."""
    served: set[int] = set()

    def answer(end: Any, request: Request) -> bool:
        if id(end) in served:
            return False
        served.add(id(end))
        end.sendall(html(links("/1", "/2", "/3")))
        return True

    site.routes["*"] = answer
    await crawler.run(
        source(site), Http(delay=0.2, per_host=1, auto_throttle=False, allow_networks=HTTP.allow_networks)
    )
    assert len(crawler.rows("pages")) == 4
    assert paced([request.at for request in site.log], 0.2)


async def test_sources_with_different_delays_share_a_host(crawler: Crawler, site: Site) -> None:
    for path in ("/a", "/b"):
        site.page(path, "x")
    slow = source(site, "/a", http={"delay": 0.5}, follow=False)
    quick = Source(name="q", start=(site.url + "/b",))
    crawler.db.write(lambda c: sources.sync(c, [slow, quick], lambda s, last: None))
    ids = crawler.db.write(lambda c: [runs.request(c, name, now()) for name in ("q", "s")])
    store = Store(crawler.db, "test")
    await Engine(store, HTTP, ids).run([slow, quick], Before(now()))
    store.close()
    times = {request.path: request.at for request in site.log}
    assert abs(times["/a"] - times["/b"]) > 0.48


async def test_the_delay_is_known_before_the_first_request(crawler: Crawler, site: Site) -> None:
    kept: list[Any] = []

    def answer(request: Request) -> bytes:
        kept.append(crawler.db.read(lambda c: c.exec_driver_sql("SELECT delay_s FROM hosts").scalar()))
        return html("x")

    site.raw("/", answer)
    await crawler.run(source(site), Http(delay=0.3, allow_networks=HTTP.allow_networks))
    assert kept == [0.3]


async def test_a_url_on_which_the_scraper_died_twice_is_poison(crawler: Crawler, site: Site) -> None:
    site.page("/", links("/bad", "/good"))
    site.page("/good", "x")
    site.page("/bad", "x")
    watched = source(site)
    await crawler.run(watched)
    bad = crawler.db.read(lambda c: c.exec_driver_sql(f"SELECT id FROM urls WHERE url = '{site.url}/bad'").scalar())
    for _ in range(2):
        crawler.db.write(lambda c: sources.sync(c, [watched], lambda s, last: None))
        run = crawler.db.write(lambda c: runs.request(c, "s", now()))
        store = Store(crawler.db, "test")
        await Engine(store, HTTP, [run]).run([watched], Before(now(), suspect=int(bad or 0)))
        store.close()
    assert [(f["url"], f["reason"]) for f in crawler.rows("failures")] == [(site.url + "/bad", "poison")]
    asked = site.paths().count("/bad")
    await crawler.run(watched)
    assert site.paths().count("/bad") == asked


async def test_a_source_whose_start_page_is_poison_has_failed(crawler: Crawler, site: Site) -> None:
    site.page("/", "x")
    watched = source(site)
    await crawler.run(watched)
    crawler.db.write(lambda c: c.exec_driver_sql("UPDATE urls SET crashes = 1"))
    crawler.db.write(lambda c: sources.sync(c, [watched], lambda s, last: None))
    run = crawler.db.write(lambda c: runs.request(c, "s", now()))
    store = Store(crawler.db, "test")
    await Engine(store, HTTP, [run]).run([watched], Before(now(), suspect=1))
    store.close()
    found = crawler.db.read(lambda c: runs.one(c, run, now()))
    assert (found["state"], found["message"].partition(":")[0]) == ("failed", "poison")


async def test_claims_of_a_worker_that_is_gone_are_taken_over(crawler: Crawler, site: Site) -> None:
    site.page("/", links("/1"))
    site.page("/1", "x")
    watched = source(site)
    crawler.db.write(lambda c: sources.sync(c, [watched], lambda s, last: None))
    run = crawler.db.write(lambda c: runs.request(c, "s", now()))
    store = Store(crawler.db, "scraper-0@elsewhere")
    engine = Engine(store, HTTP, [run])
    task = asyncio.create_task(engine.run([watched], Before(now())))
    await asyncio.to_thread(until, lambda: engine.progress().pages >= 1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    store.close()
    crawler.db.write(lambda c: c.exec_driver_sql("UPDATE runs SET state = 'running', finished_at = NULL"))
    crawler.db.write(
        lambda c: c.exec_driver_sql(
            "UPDATE urls SET state = 'claimed', claimed_by = 'scraper-0@elsewhere' WHERE depth = 1"
        )
    )
    done = await crawler.run(watched)
    assert (done["id"], done["state"], done["pages"] >= 2) == (run, "done", True)


async def test_a_stop_does_not_wait_for_a_database_that_is_away(tmp_path: Path, site: Site) -> None:
    db = Db(Database(url=f"sqlite:///{tmp_path / 'test.db'}", timeout=0.1))
    schema.upgrade(db)
    other = sqlite3.connect(tmp_path / "test.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    store = Store(db, "test")
    engine = Engine(store, HTTP)
    task = asyncio.create_task(engine.run([source(site)], Before(now())))
    await asyncio.to_thread(until, lambda: store.trouble)
    engine.stop()
    async with asyncio.timeout(4):
        await task
    store.close()
    other.close()
    db.close()


@sqlite_only
def test_a_unit_under_way_tells_how_long_it_is_silent(crawler: Crawler) -> None:
    store = Store(crawler.db, "test")
    begun, go = threading.Event(), threading.Event()

    def stuck(connection: Any) -> None:
        begun.set()
        go.wait()

    def long(connection: Any) -> int:
        begun.set()
        query = (
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000000) SELECT count(*) FROM n"
        )
        return int(connection.exec_driver_sql(query).scalar())

    assert store.silent_s() is None
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(store._run, crawler.db.read, stuck)
        begun.wait()
        until(lambda: (store.silent_s() or 0) > 0.5, "it is silent")
        go.set()
        done.result()
        assert store.silent_s() is None
        begun.clear()
        counted = pool.submit(store._run, crawler.db.read, long)
        begun.wait()
        worst = 0.0
        while not counted.done():
            worst = max(worst, store.silent_s() or 0.0)
        assert counted.result() == 3000000
        assert worst < 0.5  # while it counted, it said that it did


@sqlite_only
def test_a_lock_of_another_program_is_no_silence_and_is_told(crawler: Crawler) -> None:
    store = Store(crawler.db, "test")
    other = sqlite3.connect(str(crawler.db.url.database), check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(store._run, crawler.db.write, lambda c: 7)
        until(lambda: store.trouble, "it says what it waits for")
        assert "locked by another program" in str(store.trouble)
        assert (store.silent_s() or 0) < 2.0
        other.rollback()
        other.close()
        assert done.result() == 7
    assert store.trouble is None


async def test_a_url_that_waits_in_a_run_which_is_over_is_tried_again(crawler: Crawler, site: Site) -> None:
    site.raw("/", b"HTTP/1.1 500 no\r\nContent-Length: 0\r\n\r\n", close=False)
    watched = source(site)
    await crawler.run(watched, Http(delay=0, retries=0, allow_networks=HTTP.allow_networks))
    crawler.db.write(lambda c: c.exec_driver_sql("UPDATE urls SET state = 'queued'"))
    failure = crawler.rows("failures", unresolved=True)[0]
    site.page("/", "x")
    asked = crawler.db.write(lambda c: visits.retry(c, [failure["id"]], now()))
    store = Store(crawler.db, "test")
    await Engine(store, HTTP, [asked["s"]]).run([watched], Before(now()))
    store.close()
    assert crawler.db.read(lambda c: runs.one(c, asked["s"], now()))["state"] == "done"
    assert crawler.rows("failures", unresolved=True) == []


async def test_what_was_set_aside_is_tried_again_when_asked_and_nothing_else_with_it(
    crawler: Crawler, site: Site
) -> None:
    site.page("/", links("/good", "/bad"))
    site.page("/good", "<h1>good</h1>")
    site.page("/bad", links("/new", "/good"))
    site.page("/new", "x")
    item = ItemRule(kind="i", fields={"title": FieldRule(css="h1::text")}, select=None)
    watched = source(site, item=(item,))
    crawler.db.write(lambda c: sources.sync(c, [watched], lambda s, last: None))
    await crawler.run(source(site, item=(item,), exclude=("/bad$", "/new$")))
    run = crawler.db.write(lambda c: runs.request(c, "s", now()))
    bad_row = frontier.row_of(run, "s", Link(site.url + "/bad"), 1)
    assert bad_row is not None
    crawler.db.write(lambda c: frontier.add(c, [bad_row], {run: frontier.Room(9)}))
    bad = crawler.db.read(lambda c: c.exec_driver_sql(f"SELECT id FROM urls WHERE url = '{site.url}/bad'").scalar())
    for _ in range(2):
        crawler.db.write(lambda c: visits.crashed_on(c, int(bad or 0), now()))
    await crawler.run(watched)
    assert "/bad" not in site.paths()
    failure = crawler.rows("failures", unresolved=True)[0]
    assert failure["reason"] == "poison"
    before = len(site.paths())
    asked = crawler.db.write(lambda c: visits.retry(c, [failure["id"]], now()))
    assert crawler.db.read(lambda c: runs.one(c, asked["s"], now()))["kind"] == "retry"
    assert crawler.db.write(lambda c: visits.retry(c, [failure["id"]], now())) == asked
    store = Store(crawler.db, "test")
    await Engine(store, HTTP, [asked["s"]]).run([watched], Before(now()))
    store.close()
    assert sorted(site.paths()[before:]) == ["/bad", "/new"]
    assert crawler.rows("failures", unresolved=True) == []
    assert [i["removed_at"] for i in crawler.rows("items")] == [None]
    assert crawler.db.read(lambda c: runs.one(c, asked["s"], now()))["state"] == "done"


async def test_a_parser_may_give_what_beautifulsoup_gives(
    crawler: Crawler, site: Site, tmp_path: Path, monkeypatch: Any
) -> None:
    """A string of BeautifulSoup's holds its whole page, which must not come with it."""
    (tmp_path / "soup_parser.py").write_text(
        "def parse(page):\n    yield {'title': page.soup.title.string, 'tag': page.soup.title}\n    yield '/bad'\n"
        "    if page.url.endswith('/bad'):\n        raise ValueError('odd ' + chr(0xd83d) + chr(0))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    many = "<li><a href=/p>p</a></li>" * 500
    site.page("/", f"<title>T</title>{many}")
    site.page("/bad", "<title>T</title>")
    await crawler.run(source(site, parser="soup_parser:parse", follow=False))
    assert [item["data"] for item in crawler.rows("items")] == [{"title": "T", "tag": "<title>T</title>"}]
    [failure] = crawler.rows("failures")
    assert failure["reason"] == "extract"
    assert "ValueError: odd" in failure["message"]


async def test_what_one_unit_waits_for_is_told_though_others_are_done_meanwhile(crawler: Crawler) -> None:
    """A full disk takes nothing, and is read all the same."""
    store, tries, mended = Store(crawler.db, "test"), 0, False

    def full(connection: Any) -> int:
        nonlocal tries
        tries += 1
        if not mended:
            raise Unavailable("the disk is full")
        return tries

    waiting = asyncio.create_task(store.write(full))
    await asyncio.wait({waiting}, timeout=0.1)
    for _ in range(3):
        await store.read(lambda c: None)
        await store.write(lambda c: None)
    assert store.trouble == "the disk is full"
    mended = True
    assert await waiting > 1
    assert store.is_just_mended
    assert store.trouble is None
    store.close()
