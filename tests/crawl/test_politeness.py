"""What sites ask of robots, how hosts are spared, and whose turn it is: by the site's own log and by the clock."""

import asyncio
import contextlib
import threading
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from socket import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from scraper.config import allowance
from scraper.config.settings import Database, Http, Limits, Source
from scraper.crawl import politeness
from scraper.crawl.check import check
from scraper.crawl.engine import Before, Engine
from scraper.crawl.fetcher import Fetcher
from scraper.crawl.politeness import PENALTY_MAX_S, STRIKES, TRIP_FIRST_S, TRIP_MAX_S, Gate, Place, Politeness
from scraper.crawl.robots import Robots
from scraper.crawl.short import is_short
from scraper.crawl.store import Store
from scraper.crawl.visit import Visitor
from scraper.crawl.work import Work
from scraper.database import Db, health, runs, sources
from scraper.database.connection import now
from scraper.database.models import hosts as host_rows
from scraper.database.models import urls as url_rows
from scraper.errors import Failure, PutOff
from scraper.extract.page import Page
from scraper.offload import Browsers, Readers
from scraper.records import Claim, HostTimes, RunCount
from scraper.urls import host_of
from tests.crawl.test_engine import HTTP, Crawler, links, source
from tests.site import Request, Site, html, running
from tests.support import free_port, until

ONE_BY_ONE = Http(delay=0, per_host=1, retries=0, auto_throttle=False, allow_networks=HTTP.allow_networks)
ADAPTING = Http(delay=0, per_host=1, retries=0, auto_throttle=True, allow_networks=HTTP.allow_networks)
DOWN = html("x", status="503 Away")


@contextlib.asynccontextmanager
async def under_way(crawler: Crawler, *watched: Source, http: Http = ONE_BY_ONE) -> AsyncIterator[Engine]:
    """Run sources for as long as a test looks on."""
    crawler.db.write(lambda c: sources.sync(c, watched, lambda s, last: None))
    ids = crawler.db.write(lambda c: [runs.request(c, made.name, now()) for made in watched])
    store = Store(crawler.db, "test")
    engine = Engine(store, http, ids)
    task = asyncio.create_task(engine.run(watched, Before(now())))
    try:
        yield engine
    finally:
        engine.stop()
        async with asyncio.timeout(10):
            await task
        store.close()


def told(crawler: Crawler, name: str = "s") -> dict[str, Any]:
    """Return a source as the API tells it."""
    return crawler.db.read(lambda c: health.one(c, name))


def slowed(crawler: Crawler) -> dict[str, dict[str, Any]]:
    """Return what slows the source down, by what it is."""
    return {found["what"]: found for found in told(crawler)["slowed_by"]}


def host_row(crawler: Crawler) -> Any:
    """Return what is kept of the only host."""
    return crawler.db.read(lambda c: c.exec_driver_sql("SELECT * FROM hosts").mappings().one())


# -- what pages ask of robots


@pytest.mark.parametrize(
    ("header", "asked"),
    [
        ("noindex", "noindex"),
        ("NoIndex", "noindex"),
        ("nofollow", "nofollow"),
        ("noindex, nofollow", "noindex nofollow"),
        ("none", "noindex nofollow"),
        ("all", ""),
        ("noarchive, nosnippet", ""),
        ("robots: noindex", "noindex"),
        ("*: noindex", "noindex"),
        ("bowerbird: noindex", "noindex"),
        ("BowerBird : noindex, nofollow", "noindex nofollow"),
        ("otherbot: noindex", ""),
        ("otherbot: noindex, nofollow", ""),
        ("otherbot: none, bowerbird: nofollow", "nofollow"),
        ("bowerbird: nofollow, otherbot: noindex", "nofollow"),
        ("unavailable_after: 25 Jun 2099 15:00:00 PST", ""),
        ("unavailable_after: 25 Jun 2099 15:00:00 PST, noindex", "noindex"),
        ("otherbot: unavailable_after: 25 Jun 2099 15:00:00 PST, noindex", ""),
        ("max-snippet: 20, nofollow", "nofollow"),
        ("max-image-preview: large, max-video-preview: -1, noindex", "noindex"),
        ("", ""),
        (", ,:,", ""),
    ],
)
def test_an_x_robots_tag_is_read_for_all_robots_and_for_us_by_name(header: str, asked: str) -> None:
    page = Page("http://a.org/", 200, {"content-type": "text/html", "x-robots-tag": header}, b"<p>x")
    assert page.robots("bowerbird") & {"noindex", "nofollow"} == set(asked.split())


@pytest.mark.parametrize(
    ("markup", "asked"),
    [
        ('<meta name="robots" content="noindex">', "noindex"),
        ('<META NAME="ROBOTS" CONTENT="NOINDEX, FOLLOW">', "noindex"),
        ('<meta name="robots" content="none">', "noindex nofollow"),
        ('<meta name="robots" content="index,follow">', ""),
        ('<meta name="bowerbird" content="nofollow">', "nofollow"),
        ('<meta name="BowerBird" content="nofollow">', "nofollow"),
        ('<meta name="otherbot" content="none">', ""),
        ('<meta name="robots" content="noindex"><meta name="bowerbird" content="nofollow">', "noindex nofollow"),
        ('<meta name="robots" content="unavailable_after: 2099-06-25, noindex">', "noindex"),
        ('<meta name="robots">', ""),
        ('<meta name="description" content="noindex">', ""),
        ("robots noindex", ""),
    ],
)
def test_a_robots_meta_is_read_for_all_robots_and_for_us_by_name(markup: str, asked: str) -> None:
    page = Page("http://a.org/", 200, {"content-type": "text/html"}, f"<head>{markup}</head>".encode())
    assert page.robots("bowerbird") & {"noindex", "nofollow"} == set(asked.split())


