"""Each page at its own pace: which pages a run asks for, and what becomes of those that it does not."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, update

from scraper.config.settings import Expression, FieldRule, ItemRule, Noise, Recheck, Source
from scraper.crawl.schedule import next_check
from scraper.database import activity, alarms, usage
from scraper.database.connection import now
from scraper.database.models import pages as page_table
from scraper.errors import Unavailable
from tests.crawl.test_engine import Crawler, links, source
from tests.site import Site, html

databases = pytest.mark.databases("sqlite", "postgresql", "pgbouncer")
RULE = ItemRule(select=Expression(css="li"), key=("name",), fields={"name": FieldRule(css="li::text")})
HOUR = 3600.0
RECHECK = Recheck(soonest=HOUR, latest=24 * HOUR)


def paced(site: Site, *paths: str, **more: Any) -> Source:
    return source(site, *paths, **{"recheck": RECHECK, "item": (RULE,), **more})


def later(crawler: Crawler, seconds: float) -> None:
    """Let so much time pass, as far as pages know."""
    by = timedelta(seconds=seconds)
    for page in crawler.rows("pages"):
        earlier = {name: page[name] - by for name in ("fetched_at", "check_after") if page[name] is not None}
        crawler.db.write(
            lambda c, page=page, earlier=earlier: c.execute(  # type: ignore[misc]
                update(page_table).where(page_table.c.id == page["id"]).values(**earlier)
            )
        )


async def asked(crawler: Crawler, site: Site, wanted: Source) -> list[str]:
    """Run a source, and return what it asked for."""
    before = len(site.paths())
    run = await crawler.run(wanted)
    assert (run["state"], run["failures"]) == ("done", 0)
    return sorted(site.paths()[before:])


def every_s(crawler: Crawler, path: str) -> float:
    [page] = [page for page in crawler.rows("pages") if page["url"].endswith(path)]
    return float((page["check_after"] - page["fetched_at"]).total_seconds())


@databases
async def test_a_page_that_is_not_due_is_not_asked_for_and_is_there(crawler: Crawler, site: Site) -> None:
    site.page("/", links("/a"))
    site.page("/a", "<li>a" + links("/b"))
    site.page("/b", "<li>b")
    first = await crawler.run(paced(site))
    assert await asked(crawler, site, paced(site)) == ["/"]
    run = crawler.rows("runs")[-1]
    assert [run[name] for name in ("pages", "items", "known")] == [first[name] for name in ("pages", "items", "known")]
    assert run["changes"] == 0
    assert [item["removed_at"] for item in crawler.rows("items")] == [None, None]
    assert await asked(crawler, site, source(site, item=(RULE,))) == ["/", "/a", "/b"]  # every page in every run


@databases
async def test_a_page_that_changes_is_asked_for_sooner(crawler: Crawler, site: Site) -> None:
    site.page("/", links("/a", "/b"))
    site.page("/a", "<li>a")
    site.page("/b", "<li>b")
    wanted = paced(site, noise=Noise(numbers=True))
    await crawler.run(wanted)
    assert every_s(crawler, "/a") == HOUR
    later(crawler, HOUR)
    site.page("/b", "<li>b<p>5")
    assert await asked(crawler, site, wanted) == ["/", "/a", "/b"]
    assert (every_s(crawler, "/a"), every_s(crawler, "/b")) == (1.5 * HOUR, HOUR)
    later(crawler, 1.5 * HOUR)
    site.page("/b", "<li>b<p>7")  # no news
    await crawler.run(wanted)
    assert (every_s(crawler, "/a"), every_s(crawler, "/b")) == (2.25 * HOUR, 1.5 * HOUR)
    later(crawler, 1.5 * HOUR)
    site.page("/b", "<li>b<p>is new")
    assert await asked(crawler, site, wanted) == ["/", "/b"]
    assert every_s(crawler, "/b") == HOUR


@databases
async def test_a_304_is_no_change(crawler: Crawler, site: Site) -> None:
    site.page("/", links("/a"))
    site.page("/a", "<li>a", ETag='"1"')
    await crawler.run(paced(site))
    later(crawler, HOUR)
    assert await asked(crawler, site, paced(site)) == ["/", "/a"]
    assert every_s(crawler, "/a") == 1.5 * HOUR


def sitemap(site: Site, *entries: tuple[str, str]) -> None:
    named = "".join(f"<url><loc>{site.url}{path}</loc><lastmod>{at}</lastmod></url>" for path, at in entries)
    site.raw("/map.xml", html(f"<urlset>{named}</urlset>", kind="application/xml"), close=False)


@databases
async def test_a_sitemap_that_names_a_change_comes_first(crawler: Crawler, site: Site) -> None:
    past, today, ahead = (now() + timedelta(days=days) for days in (-9, 0, 1))
    wanted = replace(paced(site, sitemaps=(site.url + "/map.xml",), follow=False), start=())
    sitemap(site, ("/a", past.isoformat()), ("/b", past.date().isoformat()), ("/c", "nonsense"))
    for path in "/a", "/b", "/c":
        site.page(path, f"<li>{path}")
    assert await asked(crawler, site, wanted) == ["/a", "/b", "/c", "/map.xml"]
    # Of what does not say when it changed nothing is known: such a page is a start like any other.
    assert await asked(crawler, site, wanted) == ["/c", "/map.xml"]
    sitemap(site, ("/a", ahead.isoformat()), ("/b", today.date().isoformat()), ("/c", past.isoformat()))
    assert await asked(crawler, site, wanted) == ["/a", "/b", "/map.xml"]
    assert [item["removed_at"] for item in crawler.rows("items")] == [None] * 3


@databases
async def test_a_page_that_is_gone_is_looked_for_in_every_run(crawler: Crawler, site: Site) -> None:
    site.page("/", links("/a"))
    site.page("/a", "<li>a")
    await crawler.run(paced(site))
    later(crawler, HOUR)
    site.raw("/a", html("", status="404 No"), close=False)
    await crawler.run(paced(site))
    site.page("/a", "<li>a")
    assert await asked(crawler, site, paced(site)) == ["/", "/a"]
    assert crawler.rows("pages")[-1]["gone_at"] is None
    assert crawler.rows("items")[0]["removed_at"] is None


@databases
async def test_a_page_that_is_linked_no_more_is_asked_for_though_it_is_not_due(crawler: Crawler, site: Site) -> None:
    site.page("/", links("/a"))
    site.page("/a", "<li>a")
    await crawler.run(paced(site))
    site.page("/", "none")
    site.raw("/a", html("", status="404 No"), close=False)
    assert await asked(crawler, site, paced(site)) == ["/", "/a"]
    assert crawler.rows("pages")[-1]["gone_at"] is not None


@databases
async def test_other_rules_read_a_page_that_is_not_due(crawler: Crawler, site: Site) -> None:
    site.page("/", links("/a"))
    site.page("/a", "<li>a<b>c</b>")
    await crawler.run(paced(site))
    other = ItemRule(select=Expression(css="b"), key=("name",), fields={"name": FieldRule(css="b::text")})
    assert await asked(crawler, site, paced(site, item=(other,))) == ["/", "/a"]
    assert [item["key"] for item in crawler.rows("items") if item["removed_at"] is None] == ["c"]


@databases
async def test_what_is_not_asked_for_costs_nothing_and_alarms_nobody(crawler: Crawler, site: Site) -> None:
    site.page("/", links(*(f"/{number}" for number in range(12))))
    for number in range(12):
        site.page(f"/{number}", f"<li>{number}")
    wanted = paced(site)
    await crawler.run(wanted)

    def counted() -> tuple[Any, Any]:
        taken = crawler.db.read(lambda c: usage.of(c, now(), ["s"]))["s"]
        done = crawler.db.read(activity.totals)[activity.VISITS]["s", activity.STORED]
        return taken, done

    (pages, size), done = counted()
    assert (pages, done) == (13, 13)
    await crawler.run(wanted)
    (pages, more), done = counted()
    assert (pages, done) == (14, 14)
    assert more > size
    assert crawler.db.read(alarms.standing) == []


BOUNDS = st.tuples(st.floats(1, 1e6), st.floats(1, 1e6)).map(sorted)


@given(st.none() | st.floats(0, 1e9), BOUNDS, st.booleans())
def test_how_often_to_look_is_within_bounds(before: float | None, bounds: list[float], changed: bool) -> None:
    soonest, latest = bounds
    found = next_check(before, soonest, latest, changed=changed)
    assert soonest <= found <= latest
    if before is not None and soonest <= before <= latest:
        assert found <= before if changed else found >= before


@given(st.floats(1, 1e6), st.lists(st.booleans(), max_size=60))
def test_the_pace_of_a_page_is_found(soonest: float, changes: list[bool]) -> None:
    """What never changes comes to the latest, what always does to the soonest, from wherever it was."""
    latest = soonest * 1000
    at: float | None = None
    for changed in changes:
        at = next_check(at, soonest, latest, changed=changed)
    for changed, end in ((False, latest), (True, soonest)):
        reached = at
        for _ in range(20):
            reached = next_check(reached, soonest, latest, changed=changed)
        assert reached == end


async def test_a_leave_that_is_taken_twice_is_counted_once(
    crawler: Crawler, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[activity.Taken] = []
    add = activity.add

    def fail_first(connection: Connection, worker: str, taken: activity.Taken, depth: int, at: datetime) -> None:
        add(connection, worker, taken, depth, at)
        tries.append(taken)
        if len(tries) == 1:
            raise Unavailable("for a moment")

    monkeypatch.setattr(activity, "add", fail_first)
    site.page("/", "x")
    await crawler.run(source(site))
    assert len(tries) == 2
    assert crawler.db.read(activity.totals)[activity.VISITS] == {("s", activity.STORED): 1.0}
