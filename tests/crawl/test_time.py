"""What depends on calendars and clocks, and on a configuration that changes while a run is open."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import tzlocal
from sqlalchemy import insert, update

from scraper.config.settings import Http, Recheck, Source
from scraper.config.zones import local, zone_of
from scraper.crawl import engine
from scraper.crawl.engine import Before, Engine
from scraper.crawl.politeness import Gate
from scraper.crawl.schedule import next_due
from scraper.crawl.store import Store
from scraper.database import hosts, runs, sources, visits
from scraper.database.connection import now
from scraper.database.models import failures as failure_table
from scraper.database.models import hosts as host_table
from scraper.database.models import pages as page_table
from scraper.database.models import sources as source_table
from scraper.database.models import urls as url_table
from scraper.errors import Failure, NotFound
from scraper.records import HostTimes
from scraper.startup import due
from tests.crawl.test_engine import HTTP, Crawler, links, source
from tests.site import Request, Site, html
from tests.support import until

DAY = timedelta(days=1)
SLOW = Http(delay=0.02, allow_networks=HTTP.allow_networks)


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tzlocal, "get_localzone", lambda: ZoneInfo("Europe/Berlin"))


# The last Sundays of March and October change the clocks there.
@pytest.mark.parametrize(
    ("cron", "last", "due"),
    [
        ("0 3 * * *", "2026-03-28T03:00", "2026-03-29T03:00"),
        ("0 7 * * 1", "2026-03-23T07:00", "2026-03-30T07:00"),
        ("0 9 1 * *", "2026-03-01T09:00", "2026-04-01T09:00"),
        ("0 9 1 * *", "2026-10-01T09:00", "2026-11-01T09:00"),
        ("0 7 * * 1", "2026-10-19T07:00", "2026-10-26T07:00"),
        ("0 7 * * 1", "2026-10-26T07:00", "2026-11-02T07:00"),
    ],
)
def test_a_cron_goes_by_the_clock_on_the_wall(cron: str, last: str, due: str, berlin: None) -> None:
    zone = ZoneInfo("Europe/Berlin")
    at = datetime.fromisoformat(last).replace(tzinfo=zone).astimezone(UTC)
    found = next_due(None, cron, at, local(at))
    assert found == datetime.fromisoformat(due).replace(tzinfo=zone)


def test_a_zone_has_a_name_or_is_that_of_this_machine(berlin: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert zone_of("Asia/Tokyo") == ZoneInfo("Asia/Tokyo")
    assert zone_of("") == ZoneInfo("Europe/Berlin")

    def nameless() -> None:
        raise ValueError

    monkeypatch.setattr(tzlocal, "get_localzone", nameless)
    assert datetime.now(zone_of("")).utcoffset() == datetime.now().astimezone().utcoffset()


async def test_a_host_may_be_down_for_years() -> None:
    gate = Gate(HostTimes("a.org", None, 0.0, trips=5000, strikes=19), asyncio.Semaphore())
    for _ in range(5000):
        gate.failed(Failure.HTTP_5XX, adapt=True)
    kept = gate.times(now())
    assert kept.next_at is not None
    assert timedelta(0) < kept.next_at - now() <= timedelta(hours=1)
    assert kept.trips < 1000


def many(site: Site, count: int = 60) -> None:
    site.page("/", links(*(f"/p{n}" for n in range(count))))
    for n in range(count):
        site.page(f"/p{n}", "x")


async def begun(crawler: Crawler, wanted: Source) -> int:
    """Begin a run, and leave it open."""
    crawler.db.write(lambda c: sources.sync(c, [wanted], lambda s, last: None))
    run = crawler.db.write(lambda c: runs.request(c, wanted.name, now()))
    store = Store(crawler.db, "test")
    engine = Engine(store, SLOW)
    task = asyncio.create_task(engine.run([wanted], Before(now())))
    async with asyncio.timeout(30):
        await asyncio.to_thread(until, lambda: engine.progress().pages >= 5)
        engine.stop()
        await task
    store.close()
    assert crawler.db.read(lambda c: runs.one(c, run, now()))["state"] == "running"
    return run


async def going_on(crawler: Crawler, wanted: Source, done: Callable[[Engine], Any]) -> None:
    """Go on with what is open, by another definition, until something holds."""
    store = Store(crawler.db, "test")
    engine = Engine(store, SLOW)
    task = asyncio.create_task(engine.run([wanted], Before(now())))
    async with asyncio.timeout(30):
        await asyncio.to_thread(until, lambda: done(engine))
        engine.stop()
        await task
    store.close()


async def test_what_is_excluded_while_a_run_is_open_is_not_asked_for_any_more(crawler: Crawler, site: Site) -> None:
    many(site)
    run = await begun(crawler, source(site))
    before, stored = len(site.paths()), crawler.rows("runs")[0]["pages"]
    excluded = source(site, exclude=("/p",))

    def is_over(engine: Engine) -> bool:
        return bool(crawler.db.read(lambda c: runs.one(c, run, now()))["state"] == "done")

    await going_on(crawler, excluded, is_over)
    assert site.paths()[before:] == []
    (ended,) = crawler.rows("runs")
    assert (ended["pages"], ended["failures"]) == (stored, 0)
    assert crawler.rows("failures") == []


async def test_a_source_that_is_disabled_while_a_run_is_open_is_left_alone(crawler: Crawler, site: Site) -> None:
    many(site)
    run = await begun(crawler, source(site))
    before = len(site.paths())
    site.page("/other", "x")
    other = Source(name="other", start=(site.url + "/other",))
    off = replace(source(site), enabled=False)
    store = Store(crawler.db, "test")
    crawler.db.write(lambda c: sources.sync(c, [off, other], lambda s, last: now()))
    engine = Engine(store, SLOW)
    task = asyncio.create_task(engine.run([off, other], Before(now())))
    async with asyncio.timeout(30):
        await asyncio.to_thread(
            until, lambda: [r for r in crawler.rows("runs") if r["source"] == "other" and r["state"] == "done"]
        )
        engine.stop()
        await task
    store.close()
    assert [path for path in site.paths()[before:] if path.startswith("/p")] == []
    ended = crawler.db.read(lambda c: runs.one(c, run, now()))
    assert (ended["state"], ended["message"]) == ("stopped", "the source was disabled")


def test_a_clock_that_was_ahead_puts_nothing_off(crawler: Crawler) -> None:
    at = now()
    watched = Source(name="s", start=("http://a.org/",), every=3600.0)
    crawler.db.write(lambda c: sources.sync(c, [watched], lambda s, last: at + 10 * DAY))
    run = crawler.db.write(lambda c: runs.request(c, "s", at))

    def ahead(c: Any) -> None:
        c.execute(update(source_table).values(last_run_at=at + 10 * DAY, next_at=at + 10 * DAY))
        c.execute(
            insert(host_table).values(
                host="a.org", next_at=at + 10 * DAY, delay_s=0, lease_owner="x", lease_until=at + 10 * DAY
            )
        )
        c.execute(insert(host_table).values(host="b.org", next_at=at + DAY / 2, delay_s=0))
        row: dict[str, Any] = {
            "source": "s",
            "fingerprint": b"x" * 16,
            "url": "http://a.org/",
            "host": "a.org",
            "kind": "page",
        }
        row |= {"rank": 0, "depth": 0, "run_id": run, "state": "queued", "attempts": 1, "crashes": 0}
        c.execute(insert(url_table).values(**row, not_before=at + 10 * DAY))

    crawler.db.write(ahead)
    crawler.db.write(lambda c: visits.set_right(c, at))

    def seen(c: Any) -> tuple[Any, ...]:
        of_source = c.execute(source_table.select()).one()
        of_host = {row.host: row for row in c.execute(host_table.select())}
        return (
            of_source.next_at,
            of_host["a.org"].next_at,
            of_host["b.org"].next_at,
            c.execute(url_table.select()).one().not_before,
        )

    assert crawler.db.read(seen) == (at, None, at + DAY / 2, None)
    taken = crawler.db.write(lambda c: hosts.lease(c, ["a.org"], "test", at + timedelta(seconds=1)))
    assert set(taken.times) == {"a.org"}


def test_another_cron_counts_from_now_and_the_same_one_from_the_last_run(crawler: Crawler) -> None:
    at = now()
    asked: list[datetime | None] = []

    def due(source: Source, last: datetime | None) -> datetime:
        asked.append(last)
        return at

    watched = Source(name="s", start=("http://a.org/",), cron="0 3 * * *")
    crawler.db.write(lambda c: sources.sync(c, [watched], due))
    crawler.db.write(lambda c: c.execute(update(source_table).values(last_run_at=at - DAY)))
    crawler.db.write(lambda c: sources.sync(c, [replace(watched, cron="0 4 * * *")], due))
    crawler.db.write(lambda c: sources.sync(c, [replace(watched, cron="0 4 * * *", max_pages=7)], due))
    assert asked == [None, None, at - DAY]


async def test_a_page_is_looked_at_again_within_the_longest_time_of_now(crawler: Crawler, site: Site) -> None:
    site.page("/", links("/a"))
    site.page("/a", "x")
    await crawler.run(source(site, recheck=Recheck(soonest=86400.0, latest=30 * 86400.0)))
    assert site.paths() == ["/", "/a"]
    crawler.db.write(lambda c: c.execute(update(page_table).values(fetched_at=now() - timedelta(hours=2))))
    await crawler.run(source(site, recheck=Recheck(soonest=60.0, latest=3600.0)))
    assert site.paths() == ["/", "/a", "/", "/a"]


def test_what_failed_of_a_source_that_is_gone_is_not_tried_again(crawler: Crawler) -> None:
    at = now()

    def failed(c: Any) -> None:
        row = {"source": "gone", "url": "http://a.org/", "reason": "timeout", "message": "", "attempts": 1}
        c.execute(insert(failure_table).values(url_id=1, first_at=at, last_at=at, **row))

    crawler.db.write(failed)
    with pytest.raises(NotFound, match="no source 'gone'"):
        crawler.db.write(lambda c: visits.retry(c, [1], at))
    assert crawler.rows("runs") == []


async def test_a_claim_that_nobody_has_in_hand_is_visited(
    crawler: Crawler, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a commit leaves it whose answer was lost, when the unit was done again."""
    monkeypatch.setattr(engine, "KEEP_EACH_S", 0.05)
    site.page("/", links("/a", "/slow"))
    site.page("/a", "a")

    def lost(_: Request) -> bytes:
        until(lambda: crawler.rows("pages", url=site.url + "/a"), "/a is stored")
        ours = {"state": "claimed", "claimed_by": "test"}
        crawler.db.write(lambda c: c.execute(url_table.update().where(url_table.c.url == site.url + "/a").values(ours)))
        return html("slow")

    site.raw("/slow", lost)
    await crawler.run(source(site), replace(HTTP, per_host=2))
    assert site.paths().count("/a") == 2


