"""Places without end are told by their looks or by what they hold; ordinary sites are never taken for one."""

import hashlib
import string
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scraper.config.settings import Database
from scraper.traps import COPIES_MOST, ENDLESS_LEAST, FACETS_MOST, LOOK_BACK, Watch, fault, shape
from scraper.urls import fingerprint
from tests.crawl.test_engine import Crawler, links, source
from tests.site import Request, Site, html

YEAR = 2026
SITE = "https://a.org"


@pytest.fixture
def crawler(database: Database) -> Iterator[Crawler]:
    made = Crawler(database)
    yield made
    made.db.close()


# -- by the address alone


@pytest.mark.parametrize(
    ("path", "said"),
    [
        pytest.param("/a/b/a/b/a/b/a/b/", "in the path 4 times", id="two in turn"),
        pytest.param("/x/x/x/x", "in the path 4 times", id="one again and again"),
        pytest.param("/shop/en/shop/de/shop/fr/shop/", "'shop' is in the path 4 times", id="with others between"),
        pytest.param("/1/1/1/1/1/1/1", "in the path 7 times", id="a number again and again"),
        pytest.param("/" + "/".join(string.ascii_lowercase), "segments", id="many segments"),
        pytest.param("/" + "/".join(f"d{n}" for n in range(17)), "more than 16 segments", id="one too many"),
        pytest.param("/p?" + "&".join(f"f{n}=1" for n in range(13)), "more than 12 parameters", id="many parameters"),
        pytest.param("/calendar/2029/01", "year 2029", id="a month to come"),
        pytest.param("/calendar/2029-12-31", "year 2029", id="a day to come"),
        pytest.param("/events/2031-1/", "year 2031", id="a short month"),
        pytest.param("/events/9999/12/31/", "year 9999", id="the last day"),
        pytest.param("/cal?month=3&year=2040", "year 2040", id="a year in the query"),
        pytest.param("/cal?Y=3000", "year 3000", id="a short name"),
        pytest.param("/kalender?jahr=2050&monat=1", "year 2050", id="German"),
    ],
)
def test_a_trap_is_told_by_its_looks(path: str, said: str) -> None:
    assert said in (fault(SITE + path, YEAR) or "no trap")


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "",
        "/2024/05/12/title",
        "/2024/05/12/",
        "/a/b/c/d",
        "/docs/v2/guide/install/linux/debian/packages/from/source/notes.html",
        "/javase/8/docs/api/java/util/concurrent/atomic/AtomicInteger.html",
        "/rust/std/collections/hash_map/struct.HashMap.html",
        "/versions/1/1/1",
        "/1/1/1/1",
        "/0/0/0/0/0/0",
        "/en/en/",
        "/news/2026/news/2025/news/",
        "/wiki/Category:2030_FIFA_World_Cup",
        "/wiki/2050",
        "/item/2099",
        "/articles/2030-targets-for-climate",
        "/p/3500-12",
        "/tel/0800-2099-12345",
        "/calendar/2028/12",
        "/calendar/2028-12-31",
        "/events?year=2028&month=12",
        "/cars?built=2040",
        "/search?q=2050&page=3",
        "/search?a=1&b=2&c=3&d=4&e=5&f=6&g=7&h=8&i=9&j=10&k=11&l=12",
        "/product/9780306406157",
        "/product/123456-78",
        "/files/20290101.html",
        "/user/repo/tree/main/src/main/java/org/main/App.java",
        "/a/../a/b//c//d//",
        "/" + "/".join(f"d{n}" for n in range(16)),
        "/x/x/x",
        "/2024/2024/05/2024-05-12/",
        "/thread-4321-1-1.html",
        "/forum-2099-3.html",
        "/topic/2050/2",
        "/t/some-title/2103/12",
        "/rfc2045/10",
        "/c/project/+/2101/3",
        "/issues/2044-12",
        "/catalog/3600/12/24/",
        "/map?x=1&y=5678",
    ],
)
def test_ordinary_addresses_are_no_traps(path: str) -> None:
    assert fault(SITE + path, YEAR) is None


@given(st.text(max_size=200), st.integers(1990, 2100))
def test_any_text_is_judged(text: str, year: int) -> None:
    for url in (text, SITE + "/" + text, SITE + "/?" + text):
        assert fault(url, year) is None or fault(url, year)
        assert shape(shape(url)) == shape(url) or "?" in url