@pytest.mark.parametrize(
    ("said", "asked"),
    [
        ("unavailable_after: 25 Jun 2010 15:00:00 PST", {"noindex"}),
        ("unavailable_after: Friday, 25-Jun-10 15:00:00 UTC", {"noindex"}),
        ("unavailable_after: 2010-06-25, nofollow", {"noindex", "nofollow"}),
        ("nofollow, unavailable_after: 2010-06-25T10:00:00+00:00", {"noindex", "nofollow"}),
        ("bowerbird: unavailable_after: 2010-06-25, nofollow", {"noindex", "nofollow"}),
        ("otherbot: unavailable_after: 2010-06-25", set()),
        ("unavailable_after: 2099-06-25", set()),
        ("unavailable_after: some day", set()),
    ],
)
def test_a_page_that_is_to_be_had_no_longer_is_not_kept(said: str, asked: set[str]) -> None:
    today = date(2026, 1, 1)
    headers = {"content-type": "text/html", "x-robots-tag": said}
    assert Page("http://a.org/", 200, headers, b"x").robots("bowerbird", today) & {"noindex", "nofollow"} == asked
    if ": unavailable" not in said:
        page = Page(
            "http://a.org/", 200, {"content-type": "text/html"}, f'<meta name=robots content="{said}">'.encode()
        )
        assert page.robots("bowerbird", today) & {"noindex", "nofollow"} == asked


@given(st.text(max_size=80), st.text(max_size=80))
def test_no_robots_directive_raises(header: str, content: str) -> None:
    body = f'<meta name=robots content="{content}">'.encode("utf-8", "replace")
    Page("http://a.org/", 200, {"content-type": "text/html", "x-robots-tag": header}, body).robots(
        "bowerbird", date(2026, 1, 1)
    )


async def test_a_noindex_page_is_not_stored_and_its_links_are_followed(crawler: Crawler, site: Site) -> None:
    site.page("/", links("/header", "/meta"))
    site.page("/header", links("/1"), X_Robots_Tag="noindex")
    site.page("/meta", '<meta name="robots" content="noindex">' + links("/2"))
    site.page("/1", "x")
    site.page("/2", "x")
    run = await crawler.run(source(site))
    assert sorted(site.paths()) == ["/", "/1", "/2", "/header", "/meta"]
    assert {page["final_url"] for page in crawler.rows("pages")} == {site.url + path for path in ("/", "/1", "/2")}
    assert [f["reason"] for f in crawler.rows("failures")] == ["noindex", "noindex"]
    assert (run["state"], run["pages"], run["failures"]) == ("done", 3, 2)


async def test_nofollow_pages_and_links_lead_nowhere(crawler: Crawler, site: Site) -> None:
    site.page("/", links("/header", "/meta", "/none") + '<a rel="external NoFollow" href="/marked">x</a>')
    site.page("/header", links("/1"), X_Robots_Tag="nofollow")
    site.page("/meta", '<meta name="robots" content="nofollow">' + links("/2"))
    site.page("/none", '<meta name="robots" content="none">' + links("/3"))
    await crawler.run(source(site))
    assert sorted(site.paths()) == ["/", "/header", "/meta", "/none"]
    assert len(crawler.rows("pages")) == 3


async def test_a_304_may_forbid_what_was_allowed(crawler: Crawler, site: Site) -> None:
    """RFC 9111 section 3.2: its headers take the place of those that are stored."""
    site.page("/", links("/1"), ETag='"a"')
    site.page("/1", "x")
    await crawler.run(source(site))
    site.log.clear()
    site.raw("/", b"HTTP/1.1 304 Not Modified\r\nX-Robots-Tag: noindex, nofollow\r\n\r\n", close=False)
    await crawler.run(source(site))
    assert site.paths() == ["/"]
    assert [f["reason"] for f in crawler.rows("failures")] == ["noindex"]


@pytest.mark.parametrize("status", ["403 Forbidden", "404 Not Found", "408 Request Timeout", "413 Content Too Large"])
async def test_whatever_an_answer_is_its_retry_after_is_obeyed(crawler: Crawler, site: Site, status: str) -> None:
    site.page("/", links("/1", "/2"))
    head = f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nRetry-After: 1\r\nRetry-After: 1\r\n\r\n"
    site.raw("/1", head.encode(), close=False)
    site.page("/2", "x")
    await crawler.run(source(site, http={"retries": 0}), ONE_BY_ONE)
    first, second = (next(one.at for one in site.log if one.path == path) for path in ("/1", "/2"))
    assert second - first >= 0.9


async def test_a_robots_txt_that_redirects_may_ask_for_a_pause(crawler: Crawler, site: Site) -> None:
    site.page("/", "x")
    site.page("/r.txt", "User-agent: *\nDisallow:", kind="text/plain")
    head = f"HTTP/1.1 302 F\r\nLocation: {site.url}/r.txt\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"
    site.raw("/robots.txt", head.encode(), close=False)
    await crawler.run(source(site), ONE_BY_ONE)
    first, second = (next(one.at for one in site.log if one.path == path) for path in ("/robots.txt", "/r.txt"))
    assert second - first >= 0.9


@pytest.mark.parametrize("head", ["200 OK", "204 No Content", "200 OK\r\nContent-Type: image/png"])
async def test_a_wait_that_any_answer_asks_for_holds(crawler: Crawler, site: Site, head: str) -> None:
    site.page("/", links("/1", "/2"))
    length = 0 if head.startswith("204") else 1
    site.raw(
        "/1",
        f"HTTP/1.1 {head}\r\nRetry-After: 1\r\nContent-Length: {length}\r\n\r\n{'x' * length}".encode(),
        close=False,
    )
    site.page("/2", "x")
    await crawler.run(source(site, http={"retries": 0}), ONE_BY_ONE)
    first, second = (next(one.at for one in site.log if one.path == path) for path in ("/1", "/2"))
    assert second - first >= 0.9


async def test_a_robots_txt_that_fails_for_a_moment_costs_no_run(crawler: Crawler, site: Site) -> None:
    answers = iter([html("", status="503 Busy")])
    site.raw("/robots.txt", lambda _: next(answers, html("", status="404 None")), close=False)
    site.page("/", "x")
    run = await crawler.run(source(site, http={"retries": 3}), ONE_BY_ONE)
    assert (run["state"], run["pages"], run["failures"]) == ("done", 1, 0)


