"""Selectors give what Scrapy's give; values are converted; hostile pages are met."""

import enum
import json
import pickle
from datetime import date, datetime
from typing import Any

import pytest
from babel.dates import format_date, format_datetime
from hypothesis import given
from hypothesis import strategies as st
from parsel import Selector

from scraper import clean
from scraper.config.settings import ItemRule, Source
from scraper.config.shape import build
from scraper.errors import VisitFailed
from scraper.extract import Page, sitemaps
from scraper.extract.charset import decode
from scraper.extract.convert import convert, number
from scraper.extract.reading import Reader
from scraper.extract.select import compiled_css
from scraper.records import Fetched, Manners, Reading

URL = "http://a.org/dir/page"
TODAY = date(2026, 1, 1)


def page(body: str | bytes, kind: str = "text/html; charset=utf-8") -> Page:
    return Page(URL, 200, {"content-type": kind}, body.encode() if isinstance(body, str) else body)


def read(given: Page, source: Source) -> Reading:
    """Read a page by a source's rules."""
    fetched = Fetched(given.url, given.url, given.status, given.headers, given.body, len(given.body), 0.0)
    return Reader(source, Manners("bowerbird", TODAY)).read(fetched, "page")


def items(body: str, kind: str = "text/html; charset=utf-8", **rule: Any) -> list[dict[str, Any]]:
    faults: list[Any] = []
    made = build(ItemRule, rule, (), faults)
    assert made is not None, faults
    source = Source(name="s", start=(URL,), item=(made,))
    return [dict(item.data) for item in read(page(body, kind), source).items]


SHOP = """
<article class=p data-sku=1><h3> A <b>bold</b>  name </h3><p class=price>£1,234.50</p><a class=t>x</a><a class=t>y</a>
<a href="/one">go</a></article>
<article class=p data-sku=2><h3>B</h3><p class=price>free</p></article>
<script type="application/ld+json">{"@graph": [{"@type": "Product", "brand": {"name": "Acme"}}]}</script>
<script type="application/ld+json">not json</script>
"""


def test_words_on_either_side_of_a_line_break_are_two() -> None:
    body = "<p>Main St 5<br>Berlin<!-- x --><br/><b>x</b>y<p>no<i>break</i>"
    assert items(body, select="p", fields={"t": {"css": "p"}}) == [{"t": "Main St 5 Berlin xy"}, {"t": "nobreak"}]


def test_numbers_of_json_keep_their_digits_as_texts_too() -> None:
    body = '{"p": 1.10, "n": 12345678901234567.89}'
    fields = {"s": {"json": "p", "type": "str"}, "r": {"json": "p", "re": "(.*)"}, "i": {"json": "n", "type": "int"}}
    assert items(body, "application/json", fields=fields) == [{"s": "1.10", "r": "1.10", "i": 12345678901234567}]


def test_fields() -> None:
    found = items(
        SHOP,
        select="article.p",
        key=["sku"],
        fields={
            "sku": {"css": "::attr(data-sku)", "type": "int"},
            "name": "h3",
            "text": "h3::text",
            "price": {"css": ".price::text", "type": "decimal", "default": "0"},
            "tags": {"css": "a.t::text", "many": True},
            "link": {"xpath": ".//a/@href", "type": "url"},
            "pence": {"css": ".price::text", "re": r"\.(\d+)", "type": "int"},
            "brand": {"jsonld": "brand.name"},
        },
    )
    assert found == [
        {
            "sku": 1, "name": "A bold name", "text": "A", "price": "1234.50", "tags": ["x", "y"],
            "link": "http://a.org/one", "pence": 50, "brand": "Acme",
        },
        {
            "sku": 2, "name": "B", "text": "B", "price": "0", "tags": [],
            "link": None, "pence": None, "brand": "Acme",
        },
    ]  # fmt: skip


def test_json_pages() -> None:
    body = json.dumps(
        {"data": {"items": [{"id": 1, "n": {"x": "a"}, "ok": True}, {"id": 2, "n": {"x": "b"}, "ok": False}]}}
    )
    fields = {"id": {"json": "id"}, "x": {"json": "n.x"}, "ok": {"json": "ok", "type": "bool"}}
    found = items(body, "application/json", select={"json": "data.items[]"}, key=["id"], fields=fields)
    assert found == [{"id": 1, "x": "a", "ok": True}, {"id": 2, "x": "b", "ok": False}]
    assert items(body, "application/json", fields={"all": {"json": "data.items[].id", "many": True}}) == [
        {"all": [1, 2]}
    ]