@given(st.integers(1900, YEAR + 2), st.integers(1, 12), st.integers(1, 28))
def test_no_date_up_to_two_years_ahead_is_a_trap(year: int, month: int, day: int) -> None:
    for path in (f"/{year}/{month:02}/{day:02}/", f"/{year}-{month}-{day}", f"/c?year={year}&month={month}"):
        assert fault(SITE + path, YEAR) is None


# -- shapes


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("/item/1", "/item/99999", True),
        ("/item-17.html", "/item-4.html", True),
        ("/x/0123456789abcdef", "/x/FEDCBA98765432100", True),
        ("/list?page=1", "/list?page=2", True),
        ("/list?a=1&b=2", "/list?b=5&a=7", True),
        ("/list?a=red", "/list?a=blue", True),
        ("/list?f[1]=x", "/list?f[22]=x", True),
        ("/list?a=1&a=2", "/list?a=1", True),
        ("/list?a=1", "/list?b=1", False),
        ("/list?a=1", "/list", False),
        ("/item/1", "/items/1", False),
        ("/item/1", "/item/1/2", False),
        ("/red", "/blue", False),
        ("/bed", "/fed", False),
    ],
)
def test_numbers_and_values_do_not_count_in_a_shape(one: str, other: str, same: bool) -> None:
    assert (shape(SITE + one) == shape(SITE + other)) is same


# -- by what the pages hold