async def test_what_a_proxy_says_of_itself_is_no_robots_txt(crawler: Crawler, site: Site) -> None:
    site.page("/", "x")
    site.raw("/robots.txt", b"HTTP/1.1 407 P\r\nContent-Length: 0\r\n\r\n", close=False)
    await crawler.run(source(site, http={"retries": 0}), ONE_BY_ONE)
    assert [failure["reason"] for failure in crawler.rows("failures")] == ["robots_unreachable"]


async def test_a_robots_txt_that_is_at_a_host_that_is_away_is_unreachable(crawler: Crawler, site: Site) -> None:
    site.page("/", links("/1"))
    where = f"http://127.0.0.1:{free_port()}/robots.txt"
    site.raw("/robots.txt", f"HTTP/1.1 301 M\r\nLocation: {where}\r\nContent-Length: 0\r\n\r\n".encode(), close=False)
    await crawler.run(source(site, http={"retries": 0}), ONE_BY_ONE)
    assert [failure["reason"] for failure in crawler.rows("failures")] == ["robots_unreachable"]


def test_attributes_behind_quotes_make_no_short_page() -> None:
    many = " ".join(f'a{n} q{n}=">"' if n % 500 == 0 else f"a{n}" for n in range(20_000))
    assert not is_short(f"<p {many}>x</p>".encode())
    assert is_short(f"<p>{many.replace('>', '')}</p>".encode())


class Remembers:
    """A memory of hosts that keeps what it was told."""

    def __init__(self) -> None:
        self.kept: list[HostTimes] = []

    async def lease(self, host: str) -> HostTimes | None:
        return HostTimes(host, None, 0.0)

    async def keep_times(self, times: HostTimes) -> None:
        self.kept.append(times)

    async def robots_of(self, origin: str) -> tuple[Robots, datetime] | None:
        return Robots(404, ""), now()

    async def keep_robots(self, origin: str, robots: Robots) -> None:
        """Keep none."""

    def now(self) -> datetime:
        return now()


async def test_a_pause_is_kept_before_the_visit_is_over(site: Site) -> None:
    """Else who is killed in between would ask again too early."""
    site.raw("/", b"HTTP/1.1 429 Slow\r\nRetry-After: 30\r\nContent-Length: 0\r\n\r\n", close=False)
    memory, fetcher, wanted = Remembers(), Fetcher(), source(site)

    async def no_robots(origin: str, http: Http, place: Place) -> Robots:
        return Robots(404, "")

    async def nothing(*_: object) -> None:
        """Nothing is stored."""

    politeness = Politeness(memory, 1, no_robots)
    readers, browsers = Readers(Limits()), Browsers(Limits())
    works = {wanted.name: Work.of(wanted, HTTP, {})}
    visitor = Visitor(fetcher, politeness, works, nothing, nothing, now, readers, browsers)
    url = site.url + "/"
    visit = await visitor.visit(Claim(1, 1, wanted.name, url, host_of(url), 0, "page", 0))
    assert visit.failure == "rate_limited"
    [times] = memory.kept
    assert times.next_at is not None
    assert 25 < (times.next_at - now()).total_seconds() <= 30
    await fetcher.close()


async def test_two_lines_of_x_robots_tag_do_not_blur(crawler: Crawler, site: Site) -> None:
    """The name of a robot is for its own line alone."""
    site.page("/", links("/1"))
    head = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nX-Robots-Tag: otherbot: nofollow\r\nX-Robots-Tag: noindex\r\n"
    )
    site.raw("/1", head + b"Content-Length: 1\r\n\r\nx")
    await crawler.run(source(site))
    assert [f["reason"] for f in crawler.rows("failures")] == ["noindex"]


async def test_who_does_not_obey_robots_obeys_none_of_it(crawler: Crawler, site: Site) -> None:
    site.page("/robots.txt", "User-agent: *\nDisallow: /", kind="text/plain")
    site.page("/", links("/header", "/meta") + '<a rel="nofollow" href="/marked">x</a>')
    site.page("/header", links("/1"), X_Robots_Tag="none")
    site.page("/meta", '<meta name="robots" content="none">' + links("/2"))
    for path in ("/1", "/2", "/marked"):
        site.page(path, "x")
    run = await crawler.run(source(site, http={"obey_robots": False}))
    assert sorted(r.path for r in site.log) == ["/", "/1", "/2", "/header", "/marked", "/meta"]
    assert (run["pages"], run["failures"]) == (6, 0)


# -- a host that is slow, or down


async def test_failures_slow_down_step_by_step_and_good_answers_speed_up_again() -> None:
    gate = Gate(HostTimes("h", None, 0.0), asyncio.Semaphore(8))
    steps = []
    for _ in range(12):
        gate.failed(Failure.RATE_LIMITED, adapt=True)
        steps.append(gate.penalty_s)
    assert steps[:3] == [0.5, 1.0, 2.0]
    assert steps == sorted(steps)
    assert steps[-1] == PENALTY_MAX_S
    answers = 0
    while gate.penalty_s:
        before = gate.penalty_s
        gate.answered(0.01, adapt=True)
        assert gate.penalty_s < before
        answers += 1
    assert answers < 30


async def test_without_auto_throttle_nothing_is_added() -> None:
    gate = Gate(HostTimes("h", None, 0.0), asyncio.Semaphore(8))
    gate.failed(Failure.HTTP_5XX, adapt=False)
    gate.answered(0.1, adapt=False)
    gate.answered(9.0, adapt=False)
    assert gate.penalty_s == 0.0


@pytest.mark.parametrize(
    ("usual", "latency", "slow"),
    [
        pytest.param(0.2, 0.7, True, id="over three times the usual and over half a second"),
        pytest.param(0.05, 0.4, False, id="eight times the usual, and quick all the same"),
        pytest.param(0.3, 0.8, False, id="long, and not three times the usual"),
        pytest.param(2.0, 2.5, False, id="always slow"),
        pytest.param(0.0, 5.0, False, id="the first answer is the measure"),
        pytest.param(0.2, 0.2, False, id="as ever"),
    ],
)
async def test_an_answer_is_slow_by_the_hosts_own_measure(usual: float, latency: float, slow: bool) -> None:
    gate = Gate(HostTimes("h", None, 0.0, latency_s=usual), asyncio.Semaphore(8))
    gate.answered(latency, adapt=True)
    assert (gate.penalty_s > 0) is slow


