"""Search: what a person types, what a database is asked, and what is found of what was scraped."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, update

from scraper.config.settings import FieldRule, ItemRule, Retention
from scraper.crawl import indexer
from scraper.crawl.indexer import catch_up
from scraper.crawl.store import Store
from scraper.crawl.upkeep import Upkeep
from scraper.database import Db, documents
from scraper.database.connection import now
from scraper.database.models import meta, pages
from scraper.search.query import BadQuery, Query, Term, for_postgres, for_sqlite, parse
from scraper.search.text import pieces, search
from scraper.unspaced import apart, together
from tests.crawl.test_engine import Crawler, links, source
from tests.site import Site, html

AT = datetime(2026, 1, 31, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "sqlite", "postgres"),
    [
        pytest.param("blue bottle", '(("blue") AND ("bottle"))', "('blue') & ('bottle')", id="all words"),
        pytest.param('"blue bottle"', '(("blue bottle"))', "('blue' <-> 'bottle')", id="a phrase"),
        pytest.param("bird*", '(("bird" *))', "('bird':*)", id="a beginning"),
        pytest.param("blue -bottle", '(("blue")) NOT "bottle"', "('blue') & !('bottle')", id="not"),
        pytest.param("blue OR red cap", '(("blue" OR "red") AND ("cap"))', "('blue' | 'red') & ('cap')", id="or"),
        pytest.param("AND NEAR(a b) x'y", '(("AND") AND ("NEAR a") AND ("b") AND ("x y"))', None, id="means nothing"),
    ],
)
def test_what_is_typed_is_asked(text: str, sqlite: str, postgres: str | None) -> None:
    query = parse(text, AT)
    assert for_sqlite(query) == sqlite
    assert postgres in (None, for_postgres(query))


def test_fields_say_where_and_since_when() -> None:
    query = parse('cap source:shop kind:"product" since:7d', AT)
    assert query == Query(((Term(("cap",)),),), (), {"source": "shop", "kind": "product"}, AT - timedelta(days=7))
    assert parse("cap since:2026-01-01", AT).since == datetime(2026, 1, 1, tzinfo=UTC)
    assert parse("price:12", AT).all == ((Term(("price", "12")),),)  # no field of ours


@pytest.mark.parametrize(
    "text",
    ["", "-cap", "source:shop", "cap since:then", "cap of:all", "cap versions:old", "!!!", "a " * 40, "x" * 2000],
)
def test_what_cannot_be_understood_is_said(text: str) -> None:
    with pytest.raises(BadQuery):
        parse(text, AT)


@pytest.fixture
async def shop(crawler: Crawler, site: Site) -> Crawler:
    """A few pages with items, scraped and indexed."""
    site.page("/", links("/1", "/2", "/3"))
    for number, (name, text) in enumerate(
        [("Blue bottle", "Made of <b>glass</b>."), ("Red bottle", "Blåbær &amp; glass cap"), ("Cap", "blue")], 1
    ):
        site.page(f"/{number}", f"<title>T{number}</title><h1>{name}</h1><p>{text}</p><script>hidden</script>")
    await again(crawler, site)
    return crawler


async def again(crawler: Crawler, site: Site) -> None:
    await crawler.run(source(site, item=(ItemRule(fields={"name": FieldRule(css="h1::text")}),)))
    list(catch_up(crawler.db))


def found(db: Db, text: str, **more: Any) -> list[str]:
    rows = db.read(lambda c: search(c, text, now(), **more))
    return [f"{row['of']} {row['url'].rpartition('/')[2]}" for row in rows]


@pytest.mark.databases("sqlite", "postgresql", "pgbouncer")
async def test_pages_and_items_are_found_by_their_words(shop: Crawler) -> None:
    db = shop.db
    assert set(found(db, "blue bottle of:page")) == {"page 1"}
    assert set(found(db, "bottle of:page")) == {"page 1", "page 2"}
    assert set(found(db, "bott* -red of:page")) == {"page 1"}
    assert set(found(db, '"of glass" of:page')) == {"page 1"}
    assert found(db, '"glass of"') == []
    assert set(found(db, "red OR cap of:page")) == {"page 2", "page 3"}
    assert found(db, "hidden") == []
    assert found(db, "bottle source:other") == []
    assert found(db, "bottle", source="other") == []
    assert found(db, "bottle since:2999-01-01") == []
    assert len(found(db, "bottle since:1d")) == len(found(db, "bottle"))
    assert found(db, "t1 of:page") == ["page 1"]
    assert "item 1" in found(db, "blue of:item")


WRITTEN = {
    "zh": "他买了一部iPhone手机和充电器。",
    "ja": "新しいコーヒーメーカーを買いました",
    "th": "ฉันซื้อโทรศัพท์ที่—ใหม่มือถือ",
    "hi": "उसने नया मोबाइल ख़रीदा।",
    "ko": "새 휴대전화를 샀다",
}


@pytest.mark.databases("sqlite", "postgresql", "pgbouncer")
async def test_words_are_found_in_scripts_that_put_no_spaces_between_them(crawler: Crawler, site: Site) -> None:
    site.page("/", links(*(f"/{name}" for name in WRITTEN)))
    for name, text in WRITTEN.items():
        site.page(f"/{name}", f"<meta charset=utf-8><title>{text}</title><h1>{text}</h1>")
    await again(crawler, site)
    wanted = {
        "zh": ("手机", "iphone", "充电器", "手*"),
        "ja": ("コーヒー", "買い"),
        "th": ("โทรศัพท์", "มือถือ", "ซื้อ", "ใหม่"),
    }
    wanted |= {"hi": ("मोबाइल", "ख़रीदा"), "ko": ("휴대전화*", "샀다")}
    for name, words in wanted.items():
        for word in words:
            assert found(crawler.db, f"{word} of:page") == [f"page {name}"], word
    assert found(crawler.db, "机手") == []
    assert found(crawler.db, "手机 -充电器 of:page") == []
    [row] = crawler.db.read(lambda c: search(c, "手机 of:page", now()))
    assert {piece["text"] for piece in row["snippet"] if piece["hit"]} == {"手机"}
    assert "iPhone手机和充电器。" in "".join(piece["text"] for piece in row["snippet"])
    assert row["title"] == WRITTEN["zh"]


@given(st.text())
def test_a_text_is_as_it_was_when_its_words_are_together_again(text: str) -> None:
    assert together(apart(text)) == together(text)
    assert apart(text) == text or not text.isascii()


@pytest.mark.databases("sqlite", "postgresql")
async def test_a_snippet_shows_what_was_meant_and_nothing_of_the_page_counts_as_code(shop: Crawler) -> None:
    [row] = [row for row in shop.db.read(lambda c: search(c, "glass of:page blåbær", now()))]
    assert [piece["text"].lower() for piece in row["snippet"] if piece["hit"]] == ["blåbær", "glass"]
    assert "".join(piece["text"] for piece in row["snippet"]).count("&") == 1


@pytest.mark.databases("sqlite", "postgresql")
async def test_what_changes_is_found_as_it_is_now_and_what_is_gone_is_not(shop: Crawler, site: Site) -> None:
    site.page("/1", "<title>T1</title><h1>Green jar</h1>")
    site.raw("/2", html("gone", status="404 Not Found"), close=False)
    await again(shop, site)
    assert shop.db.read(documents.behind) == 0
    assert set(found(shop.db, "green jar of:page")) == {"page 1"}
    assert found(shop.db, "bottle of:page") == []
    before = shop.db.read(documents.count)
    list(catch_up(shop.db))
    assert shop.db.read(documents.count) == before


@pytest.mark.databases("sqlite", "postgresql", "pgbouncer")
@pytest.mark.parametrize("at_once", [1, 100])
async def test_what_was_is_found_when_asked_for(
    shop: Crawler, site: Site, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(documents, "VERSIONS_AT_ONCE", at_once)
    for name in ("Green jar", "Grey jar", "Black jar"):  # of several changes at once, each is known
        site.page("/1", f"<title>T1</title><h1>{name}</h1>")
        await shop.run(source(site, item=(ItemRule(fields={"name": FieldRule(css="h1::text")}),)))
    site.raw("/2", html("gone", status="404 Not Found"), close=False)
    await again(shop, site)
    assert found(shop.db, "green jar OR bottle of:page") == []
    for words in ("bottle glass", "green jar", "grey jar"):
        assert "page 1" in found(shop.db, f"{words} of:page versions:all")
    assert {"item 1"} == set(found(shop.db, '"blue bottle" OR green of:item versions:all'))
    rows = shop.db.read(lambda c: search(c, "jar of:page versions:all", now()))
    [black] = [row for row in rows if row["version"] is None]
    assert black["until"] is None
    was = sorted((row["at"], row["until"]) for row in rows if row["version"])
    assert [until for _, until in was] == [was[1][0], black["at"]]
    [gone] = shop.db.read(lambda c: search(c, '"red bottle" of:page versions:all', now()))
    assert gone["until"] is not None
    assert gone["version"] is None
    site.page("/2", "<title>T2</title><h1>Red bottle</h1>")
    await again(shop, site)
    assert found(shop.db, '"red bottle" of:page') == ["page 2"]


@pytest.mark.databases("sqlite", "postgresql")
async def test_what_was_is_dropped_with_its_version(shop: Crawler, site: Site) -> None:
    for name in ("Green jar", "Black jar"):
        site.page("/1", f"<title>T1</title><h1>{name}</h1>")
        await again(shop, site)
    store = Store(shop.db, "upkeep")
    await Upkeep(store, Retention(versions=1), lambda: True).prune()
    store.close()
    assert found(shop.db, '"blue bottle" versions:all') == []
    assert set(found(shop.db, "green versions:all")) == {"page 1", "item 1"}


@pytest.mark.databases("sqlite", "postgresql")
async def test_what_retention_drops_is_found_no_more(shop: Crawler, site: Site) -> None:
    site.raw("/3", html("gone", status="404 Not Found"), close=False)
    await again(shop, site)
    assert found(shop.db, "cap blue") == []
    store = Store(shop.db, "upkeep")
    await Upkeep(store, Retention(age=0.001), lambda: True).prune()
    store.close()
    known = {(row["of"], row["id"]) for row in shop.db.read(lambda c: search(c, "bottle OR cap OR x", now()))}
    kept = {("page", row["id"]) for row in shop.rows("pages")} | {("item", row["id"]) for row in shop.rows("items")}
    assert known <= kept


@pytest.mark.databases("sqlite", "postgresql")
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=60))
@example("'\\'\"*:()&|!<->")
@example('"""""')
@example("a\x00b ''':*")
def test_nothing_that_is_typed_breaks_the_database(db: Db, text: str) -> None:
    try:
        query = parse(text, AT)
    except BadQuery:
        return
    expression = for_sqlite(query) if db.is_sqlite else for_postgres(query)
    assert db.read(lambda c: documents.find(c, documents.Asked(expression))) == []