def digest(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def words(number: int) -> int:
    """Return a simhash that is far from those of other numbers."""
    return int(digest(number)[:16], 16)


def visited(
    watch: Watch, address: str, most: int, *, copies: bool = False, near: bool = False, items: bool = False
) -> int:
    """Return how many pages were visited before their shape was given up."""
    for number in range(most):
        url = address.format(number)
        if watch.fault(url):
            return number
        watch.saw(url, digest(0 if copies else number), words(0 if near else number), items=items)
    return most


def test_copies_are_bounded_at_about_two_hundred() -> None:
    watch = Watch(10_000)
    assert (
        COPIES_MOST <= visited(watch, SITE + "/page/{}", 1000, copies=True, near=True) <= COPIES_MOST + LOOK_BACK // 10
    )
    assert "were copies of each other" in (watch.fault(SITE + "/page/777") or "")
    assert watch.fault(SITE + "/other/777") is None


def test_copies_are_bounded_even_where_they_hold_items() -> None:
    assert visited(Watch(10_000), SITE + "/page/{}", 1000, copies=True, near=True, items=True) <= COPIES_MOST + 20


def test_facets_are_bounded_at_about_five_hundred() -> None:
    watch = Watch(10_000)
    assert (
        FACETS_MOST <= visited(watch, SITE + "/list?color={}&size=x", 2000, near=True) <= FACETS_MOST + LOOK_BACK // 10
    )
    assert "held nothing new" in (watch.fault(SITE + "/list?size=1&color=2") or "")
    assert watch.fault(SITE + "/list?color=2") is None


@pytest.mark.parametrize(("max_pages", "bound"), [(1000, ENDLESS_LEAST), (10_000, 5000)])
def test_paths_without_anything_new_are_bounded_by_the_page_limit(max_pages: int, bound: int) -> None:
    assert visited(Watch(max_pages), SITE + "/day/{}", 9000, near=True) == bound


@pytest.mark.parametrize("address", ["/product/{}", "/list?product={}"])
def test_products_with_items_are_never_bounded(address: str) -> None:
    assert visited(Watch(1000), SITE + address, 6000, near=True, items=True) == 6000


@pytest.mark.parametrize("address", ["/article/{}", "/list?article={}"])
def test_pages_with_words_of_their_own_are_never_bounded(address: str) -> None:
    assert visited(Watch(1000), SITE + address, 6000) == 6000


def test_one_new_page_in_ten_keeps_a_shape_open() -> None:
    watch = Watch(1000)
    for number in range(6000):
        url = f"{SITE}/list?page={number}"
        assert watch.fault(url) is None
        fresh = number if number % 10 == 0 else 0
        watch.saw(url, digest(fresh), words(fresh), items=False)


def test_pages_of_few_words_are_judged_by_their_bytes_alone() -> None:
    watch = Watch(1000)
    for number in range(6000):
        watch.saw(f"{SITE}/list?page={number}", digest(number), None, items=False)
    assert watch.fault(f"{SITE}/list?page=6001") is None


def test_a_watch_remembers_a_bounded_number_of_shapes() -> None:
    watch = Watch(1000)
    for first in string.ascii_lowercase:
        for second in string.ascii_lowercase:
            for third in string.ascii_lowercase[:10]:
                watch.saw(f"{SITE}/{first}{second}{third}/1", digest(1), 1, items=False)
    assert len(watch._shapes) == Watch.SHAPES_MOST


# -- sessions and campaigns


@pytest.mark.parametrize(
    "marked",
    [
        "/x?a=1&utm_source=mail&utm_campaign=spring",
        "/x?utm_medium=x&a=1",
        "/x?a=1&gclid=abc",
        "/x?a=1&fbclid=abc",
        "/x?PHPSESSID=0123456789abcdef&a=1",
        "/x;jsessionid=0123ABCD.node1?a=1",
        "/x?a=1&jsessionid=7",
        "/x?sid=0123456789abcdef0123456789abcdef&a=1",
        "/x?a=1&session_id=0123456789abcdef0123456789abcdef",
        "/x?a=1&ASPSESSIONIDABC=XYZ",
        "/(S(lit3py55t21z5v55vlm25s55))/x?a=1",
        "/(X(1)S(lit3py55t21z5v55vlm25s55))/x?a=1",
        "/x?a=1&",
    ],
)
def test_sessions_and_campaigns_make_no_new_page(marked: str) -> None:
    assert fingerprint(SITE + marked) == fingerprint(SITE + "/x?a=1")


@pytest.mark.parametrize(
    "different",
    [
        "/x?a=1&sid=7",
        "/x?a=1&s=shoes",
        "/x?a=1&session=2026",
        "/x;v=2?a=1",
        "/(S(x))/x?a=1",
        "/x?a=1&utm=1",
        "/x?a=1&id=utm_x",
    ],
)
def test_what_only_resembles_a_session_does_make_one(different: str) -> None:
    assert fingerprint(SITE + different) != fingerprint(SITE + "/x?a=1")


# -- sites without end


async def test_a_site_that_goes_deeper_for_ever_ends_soon(crawler: Crawler, site: Site) -> None:
    site.raw("*", html(links("./a/", "./b/")), close=False)
    site.raw("/robots.txt", html("", status="404 No"), close=False)
    run = await crawler.run(source(site, max_depth=100))
    named = [failure for failure in crawler.rows("failures") if failure["reason"] == "crawl_limit"]
    assert run["state"] == "done"
    assert named
    assert all("in the path 4 times" in failure["message"] for failure in named)
    assert not any(fault(site.url + path, YEAR) for path in site.paths())
    assert len(site.paths()) <= sum(2**depth for depth in range(7))
    assert run["pages"] == len(site.paths())


async def test_an_endless_calendar_ends(crawler: Crawler, site: Site) -> None:
    def month(request: Request) -> bytes:
        year, number = map(int, request.path.split("/")[2:4])
        year, number = (year, number + 1) if number < 12 else (year + 1, 1)
        return html(links(f"/calendar/{year}/{number:02}"))

    site.raw("*", month, close=False)
    site.raw("/robots.txt", html("", status="404 No"), close=False)
    run = await crawler.run(source(site, "/calendar/2026/01", max_depth=1000))
    failures = [(failure["reason"], failure["message"]) for failure in crawler.rows("failures")]
    assert (run["state"], len(failures)) == ("done", 1)
    assert failures[0][0] == "crawl_limit"
    assert "calendar page of the year" in failures[0][1]
    assert 24 <= len(site.paths()) <= 120


async def test_sessions_in_links_are_followed_once(crawler: Crawler, site: Site) -> None:
    def answer(request: Request) -> bytes:
        session = hashlib.md5(request.path.encode(), usedforsecurity=False).hexdigest()
        return html(links(f"/?sid={session}", f"/x?sid={session}", f"/y;jsessionid={session}?utm_source={session}"))

    site.raw("*", answer, close=False)
    site.raw("/robots.txt", html("", status="404 No"), close=False)
    run = await crawler.run(source(site))
    assert (run["state"], run["pages"]) == ("done", 3)