async def test_a_host_that_stays_slow_gets_slower_and_slower_requests() -> None:
    gate = Gate(HostTimes("h", None, 0.0, latency_s=0.2), asyncio.Semaphore(8))
    penalties = []
    for _ in range(10):
        gate.answered(2.0, adapt=True)
        penalties.append(gate.penalty_s)
    assert penalties == sorted(penalties)
    assert penalties[-1] > 2 * penalties[0] > 0


async def test_a_host_that_is_as_slow_as_ever_is_asked_a_latency_apart_at_most() -> None:
    """One quick answer, of its front page, is not the measure of all others."""
    gate = Gate(HostTimes("h", None, 0.0), asyncio.Semaphore(8))
    gate.answered(0.005, adapt=True)
    penalties = []
    for _ in range(100):
        gate.answered(0.8, adapt=True)
        penalties.append(gate.penalty_s)
    assert max(penalties) <= 0.8
    assert penalties[-1] == 0.0


async def test_beside_a_request_there_are_no_more_than_it_wants() -> None:
    """Of two sources at one host the stricter one counts."""
    gate = Gate(HostTimes("h", None, 0.0), asyncio.Semaphore(8))
    await gate.enter(0, 1)
    other = asyncio.create_task(gate.enter(0, 5))
    await asyncio.wait({other}, timeout=0.05)
    assert not other.done()
    gate.leave(1)
    await other
    await gate.enter(0, 5)
    assert gate.in_flight == 2


async def test_a_source_that_has_no_place_left_holds_up_no_other_at_a_host() -> None:
    gate, own = Gate(HostTimes("h", None, 0.0), asyncio.Semaphore(8)), asyncio.Semaphore(1)
    await own.acquire()  # at another host
    waiting = asyncio.create_task(gate.enter(0, 4, own))
    await asyncio.wait({waiting}, timeout=0.05)
    await asyncio.wait_for(gate.enter(0, 4), 1.0)
    assert not waiting.done()
    own.release()
    await asyncio.wait_for(waiting, 1.0)
    assert (gate.in_flight, own.locked()) == (2, True)
    gate.leave(4, own)
    assert not own.locked()
    waiting = asyncio.create_task(gate.enter(30, 4, own))
    await asyncio.wait({waiting}, timeout=0.05)
    waiting.cancel()
    await asyncio.wait({waiting})
    assert not own.locked()


async def test_who_leads_to_a_host_that_rests_is_put_off(crawler: Crawler, site: Site) -> None:
    """Else one such redirect after the other would wait for an hour, and with it all that is to be asked of its own host."""
    with running("127.0.0.2") as other:
        other.raw("/busy", b"HTTP/1.1 503 Slow\r\nRetry-After: 3600\r\nContent-Length: 0\r\n\r\n", close=False)
        starts = [f"/go{n}" for n in range(3)]
        for path in starts:
            head = f"HTTP/1.1 302 F\r\nLocation: {other.url}/busy\r\nContent-Length: 0\r\n\r\n"
            site.raw(path, head.encode(), close=False)
        site.page("/x", "x")
        async with under_way(crawler, source(site, *starts, "/x"), http=replace(ONE_BY_ONE, retries=1)):
            await asyncio.to_thread(until, lambda: "/x" in site.paths())
            await asyncio.to_thread(until, lambda: len(crawler.rows("failures")) == 3)
        assert other.paths() == ["/busy"]
    put_off = [one for one in crawler.rows("failures") if one["url"] != site.url + "/go0"]
    assert {one["reason"] for one in put_off} == {"rate_limited"}
    assert all("is to be left alone for" in one["message"] for one in put_off)
    attempts = crawler.db.read(lambda c: c.execute(select(url_rows.c.url, url_rows.c.attempts)).all())
    assert dict(tuple(row) for row in attempts) == {
        site.url + path: int(path in ("/go0", "/x")) for path in (*starts, "/x")
    }


async def test_who_waited_for_its_turn_asks_no_more_when_it_may_not(site: Site) -> None:
    async def no_robots(origin: str, http: Http, place: Place) -> Robots:
        return Robots(404, "")

    may = True
    politeness = Politeness(Remembers(), 1, no_robots)
    host = host_of(site.url + "/")
    async with (
        Place(politeness, None, host, lambda: may) as first,
        Place(politeness, None, host, lambda: may) as second,
    ):
        await first.enter(site.url + "/", ONE_BY_ONE)
        waiting = asyncio.create_task(second.enter(site.url + "/", ONE_BY_ONE))
        await asyncio.wait({waiting}, timeout=0.05)
        may = False
        first.leave()
        with pytest.raises(PutOff) as caught:
            await waiting
        assert (caught.value.failure, caught.value.wait_s, second.gate) == ("cancelled", 0.0, None)
        gate = politeness.gate(host)
        assert gate is not None
        assert gate.idle


@pytest.mark.parametrize("status", ["200 OK", "404 No"])
async def test_a_pause_that_robots_txt_asked_for_is_kept_before_anything_else_is_asked(
    crawler: Crawler, site: Site, status: str
) -> None:
    site.raw("/robots.txt", html("", status=status, kind="text/plain", Retry_After="40"), close=False)
    site.page("/", "x")
    async with under_way(crawler, source(site)):
        later = now() + timedelta(seconds=30)
        kept = select(host_rows.c.host).where(host_rows.c.next_at > later)
        await asyncio.to_thread(until, lambda: crawler.db.read(lambda c: c.scalar(kept)))
    assert site.paths() == []


