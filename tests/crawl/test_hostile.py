"""Nothing that a site sends can stop the scraper: each misbehaviour ends as stored or with its name, soon and small."""

import asyncio
import gc
import gzip
import ipaddress
import os
import sqlite3
import threading
import time
from itertools import pairwise
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import pytest

from scraper.config.settings import Expression, FieldRule, Http, ItemRule, Source
from scraper.crawl.addresses import may_ask
from scraper.crawl.check import check
from scraper.errors import Failure
from tests import hostile
from tests.crawl.test_engine import Crawler
from tests.hostile import CASES, ROBOTS, STORED, Case, Refuser, entity_bomb
from tests.site import Site, html, running
from tests.support import until

GRACE_S = 2.0  # for reading the page, on a busy machine
GROWTH = 150 * 2**20
HERE = ("127.0.0.0/8",)


def ending(found: dict[str, Any]) -> str:
    """Return how a check ended, as the tables of cases say it."""
    return str(found["failure"]["reason"]) if found["failure"] else STORED


async def judged(case: Case, url: str, source: Source) -> dict[str, Any]:
    """Check a URL; it must end in time and in one of the ways of its case."""
    began = time.monotonic()
    found = await check(source, Http(delay=0, timeout=case.timeout, allow_networks=HERE), url)
    took = time.monotonic() - began
    assert ending(found) in case.ends, found["failure"] or found["title"]
    assert took < case.timeout + GRACE_S
    return found


@pytest.fixture
def good(site: Site) -> Site:
    """A site with the pages that redirects lead to."""
    site.page("/fine", "<title>fine</title>")
    site.page("/%C3%BC", "<title>fine</title>")
    return site


def watched(url: str, **more: Any) -> Source:
    return Source(name="s", start=(url,), **{"follow": True, **more})


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES])
async def test_each_misbehaviour_ends_in_time_and_with_its_name(good: Site, case: Case) -> None:
    good.routes[case.path] = case.answer
    found = await judged(case, good.url + case.path, watched(good.url))
    assert all(link.startswith(("http://", "https://")) for link in found["links"])


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in ROBOTS])
async def test_each_misbehaving_robots_ends_in_time_and_with_its_name(good: Site, case: Case) -> None:
    good.routes["/robots.txt"] = case.answer
    good.page("/moved-robots", "User-agent: *\nDisallow: /\nAllow: /robots.txt\n", kind="text/plain")
    path = "/" + "a" * 300
    good.page(path, "<title>fine</title>")
    await judged(case, good.url + path, watched(good.url))


def test_no_two_cases_share_a_path() -> None:
    assert len({case.path for case in CASES}) == len(CASES)
    names = {name for case in (*CASES, *ROBOTS) for name in case.ends}
    assert names <= {STORED, *Failure}


@pytest.mark.parametrize(
    ("manner", "ends"),
    [
        ("close", ("protocol", "connect", "robots_unreachable")),
        ("reset", ("protocol", "connect", "robots_unreachable")),
        ("silent", ("timeout", "robots_unreachable")),
        ("full", ("timeout", "connect", "robots_unreachable")),
    ],
)
@pytest.mark.parametrize("obey", [True, False])
async def test_a_port_that_takes_no_requests_has_a_name(manner: str, ends: tuple[str, ...], obey: bool) -> None:
    refuser = Refuser(manner)
    try:
        http = Http(delay=0, timeout=0.4, allow_networks=HERE, obey_robots=obey)
        found = await check(watched(refuser.url), http)
    finally:
        refuser.close()
    assert ending(found) in (ends if obey else ends[:-1])


async def test_a_long_chain_of_redirects_ends(site: Site) -> None:
    for number in range(30):
        site.raw(
            f"/{number}", b"HTTP/1.1 302 F\r\nLocation: /%d\r\nContent-Length: 0\r\n\r\n" % (number + 1), close=False
        )
    found = await check(watched(site.url), Http(delay=0, allow_networks=HERE), site.url + "/0")
    assert ending(found) == "too_many_redirects"
    assert len(site.paths()) <= 20


async def test_two_hosts_that_send_us_to_each_other_end(site: Site) -> None:
    with running("127.0.0.2") as other:
        for here, there in ((site, other), (other, site)):
            here.raw("/x", b"HTTP/1.1 302 F\r\nLocation: %s/x\r\nContent-Length: 0\r\n\r\n" % there.url.encode())
        found = await check(watched(site.url), Http(delay=0, allow_networks=HERE), site.url + "/x")
    assert ending(found) == "too_many_redirects"