SCRIPTS = """
<script id=next type="application/json">{"props": {"products": [{"sku": 1, "price": 9.90}, {"sku": 2, "price": 10}]}}</script>
<script>window["a"] = window.b || 5; (function(){ run({x: 1}) })(); init({}); var q = []; window.__STATE__ = {"name": "A", "of": ["}", 2]};</script>
<div class="p" data-product='{"sku": "x1", "n": {"m": true}}'>t</div><div class="p" data-product="none">u</div>
"""


def test_json_in_scripts_and_attributes() -> None:
    select = {"css": "script#next", "json": "props.products[]"}
    fields = {"sku": {"json": "sku"}, "price": {"json": "price", "type": "decimal"}}
    assert items(SCRIPTS, select=select, key=["sku"], fields=fields) == [
        {"sku": 1, "price": "9.90"},
        {"sku": 2, "price": "10"},
    ]
    more: dict[str, Any] = {
        "name": {"css": "script", "json": "name"},
        "of": {"xpath": "//script[contains(., '__STATE__')]/text()", "json": "of", "many": True},
        "skus": {"css": "div.p::attr(data-product)", "json": "sku", "many": True},
        "flag": {"css": ".p::attr(data-product)", "json": "n.m", "type": "bool"},
        "class": ".p::text",
        "none": {"css": ".p", "json": "x"},
    }
    assert items(SCRIPTS, fields=more) == [
        {"name": "A", "of": ["}", 2], "skus": ["x1"], "flag": True, "class": "t", "none": None}
    ]


@pytest.mark.parametrize(
    "text", ["", "{", "x = {", "= [" * 100, "x = {y: 1}", "[" * 5000, "a = " + "[" * 5000, "<!--", '"x"']
)
def test_what_is_no_json_in_a_script_is_nothing(text: str) -> None:
    assert items(f"<script>{text}</script><p>p", fields={"p": "p", "x": {"css": "script", "json": "x"}}) == [
        {"p": "p", "x": None}
    ]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda of: st.lists(of) | st.dictionaries(st.text(), of)
    )
)
def test_json_that_a_script_assigns_is_read_as_it_is(value: Any) -> None:
    given = page("")
    for text in (
        json.dumps({"a": value}),
        f"window.x = {json.dumps({'a': value})};\nwindow.y = [1]",
        f"f({json.dumps({'a': value})})",
    ):
        assert given.jsons_in(text)[0] == {"a": value}


def test_json_may_stand_beside_css_and_xpath_alone() -> None:
    for rule in (
        {"jsonld": "a", "json": "b"},
        {"css": "a", "xpath": "b", "json": "c"},
        {"css": "a", "jsonld": "c"},
        {},
    ):
        faults: list[Any] = []
        build(ItemRule, {"fields": {"a": rule}}, (), faults)
        assert faults, rule


QUERIES = [
    "a",
    "a::text",
    "a::attr(href)",
    "p a::text",
    "div > a",
    "*::text",
    "li:nth-child(2)::text",
    "p:contains(x)",
    "a[href]",
]
element = st.sampled_from(["a", "p", "div", "li", "b"])
markup = st.recursive(
    st.text("ab <>&\u00e4", max_size=4),
    lambda inner: st.builds(lambda t, c: f'<{t} href="{t}">{"".join(c)}</{t}>', element, st.lists(inner, max_size=4)),
    max_leaves=12,
)


@given(markup, st.sampled_from(QUERIES))
def test_css_gives_what_parsel_gives(body: str, query: str) -> None:
    made = page(body)
    theirs = Selector(text=made.text, type="html").css(query).getall() if made.text.strip() else []
    ours = [
        str(Selector(root=v, type="html").get()) if not isinstance(v, str) else str(v)
        for v in _list(compiled_css(query)(made.root))
    ]
    assert ours == theirs