@pytest.mark.parametrize(
    ("status", "left", "reset", "reason"),
    [
        ("403 Forbidden", "0", "{then}", "rate_limited"),
        ("403 Forbidden", "0.0", "120", "rate_limited"),
        ("429 Slow", "0", "120", "rate_limited"),
        ("403 Forbidden", "7", "120", "http_4xx"),
        ("403 Forbidden", "0", "soon", "http_4xx"),
    ],
)
async def test_an_api_that_counts_requests_is_left_alone_when_they_are_used_up(
    crawler: Crawler, site: Site, status: str, left: str, reset: str, reason: str
) -> None:
    then = round(now().timestamp()) + 120
    headers = {"X_RateLimit_Remaining": left, "X_RateLimit_Reset": reset.format(then=then)}
    site.raw("/", html("x", status=status, **headers), close=False)
    await crawler.run(source(site), ONE_BY_ONE)
    assert [failure["reason"] for failure in crawler.rows("failures")] == [reason]
    if reason == "rate_limited":
        assert 100 < (slowed(crawler)["pause"]["until"] - now()).total_seconds() <= 121


async def test_a_check_leaves_alone_who_asked_for_that(crawler: Crawler, site: Site) -> None:
    site.raw("/", html("x", status="503 Slow", Retry_After="600"), close=False)
    await crawler.run(source(site), ONE_BY_ONE)
    found = await check(source(site), ONE_BY_ONE, db=crawler.db)
    assert found["failure"]["reason"] == "rate_limited"
    assert "is to be left alone for" in found["failure"]["message"]
    assert site.paths() == ["/"]


async def test_a_redirect_to_itself_that_asks_to_wait_is_waited_for(crawler: Crawler, site: Site) -> None:
    site.raw("/", f"HTTP/1.1 302 F\r\nLocation: {site.url}/\r\nRetry-After: 120\r\nContent-Length: 0\r\n\r\n".encode())
    await crawler.run(source(site), ONE_BY_ONE)
    assert [failure["reason"] for failure in crawler.rows("failures")] == ["rate_limited"]


async def test_what_a_failure_added_holds_in_a_new_engine(crawler: Crawler, site: Site) -> None:
    site.raw("/", DOWN)
    await crawler.run(source(site), ADAPTING)
    assert host_row(crawler)["penalty_s"] == 0.5
    assert slowed(crawler)["penalty"]["seconds"] == 0.5
    site.page("/", links("/1"))
    site.page("/1", "x")
    await crawler.run(source(site), ADAPTING)
    first, second = (request.at for request in site.log[-2:])
    assert second - first > 0.45
    assert 0 < host_row(crawler)["penalty_s"] < 0.5


async def test_a_slow_answer_of_a_site_slows_the_next_request(crawler: Crawler, site: Site) -> None:
    hold = threading.Event()

    def slow(end: socket, request: Request) -> bool:
        hold.wait(0.7)
        end.sendall(html("x"))
        return True

    site.page("/", links(*(f"/{n}" for n in range(5)), "/slow"))
    for n in range(5):
        site.page(f"/{n}", "x")
    site.routes["/slow"] = slow
    await crawler.run(source(site), ADAPTING)
    assert host_row(crawler)["penalty_s"] > 0.1


async def test_twenty_failures_in_a_row_leave_a_host_alone_longer_each_time() -> None:
    gate = Gate(HostTimes("h", None, 0.0), asyncio.Semaphore(8))
    for _ in range(STRIKES - 1):
        gate.failed(Failure.CONNECT, adapt=False)
    assert gate.resting_s == 0
    rests = []
    for _ in range(12):
        gate.failed(Failure.TIMEOUT, adapt=False)
        rests.append(round(gate.resting_s))
    assert rests[:3] == [TRIP_FIRST_S, 2 * TRIP_FIRST_S, 4 * TRIP_FIRST_S]
    assert rests[-1] == TRIP_MAX_S
    times = gate.times(now())
    assert "20 times in a row" in (times.why or "")
    assert "timeout" in (times.why or "")
    assert times.next_at is not None
    assert (times.next_at - now()).total_seconds() == pytest.approx(TRIP_MAX_S, abs=5)


async def test_a_host_that_failed_often_is_asked_one_at_a_time_until_it_answers() -> None:
    gate = Gate(HostTimes("h", None, 0.0, strikes=STRIKES - 1, trips=1), asyncio.Semaphore(8))
    await gate.enter(0, 4)
    second = asyncio.create_task(gate.enter(0, 4))
    await asyncio.wait([second], timeout=0.05)
    assert not second.done()
    gate.leave(4)
    await second
    gate.answered(0.1, adapt=True)
    assert (gate.strikes, gate.trips) == (0, 0)
    async with asyncio.timeout(1):
        for _ in range(3):
            await gate.enter(0, 4)
    assert gate.in_flight == 4
    gate.failed(Failure.CONNECT, adapt=False)
    assert gate.resting_s == 0


@pytest.mark.parametrize("failure", sorted(set(Failure) - politeness.STRIKING))
async def test_only_what_says_that_a_host_is_down_counts(failure: Failure) -> None:
    gate = Gate(HostTimes("h", None, 0.0), asyncio.Semaphore(8))
    for _ in range(3 * STRIKES):
        gate.failed(failure, adapt=False)
    assert (gate.strikes, gate.trips, gate.resting_s) == (0, 0, 0)


async def test_a_host_that_is_down_is_left_alone_and_taken_up_again(
    crawler: Crawler, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(politeness, "TRIP_FIRST_S", 1.0)

    def answer(request: Request) -> bytes:
        return DOWN if len(site.paths()) <= STRIKES else html("x")

    site.raw("*", answer)
    site.raw("/robots.txt", html("", status="404 No"))
    watched = source(site, *(f"/{n}" for n in range(30)), follow=False)
    async with under_way(crawler, watched) as engine:
        seen = await asyncio.to_thread(until, lambda: slowed(crawler).get("pause"))
        assert "20 times in a row" in seen["why"]
        assert seen["until"] > now() - timedelta(seconds=1)
        assert len(site.paths()) == STRIKES

        def troubles() -> list[tuple[str, int]]:
            return [(t["reason"], t["count"]) for t in told(crawler)["troubles"]]

        # The pause is kept before the last of the visits is.
        await asyncio.to_thread(until, lambda: troubles() == [("http_5xx", STRIKES)])
        await asyncio.to_thread(until, lambda: engine.progress().pages == 10)
    times = [request.at for request in site.log if request.path != "/robots.txt"]
    assert times[STRIKES] - times[STRIKES - 1] > 0.95
    kept = host_row(crawler)
    assert (kept["strikes"], kept["trips"], kept["why"]) == (0, 0, None)
    assert slowed(crawler) == {}


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n\r\n", id="no HTTP"),
        pytest.param(html("x", status="404 No"), id="missing pages"),
        pytest.param(html("x", kind="image/png"), id="no pages"),
        pytest.param(b"HTTP/1.1 302 F\r\nContent-Length: 0\r\n\r\n", id="bad redirects"),
    ],
)
async def test_bad_answers_do_not_have_a_host_left_alone(crawler: Crawler, site: Site, answer: bytes) -> None:
    site.raw("*", answer)
    site.raw("/robots.txt", html("", status="404 No"))
    run = await crawler.run(source(site, *(f"/{n}" for n in range(STRIKES + 5)), follow=False), ONE_BY_ONE)
    assert run["failures"] == len(site.paths()) == STRIKES + 5
    kept = host_row(crawler)
    assert (kept["strikes"], kept["trips"], kept["why"]) == (0, 0, None)


