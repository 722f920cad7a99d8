"""Changes as a feed that any reader takes."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from scraper.export import atom
from tests.export.stock import AT

NS = {"a": atom.ATOM}
HERE = "http://127.0.0.1:5000/api/changes.atom?source=shop"


def row(**given: Any) -> dict[str, Any]:
    return {
        "id": 7, "at": AT, "source": "shop", "of": "item", "kind": "book", "change": "changed", "item_id": 1, "page_id": 1,
        "fields": {"price": [10, 12]}, "key": "k1", "url": "http://shop.test/1", "data": {"title": "A book"},
    } | given  # fmt: skip


def parsed(*rows: dict[str, Any]) -> Any:
    return etree.fromstring(atom.feed(rows, "Changes", HERE))


def said(root: Any, path: str) -> list[str]:
    return [str(found if isinstance(found, str) else found.text) for found in root.xpath(path, namespaces=NS)]


def test_a_feed_has_what_rfc_4287_asks_for() -> None:
    root = parsed(row(), row(id=6, at=datetime(2026, 1, 5, tzinfo=UTC), change="created", fields={"price": [None, 10]}))
    assert root.tag == f"{{{atom.ATOM}}}feed"
    for name in ("id", "title", "updated", "author/a:name"):
        assert len(said(root, f"a:{name}")) == 1
    assert said(root, "a:updated") == ["2026-01-06T10:30:00Z"]  # that of the newest
    assert said(root, "a:link[@rel='self']/@href") == [HERE]
    assert said(root, "a:entry/a:title") == ["A book: changed (price)", "A book: created"]
    assert said(root, "a:entry/a:updated") == ["2026-01-06T10:30:00Z", "2026-01-05T00:00:00Z"]
    assert said(root, "a:entry/a:summary") == [
        "shop book k1: changed\nprice: 10 -> 12",
        "shop book k1: created\nprice: nothing -> 10",
    ]
    assert said(root, "a:entry/a:link[@rel='alternate']/@href") == ["http://shop.test/1"] * 2


def test_ids_are_tags_that_stay_and_differ() -> None:
    one, two = said(parsed(row(), row(id=8)), "a:entry/a:id")
    assert one.startswith("tag:bowerbird.invalid,2026:change/shop/7/")
    assert one != two
    moved = parsed(row(data={"title": "New"}, url="http://elsewhere.test/", key="k2"))
    assert said(moved, "a:entry/a:id") == [one]
    assert atom.feed([row()], "Changes", HERE) == atom.feed([row()], "Changes", HERE)


def test_a_feed_without_changes_is_a_feed() -> None:
    root = parsed()
    assert said(root, "a:updated") == ["1970-01-01T00:00:00Z"]
    assert said(root, "a:entry/a:id") == []


@pytest.mark.parametrize("url", ["javascript:alert(1)", "data:text/html,x", "", None, "ftp://shop.test/"])
def test_only_web_addresses_are_links(url: str | None) -> None:
    root = parsed(row(url=url))
    assert said(root, "a:entry/a:link/@href") == []
    assert said(root, "a:entry/a:content") == [
        "shop book k1: changed\nprice: 10 -> 12"
    ]  # without a link it must have content


def test_what_a_site_says_is_text_and_never_markup() -> None:
    evil = "</title><script>alert(1)</script>&evil;\x00\x0b\x1b[31m\ud800\uffff"
    root = parsed(row(data={"title": evil}, fields={evil: [evil, "]]>"]}))
    (title,) = said(root, "a:entry/a:title")
    assert title.startswith("</title><script>alert(1)</script>&evil;[31m")
    assert "]]>" in said(root, "a:entry/a:summary")[0]
    assert {etree.QName(element).localname for element in root.iter()} == {
        "feed", "id", "title", "updated", "author", "name", "generator", "link", "entry", "category", "summary",
    }  # fmt: skip


@given(st.text(alphabet=st.characters(exclude_categories=())), st.text(alphabet=st.characters(exclude_categories=())))
def test_any_text_makes_a_feed_that_can_be_read(title: str, value: str) -> None:
    root = parsed(row(data={"title": title}, key=value, url=f"http://x/{value}", fields={title: [value, title]}))
    assert len(said(root, "a:entry")) == 1


def test_a_long_text_is_cut() -> None:
    root = parsed(row(data={"title": "x" * 10_000}, fields={f"f{n}": ["y" * 10_000, None] for n in range(100)}))
    assert len(said(root, "a:entry/a:title")[0]) < 1000
    assert len(said(root, "a:entry/a:summary")[0]) <= atom.SUMMARY_MOST