def _list(found: Any) -> list[Any]:
    assert isinstance(found, list)
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("£51.77", "51.77"), ("1,234.50 USD", "1234.50"), ("1.234,50 €", "1234.50"), ("12,5", "12.5"), ("1,234", "1234"),
        ("1 234 567", "1234567"), ("1'234.5", "1234.5"), ("-3.5 °C", "-3.5"), ("\u22125", "-5"), ("1.234.567", "1234567"),
        ("Only 19 left", "19"), ("0.125", "0.125"), ("5.", "5"),
        ("1.299 €", "1299"), ("ab 1.299 EUR", "1299"), ("12.000 Kč", "12000"), ("R$ 1.299", "1299"), ("50.000₫", "50000"), ("1.299", "1.299"),
        ("$1.299", "1.299"), ("1.799 €/l", "1.799"), ("0.999 €", "0.999"), ("12.99 €", "12.99"), ("1299.000 €", "1299.000"), ("2.500 krems", "2.500"),
        ("IRON 1.250 kg", "1.250"), ("COUNTRY 2.500", "2.500"), ("€1.799/l", "1.799"), ("1.799 € je Liter", "1.799"), ("10.500 kr/kg", "10.500"),
        ("1.299 - 1.499 €", "1299"), ("1.299 Euro", "1299"), ("Kr 1.299", "1299"), ("1.299.-€", "1299"), ("1.299 €/Monat", "1299"), ("-1.299 €", "-1299"),
        ("١٢٣٫٤٥", "123.45"), ("１２８００円", "12800"), ("१२३", "123"),
        ("SKU-123", "123"), ("4 5 stars", "4"), ("1.5e3", "1500"), ("a" + " " * 40_000 + "7", "7"),
    ],
)  # fmt: skip
def test_numbers(text: str, expected: str) -> None:
    assert format(number(text), "f") == expected


@given(st.text(max_size=40), st.sampled_from(["str", "int", "float", "decimal", "bool", "date", "url"]))
def test_conversion_gives_a_value_or_a_value_error(text: str, wanted: str) -> None:
    try:
        value = convert(text, wanted, URL)
    except (ValueError, ArithmeticError):
        return
    json.dumps(value)


LOCALES = (
    *("de", "de_AT", "fr", "fr_CA", "es", "es_MX", "it", "pt", "pt_PT", "nl", "pl", "cs", "sk", "ru", "uk", "sv", "da"),
    *("nb", "hu", "ro", "tr", "el", "lt", "lv", "et", "sl", "id"),
)
WITH_SIGNS = ("ja", "zh")


@pytest.mark.parametrize("locale", [*LOCALES, *WITH_SIGNS])
@pytest.mark.parametrize("month", range(1, 13))
def test_dates_of_other_languages_are_read(locale: str, month: int) -> None:
    """As CLDR has them written."""
    moment = datetime(2025, month, 17, 14, 5, 6)  # noqa: DTZ001  as it stands on a page
    for form in ("medium", "long", "full"):
        said = format_date(moment, form, locale=locale)
        assert convert(said, "date", URL) == moment.date().isoformat(), said
    if locale not in WITH_SIGNS:
        said = format_datetime(moment, "d. MMMM yyyy HH:mm", locale=locale)
        assert convert(said, "date", URL) == f"{moment:%Y-%m-%dT%H:%M}:00", said


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("Freitag, 6. März 2026 um 14:30 Uhr", "2026-03-06T14:30:00"),
        ("vendredi 6 mars 2026 à 14h30", "2026-03-06T14:30:00"),
        ("Publié le 1er mars 2026", "2026-03-01"),
        ("6 mars 2026 kl. 14.30", "2026-03-06T14:30:00"),
        ("12 мая 2026 г. в 14:30", "2026-05-12T14:30:00"),
        ("6 de março de 2026 às 14h", "2026-03-06T14:00:00"),
        ("6. März 2026 14:30 +0100", "2026-03-06T14:30:00+01:00"),
        ("17. 1. 2025", "2025-01-17"),
        ("2025년 3월 5일 수요일", "2025-03-05"),
        ("01.12.2026, 15:45 Uhr", "2026-12-01T15:45:00"),
        ("6 de marzo de 2026, 2:30 p. m.", "2026-03-06T14:30:00"),
        ("on Jan 5, 2024 12:30 am", "2024-01-05T00:30:00"),
        ("8 Απριλίου 2024 2:30 μ.μ.", "2024-04-08T14:30:00"),
        ("6 mars 2026 14:30 -0500", "2026-03-06T14:30:00-05:00"),
        ("6 mars 2026 à 14h30 GMT", "2026-03-06T14:30:00+00:00"),
        ("1 Dec 2026 at 15:45 GMT", "2026-12-01T15:45:00+00:00"),
        ("Mon Nov 10 10:11:12 2025 UTC", "2025-11-10T10:11:12+00:00"),
        ("2026-11-10T10:11:12 1762769472", "2026-11-10T10:11:12"),
        ("/Date(1762769472000)/", "2025-11-10T10:11:12+00:00"),
        ("1762769472.0", "2025-11-10T10:11:12+00:00"),
        ("01-DEC-26", "2026-12-01"),
    ],
)
def test_what_is_said_around_a_date_is_left_out(said: str, meant: str) -> None:
    assert convert(said, "date", URL) == meant