async def test_a_source_tells_what_fails_and_the_crawl_delay(crawler: Crawler, site: Site) -> None:
    site.page("/robots.txt", "User-agent: *\nCrawl-delay: 0.1\nDisallow: /no", kind="text/plain")
    site.page("/", links("/no", "/gone", "/lost"))
    await crawler.run(source(site), ONE_BY_ONE)
    troubles = {trouble["reason"]: trouble for trouble in told(crawler)["troubles"]}
    assert {reason: trouble["count"] for reason, trouble in troubles.items()} == {"http_4xx": 2, "robots_denied": 1}
    assert troubles["robots_denied"]["url"] == site.url + "/no"
    assert "404" in troubles["http_4xx"]["message"]
    assert slowed(crawler)["crawl_delay"]["seconds"] == 0.1
    for path in ("/no", "/gone", "/lost"):
        site.page(path, "x")
    site.page("/robots.txt", "", kind="text/plain")
    crawler.db.write(lambda c: c.exec_driver_sql("DELETE FROM robots"))
    await crawler.run(source(site), ONE_BY_ONE)
    assert told(crawler)["troubles"] == []


async def test_a_crawl_delay_that_is_no_more_is_told_no_more(crawler: Crawler, site: Site) -> None:
    site.page("/robots.txt", "User-agent: *\nCrawl-delay: 0.1", kind="text/plain")
    site.page("/", "x")
    await crawler.run(source(site), ONE_BY_ONE)
    assert slowed(crawler)["crawl_delay"]["seconds"] == 0.1
    site.page("/robots.txt", "", kind="text/plain")
    crawler.db.write(lambda c: c.exec_driver_sql("DELETE FROM robots"))
    await crawler.run(source(site), ONE_BY_ONE)
    assert slowed(crawler) == {}


# -- budgets and windows


async def test_pages_per_day_hold_over_runs_and_the_run_waits(crawler: Crawler, site: Site) -> None:
    site.raw("*", html(links(*(f"/{n}" for n in range(9)))))
    site.raw("/robots.txt", html("", status="404 No"))
    watched = source(site, max_pages=2, pages_per_day=3)
    assert (await crawler.run(watched))["state"] == "done"
    async with under_way(crawler, watched) as engine:
        await asyncio.to_thread(until, lambda: engine.progress().pages == 1)
        assert "pages_per_day = 3" in slowed(crawler)["budget"]["why"]
        assert slowed(crawler)["budget"]["until"] == allowance.midnight(now())
    async with under_way(crawler, watched) as engine:  # the same run: it has not ended
        await asyncio.to_thread(until, lambda: engine.progress().sources == ("s",))
        assert len(site.paths()) == 3
        crawler.db.write(lambda c: c.exec_driver_sql("UPDATE usage SET day = '2001-01-01'"))
        await asyncio.to_thread(until, lambda: not engine.progress().sources)
    assert len(site.paths()) == 4
    assert [run["state"] for run in crawler.rows("runs")] == ["done", "done"]


async def test_what_was_claimed_is_not_asked_for_once_the_bytes_of_the_day_are_used_up(
    crawler: Crawler, site: Site
) -> None:
    site.raw("*", html(links(*(f"/{n}" for n in range(60))) + "x" * 20_000))
    site.raw("/robots.txt", html("", status="404 No"))
    watched = source(site, bytes_per_day=50_000, http={"delay": 0.3, "per_host": 1})
    async with under_way(crawler, watched) as engine:
        await asyncio.to_thread(until, lambda: "budget" in slowed(crawler))
        await asyncio.to_thread(until, lambda: not engine.progress().visiting)
        assert len(site.paths()) < 9
        assert engine.progress().sources == ("s",)


@pytest.mark.parametrize("budget", [{"pages_per_day": 5}, {"bytes_per_day": 150_000}])
async def test_what_fails_counts_for_the_budget_of_the_day_too(
    crawler: Crawler, site: Site, budget: dict[str, int]
) -> None:
    site.raw("*", html("x" * 30_000, status="404 No" if "pages_per_day" in budget else "200 OK", Content_Encoding="br"))
    site.raw("/robots.txt", html("", status="404 No"))
    site.page("/", links(*(f"/{n}" for n in range(30))))
    watched = source(site, http={"per_host": 1, "auto_throttle": False}, **budget)
    async with under_way(crawler, watched) as engine:
        await asyncio.to_thread(until, lambda: "budget" in slowed(crawler))
        await asyncio.to_thread(until, lambda: not engine.progress().visiting)
        assert len(site.paths()) < 15


async def test_bytes_per_day_hold_over_runs(crawler: Crawler, site: Site) -> None:
    site.page("/", "x" * 50_000)
    watched = source(site, bytes_per_day=40_000)
    assert (await crawler.run(watched))["state"] == "done"
    async with under_way(crawler, watched) as engine:
        await asyncio.to_thread(until, lambda: engine.progress().sources == ("s",))
        assert "bytes_per_day = 40000" in slowed(crawler)["budget"]["why"]
    assert site.paths() == ["/"]