async def test_the_moment_of_a_death_is_told_by_our_clock_and_kept_by_the_databases(
    crawler: Crawler, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(crawler.db, "test")
    at = now()
    crawler.db.write(lambda c: hosts.lease(c, ["a.org"], "test", at))
    crawler.db.write(lambda c: hosts.record(c, "test", [HostTimes("a.org", None, 50.0)]))
    monkeypatch.setattr(store, "now", lambda: now() + timedelta(seconds=1000))
    await Engine(store, HTTP, []).run([], Before(at))
    store.close()
    [row] = crawler.db.read(lambda c: c.execute(host_table.select()).all())
    assert abs(row.next_at - at - timedelta(seconds=1050)) < timedelta(seconds=1)


async def test_a_run_that_only_waits_for_long_ends_when_its_source_is_due(
    crawler: Crawler, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "KEEP_EACH_S", 0.05)
    site.page("/", links("/a", "/busy"))
    site.page("/a", "a")
    site.raw("/busy", b"HTTP/1.1 429 S\r\nRetry-After: 3600\r\nContent-Length: 0\r\n\r\n", close=False)
    wanted = source(site, every=3600.0)

    def due(_: Request) -> bytes:
        crawler.db.write(lambda c: c.execute(source_table.update().values(next_at=now())))
        return b"HTTP/1.1 429 S\r\nRetry-After: 3600\r\nContent-Length: 0\r\n\r\n"

    site.raw("/busy", due, close=False)
    run = await crawler.run(wanted)
    assert (run["state"], run["pages"]) == ("done", 2)
    [failure] = crawler.rows("failures")
    assert (failure["reason"], "is left alone, it answered 429" in failure["message"]) == ("rate_limited", True)


def test_a_cron_goes_by_the_clock_of_its_sources_zone() -> None:
    at = due(Source(name="s", start=("http://a.org/",), cron="0 9 * * *", zone="Asia/Tokyo"), None)
    assert at is not None
    assert (at.astimezone(UTC).hour, at.minute) == (0, 0)