@pytest.mark.parametrize(
    "said",
    [
        *("6 mars 2026 et 7 avril 2026", "5 days ago", "3 out of 2026", "30. Februar 2026", "6. März 2026, 10–12 Uhr"),
        *("6. März 2026 14:30 MEZ", "6. März 2026, 10:00–12:00", "Jan 5, 2024 2:30 PM EST", "8 Nisan 2024 ÖS 2:30"),
        *("September 5, 2024 2:30 PM ET", "8 août 2024 il y a 3h"),
    ],
)
def test_what_is_no_date_in_other_languages_is_none(said: str) -> None:
    with pytest.raises(ValueError, match="no date that is understood"):
        convert(said, "date", URL)


@pytest.mark.parametrize(
    ("said", "meant"),
    [("125.000 km", 125000), ("1.234 Bewertungen", 1234), ("1.234.567", 1234567), ("3.5", 3), ("0.125", 0)],
)
def test_a_whole_number_has_no_decimals(said: str, meant: int) -> None:
    assert convert(said, "int", URL) == meant


def test_dates_and_words() -> None:
    assert convert(0.00001234, "decimal", URL) == "0.00001234"
    assert convert(1e22, "decimal", URL) == "10000000000000000000000"
    assert convert(True, "str", URL) == "true"
    assert convert("2026-01-02", "date", URL) == "2026-01-02"
    assert convert("2 January 2026", "date", URL) == "2026-01-02"
    assert convert("Tue, 06 Jan 2026 10:30:00 GMT", "date", URL) == "2026-01-06T10:30:00+00:00"
    assert convert("Tue Jan  6 10:30:00 2026", "date", URL) == "2026-01-06T10:30:00"
    assert convert("Jan 6, 2026 10:30 PM", "date", URL) == "2026-01-06T22:30:00"
    assert convert("6 Jan 2026 12:30 a.m.", "date", URL) == "2026-01-06T00:30:00"
    assert convert("06/01/2026, 9:30", "date", URL) == "2026-01-06T09:30:00"
    with pytest.raises(ValueError, match="no date that is understood"):  # a zone that nobody knows
        convert("Tue, 6 Jan 2026 10:30 CET", "date", URL)
    assert convert("Yes", "bool", URL) is True
    assert convert("0", "bool", URL) is False
    assert convert("../x", "url", URL) == "http://a.org/x"


@pytest.mark.parametrize(
    ("body", "kind", "expected"),
    [
        (b"\xef\xbb\xbfa\xc3\xa4", "text/html; charset=latin1", "a\u00e4"),
        (b"a\xe4", "text/html; charset=latin1", "a\u00e4"),
        (b"\x80", "text/html; charset=iso-8859-1", "\u20ac"),
        (b'<meta charset="koi8-r">\xc1', "text/html", '<meta charset="koi8-r">\u0430'),
        (b"<meta http-equiv=content-type content='text/html; charset=shift_jis'>\x82\xa0", "", None),
        ("\u00e4".encode("utf-16"), "text/html", "\u00e4"),
        (b"a\xe4", "text/html", "a\u00e4"),
        (b"\xc3\xa4", "text/html; charset=nonsense", "\u00e4"),
        (b"a\x00b", "text/html", "ab"),
        # Encoding standard: index jis0208, and one decoder for GBK and gb18030.
        (b"\xad\xa1\xb0\xa1", "text/html; charset=euc-jp", "\u2460\u4e9c"),
        (b"\xa1\xc1\x8e\xb1\x8f\xb0\xa1", "text/html; charset=euc-jp", "\uff5e\uff71\u4e02"),
        (b"a\xa4<b>\xa9\xa1", "text/html; charset=euc-jp", "a\ufffd<b>\ufffd"),
        (b"\xa2\xe3\x80\x81\x30\x89\x38", "text/html; charset=gbk", "\u20ac\u20ac\u00df"),
        (b"\xa2\xe3", "text/html; charset=gb2312", "\u20ac"),
    ],
)
def test_charsets(body: bytes, kind: str, expected: str | None) -> None:
    text = decode(body, kind)
    assert text == expected if expected is not None else text.endswith("\u3042")