@given(st.lists(st.tuples(st.text(alphabet="ab ", min_size=1, max_size=4), st.booleans()), max_size=6))
def test_a_snippet_is_taken_apart_without_a_loss(parts: list[tuple[str, bool]]) -> None:
    text = "".join(f"{documents.BEGIN}{words}{documents.END}" if hit else words for words, hit in parts)
    made = pieces(text)
    assert "".join(piece["text"] for piece in made) == "".join(words for words, _ in parts)
    assert [piece["text"] for piece in made if piece["hit"]] == [words for words, hit in parts if hit]


@pytest.mark.databases("sqlite", "postgresql")
async def test_a_text_that_no_database_takes_keeps_no_other(
    crawler: Crawler, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.page("/", links("/1", "/2") + "front&#xD800;door \x00")
    site.page("/1", "<p>first</p>")
    site.page("/2", "<p>second</p>")
    good = indexer.words_of
    monkeypatch.setattr(indexer, "words_of", lambda s: "bad \udc80" if s.url.endswith("/1") else good(s))
    await again(crawler, site)
    assert found(crawler.db, "second") == ["page 2"]
    assert found(crawler.db, "xxfront*") == ["page "]
    assert found(crawler.db, "first") == []
    assert crawler.db.read(documents.behind) == 0


async def test_a_stored_body_that_is_damaged_is_as_if_it_were_kept_no_more(shop: Crawler, site: Site) -> None:
    damaged = update(pages).where(pages.c.url.endswith("/1")).values(body=b"\x1f\x8bnothing that could be inflated")
    shop.db.write(lambda c: c.execute(damaged))
    shop.db.write(lambda c: c.execute(delete(meta).where(meta.c.name == documents.CURSOR)))
    list(catch_up(shop.db))
    assert shop.db.read(documents.behind) == 0
    assert "item 1" in found(shop.db, "blue bottle")
    site.page("/1", "<title>T1</title><h1>Green jar</h1>")
    await again(shop, site)
    assert set(found(shop.db, "green jar of:page")) == {"page 1"}