async def test_what_robots_denies_is_not_asked_after_a_redirect(site: Site) -> None:
    site.page("/robots.txt", "User-agent: *\nDisallow: /private\n", kind="text/plain")
    site.page("/private", "secret")
    site.raw("/x", b"HTTP/1.1 302 F\r\nLocation: /private\r\nContent-Length: 0\r\n\r\n")
    found = await check(watched(site.url), Http(delay=0, allow_networks=HERE), site.url + "/x")
    assert ending(found) == "robots_denied"
    assert site.paths() == ["/x"]


async def test_robots_is_read_through_five_redirects(site: Site) -> None:
    places = ["/robots.txt", "/1", "/2", "/3", "/4", "/5"]
    for here, there in pairwise(places):
        site.raw(here, f"HTTP/1.1 301 M\r\nLocation: {there}\r\nContent-Length: 0\r\n\r\n".encode())
    site.page("/5", "User-agent: *\nDisallow: /x\n", kind="text/plain")
    site.page("/x", "x")
    found = await check(watched(site.url), Http(delay=0, allow_networks=HERE), site.url + "/x")
    assert ending(found) == "robots_denied"


@pytest.mark.parametrize(
    "address",
    ["fec0::1", "3fff::1", "5f00::1", "4000::1", "1::1", "fe00::1", "ff0e::1", "100::1", "2001:db8::1", "2001:2::1",
     "::ffff:0:a00:1", "::5efe:a00:1", "64:ff9b:1::a00:1", "192.0.0.1", "192.0.0.170", "192.88.99.1", "198.51.100.1",
     "203.0.113.1", "0.1.2.3", "127.255.255.254", "172.31.255.255", "100.127.255.255", "239.255.255.250"],
)  # fmt: skip
def test_what_is_not_the_public_internet_is_not_asked(address: str) -> None:
    assert not may_ask(ipaddress.ip_address(address), ())


@pytest.mark.parametrize("limit", [100_000, 100_001])
async def test_a_body_may_be_as_long_as_the_limit(site: Site, limit: int) -> None:
    site.raw("/x", html("x" * 100_001))
    found = await check(watched(site.url), Http(delay=0, max_body=limit, allow_networks=HERE), site.url + "/x")
    assert ending(found) == ("body_too_large" if limit == 100_000 else STORED)


ID = ItemRule(select=Expression(json="[]"), fields={"id": FieldRule(json="id")}, key=("id",))
JSON_BODIES = [
    ("[" * 100_000 + "]" * 100_000, ("decode", "parse_limit")),
    ('{"a":' * 100_000 + "1" + "}" * 100_000, ("decode", "parse_limit")),
    ('[{"id": ' + "9" * 10_000 + "}]", ("decode", "parse_limit")),
    ('[{"id": ', ("decode",)),
    ('[{"id": "\\ud800\\u0000x"}]', (STORED,)),
    ('[{"id": 1e999}, {"id": NaN}]', (STORED,)),
    ('[{"id": {"a": ' + "[" * 500 + "]" * 500 + "}}]", ("decode", "parse_limit", STORED)),
    ("7", (STORED,)),
    ('"' + "x" * 1_000_000 + '"', (STORED,)),
]


@pytest.mark.parametrize(("body", "ends"), [pytest.param(*row, id=str(n)) for n, row in enumerate(JSON_BODIES)])
async def test_json_that_is_read_ends_with_its_name(site: Site, body: str, ends: tuple[str, ...]) -> None:
    site.page("/x", body, kind="application/json")
    found = await judged(Case("json", hostile.sends(b""), ends), site.url + "/x", watched(site.url, item=(ID,)))
    assert "\\ud800" not in repr(found["items"])


def sitemap(*places: str) -> str:
    return "<urlset>" + "".join(f"<url><loc>{place}</loc></url>" for place in places) + "</urlset>"