def test_a_budget_is_shared_with_what_is_under_way() -> None:
    made = Source(name="s", start=("http://a.org/",), pages_per_day=10)
    counts = [RunCount(1, "s", 100, 4), RunCount(2, "other", 100, 0)]
    at = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
    for used, claimed, left in [(0, 0, 10), (4, 2, 4), (9, 1, 0), (10, 0, 0), (50, 5, 0)]:
        assert allowance.budgets(counts, {"s": made}, {1: claimed}, {"s": (used, 0)}, at) == {1: left}


async def test_outside_its_window_a_source_is_not_asked(crawler: Crawler, site: Site) -> None:
    site.page("/", "x")
    hour = now().hour
    closed = f"{(hour + 2) % 24:02}:00-{(hour + 3) % 24:02}:00"
    async with under_way(crawler, source(site, window=(closed,), zone="UTC")) as engine:
        await asyncio.to_thread(until, lambda: engine.progress().sources == ("s",))
        assert slowed(crawler)["window"]["until"].hour == (hour + 2) % 24
    assert site.log == []
    assert [run["state"] for run in crawler.rows("runs")] == ["running"]


@pytest.mark.parametrize(
    ("windows", "zone", "at", "opens"),
    [
        pytest.param((), "", "2026-03-01T12:00", None, id="no window"),
        pytest.param(("09:00-17:00",), "UTC", "2026-03-01T09:00", None, id="it begins"),
        pytest.param(("09:00-17:00",), "UTC", "2026-03-01T08:59", "2026-03-01T09:00", id="before"),
        pytest.param(("09:00-17:00",), "UTC", "2026-03-01T17:00", "2026-03-02T09:00", id="it ends"),
        pytest.param(("9:00 - 17:00",), "UTC", "2026-03-01T10:00", None, id="spaces"),
        pytest.param(("22:00-06:00",), "UTC", "2026-03-01T23:59", None, id="before midnight"),
        pytest.param(("22:00-06:00",), "UTC", "2026-03-01T00:00", None, id="midnight"),
        pytest.param(("22:00-06:00",), "UTC", "2026-03-01T06:00", "2026-03-01T22:00", id="after the night"),
        pytest.param(("22:00-06:00",), "UTC", "2026-12-31T12:00", "2026-12-31T22:00", id="year's end"),
        pytest.param(("09:00-10:00",), "UTC", "2026-12-31T12:00", "2027-01-01T09:00", id="over year's end"),
        pytest.param(("00:00-24:00",), "UTC", "2026-03-01T12:00", None, id="all day"),
        pytest.param(("18:00-24:00",), "UTC", "2026-03-01T23:59", None, id="until midnight"),
        pytest.param(("18:00-24:00",), "UTC", "2026-03-01T00:00", "2026-03-01T18:00", id="after midnight"),
        pytest.param(
            ("09:00-10:00", "14:00-15:00"), "UTC", "2026-03-01T12:00", "2026-03-01T14:00", id="the next of two"
        ),
        pytest.param(
            ("09:00-10:00", "14:00-15:00"), "UTC", "2026-03-01T16:00", "2026-03-02T09:00", id="tomorrow's first"
        ),
        pytest.param(("09:00-17:00",), "Asia/Kolkata", "2026-03-01T03:29", "2026-03-01T03:30", id="half an hour off"),
        pytest.param(("09:00-17:00",), "Asia/Kolkata", "2026-03-01T03:30", None, id="open in Kolkata"),
        pytest.param(
            ("22:00-23:00",), "America/Los_Angeles", "2026-03-02T05:00", "2026-03-02T06:00", id="still yesterday"
        ),
        pytest.param(
            ("09:00-17:00",), "Europe/Berlin", "2026-03-28T20:00", "2026-03-29T07:00", id="over the jump in spring"
        ),
        pytest.param(
            ("09:00-17:00",), "Europe/Berlin", "2026-10-24T20:00", "2026-10-25T08:00", id="over the jump in autumn"
        ),
        pytest.param(
            ("02:30-04:00",), "Europe/Berlin", "2026-03-29T00:00", "2026-03-29T01:00", id="it begins in the gap"
        ),
        pytest.param(("02:30-04:00",), "Europe/Berlin", "2026-03-29T01:00", None, id="the gap is over"),
        pytest.param(("02:30-02:45",), "Europe/Berlin", "2026-10-25T00:35", None, id="the hour that comes twice"),
        pytest.param(("02:30-02:45",), "Europe/Berlin", "2026-10-25T01:35", None, id="the same hour again"),
        pytest.param(("02:30-02:45",), "Europe/Berlin", "2026-10-25T00:50", "2026-10-25T01:30", id="between the two"),
    ],
)
def test_when_a_window_opens(windows: tuple[str, ...], zone: str, at: str, opens: str | None) -> None:
    made = Source(name="s", start=("http://a.org/",), window=windows, zone=zone)
    found = allowance.opens_at(made, datetime.fromisoformat(at).replace(tzinfo=UTC))
    assert found == (datetime.fromisoformat(opens).replace(tzinfo=UTC) if opens else None)


@given(
    st.datetimes(datetime.fromisoformat("2026-01-01"), datetime.fromisoformat("2027-01-01"), timezones=st.just(UTC)),
    st.times(),
    st.times(),
    st.sampled_from(["UTC", "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Pacific/Apia"]),
)
def test_a_window_is_open_when_it_was_said_to_open(at: datetime, begin: Any, end: Any, zone: str) -> None:
    window = f"{begin:%H:%M}-{end:%H:%M}"
    made = Source(name="s", start=("http://a.org/",), window=(window,), zone=zone)
    opens = allowance.opens_at(made, at)
    if opens is not None:
        assert at < opens <= at + timedelta(hours=25)
        if begin.hour > 3:  # a window that begins in the hour that is left out opens after it
            assert allowance.opens_at(made, opens) is None


# -- whose turn it is


