"""What is told of sites that change: every version is kept, a change is what a reader sees, a rebuilt site is an alarm."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import select, update

from scraper.config.settings import Expression, FieldRule, ItemRule, Limits, Noise, Recheck, Source
from scraper.database import alarms, changes, frontier, pages, runs, visits
from scraper.database.connection import now
from scraper.database.models import alarms as alarm_table
from scraper.database.models import pages as page_rows
from scraper.database.models import runs as run_rows
from scraper.database.models import urls as url_rows
from scraper.extract.page import Page
from scraper.extract.visible import blocks
from scraper.states import LastLook
from tests.crawl.test_engine import HTTP, Crawler, links, source
from tests.site import Request, Site, html
from tests.support import until

pytestmark = pytest.mark.databases("sqlite", "postgresql", "pgbouncer")
sqlite_only = pytest.mark.databases("sqlite")

RULE = ItemRule(
    select=Expression(css="li.item"),
    key=("name",),
    fields={"name": FieldRule(css="b::text"), "price": FieldRule(css="i::text")},
)


def things(*names: str, price: str = "1") -> str:
    return "".join(f"<li class=item><b>{name}</b> <i>{price}</i></li>" for name in names)


def many(count: int, first: int = 0, price: str = "1") -> str:
    return things(*(f"n{number}" for number in range(first, first + count)), price=price)


def moved(status: int, target: str) -> bytes:
    return f"HTTP/1.1 {status} M\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n".encode()


class Told:
    """What was told since it was last asked."""

    def __init__(self, crawler: Crawler) -> None:
        self._crawler = crawler
        self._last = 0

    def changes(self, of: str) -> list[dict[str, Any]]:
        """Return all that was told of pages or of items since, the oldest first."""
        found = self._crawler.db.read(lambda c: changes.after(c, self._last, 10_000))
        return [change for change in found if change["of"] == of]

    def take(self, of: str) -> list[str]:
        """Return what happened to pages or items since, sorted."""
        return sorted(change["change"] for change in self.changes(of))

    def forget(self) -> None:
        self._last = self._crawler.db.read(changes.newest)


@pytest.fixture
def told(crawler: Crawler) -> Told:
    return Told(crawler)


def shop(site: Site, *paths: str, **more: Any) -> Source:
    return source(site, *paths, **{"item": (RULE,), **more})


def standing(crawler: Crawler) -> list[tuple[str, str]]:
    return [(alarm["kind"], alarm["name"]) for alarm in crawler.db.read(alarms.standing)]


def accept(crawler: Crawler) -> None:
    [alarm] = crawler.db.read(alarms.standing)
    crawler.db.write(lambda c: alarms.accept(c, alarm["id"], now()))


def present(crawler: Crawler) -> list[str]:
    return sorted(item["key"] for item in crawler.rows("items") if item["removed_at"] is None)


async def again(crawler: Crawler, told: Told, wanted: Source, **more: Any) -> dict[str, Any]:
    """Run a source once more; what was told before is forgotten."""
    told.forget()
    return await crawler.run(wanted, **more)


def text_of(told: Told) -> list[Any]:
    [change] = told.changes("page")
    found: list[Any] = change["fields"]["text"]
    return found


# -- versions


async def test_every_version_of_a_page_and_of_an_item_is_kept(crawler: Crawler, told: Told, site: Site) -> None:
    for price in ("1", "2", "3"):
        site.page("/", f"<p>today {price}</p>" + things("a", price=price))
        told.forget()
        run = await crawler.run(shop(site))
        assert run["changes"] == 2
    [page] = crawler.rows("pages")
    found = crawler.db.read(lambda c: pages.versions(c, page["id"]))
    assert [version["id"] is None for version in found] == [True, False, False]
    assert [a["at"] for a in found] == [found[1]["until"], found[2]["until"], found[2]["at"]]
    bodies = [crawler.db.read(partial(pages.version_body, page_id=page["id"], version_id=v["id"]))[0] for v in found]
    assert [b"today 3" in bodies[0], b"today 2" in bodies[1], b"today 1" in bodies[2]] == [True] * 3
    assert told.take("page") == told.take("item") == ["changed"]
    [item] = told.changes("item")
    assert item["fields"] == {"price": ["2", "3"]}
    assert text_of(told) == ["today 2\na 2", "today 3\na 3"]


async def test_what_nobody_sees_is_no_change_and_no_version(crawler: Crawler, told: Told, site: Site) -> None:
    for number in range(3):
        site.page("/", f"<!-- {number} --><p class=c{number}>the  same\n<script>var a = {number}</script> text</p>")
        told.forget()
        await crawler.run(shop(site))
    assert told.take("page") == []
    [page] = crawler.rows("pages")
    assert page["changed_at"] < page["fetched_at"]
    assert len(crawler.db.read(lambda c: pages.versions(c, page["id"]))) == 1
    body, _ = crawler.db.read(lambda c: pages.version_body(c, page["id"], None))
    assert b"var a = 2" in body


@pytest.mark.parametrize(
    ("noise", "old", "new", "is_news"),
    [
        pytest.param(
            Noise(select=(".ad",)), "<p>x</p><p class=ad>1</p>", "<p>x</p><p class=ad>2</p>", False, id="part"
        ),
        pytest.param(Noise(select=(".ad",)), "<p>x</p><p class=ad>1</p>", "<p>y</p><p class=ad>1</p>", True, id="rest"),
        pytest.param(Noise(only=("b",)), "<p>1 <b>x</b> 1</p>", "<p>2 <b>x</b> 2</p>", False, id="all but a part"),
        pytest.param(Noise(only=("b",)), "<p>1 <b>x</b></p>", "<p>1 <b>y</b></p>", True, id="the part"),
        pytest.param(Noise(only=("b",)), "<p>1 <b>x</b></p>", "<p>1</p>", True, id="the part is gone"),
        pytest.param(
            Noise(only=("div", "b"), select=("i",)),
            "<div>1 <b>x <i>1</i></b></div>",
            "<div>1 <b>x <i>2</i></b></div>",
            False,
            id="a part in a part",
        ),
        pytest.param(Noise(select=("*",)), "<p>x</p>", "<p>y</p>", False, id="all is noise"),
        pytest.param(
            Noise(select=("span",)), "<p>a <span>1</span> b</p>", "<p>a <span>1</span> c</p>", True, id="tail"
        ),
        pytest.param(Noise(patterns=("at .*",)), "<p>x at 10:00</p>", "<p>x at 11:00</p>", False, id="pattern"),
        pytest.param(Noise(patterns=("",)), "<p>x</p>", "<p>y</p>", True, id="a pattern of nothing"),
        pytest.param(Noise(numbers=True), "<p>seen 1,234 times</p>", "<p>seen 99 times</p>", False, id="numbers"),
        pytest.param(Noise(numbers=True), "<p>seen 1 times</p>", "<p>sold 2 times</p>", True, id="not numbers"),
        pytest.param(Noise(words=2), "<p>a b c</p>", "<p>a b d</p>", False, id="few words"),
        pytest.param(Noise(words=1), "<p>a b c</p>", "<p>a b d</p>", True, id="enough words"),
        pytest.param(
            Noise(words=2, numbers=True),
            "<p>1 user, 5 days</p>",
            "<p>7 users, 9 days</p>",
            False,
            id="numbers uncounted",
        ),
        pytest.param(Noise(), "<p>a</p><p>b</p>", "<p>b</p><p>a</p>", True, id="another order"),
        pytest.param(Noise(), "<p>a</p>", "<p>a</p><p>a</p>", True, id="once more"),
        pytest.param(Noise(), "x" * 20_000 + "a", "x" * 20_000 + "b", True, id="the end of a long paragraph"),
        pytest.param(Noise(), "<p>x" * 6000 + "a", "<p>x" * 6000 + "b", True, id="the end of a long page"),
    ],
)
@sqlite_only
async def test_noise(crawler: Crawler, told: Told, site: Site, noise: Noise, old: str, new: str, is_news: bool) -> None:
    wanted = source(site, noise=noise)
    site.page("/", old)
    await crawler.run(wanted)
    site.page("/", new)
    assert (await again(crawler, told, wanted))["failures"] == 0
    assert told.take("page") == (["changed"] if is_news else [])
    [page] = crawler.rows("pages")
    assert len(crawler.db.read(lambda c: pages.versions(c, page["id"]))) == 1 + is_news


async def test_noise_counts_for_what_a_redirect_leads_to(crawler: Crawler, told: Told, site: Site) -> None:
    site.raw("/", moved(302, "/home"), close=False)
    wanted = source(site, noise=Noise(numbers=True))
    site.page("/home", "<p>it is 10:01</p>")
    await crawler.run(wanted)
    site.page("/home", "<p>it is 10:02</p>")
    await again(crawler, told, wanted)
    assert told.take("page") == []
    site.page("/home", "<p>it was 10:02</p>")
    await again(crawler, told, wanted)
    assert text_of(told) == ["it is 10:02", "it was 10:02"]


async def test_a_quiet_field_is_kept_and_is_no_news(crawler: Crawler, told: Told, site: Site) -> None:
    rule = ItemRule(select=RULE.select, key=RULE.key, fields=RULE.fields, quiet=("price",))
    site.page("/", things("a", price="1"))
    await crawler.run(shop(site, item=(rule,)))
    site.page("/", things("a", price="2"))
    await again(crawler, told, shop(site, item=(rule,)))
    assert told.take("item") == []
    [item] = crawler.rows("items")
    assert item["data"] == {"name": "a", "price": "2"}
    assert item["changed_at"] < item["last_seen"]


# -- hostile versions

HTML = html("<p>plain</p>")
VERSIONS = {
    "plain": HTML,
    "other": html("<p>other</p>"),
    "huge": html("<p>word</p>" * 150_000),
    "one paragraph": html("word " * 300_000),
    "json": html('{"a": [1, "two", null, NaN]}', kind="application/json"),
    "broken json": html('{"a": ', kind="application/json"),
    "deep json": html("[" * 900 + "]" * 900, kind="application/json"),
    "odd json": html('{"a": "\\ud800 \\u0000 b"}', kind="application/json"),
    "blank": html(" \n "),
    "no text": html("<script>1</script>"),
    "wrong charset": b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-16\r\nContent-Length: 9\r\n\r\n<p>\xff\xfe\x00\xd8</p",
    "no charset": b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=none-such\r\nContent-Length: 8\r\n\r\n\xff\x00\x80<p>\xc3\n",
    "xml": html("<?xml version='1.0'?><a><b>x</b></a>", kind="application/xml"),
    "surrogates": html("<p>&#xD800; &#0; &#x10FFFF;</p>"),
}
FATES = [("plain", name) for name in VERSIONS if name != "plain"] + [
    (name, "plain") for name in VERSIONS if name != "plain"
]
FATES += [("broken json", "json"), ("json", "odd json"), ("odd json", "deep json"), ("huge", "one paragraph")]


@pytest.mark.databases("sqlite", "postgresql")
async def test_whatever_becomes_of_a_page_is_stored_and_told(crawler: Crawler, told: Told, site: Site) -> None:
    """Many pages at once: each is first this and then that."""
    paths = [f"/{number}" for number in range(len(FATES))]
    for when in (0, 1):
        for path, fate in zip(paths, FATES, strict=True):
            site.raw(path, VERSIONS[fate[when]], close=False)
        told.forget()
        run = await crawler.run(source(site, *paths, follow=False))
        assert [(f["url"], f["reason"], f["message"]) for f in crawler.rows("failures")] == []
        assert run["pages"] == len(FATES)
    of = {page["id"]: FATES[int(page["url"].rpartition("/")[2])] for page in crawler.rows("pages")}
    changed = {of[change["page_id"]] for change in told.changes("page") if change["change"] == "changed"}
    assert set(FATES) - changed == set()


@sqlite_only
async def test_a_pattern_without_end_is_a_failure_of_its_page_alone(crawler: Crawler, site: Site) -> None:
    wanted = source(site, noise=Noise(patterns=(r"(a+)+$",)))
    site.page("/", "<p>a</p>" + links("/b"))
    site.page("/b", "<p>x</p>")
    await crawler.run(wanted)
    site.page("/", "<p>" + "a" * 60 + "!</p>" + links("/b"))
    site.page("/b", "<p>y</p>")
    wanted = source(site, "/", "/b", noise=wanted.noise)
    http = type(HTTP)(delay=0, retries=0, allow_networks=HTTP.allow_networks)
    run = await crawler.run(wanted, http, Limits(parse_timeout=1.0))
    assert (run["pages"], run["failures"]) == (1, 1)
    assert [(f["url"], f["reason"]) for f in crawler.rows("failures")] == [(site.url + "/", "parse_limit")]


# -- moved, gone, and back


@pytest.mark.parametrize(("status", "is_for_good"), [(301, True), (308, True), (302, False), (307, False)])
@sqlite_only
async def test_a_page_moves_for_good_or_not_at_all(
    crawler: Crawler, told: Told, site: Site, status: int, is_for_good: bool
) -> None:
    site.page("/", links("/old"))
    site.page("/old", things("a"))
    await crawler.run(shop(site))
    site.raw("/old", moved(status, "/new"), close=False)
    site.page("/new", things("a"))
    await again(crawler, told, shop(site))
    assert told.take("page") == (["created", "moved"] if is_for_good else ["created"])
    assert told.take("item") == (["moved"] if is_for_good else [])
    gone = [page["url"] for page in crawler.rows("pages") if page["gone_at"]]
    assert gone == ([site.url + "/old"] if is_for_good else [])
    [item] = crawler.rows("items")
    assert (item["url"], item["removed_at"]) == (site.url + "/new", None)
    if is_for_good:
        fields = {"url": [site.url + "/old", site.url + "/new"]}
        assert [c["fields"] for c in told.changes("page") if c["change"] == "moved"] == [fields]
        assert [c["fields"] for c in told.changes("item")] == [fields]
    await again(crawler, told, shop(site))
    assert told.take("page") + told.take("item") == []


async def test_a_move_by_way_of_a_temporary_address_is_none(crawler: Crawler, told: Told, site: Site) -> None:
    site.page("/old", "x")
    await crawler.run(source(site, "/old"))
    site.raw("/old", moved(301, "/between"), close=False)
    site.raw("/between", moved(302, "/new"), close=False)
    site.page("/new", "x")
    await again(crawler, told, source(site, "/old"))
    assert told.take("page") == ["created"]


@pytest.mark.parametrize("first", ["/new", "/old"])
@pytest.mark.parametrize("old", ["gone", "not linked", "still there"])
async def test_an_item_has_moved_if_the_page_that_it_left_is_no_more(
    crawler: Crawler, told: Told, site: Site, old: str, first: str
) -> None:
    """Whichever of the two pages is stored first."""
    site.page("/", links("/old", "/other"))
    site.page("/old", things("a"))
    site.page("/other", things("b"))
    await crawler.run(shop(site))
    told.forget()
    there = [first, "/new" if first == "/old" else "/old"]
    site.page("/", links(*(path for path in there if path == "/new" or old != "not linked"), "/other"))
    site.page("/new", things("a"))
    if old == "gone":
        del site.routes["/old"]
    for _ in "ab":
        await crawler.run(shop(site), replace(HTTP, per_host=1))
    found = [change for change in told.changes("item") if change["change"] != "changed"]
    expected = [] if old == "still there" else [("moved", {"url": [site.url + "/old", site.url + "/new"]})]
    assert [(change["change"], change["fields"]) for change in found] == expected


def newest_first(site: Site, count: int, pages_there: int = 3) -> None:
    """Two a page, each page linked by the one before it."""
    names = [f"n{number}" for number in range(count, 0, -1)]
    for number in range(pages_there):
        there = names[2 * number : 2 * number + 2] if number < pages_there - 1 else names[2 * number :]
        site.page(f"/{number}", things(*there) + (links(f"/{number + 1}") if number < pages_there - 1 else ""))


@pytest.mark.parametrize("why", ["it fails", "max_pages", "max_depth", "recheck"])
async def test_what_slips_to_a_list_page_that_was_not_read_is_not_gone(
    crawler: Crawler, told: Told, site: Site, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    monkeypatch.setattr(visits, "GUARD_DEPTH", 1)
    newest_first(site, 6)
    more = {"max_pages": 2} if why == "max_pages" else {"max_depth": 1} if why == "max_depth" else {}
    wanted = shop(site, "/0", http={"retries": 0}, **more)
    await crawler.run(wanted)
    newest_first(site, 7)
    if why == "it fails":
        site.raw("/1", html("", status="500 No"), close=False)
    if why == "recheck":  # the second page is too young to be asked for again, and the first is not
        wanted = replace(wanted, recheck=Recheck(soonest=3600, latest=7200))
        later = (
            update(page_rows).where(page_rows.c.url != site.url + "/0").values(check_after=now() + timedelta(hours=1))
        )
        crawler.db.write(lambda c: c.execute(later))
    run = await again(crawler, told, wanted)
    assert "removed" not in told.take("item")
    assert ("max_depth = 1 was reached" in (run["message"] or "")) == (why == "max_depth")
    newest_first(site, 7)
    site.page("/1", things("n5") + links("/2"))
    await again(crawler, told, shop(site, "/0"))  # all is read
    gone = [change["item_id"] for change in told.changes("item") if change["change"] == "removed"]
    assert gone == [row["id"] for row in crawler.rows("items") if row["key"] == "n4"]


async def test_the_items_of_a_page_that_moved_for_good_have_moved(crawler: Crawler, told: Told, site: Site) -> None:
    site.page("/", links("/p"))
    site.page("/p", things("a", "b"))
    await crawler.run(shop(site))
    site.raw("/p", moved(301, "/new"), close=False)
    site.page("/new", things("a", "b"))
    await again(crawler, told, shop(site))
    assert told.take("item") == ["moved", "moved"]


@pytest.mark.parametrize("shows", ["list", "canonical"])
async def test_another_address_of_the_same_is_no_news(crawler: Crawler, told: Told, site: Site, shows: str) -> None:
    """Of a list that is paged by a cursor; of a page whose address has a mark of the visit in it."""
    own_name = f'<link rel=canonical href="{site.url}/own">' if shows == "canonical" else ""
    for visit in ("v1", "v2", "v3"):
        site.page("/", links(f"/p?visit={visit}"))
        site.page(f"/p?visit={visit}", own_name + (things("a") if own_name else things("a", "b")))
        await again(crawler, told, shop(site, follow=("a",)))
        if visit != "v1":
            assert told.take("item") == []
    assert {row["url"] for row in crawler.rows("items")} == {site.url + "/p?visit=v3"}


async def test_an_item_that_has_the_name_of_its_page_goes_with_it(crawler: Crawler, told: Told, site: Site) -> None:
    rule = replace(RULE, key=())
    site.page("/", links("/p/1"))
    site.page("/p/1", things("a"))
    await crawler.run(source(site, item=(rule,)))
    site.raw("/p/1", moved(301, "/p/1/"), close=False)
    site.page("/p/1/", things("a", price="2"))
    for changes_told in (["changed", "moved"], []):
        await again(crawler, told, source(site, item=(rule,)))
        assert told.take("item") == changes_told
    [item] = crawler.rows("items")
    assert (item["key"], item["url"], item["data"]["price"]) == (site.url + "/p/1/", site.url + "/p/1/", "2")


async def test_what_stood_in_a_list_is_gone_when_three_runs_have_missed_it_over_a_day(
    crawler: Crawler, told: Told, site: Site
) -> None:
    """Though none of them saw everything."""
    newest_first(site, 6)
    wanted = shop(site, "/0", max_pages=2)
    await crawler.run(wanted)
    site.page("/0", things("n6") + links("/1"))
    for _ in range(3):
        await again(crawler, told, wanted)
        assert told.take("item") == []
    earlier = update(run_rows).values(finished_at=now() - timedelta(hours=25))
    crawler.db.write(lambda c: c.execute(earlier))
    await again(crawler, told, wanted)
    assert told.take("item") == ["removed"]


async def test_beyond_max_depth_a_page_may_be_linked_still(
    crawler: Crawler, told: Told, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(visits, "GUARD_DEPTH", 1)
    site.page("/", links("/list", "/a", "/b"))
    site.page("/list", links("/deeper"))
    site.page("/a", things("a"))
    site.page("/b", things("b"))
    await crawler.run(shop(site, max_depth=1))
    site.page("/", links("/list"))
    del site.routes["/b"]
    run = await again(crawler, told, shop(site, max_depth=1))
    assert "max_depth = 1" in run["message"]
    assert (told.take("page"), told.take("item")) == (["changed", "removed"], ["removed"])
    assert present(crawler) == ["a"]


async def test_a_page_that_fails_and_lists_nothing_hides_nothing(crawler: Crawler, told: Told, site: Site) -> None:
    site.page("/", things("a", "b") + links("/about"))
    site.page("/about", "x")
    wanted = shop(site, http={"retries": 0})
    await crawler.run(wanted)
    site.page("/", things("a") + links("/about"))
    site.raw("/about", html("", status="500 No"), close=False)
    await again(crawler, told, wanted)
    assert told.take("item") == ["removed"]


async def test_very_many_items_that_are_gone_are_removed_bit_by_bit(
    crawler: Crawler, told: Told, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "REMOVED_AT_ONCE", 3)
    site.page("/", many(30))
    await crawler.run(shop(site))
    site.page("/", many(20))
    run = await again(crawler, told, shop(site))
    assert (run["state"], run["changes"]) == ("done", 11)
    assert told.take("item") == ["removed"] * 10
    assert len(present(crawler)) == 20
    site.page("/", many(9))  # more than half: an alarm in place of the first bit
    run = await again(crawler, told, shop(site))
    assert (told.take("item"), len(present(crawler))) == ([], 20)


async def test_a_page_has_moved_to_one_that_was_seen_already(crawler: Crawler, told: Told, site: Site) -> None:
    site.page("/new", links("/old"))
    site.page("/old", "x")
    await crawler.run(source(site, "/new"))
    site.raw("/old", moved(301, "/new"), close=False)
    await again(crawler, told, source(site, "/new"))
    assert told.take("page") == ["moved"]
    await again(crawler, told, source(site, "/new"))
    assert told.take("page") == []


@pytest.mark.parametrize("etag", [{}, {"ETag": '"1"'}], ids=["whole", "304"])
async def test_a_page_that_is_back_returns_with_its_items(
    crawler: Crawler, told: Told, site: Site, etag: dict[str, str]
) -> None:
    site.page("/", links("/a"))
    site.page("/a", things("a"), **etag)
    await crawler.run(shop(site))
    site.raw("/a", html("", status="404 No"), close=False)
    await again(crawler, told, shop(site))
    assert (told.take("page"), told.take("item")) == (["removed"], ["removed"])
    await again(crawler, told, shop(site))
    assert (told.take("page"), told.take("item")) == ([], [])
    site.page("/a", things("a"), **etag)
    await again(crawler, told, shop(site))
    assert (told.take("page"), told.take("item")) == (["returned"], ["returned"])
    assert present(crawler) == ["a"]


async def test_items_of_a_page_that_is_linked_again_return(crawler: Crawler, told: Told, site: Site) -> None:
    site.page("/a", things("a"), ETag='"1"')
    site.page("/", links("/a"))
    await crawler.run(shop(site))
    site.page("/", "nothing")
    await again(crawler, told, shop(site))
    assert told.take("item") == ["removed"]
    site.page("/", links("/a"))
    await again(crawler, told, shop(site))
    assert told.take("item") == ["returned"]


async def test_an_item_on_two_pages_does_not_move(crawler: Crawler, told: Told, site: Site) -> None:
    for number in range(4):
        # Either page may be the first, and either may be unchanged.
        front, back = ("/a", "/b") if number % 2 else ("/b", "/a")
        site.page("/", links(front, back))
        site.page("/a", things("x", "a") + str(number // 2))
        site.page("/b", things("x", "b") + str((number + 1) // 2))
        told.forget()
        await crawler.run(shop(site))
        assert told.take("item") == (["created"] * 3 if number == 0 else [])
    assert present(crawler) == ["a", "b", "x"]


FULL = ItemRule(
    select=Expression(css="article"),
    key=("name",),
    fields={"name": FieldRule(css="b::text"), "price": FieldRule(css="i::text"), "weight": FieldRule(css="u::text")},
)
CARD = replace(FULL, select=Expression(css="li.item"))


def details(name: str, price: str, weight: str = "5 kg") -> str:
    return f"<article><b>{name}</b> <i>{price}</i> <u>{weight}</u></article>"


@pytest.mark.parametrize("first", ["/list", "/thing"])
async def test_the_page_that_shows_most_of_an_item_is_its_home_whichever_answers_first(
    crawler: Crawler, told: Told, site: Site, first: str
) -> None:
    wanted = shop(site, item=(CARD, FULL))
    site.page("/", links(first, "/thing" if first == "/list" else "/list"))
    site.page("/list", things("a", price="from 10"))
    site.page("/thing", details("a", "12"))
    run = await crawler.run(wanted, replace(HTTP, per_host=1))
    full = {"name": "a", "price": "12", "weight": "5 kg"}
    [created] = told.changes("item")
    assert (created["change"], created["fields"]) == ("created", {name: [None, value] for name, value in full.items()})
    assert run["changes"] == 4  # three pages, one item
    for order in (("/thing", "/list"), ("/list", "/thing")):
        site.page("/", links(*order))
        await again(crawler, told, wanted, http=replace(HTTP, per_host=1))
        assert told.take("item") == []
    [item] = crawler.rows("items")
    assert (item["url"], item["data"]) == (site.url + "/thing", full)


async def test_an_item_that_its_home_lists_no_more_is_as_the_other_page_shows_it(
    crawler: Crawler, told: Told, site: Site
) -> None:
    wanted = shop(site, item=(CARD, FULL))
    site.page("/", links("/list", "/thing"))
    site.page("/list", things("a", price="10"))
    site.page("/thing", details("a", "12"))
    await crawler.run(wanted)
    site.page("/thing", "sold out")
    await again(crawler, told, wanted)
    [change] = told.changes("item")
    assert change["change"] == "changed"
    assert change["fields"] == {"price": ["12", "10"], "weight": ["5 kg", None]}
    [item] = crawler.rows("items")
    assert (item["url"], item["data"]["price"], item["removed_at"]) == (site.url + "/list", "10", None)


async def test_an_item_on_a_page_that_is_read_no_more_is_as_the_pages_that_are_read_show_it(
    crawler: Crawler, told: Told, site: Site
) -> None:
    """Though no run sees everything, so that nothing can be said of the page that nobody comes to any more."""
    wanted = shop(site, "/one", max_pages=2)
    site.page("/one", links("/old"))
    site.page("/old", things("a", price="1"))
    await crawler.run(wanted)
    site.page("/one", things("a", price="2") + links("/x", "/y", "/z"))
    for path in ("/x", "/y", "/z"):
        site.page(path, "nothing")
    await crawler.run(wanted)
    await crawler.run(wanted)
    [item] = crawler.rows("items")
    assert (item["data"]["price"], item["removed_at"]) == ("2", None)


async def test_what_a_page_listed_long_ago_says_nothing_of_an_item(crawler: Crawler, told: Told, site: Site) -> None:
    site.page("/", links("/1", "/2", "/down"))
    site.page("/1", things("x"))
    site.page("/2", things("x", "b"))
    site.page("/down", "up")
    await crawler.run(shop(site))
    site.page("/", links("/1", "/down"))
    await crawler.run(shop(site))
    site.page("/1", "nothing")
    site.raw("/down", html("", status="500 No"), close=False)
    await again(crawler, told, shop(site))
    assert [change["change"] for change in told.changes("item") if change["page_id"] is not None] == ["removed"]


async def test_the_items_of_a_source_of_one_page_go_with_it(crawler: Crawler, told: Told, site: Site) -> None:
    site.page("/", things("a"))
    await crawler.run(shop(site))
    site.raw("/", html("", status="410 Gone"), close=False)
    await again(crawler, told, shop(site))
    assert (told.take("page"), told.take("item")) == (["removed"], ["removed"])


async def test_a_page_that_leads_elsewhere_for_now_was_not_read(crawler: Crawler, told: Told, site: Site) -> None:
    site.page("/", links("/a", "/b"))
    for name in "ab":
        site.page(f"/{name}", things(name))
    await crawler.run(shop(site))
    for name in "ab":
        site.raw(f"/{name}", moved(302, "/maintenance"), close=False)
    site.page("/maintenance", "soon")
    await again(crawler, told, shop(site))
    assert told.take("item") == []
    assert present(crawler) == ["a", "b"]


async def test_a_field_that_is_new_in_the_rule_is_no_news(crawler: Crawler, told: Told, site: Site) -> None:
    site.page("/", details("a", "1"))
    await crawler.run(shop(site, item=(replace(FULL, fields={n: FULL.fields[n] for n in ("name", "price")}),)))
    await again(crawler, told, shop(site, item=(FULL,)))
    assert told.take("item") == []
    assert crawler.rows("items")[0]["data"]["weight"] == "5 kg"
    site.page("/", details("a", "1", weight="6 kg"))
    await again(crawler, told, shop(site, item=(FULL,)))
    assert told.take("item") == ["changed"]


async def test_changes_that_are_too_slight_add_up(crawler: Crawler, told: Told, site: Site) -> None:
    words = [f"word{number}" for number in range(20)]
    wanted = source(site, noise=Noise(words=3))
    site.page("/", " ".join(words))
    await crawler.run(wanted)
    seen = []
    for number in range(4):
        words[number] = f"other{number}"
        site.page("/", " ".join(words))
        await again(crawler, told, wanted)
        seen += told.take("page")
    assert seen == ["changed"] * 2


async def test_two_pages_that_differ_are_no_news_whichever_is_stored_first(
    crawler: Crawler, told: Told, site: Site
) -> None:
    site.page("/", links("/a", "/b"))
    site.page("/a", things("x", price="10"))
    site.page("/b", things("x", price="10 EUR"))
    await crawler.run(shop(site))
    for number in range(4):
        site.page("/", links(*(("/a", "/b") if number % 2 else ("/b", "/a"))))
        await again(crawler, told, shop(site))
        assert told.take("item") == []


async def test_an_item_of_a_page_that_failed_is_there_though_another_is_gone(
    crawler: Crawler, told: Told, site: Site
) -> None:
    site.page("/", links("/a", "/b"))
    site.page("/a", things("x"))
    site.page("/b", things("x", "b"), ETag='"1"')
    await crawler.run(shop(site))
    home = crawler.rows("items", q="x")[0]["url"]
    other = site.url + ("/b" if home.endswith("/a") else "/a")
    site.raw(home.removeprefix(site.url), html("", status="404 No"), close=False)
    before = site.routes[other.removeprefix(site.url)]
    site.raw(other.removeprefix(site.url), html("", status="500 No"), close=False)
    await again(crawler, told, shop(site))
    assert "x" in present(crawler)
    site.routes[other.removeprefix(site.url)] = before
    await again(crawler, told, shop(site))
    assert "x" in present(crawler)


async def test_what_is_told_anew_takes_no_number_that_was_seen(crawler: Crawler, told: Told, site: Site) -> None:
    """Who has seen a number is told of what comes after it, and of nothing else."""
    wanted = shop(site, item=(CARD, FULL))
    site.page("/", links("/list"))
    site.page("/list", things("a") + links("/thing"))
    seen: list[int] = []

    def late(_: Request) -> bytes:
        until(lambda: told.take("item") == ["created"], "the card is stored")
        seen.append(crawler.db.read(changes.newest))
        return html(details("a", "1"))

    site.raw("/thing", late)
    await crawler.run(wanted)
    after = crawler.db.read(lambda c: changes.after(c, seen[0], 100))
    assert sorted(change["of"] for change in after) == ["item", "page"]


# -- alarms


@sqlite_only
async def test_selectors_that_match_nothing_are_told(crawler: Crawler, site: Site) -> None:
    site.page("/", "nothing of the kind")
    await crawler.run(shop(site))
    assert standing(crawler) == [("items", "")]
    site.page("/", things("a"))
    await crawler.run(shop(site))
    assert standing(crawler) == []


@pytest.mark.parametrize(
    ("had", "has", "is_alarm"), [(9, 0, False), (10, 0, True), (20, 10, False), (21, 10, True), (19, 10, False)]
)
@sqlite_only
async def test_when_items_that_vanish_are_an_alarm(
    crawler: Crawler, told: Told, site: Site, had: int, has: int, is_alarm: bool
) -> None:
    site.page("/", many(had))
    await crawler.run(shop(site))
    site.page("/", "left: " + many(has))
    await again(crawler, told, shop(site))
    assert standing(crawler) == ([("items", "")] if is_alarm else [])
    assert told.take("item") == ([] if is_alarm else ["removed"] * (had - has))
    assert len(present(crawler)) == (had if is_alarm else has)


ETAGS: Sequence[Any] = [pytest.param({}, id="whole"), pytest.param({"ETag": '"2"'}, id="304")]


@pytest.mark.parametrize("etag", ETAGS)
async def test_an_alarm_stands_until_it_is_accepted(
    crawler: Crawler, told: Told, site: Site, etag: dict[str, str]
) -> None:
    site.page("/", many(12))
    await crawler.run(shop(site))
    site.page("/", many(1), **etag)
    for _ in range(3):
        await again(crawler, told, shop(site))
        assert told.take("item") == []
        assert standing(crawler) == [("items", "")]
    assert len(crawler.db.read(lambda c: c.execute(select(alarm_table)).all())) == 1
    accept(crawler)
    run = await again(crawler, told, shop(site))
    assert told.take("item") == ["removed"] * 11
    assert run["changes"] == 11
    assert standing(crawler) == []
    assert present(crawler) == ["n0"]
    site.page("/", "nothing")
    await again(crawler, told, shop(site))
    assert told.take("item") == ["removed"]


async def test_an_alarm_ends_when_the_items_are_back(crawler: Crawler, told: Told, site: Site) -> None:
    site.page("/", many(12))
    await crawler.run(shop(site))
    site.page("/", "rebuilt")
    await crawler.run(shop(site))
    site.page("/", many(12))
    await again(crawler, told, shop(site))
    assert told.take("item") == []
    assert standing(crawler) == []
    [alarm] = crawler.db.read(lambda c: c.execute(select(alarm_table)).all())
    assert alarm.resolved_at is not None
    site.page("/", "rebuilt")  # what was accepted or over once does not count for the next time
    await again(crawler, told, shop(site))
    assert standing(crawler) == [("items", "")]


async def test_an_alarm_is_told_once(crawler: Crawler, site: Site) -> None:
    site.page("/", many(12))
    await crawler.run(shop(site))
    site.page("/", "rebuilt")
    for _ in range(3):
        await crawler.run(shop(site))
    found = [(event["kind"], event["event"]) for event in crawler.rows("events")]
    assert (
        found
        == [("run", "started"), ("run", "finished")] * 2
        + [("alarm", "raised")]
        + [
            ("run", "started"),
            ("run", "finished"),
        ]
        * 2
    )
    [raised] = [event for event in crawler.rows("events") if event["kind"] == "alarm"]
    assert (raised["name"], raised["level"]) == ("s", "warning")
    assert "12 of 12 items" in raised["facts"]["said"]


async def test_a_run_that_did_not_see_everything_leaves_an_alarm(crawler: Crawler, told: Told, site: Site) -> None:
    http = type(HTTP)(delay=0, retries=0, allow_networks=HTTP.allow_networks)
    site.page("/", links("/list", "/other"))
    site.page("/list", many(12))
    site.page("/other", "x")
    await crawler.run(shop(site), http)
    site.page("/", links("/other"))
    await crawler.run(shop(site), http)
    assert standing(crawler) == [("items", "")]
    accept(crawler)
    site.raw("/other", html("x", status="500 No"), close=False)
    await again(crawler, told, shop(site), http=http)
    assert (told.take("item"), standing(crawler)) == ([], [("items", "")])
    site.page("/other", "x")
    await again(crawler, told, shop(site), http=http)
    assert (told.take("item"), standing(crawler)) == (["removed"] * 12, [])


async def test_a_field_that_is_lost_is_an_alarm_until_it_is_found(crawler: Crawler, site: Site) -> None:
    site.page("/", many(30))
    await crawler.run(shop(site))
    assert standing(crawler) == []
    site.page("/", many(30, price="") + things("left", price="9"))  # one of them has it still
    await crawler.run(shop(site))
    assert standing(crawler) == [("field", "item.price")]
    site.page("/", many(30, price="") + things("left", price="8"), ETag='"1"')
    for _ in range(3):  # read anew, and then unchanged
        await crawler.run(shop(site))
        assert standing(crawler) == [("field", "item.price")]
    [alarm] = crawler.db.read(alarms.standing)
    assert alarm["last_at"] > alarm["at"]
    site.page("/", many(30, price="2"))
    await crawler.run(shop(site))
    assert standing(crawler) == []


async def test_few_items_say_nothing_of_a_field(crawler: Crawler, site: Site) -> None:
    site.page("/", many(9))
    await crawler.run(shop(site))
    site.page("/", many(9, price=""))
    await crawler.run(shop(site))
    assert standing(crawler) == []


# -- stopping


async def test_a_run_that_is_stopped_marks_nothing_as_gone(crawler: Crawler, told: Told, site: Site) -> None:
    site.page("/", links("/a"))
    site.page("/a", things("a"))
    await crawler.run(shop(site))

    def stop(request: Any) -> bytes:
        [run] = [row["id"] for row in crawler.rows("runs") if row["state"] == "running"]
        assert crawler.db.write(lambda c: runs.stop(c, run, now()))
        return html("now " + links("/b", "/c"))

    site.raw("/", stop, close=False)
    run = await again(crawler, told, shop(site))
    assert (run["state"], run["message"]) == ("stopped", "stopped by hand")
    assert site.paths() == ["/", "/a", "/"]
    assert told.take("item") == []
    assert not crawler.db.write(lambda c: runs.stop(c, run["id"], now()))
    site.page("/", links("/a"))
    await again(crawler, told, shop(site))
    assert (told.take("item"), present(crawler)) == ([], ["a"])


def test_a_page_without_a_body_tag_is_read_all_the_same() -> None:
    body = b"<!doctype html><title>Shop</title><nav>Shelf</nav><article><h1>Marble</h1><p>3 in stock</p></article>"
    assert blocks(Page("http://x/", 200, {"content-type": "text/html"}, body), Noise()) == [
        "Shop",
        "Shelf",
        "Marble",
        "3 in stock",
    ]


async def test_the_same_bytes_under_another_charset_are_read_anew(crawler: Crawler, site: Site) -> None:
    body = "<title>Stra\u00dfe</title>"
    for kind in ("text/html; charset=windows-1252", "text/html; charset=utf-8", "application/xhtml+xml; charset=utf-8"):
        site.raw("/", html(body, kind=kind), close=False)
        await crawler.run(source(site))
        [page] = crawler.rows("pages")
        assert page["content_type"] == kind.partition(";")[0]
    assert page["title"] == "Stra\u00dfe"


def shelf(site: Site, path: str, numbers: Sequence[int], more: str = "", etag: str = "") -> None:
    body = more + "".join(f"<div class=c><i>{n}</i></div>" for n in numbers)
    site.page(path, body, **({"ETag": etag} if etag else {}))


SHELVED = ItemRule(select=Expression(css="div.c"), key=("id",), fields={"id": FieldRule(css="i::text")})


@pytest.mark.parametrize("recheck", [None, Recheck(soonest=3600.0, latest=86400.0)], ids=["304", "not asked"])
async def test_an_item_of_two_pages_is_there_while_one_of_them_is_as_it_was(
    recheck: Recheck | None, crawler: Crawler, site: Site
) -> None:
    wanted = source(site, item=(SHELVED,), http={"per_host": 1}, recheck=recheck)
    shelf(site, "/", (), links("/sale", "/shoes"))
    shelf(site, "/sale", range(1, 6), etag='"1"')
    shelf(site, "/shoes", range(1, 10), etag='"1"')
    await crawler.run(wanted)
    crawler.db.write(
        lambda c: c.execute(update(page_rows).where(page_rows.c.url.endswith("/sale")).values(check_after=None))
    )
    for kept in (range(2, 6), range(3, 6)):
        shelf(site, "/sale", kept, etag=f'"{len(kept)}"')
        crawler.db.write(
            lambda c: c.execute(update(page_rows).where(page_rows.c.url.endswith("/sale")).values(check_after=None))
        )
        run = await crawler.run(wanted)
        assert run["state"] == "done"
    assert [c["change"] for c in crawler.rows("changes", of="item")] == ["created"] * 9
    assert [item["removed_at"] for item in crawler.rows("items")] == [None] * 9
    shelf(site, "/shoes", range(2, 10), etag='"2"')
    crawler.db.write(lambda c: c.execute(update(page_rows).values(check_after=None)))
    await crawler.run(wanted)
    assert [c["change"] for c in crawler.rows("changes", of="item")][9:] == ["removed"]
    assert [item["data"]["id"] for item in crawler.rows("items") if item["removed_at"]] == ["1"]


async def test_what_failed_and_is_linked_no_more_fails_no_more(crawler: Crawler, site: Site) -> None:
    site.page("/", links("/dead", "/gone", "/fine"))
    site.page("/fine", "x")
    await crawler.run(source(site))
    assert len(crawler.rows("failures", unresolved=True)) == 2
    site.page("/", links("/dead", "/fine"))
    await crawler.run(source(site))
    assert [row["url"] for row in crawler.rows("failures", unresolved=True)] == [site.url + "/dead"]


# -- pages to which nothing leads any more


async def unlinked(crawler: Crawler, site: Site, answer: bytes) -> None:
    """Have a page be known to which nothing leads any more, and which answers otherwise now."""
    site.page("/", links("/a"))
    site.page("/a", "x")
    await crawler.run(shop(site))
    site.page("/", "none")
    site.raw("/a", answer, close=False)


async def test_a_page_that_is_unlinked_and_gone_at_once_is_told_to_be_gone(
    crawler: Crawler, told: Told, site: Site
) -> None:
    site.page("/", links("/a", "/b"))
    site.page("/a", things("a"))
    site.page("/b", things("b"))
    await crawler.run(shop(site))
    site.page("/", links("/b"))
    site.raw("/a", html("", status="404 No"), close=False)
    run = await again(crawler, told, shop(site))
    assert (run["state"], run["pages"], run["failures"], run["changes"]) == ("done", 2, 0, 3)
    assert (told.take("page"), told.take("item")) == (["changed", "removed"], ["removed"])
    assert [page["final_url"] for page in crawler.rows("pages") if page["gone_at"] is not None] == [site.url + "/a"]
    assert crawler.rows("failures") == []
    site.log.clear()
    await again(crawler, told, shop(site))
    assert (sorted(site.paths()), told.take("page")) == (["/", "/b"], [])


async def test_a_page_that_only_a_sitemap_listed_is_told_to_be_gone(crawler: Crawler, told: Told, site: Site) -> None:
    def sitemap(*paths: str) -> None:
        listed = "".join(f"<url><loc>{site.url}{path}</loc></url>" for path in paths)
        site.page("/map.xml", f"<urlset>{listed}</urlset>", kind="text/xml")

    wanted = Source(name="s", sitemaps=(site.url + "/map.xml",))
    sitemap("/a", "/b")
    site.page("/a", "a")
    site.page("/b", "b")
    await crawler.run(wanted)
    sitemap("/b")
    site.raw("/a", html("", status="410 Gone"), close=False)
    await again(crawler, told, wanted)
    assert told.take("page") == ["removed"]


@pytest.mark.parametrize(
    ("second", "reason", "asked"),
    [
        ("<urlset><url><loc>{site}/b</loc></url>", "incomplete_body", ["/b"]),
        ("<urlset><url><loc>{site}/b</loc></url><url><loc>{site}/prod", "incomplete_body", ["/b"]),
        ("<Error><Code>AccessDenied</Code></Error>", "decode", []),
        ("Service temporarily unavailable", "decode", []),
    ],
)
async def test_what_a_sitemap_does_not_list_for_it_is_broken_is_not_gone(
    second: str, reason: str, asked: list[str], crawler: Crawler, told: Told, site: Site
) -> None:
    wanted = replace(shop(site), start=(), sitemaps=(site.url + "/map.xml",), http={"retries": 0})
    site.page("/map.xml", f"http://x.invalid/ {site.url}/a {site.url}/b", kind="text/plain")
    for name in ("a", "b"):
        site.page(f"/{name}", things(name))
    await crawler.run(wanted)
    assert present(crawler) == ["a", "b"]
    site.page("/map.xml", second.replace("{site}", site.url), kind="text/xml")
    site.log.clear()
    run = await again(crawler, told, wanted)
    assert [failure["reason"] for failure in crawler.rows("failures")] == [reason]
    assert (told.take("item"), present(crawler)) == ([], ["a", "b"])
    assert (run["failures"], sorted(site.paths())) == (1, [*asked, "/map.xml"])


async def test_a_page_that_nothing_leads_to_is_asked_for_once_and_not_followed(
    crawler: Crawler, told: Told, site: Site
) -> None:
    site.page("/", links("/a"))
    site.page("/a", things("a"))
    await crawler.run(shop(site))
    site.page("/", "none")
    site.page("/a", things("a", price="2") + links("/new"))
    for asked in (["/", "/a"], ["/"], ["/"]):
        site.log.clear()
        run = await again(crawler, told, shop(site))
        assert (run["state"], run["pages"], sorted(site.paths())) == ("done", 1, asked)
    assert present(crawler) == []  # the run saw everything, and nothing that leads to the item
    assert [page["gone_at"] for page in crawler.rows("pages")] == [None, None]
    site.page("/", links("/a"))
    await again(crawler, told, shop(site))
    assert (told.take("page"), told.take("item")) == (["changed", "changed"], ["returned"])
    assert present(crawler) == ["a"]
    site.page("/", "none")
    site.raw("/a", html("", status="404 No"), close=False)
    await again(crawler, told, shop(site))
    assert told.take("page") == ["changed", "removed"]


async def test_a_page_whose_links_follow_it_to_another_address_has_moved(
    crawler: Crawler, told: Told, site: Site
) -> None:
    site.page("/", links("/old"))
    site.page("/old", "words of its own")
    await crawler.run(shop(site))
    site.page("/", links("/new"))
    site.page("/new", "words of its own")
    site.raw("/old", moved(301, "/new"), close=False)
    await again(crawler, told, shop(site))
    assert "moved" in told.take("page")
    assert "removed" not in told.take("page")


@pytest.mark.parametrize("status", [302, 500, 403])
async def test_a_page_that_nothing_leads_to_is_not_taken_for_gone_without_a_word(
    crawler: Crawler, told: Told, site: Site, status: int
) -> None:
    await unlinked(crawler, site, moved(status, "/elsewhere"))
    site.page("/elsewhere", things("b"))
    run = await again(crawler, told, shop(site), http=replace(HTTP, retries=0))
    assert (run["state"], run["failures"], crawler.rows("failures")) == ("done", 0, [])
    assert "removed" not in told.take("page")
    assert present(crawler) == []


async def test_a_run_that_did_not_see_everything_asks_for_nothing_more(
    crawler: Crawler, told: Told, site: Site
) -> None:
    site.page("/", links("/list"))
    site.page("/list", links("/a"))
    site.page("/a", "x")
    await crawler.run(shop(site))
    site.raw("/list", html("", status="500 No"), close=False)
    site.raw("/a", html("", status="404 No"), close=False)
    site.log.clear()
    await again(crawler, told, shop(site), http=replace(HTTP, retries=0))
    assert sorted(site.paths()) == ["/", "/list"]
    site.page("/list", "nothing")
    await again(crawler, told, shop(site), http=replace(HTTP, retries=0))
    assert "removed" in told.take("page")


async def test_a_page_that_its_source_excludes_is_not_asked_for(crawler: Crawler, told: Told, site: Site) -> None:
    site.page("/", links("/a"))
    site.page("/a", "x")
    await crawler.run(shop(site))
    site.log.clear()
    await again(crawler, told, shop(site, exclude=("/a$",)))
    assert site.paths() == ["/"]
    assert "removed" not in told.take("page")


@sqlite_only
async def test_pages_to_which_nothing_leads_are_asked_for_by_run_after_run(
    crawler: Crawler, told: Told, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frontier, "LOOKS_AT_ONCE", 2)
    paths = [f"/{number}" for number in range(5)]
    site.page("/", links(*paths))
    for path in paths:
        site.page(path, "x " + path)
    await crawler.run(shop(site))
    site.page("/", "none")
    for path in paths:
        site.raw(path, html("", status="404 No"), close=False)
    gone = []
    for most in (100, 2, 100, 100, 100):
        site.log.clear()
        await again(crawler, told, shop(site, max_pages=most))
        assert len(site.paths()) <= most
        gone.append(told.take("page").count("removed"))
    assert gone == [2, 1, 2, 0, 0]


@pytest.mark.parametrize("state", ["failed", "left"])
async def test_a_page_that_an_earlier_run_could_not_read_is_asked_for_too(
    crawler: Crawler, told: Told, site: Site, state: str
) -> None:
    site.page("/", links("/a"))
    site.page("/a", things("a"))
    await crawler.run(shop(site))
    if state == "failed":
        site.raw("/a", html("", status="500 No"), close=False)
        await crawler.run(shop(site), http=replace(HTTP, retries=0))
    else:
        crawler.db.write(lambda c: c.execute(update(url_rows).values(state="queued")))
    site.page("/", "none")
    site.raw("/a", html("", status="404 No"), close=False)
    run = await again(crawler, told, shop(site))
    assert (told.take("item"), run["failures"]) == (["removed"], 0)
    assert "removed" in told.take("page")
    assert crawler.rows("failures", unresolved=True) == []


async def test_a_last_look_that_fails_for_now_is_had_again(crawler: Crawler, told: Told, site: Site) -> None:
    await unlinked(crawler, site, html("", status="503 Away"))
    run = await again(crawler, told, shop(site))
    assert (run["state"], run["failures"], site.paths().count("/a")) == ("done", 0, 2)
    site.raw("/a", html("", status="404 No"), close=False)
    await again(crawler, told, shop(site))
    assert told.take("page") == ["removed"]


async def test_a_last_look_that_always_fails_is_had_three_times(crawler: Crawler, told: Told, site: Site) -> None:
    await unlinked(crawler, site, html("", status="503 Away"))
    for _ in range(5):
        await again(crawler, told, shop(site))
    assert site.paths().count("/a") == 1 + 3


@sqlite_only
async def test_a_page_that_is_retried_by_hand_is_read_though_nothing_leads_to_it(crawler: Crawler, site: Site) -> None:
    site.page("/", links("/a"))
    site.raw("/a", html("", status="500 No"), close=False)
    await crawler.run(shop(site), http=replace(HTTP, retries=0))
    crawler.db.write(lambda c: c.execute(update(url_rows).values(last_look=LastLook.HAD)))
    [failure] = crawler.rows("failures")
    crawler.db.write(lambda c: visits.retry(c, [failure["id"]], now()))
    looks = crawler.db.read(lambda c: c.scalars(select(url_rows.c.last_look).where(url_rows.c.state == "queued")).all())
    assert looks == [LastLook.NONE]


@sqlite_only
@pytest.mark.parametrize(
    ("old", "new", "is_news"),
    [
        ("Pr\u00f3d", "Pro\u0301d", False),
        ("a\u200bb\u00e9", "ab\u00e9", False),
        ("a", "b", True),
        ("\u00e9", "e", True),
    ],
)
async def test_texts_that_look_alike_are_no_change(
    crawler: Crawler, told: Told, site: Site, old: str, new: str, is_news: bool
) -> None:
    site.page("/", f"<meta charset=utf-8>{things('a', price=old)}")
    await crawler.run(shop(site))
    site.page("/", f"<meta charset=utf-8>{things('a', price=new)}")
    await again(crawler, told, shop(site))
    assert told.take("item") == (["changed"] if is_news else [])


@sqlite_only
@pytest.mark.parametrize(("old", "new"), [("true", "1"), ("[false]", "[0]"), ('{"a": [true]}', '{"a": [1]}')])
async def test_true_is_another_value_than_the_number_one(
    crawler: Crawler, told: Told, site: Site, old: str, new: str
) -> None:
    fields = {"id": FieldRule(json="id"), "v": FieldRule(json="v", many=True)}
    wanted = replace(source(site), item=(ItemRule(key=("id",), fields=fields),))
    for value in (old, new):
        site.raw("/", html(f'{{"id": 1, "v": {value}}}', kind="application/json"))
        await again(crawler, told, wanted)
    assert "changed" in told.take("item")