SITEMAPS: list[tuple[str, Any, tuple[str, ...], int]] = [
    ("entity bomb", lambda: entity_bomb("urlset", "<url><loc>/&e9;</loc></url>"), (STORED, "decode", "parse_limit"), 1),
    ("file in an entity", lambda: '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><urlset><url><loc>/&x;</loc></url></urlset>', (STORED, "decode"), 1),
    ("file in a parameter entity", lambda: '<!DOCTYPE a [<!ENTITY % x SYSTEM "file:///etc/passwd"> %x;]>' + sitemap("/a"), (STORED, "decode"), 1),
    ("foreign doctype", lambda: '<!DOCTYPE a SYSTEM "http://10.0.0.1/x.dtd">' + sitemap("/a"), (STORED,), 1),
    ("inclusion", lambda: '<urlset xmlns:xi="http://www.w3.org/2001/XInclude"><xi:include href="file:///etc/passwd" parse="text"/></urlset>', (STORED,), 0),
    ("100,000 places", lambda: sitemap(*(f"/{n}" for n in range(100_000))), (STORED,), 50_000),
    ("100,000 levels", lambda: "<a>" * 100_000, (STORED, "decode", "parse_limit"), 0),
    ("no end", lambda: "<urlset><url><loc>/a</loc></url><url><lo", ("incomplete_body",), 1),
    ("a place of 1 MB", lambda: sitemap("/" + "x" * 1_000_000, "/a"), (STORED,), 1),
    ("places that are none", lambda: sitemap("http://[", "javascript:x", "file:///etc/passwd", "", " ", "/a"), (STORED,), 1),
    ("places of other hosts", lambda: sitemap("http://10.0.0.1/", "http://b.invalid/", "/a"), (STORED,), 1),
    ("sitemaps of other hosts", lambda: "<sitemapindex><sitemap><loc>http://10.0.0.1/a.xml</loc></sitemap></sitemapindex>", (STORED,), 0),
    ("a page", lambda: "<!doctype html><title>x</title><a href=/a>x</a>", (STORED, "decode"), 0),
    ("rubbish", lambda: bytes(range(256)) * 50, (STORED, "decode"), 0),
    ("nothing but white space", lambda: "  \n ", (STORED, "decode", "no_content"), 0),
    ("UTF-16", lambda: ("\ufeff<?xml version='1.0' encoding='utf-16'?>" + sitemap("/a")).encode("utf-16-le"), (STORED, "decode"), 1),
    ("wrong encoding", lambda: "<?xml version='1.0' encoding='klingon'?>" + sitemap("/a"), (STORED, "decode"), 1),
    ("blank line before the declaration", lambda: "\n<?xml version='1.0' encoding='utf-8'?>" + sitemap("/a"), (STORED,), 1),
    ("text of places", lambda: "http://a.invalid/\n{site}/a\n{site}/b\n" + "x" * 5000 + "\njavascript:x\n", (STORED,), 2),
    ("text that names no place", lambda: "Sorry, there is no such file.", (STORED, "decode"), 0),
    ("gzip bomb", lambda: hostile.bomb(), ("decoded_too_large",), 0),
    ("gzip of a sitemap", lambda: gzip.compress(sitemap("/a").encode()), (STORED,), 1),
    ("cut gzip", lambda: hostile.PACKED[:-5], ("decode",), 0),
    ("100,000 comments", lambda: "<urlset>" + "<!-- x -->" * 100_000 + "<url><loc>/a</loc></url></urlset>", (STORED,), 1),
    ("100,000 attributes", lambda: "<urlset " + " ".join(f"a{n}='x'" for n in range(100_000)) + "/>", (STORED, "decode", "parse_limit"), 0),
]  # fmt: skip


@pytest.mark.parametrize(("body", "ends", "most"), [pytest.param(*row[1:], id=row[0]) for row in SITEMAPS])
async def test_each_hostile_sitemap_ends_with_its_name(site: Site, body: Any, ends: tuple[str, ...], most: int) -> None:
    data = body()
    data = data.replace("{site}", site.url).encode() if isinstance(data, str) else data
    site.raw("/map.xml", hostile.whole(data, b"HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\n"))
    began = time.monotonic()
    source = Source(name="s", sitemaps=(site.url + "/map.xml",))
    found = await check(source, Http(delay=0, timeout=2.0, allow_networks=HERE))
    assert ending(found) in ends, found["failure"]
    assert len(found["links"]) <= most
    assert len(found["links"]) == most or len(ends) > 1
    assert all(link.startswith(site.url + "/") and "root:" not in link and len(link) <= 2048 for link in found["links"])
    assert time.monotonic() - began < 2.0 + GRACE_S


async def test_sitemaps_that_name_each_other_are_asked_once(crawler: Crawler, site: Site) -> None:
    for here, there in (("a", "b"), ("b", "a")):
        index = "".join(f"<sitemap><loc>{site.url}/{place}.xml</loc></sitemap>" for place in (here, there))
        site.page(f"/{here}.xml", f"<sitemapindex>{index}</sitemapindex>", kind="application/xml")
    run = await crawler.run(Source(name="s", sitemaps=(site.url + "/a.xml",)))
    assert sorted(site.paths()) == ["/a.xml", "/b.xml"]
    assert run["state"] in ("done", "failed")