@given(st.binary(max_size=300), st.sampled_from(["text/html", "text/html; charset=utf-16", "text/html; charset=gbk"]))
def test_any_bytes_are_a_page(body: bytes, kind: str) -> None:
    made = page(body, kind)
    source = Source(name="s", start=(URL,), follow=True)
    reading = read(made, source)
    json.dumps([reading.title, [link.url for link in reading.links]], ensure_ascii=False).encode()
    made.text.encode()


def test_links() -> None:
    body = (
        '<base href="/base/"><a href="x">1</a><a href="x#y">2</a><a href=" /z ">3</a><area href="m"><a href="f.pdf">4</a>'
        '<a href="http://b.org/">5</a><a href="javascript:x()">6</a><a href="http://[">7</a><nav><a href="n">8</a></nav>'
    )
    source = Source(name="s", start=(URL,), follow=True)
    found = [link.url for link in read(page(body), source).links]
    assert found == ["http://a.org/base/x", "http://a.org/z", "http://a.org/base/m", "http://a.org/base/n"]
    for follow in (("nav",), ("nav a",), ("nav a::attr(href)",)):
        source = Source(name="s", start=(URL,), follow=follow)
        assert [link.url for link in read(page(body), source).links] == ["http://a.org/base/n"]


def test_hostile_pages_end() -> None:
    source = Source(name="s", start=(URL,), follow=True)
    with pytest.raises(VisitFailed) as caught:
        read(page("<div>" * 100_000 + "x"), source)
    assert caught.value.failure == "parse_limit"
    for body in (
        "<div>" * 200 + "x",
        "<a href=x></a>" * 50_000,
        "<" * 100_000,
        "<title>" + "x" * 100_000,
        "&" * 100_000,
    ):
        read(page(body), source)
    with pytest.raises(VisitFailed):
        page("[" * 100_000, "application/json").json()


@given(st.binary(max_size=300))
def test_a_sitemap_of_any_bytes_ends(body: bytes) -> None:
    try:
        sitemaps.listing(page(body, "application/xml"), TODAY)
    except VisitFailed:
        return


def test_sitemap_entities_are_not_expanded() -> None:
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">' + "".join(
        f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    )
    found = sitemaps.listing(
        page(f"{bomb}]><urlset><url><loc>http://a.org/&i;</loc></url></urlset>", "text/xml"), TODAY
    ).links
    assert sum(len(link.url) for link in found) < 1000


def test_what_stands_after_the_end_of_the_document_is_of_it() -> None:
    """HTML standard, section 13.2.6.4.20: read as if it stood in the body."""
    whole = (
        "<html><head><title>a</title></head><body><h1>a</h1></body></html><!-- c --><div><a href=/1>x</a></div>text"
        "<html><head><title>b</title></head><body><p><a href=/2>y</a></p></body></html><a href=/3>z</a>"
    )
    made = page(whole)
    assert made.css("a::attr(href)").getall() == made.xpath("//a/@href").getall() == ["/1", "/2", "/3"]
    assert made.title == "a"
    late = page("<html><body>a</body></html>Price: 5 <p>b</p><html><body>more <i>c</i></body></html>end")
    assert "".join(late.xpath("//body//text()").getall()) == "aPrice: 5 bmore cend"
    found = read(page(whole), Source(name="s", start=(URL,), follow=True))
    assert [link.url for link in found.links] == [f"http://a.org/{n}" for n in (1, 2, 3)]


def test_json_numbers_keep_their_digits() -> None:
    text = '{"a": 12345678901234567890.05, "b": 0.12345678901234567890123, "c": 1.50, "d": 1e-999999, "e": 2.5}'
    fields = {n: {"json": n, "type": "decimal"} for n in "abcd"} | {"e": {"json": "e"}}
    (found,) = items(text, "application/json", fields=fields)
    assert found == {
        "a": "12345678901234567890.05",
        "b": "0.12345678901234567890123",
        "c": "1.50",
        "d": "0.0",
        "e": 2.5,
    }
    assert type(found["e"]) is float
    most = {"json": "max([c, e])"}
    (found,) = items(text, "application/json", fields={"m": most, "n": most | {"type": "decimal"}})
    assert found == {"m": 2.5, "n": "2.5"}
    assert type(page(text, "application/json").json()["c"]) is float  # what a parser of a user's gets


