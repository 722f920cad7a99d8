"""The engine against a real site and a real database."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from scraper.config.settings import Database, FieldRule, Http, ItemRule, Source
from scraper.crawl.engine import Engine
from scraper.crawl.store import Store
from scraper.database import Db, listing, runs, sources
from scraper.database.connection import now
from scraper.states import State
from tests.site import Request, Site, html
from tests.support import until

Crawl = Callable[..., Coroutine[Any, Any, dict[str, Any]]]
HTTP = Http(delay=0, per_host=8, retries=1, allow_networks=("127.0.0.0/8",))


class Crawler:
    """Runs sources to their end, in one database."""

    def __init__(self, path: Path) -> None:
        self.db = Db(Database(url=f"sqlite:///{path / 'test.db'}"))
        self.db.upgrade()

    async def run(self, source: Source, http: Http = HTTP) -> dict[str, Any]:
        """Run a source once. Returns the run's row."""
        self.db.write(lambda c: sources.sync(c, [source], lambda s, last: None))
        run = self.db.write(lambda c: runs.request(c, source.name, now()))
        store = Store(self.db, "test")
        async with asyncio.timeout(60):
            await Engine(store, http, [run]).run([source], now())
        store.close()
        return self.db.read(lambda c: runs.one(c, run, now()))

    def rows(self, name: str, **filters: Any) -> list[dict[str, Any]]:
        """Return rows of a list, the oldest first."""
        return self.db.read(lambda c: listing.rows(c, name, filters, None, 1000))[::-1]


@pytest.fixture
def crawler(tmp_path: Path) -> Iterator[Crawler]:
    made = Crawler(tmp_path)
    yield made
    made.db.close()


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


async def test_delay_and_places_hold_by_the_servers_own_log(crawler: Crawler, site: Site) -> None:
    site.page("/", links(*(f"/{n}" for n in range(6))))
    for n in range(6):
        site.page(f"/{n}", "x")
    await crawler.run(source(site), Http(delay=0.1, per_host=4, allow_networks=HTTP.allow_networks))
    times = [request.at for request in site.log]
    assert len(times) == 8
    assert min(b - a for a, b in pairwise(times)) > 0.09


async def test_the_crawl_delay_of_robots_raises_the_delay(crawler: Crawler, site: Site) -> None:
    site.page("/robots.txt", "User-agent: *\nCrawl-delay: 0.3", kind="text/plain")
    site.page("/", links("/1", "/2"))
    site.page("/1", "x")
    site.page("/2", "x")
    await crawler.run(source(site))
    times = [request.at for request in site.log if request.path != "/robots.txt"]
    assert min(b - a for a, b in pairwise(times)) > 0.28


async def test_retry_after_pauses_the_host(crawler: Crawler, site: Site) -> None:
    def answer(end: Any, request: Request) -> bool:
        first = site.paths().count("/1") == 1
        end.sendall(html("x", status="429 Slow", Retry_After="1") if first else html("x"))
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
    assert min(later) - refused > 0.95


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
    assert "KeyError('no')" in failure["message"]


async def test_a_stopped_engine_gives_back_and_goes_on(crawler: Crawler, site: Site) -> None:
    watched = source(site)
    site.page("/", links(*(f"/{n}" for n in range(30))))
    for n in range(30):
        site.page(f"/{n}", "x")
    crawler.db.write(lambda c: sources.sync(c, [watched], lambda s, last: None))
    run = crawler.db.write(lambda c: runs.request(c, "s", now()))
    store = Store(crawler.db, "test")
    engine = Engine(store, Http(delay=0.02, allow_networks=HTTP.allow_networks), [run])
    task = asyncio.create_task(engine.run([watched], now()))
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