async def test_sitemaps_that_name_ever_new_ones_end(crawler: Crawler, site: Site) -> None:
    def endless(request: Any) -> bytes:
        index = f"<sitemapindex><sitemap><loc>{site.url}{request.path}x</loc></sitemap></sitemapindex>"
        return html(index, kind="application/xml")

    site.raw("*", endless, close=False)
    site.raw("/robots.txt", html("", status="404 No"), close=False)
    http = Http(delay=0, timeout=2.0, allow_networks=HERE)
    run = await crawler.run(Source(name="s", sitemaps=(site.url + "/m",), max_depth=5, max_pages=50), http)
    assert run["state"] in ("done", "failed")
    assert len(site.paths()) <= 1001


async def test_a_trap_of_ever_new_pages_ends(crawler: Crawler, site: Site) -> None:
    def trap(request: Any) -> bytes:
        return html("".join(f'<a href="{request.path}/{n}">x</a>' for n in range(5)))

    site.raw("*", trap, close=False)
    site.raw("/robots.txt", html("", status="404 No"), close=False)
    run = await crawler.run(watched(site.url + "/t", max_depth=3, max_pages=1000))
    assert run["state"] == "done"
    assert run["pages"] == 1 + 5 + 25 + 125


def memory(name: str) -> int:
    """Return VmRSS or VmHWM of this process, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":"))


def forget_peak() -> None:
    """Have VmHWM count from now on."""
    Path("/proc/self/clear_refs").write_text("5")


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


async def test_a_site_with_every_misbehaviour_is_crawled_to_its_end(crawler: Crawler, good: Site, site: Site) -> None:
    """Each URL ends, good pages among them are stored, memory stays small, and nothing is left open."""
    for case in CASES:
        site.routes[case.path] = case.answer
    paths = [case.path for case in CASES]
    site.page("/", "".join(f'<a href="{path}">x</a>' for path in ("/good/first", *paths, "/good/last")))
    site.page("/good/first", "<title>first</title>")
    site.page("/good/last", "<title>last</title>")
    hostile.make_all()
    resource_tracker.ensure_running()  # it is there for as long as we are
    await crawler.run(watched(site.url + "/fine"))
    gc.collect()
    forget_peak()
    before, files, tasks = memory("VmRSS"), open_files(), len(asyncio.all_tasks())
    http = Http(delay=0, per_host=8, retries=1, timeout=1.0, auto_throttle=False, allow_networks=HERE)
    run = await crawler.run(watched(site.url + "/", max_depth=1), http)
    grown = memory("VmHWM") - before
    assert run["state"] == "done"
    failures = {f["url"].removeprefix(site.url): f["reason"] for f in crawler.rows("failures") if not f["resolved_at"]}
    stored = {page["url"].removeprefix(site.url) for page in crawler.rows("pages")}
    ended = crawler.db.read(lambda c: c.exec_driver_sql("SELECT url, state FROM urls").fetchall())
    states = {url.removeprefix(site.url): state for url, state in ended}
    assert {path: states[path] for path in paths if states[path] not in ("done", "failed")} == {}
    assert {path for path, state in states.items() if state == "failed"} == set(failures)
    assert set(failures.values()) <= set(Failure)
    assert {"/good/first", "/good/last"} <= stored
    assert len(asyncio.all_tasks()) == tasks
    until(lambda: open_files() <= files, "every connection is closed")
    assert grown < GROWTH + http.per_host * http.max_body, f"{grown / 2**20:.0f} MiB"


async def test_large_pages_do_not_pile_up_while_the_database_is_away(crawler: Crawler, site: Site) -> None:
    """What was fetched and cannot be stored yet is bounded in bytes, not only in number."""
    large = html("<p>" + "x" * 8 * 2**20)
    locked = sqlite3.connect(crawler.db.engine.url.database or "", isolation_level=None, check_same_thread=False)
    asked: list[float] = []
    one_by_one = threading.Lock()

    def answer(request: Any) -> bytes:
        with one_by_one:
            if len(asked) == 4:
                locked.execute("BEGIN IMMEDIATE")
            asked.append(time.monotonic())
        return large

    def settled() -> bool:
        return len(asked) > 4 and time.monotonic() - asked[-1] > 0.7

    paths = [f"/{number}" for number in range(60)]
    site.page("/", "".join(f'<a href="{path}">x</a>' for path in paths))
    for path in paths:
        site.raw(path, answer, close=False)
    forget_peak()
    before = memory("VmRSS")
    run = asyncio.create_task(crawler.run(watched(site.url + "/", max_depth=1)))
    await asyncio.to_thread(until, settled, "nothing more is asked for")
    grown, waiting = memory("VmHWM") - before, len(asked)
    locked.execute("COMMIT")
    locked.close()
    assert (await run)["pages"] == 61
    assert grown < 2 * GROWTH, f"{grown / 2**20:.0f} MiB, {waiting} pages"