def test_jsonld_with_line_ends_in_its_texts_is_read() -> None:
    text = '<script type="Application/LD+JSON; charset=utf-8">{"@type": "A", "text": "one\ntwo"}</script>'
    assert page(text).jsonld == [{"@type": "A", "text": "one\ntwo"}]


def test_values_are_plain() -> None:
    """What a user's parser yields must not bring its page, nor a library of the user's, into another process."""

    class Size(enum.IntEnum):
        BIG = 3

    soup = page("<title>T</title>" + "<li><a href=/p>p</a></li>" * 500).soup
    assert soup.title is not None
    given = {"title": soup.title.string, soup.title.string: 1, "tag": soup.title, "size": Size.BIG, "yes": True}
    made = clean.value(given)
    assert made == {"title": "T", "T": 1, "tag": "<title>T</title>", "size": 3, "yes": True}
    assert {type(v) for v in made.values()} == {str, int, bool}
    assert len(pickle.dumps(made)) < 200
    with pytest.raises(ValueError, match="4000 digits"):
        clean.value(10**5000)


def test_links_that_are_left_out_are_told() -> None:
    told = [("http://a.org/10000", "more than 10000 links on one page")]
    for count, refused in ((10_000, []), (10_005, told)):
        many = "".join(f"<a href=/{n}>x</a>" for n in range(count))
        found = read(page(many), Source(name="s", start=(URL,), follow=True))
        assert len(found.links) == 10_000
        assert list(found.refused) == refused


def sitemap_of(body: bytes) -> list[str]:
    found = sitemaps.listing(Page("http://a.org/s.xml", 200, {"content-type": "text/xml"}, body), TODAY).links
    return [link.url for link in found]


def test_sitemaps_as_they_are_found() -> None:
    locs = (
        b"<urlset><url><loc>http://a.org/shop?cat=1&page=2&copy=3&amp;z=1</loc></url>"
        b"<url><loc><![CDATA[http://a.org/x?a=1&b=2]]></loc></url></urlset>"
    )
    expected = ["http://a.org/shop?cat=1&page=2&copy=3&z=1", "http://a.org/x?a=1&b=2"]
    for before in (b"", b"\xef\xbb\xbf\n", b"\n", b"Warning: foo() in bar.php on line 3\n", b"<?xml version='1.0'?>"):
        assert sitemap_of(before + locs) == expected
    wide = b"<?xml version='1.0' encoding='utf-16'?>" + locs
    for way in ("utf-16", "utf-16-le", "utf-16-be"):
        assert sitemap_of(wide.decode().encode(way)) == expected
    with pytest.raises(VisitFailed, match="an HTML page"):
        sitemap_of(b"<!DOCTYPE html><html><body>Not here</body></html>")
    assert sitemap_of(b"<urlset></urlset>") == []
    assert sitemap_of(b"<urlset>" + b"<![CDATA[" * 100_000 + b"&" * 100_000) == []


def test_a_page_of_json_leads_to_the_addresses_that_it_names_in_full() -> None:
    body = json.dumps(
        {"next": "http://a.org/api?page=2", "of": [{"self": "/x", "img": "http://a.org/p.png"}, "http://b.org/"]}
    )
    given = page(body, "application/json")
    for follow, urls in ((True, ["http://a.org/api?page=2"]), (("a",), []), (False, [])):
        found = read(given, Source(name="s", start=(URL,), follow=follow))
        assert [link.url for link in found.links] == urls
    assert read(page("{", "application/json"), Source(name="s", start=(URL,), follow=True)).links == ()


def test_the_canonical_address_is_followed_only_where_every_link_is() -> None:
    given = page('<link rel=canonical href="/own"><a href="/other">x</a>')
    urls = {
        follow: [link.url for link in read(given, Source(name="s", start=(URL,), follow=follow)).links]
        for follow in (True, ("a",))
    }
    assert urls == {True: ["http://a.org/other", "http://a.org/own"], ("a",): ["http://a.org/other"]}