def test_overdue_sources_are_spread_at_a_start(crawler: Crawler) -> None:
    at = now()
    overdue = {f"s{n}": at - timedelta(hours=9 - n) for n in range(5)}
    later = at + timedelta(hours=1)
    dues = overdue | {"future": later, "off": at - timedelta(hours=1)}
    made = [Source(name=name, start=("http://a.org/",), every=60.0, enabled=name != "off") for name in dues]
    crawler.db.write(lambda c: sources.sync(c, made, lambda s, last: dues[s.name]))
    crawler.db.write(lambda c: sources.spread(c, at, 0.1, 60.0))

    def due() -> dict[str, datetime]:
        found = crawler.db.read(lambda c: c.exec_driver_sql("SELECT name, next_at FROM sources").all())
        return {name: datetime.fromisoformat(str(next_at)).replace(tzinfo=UTC) for name, next_at in found}

    gaps = [round((due()[f"s{n}"] - at).total_seconds(), 3) for n in range(1, 5)]
    assert gaps == [0.1, 0.2, 0.3, 0.4]
    assert due()["s0"] == overdue["s0"]
    assert (due()["future"], due()["off"]) == (later, dues["off"])
    crawler.db.write(lambda c: sources.spread(c, at + timedelta(seconds=30), 60.0, 2.0))
    assert max(due()[name] for name in overdue) <= at + timedelta(seconds=32)


async def test_two_sources_on_one_host_get_turns(crawler: Crawler, site: Site) -> None:
    site.raw("*", html("x"))
    site.raw("/robots.txt", html("", status="404 No"))
    a, b = (
        Source(name=name, start=tuple(f"{site.url}/{name}/{n}" for n in range(count)))
        for name, count in (("a", 40), ("b", 15))
    )
    async with under_way(crawler, a, b) as engine:
        await asyncio.to_thread(until, lambda: engine.progress().pages == 55)
    order = [path.split("/")[1] for path in site.paths()]
    for length in range(1, 30):
        counts = Counter(order[:length])
        assert abs(counts["a"] - counts["b"]) <= 2, order


async def test_a_parsers_links_of_high_priority_are_visited_first(
    crawler: Crawler, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "priorities_parser.py").write_text(
        "from scraper.records import Link\n"
        "def parse(page):\n"
        "    if page.url.endswith('/start'):\n"
        "        yield Link('/last', priority=-5)\n"
        "        yield '/plain'\n"
        "        yield Link('/high', priority=7)\n"
        "        yield Link('/highest', priority=9)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    for path in ("/start", "/last", "/plain", "/high", "/highest"):
        site.page(path, "x")
    await crawler.run(source(site, "/start", parser="priorities_parser:parse", follow=False), ONE_BY_ONE)
    assert site.paths() == ["/start", "/highest", "/high", "/plain", "/last"]


async def test_breadth_comes_before_depth(crawler: Crawler, site: Site) -> None:
    site.page("/", links("/a", "/b", "/c"))
    for name in "abc":
        site.page(f"/{name}", links(f"/{name}/{name}"))
        site.page(f"/{name}/{name}", links(f"/{name}/{name}/{name}"))
        site.page(f"/{name}/{name}/{name}", "x")
    await crawler.run(source(site), ONE_BY_ONE)
    depths = [path.rstrip("/").count("/") for path in site.paths()]
    assert depths == sorted(depths)
    assert len(depths) == 10


async def test_two_workers_split_the_hosts_and_never_ask_one_at_the_same_time(crawler: Crawler) -> None:
    inside: Counter[int] = Counter()
    most: Counter[int] = Counter()
    counting = threading.Lock()
    hold = threading.Event()

    def answer(end: socket, request: Request) -> bool:
        port = end.getsockname()[1]
        with counting:
            inside[port] += 1
            most[port] = max(most[port], inside[port])
        hold.wait(0.01)
        with counting:
            inside[port] -= 1
        end.sendall(html(links(*(f"/{n}" for n in range(10)))))
        return True

    with contextlib.ExitStack() as stack:
        sites = [stack.enter_context(running()) for _ in range(4)]
        for one in sites:
            one.routes["*"] = answer
            one.raw("/robots.txt", html("", status="404 No"))
        watched = Source(name="s", start=tuple(f"{one.url}/0" for one in sites), follow=True)
        crawler.db.write(lambda c: sources.sync(c, [watched], lambda s, last: None))
        run = crawler.db.write(lambda c: runs.request(c, "s", now()))
        dbs = [Db(Database(url=str(crawler.db.url))) for _ in range(2)]
        stores = [Store(db, f"scraper-{place}@here") for place, db in enumerate(dbs)]
        http = [Http(delay=0, per_host=1, user_agent=f"w{n}/1", allow_networks=HTTP.allow_networks) for n in range(2)]
        engines = [Engine(store, http[n], [run], siblings=(n, 2)) for n, store in enumerate(stores)]
        async with asyncio.timeout(20):
            await asyncio.gather(*(engine.run([watched], Before(now())) for engine in engines))
        for store, db in zip(stores, dbs, strict=True):
            store.close()
            db.close()
        for one in sites:
            assert sorted(one.paths()) == sorted(f"/{n}" for n in range(10))
            assert most[one.port] == 1
        agents = {request.headers["user-agent"] for one in sites for request in one.log}
        assert agents == {"w0/1", "w1/1"}
        assert sum(engine.progress().pages for engine in engines) == 40


@pytest.mark.parametrize(("asked", "stored"), [(1, True), (3600, False)])
async def test_a_redirect_that_asks_to_wait_is_followed_later(
    asked: int, stored: bool, crawler: Crawler, site: Site
) -> None:
    """RFC 9110 section 10.2.3; and what takes long is asked for again then."""
    site.page("/there", "there")
    head = f"HTTP/1.1 302 F\r\nLocation: {site.url}/there\r\nRetry-After: {asked}\r\nContent-Length: 0\r\n\r\n"
    site.raw("/", head.encode(), close=False)
    await crawler.run(source(site), ONE_BY_ONE)
    if stored:
        first, second = (next(one.at for one in site.log if one.path == path) for path in ("/", "/there"))
        assert second - first >= 0.9
    else:
        assert site.paths() == ["/"]
        [failure] = crawler.rows("failures")
        assert failure["reason"] == "rate_limited"
        assert "in 3600 s" in failure["message"]
