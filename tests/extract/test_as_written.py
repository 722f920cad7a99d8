"""Pages as people write them: what browsers, search engines and Scrapy make of them, we do."""

import json
import time
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from typing import Any
from urllib.parse import urlsplit

import pytest
from parsel import Selector

from scraper.config.settings import Expression, FieldRule, ItemRule
from scraper.errors import VisitFailed
from scraper.extract.convert import convert, number
from scraper.extract.forms import form_with
from scraper.extract.items import by_parser, by_rules
from scraper.extract.links import Linker
from scraper.extract.page import Page
from scraper.extract.sitemaps import listing
from scraper.records import Item, Link
from scraper.urls import Scope

URL = "http://a.org/folder/page.html"


def page(body: str | bytes, kind: str = "text/html; charset=utf-8", url: str = URL) -> Page:
    octets = body if isinstance(body, bytes) else body.encode()
    return Page(url, 200, {"content-type": kind}, octets)


def links(made: Page, linker: Linker | None = None) -> list[str]:
    linker = linker or Linker(Scope.around([URL]), 2026, polite=True)
    return [link.url for link in linker.followed(made, True)[0]]


@pytest.mark.parametrize("filling", [1000, 1100, 5000, 60_000])
def test_a_charset_that_is_told_late_counts_where_it_is_no_utf_8(filling: int) -> None:
    text = "\u041f\u0440\u0438\u0432\u0435\u0442"
    head = f"<!--{'x' * filling}--><script>1</script><meta charset=windows-1251>"
    late = page(f"{head}<title>{text}</title>".encode("cp1251"), "text/html")
    assert late.title == text
    assert page(f"{head}<title>{text}</title>", "text/html").title == text  # and UTF-8 is UTF-8 whatever it says late


@pytest.mark.parametrize(("label", "codec"), [("cp932", "cp932"), ("CP949", "cp949"), ("cp936", "gbk")])
def test_a_charset_by_its_name_on_windows_is_understood(label: str, codec: str) -> None:
    text = "\u4e2d\u6587" if codec != "cp949" else "\ud55c\uae00"
    assert page(f"<title>{text}</title>".encode(codec), f"text/html; charset={label}").title == text


@pytest.mark.parametrize(
    ("codec", "asked"),
    [
        ("gbk", "%D6%D0"),
        ("euc-jp", "%C3%E6"),
        ("big5", "%A4%A4"),
        ("iso-8859-1", "%26%2320013%3B"),
        ("utf-8", "%E4%B8%AD"),
    ],
)
def test_a_query_goes_in_the_encoding_of_its_page(codec: str, asked: str) -> None:
    reference = "s?q=\u4e2d&r=a#\u4e2d"
    body = f'<a href="{reference}">x</a>'.encode(codec, "xmlcharrefreplace")
    made = page(body, f"text/html; charset={codec}")
    assert links(made) == [f"http://a.org/folder/s?q={asked}&r=a"]


@pytest.mark.parametrize("blank", [" ", "\n  ", "\t", "\x01"])
def test_blanks_around_a_reference_do_not_count(blank: str) -> None:
    linker = Linker(Scope.around([URL]), 2026, polite=True)
    found = [
        links(page(f'<a href="{blank}?page=2{blank}">x</a>', url=f"http://a.org/{name}"), linker) for name in ("a", "b")
    ]
    assert found == [["http://a.org/a?page=2"], ["http://a.org/b?page=2"]]


def test_a_scheme_without_a_host_leads_from_its_own_page() -> None:
    linker = Linker(Scope.around([URL]), 2026, polite=True)
    found = [links(page('<a href="http:?page=2">x</a>', url=f"http://a.org/{name}"), linker) for name in ("a", "b")]
    assert found == [["http://a.org/a?page=2"], ["http://a.org/b?page=2"]]


@pytest.mark.parametrize("base", ["javascript:void(0)", "data:,", "mailto:a@b.org"])
def test_a_base_that_is_no_place_is_none(base: str) -> None:
    assert links(page(f'<base href="{base}"><a href="x.html">x</a>')) == ["http://a.org/folder/x.html"]


def test_a_base_for_those_without_scripts_is_not_for_us() -> None:
    body = '<noscript><base href="/elsewhere/"></noscript><a href="x.html">x</a>'
    assert links(page(body)) == ["http://a.org/folder/x.html"]


def test_frames_are_followed() -> None:
    body = '<frameset cols="1,2"><frame src="menu.html"><frame src="main.html"></frameset>'
    assert links(page(body)) == ["http://a.org/folder/menu.html", "http://a.org/folder/main.html"]


def test_nofollow_is_a_word() -> None:
    body = '<a rel="NoFollow noopener" href="a">x</a><a rel="nofollowed" href="b">x</a>'
    assert links(page(body)) == ["http://a.org/folder/b"]


@pytest.mark.parametrize(
    "content", ["noindex nofollow", "noindex;nofollow", "NOINDEX,nofollow", " noindex , nofollow "]
)
def test_what_robots_are_asked_may_be_set_apart_in_any_way(content: str) -> None:
    assert {"noindex", "nofollow"} <= page(f'<meta name=robots content="{content}">').robots("me")
    headers = {"content-type": "text/html", "x-robots-tag": content}
    assert {"noindex", "nofollow"} <= Page(URL, 200, headers, b"x").robots("me")


@pytest.mark.parametrize(
    ("content", "target"),
    [
        ("0;url=/x", "http://a.org/x"),
        ("0; URL = '/x'y", "http://a.org/x"),
        ('5,"/x"y', "http://a.org/x"),
        (".5 /x", "http://a.org/x"),
        ("0.5.5;url=/x", "http://a.org/x"),
        ("1;urn", "http://a.org/folder/urn"),
        ("0;url=", None),
        ("0", None),
        ("x;url=/x", None),
        ("0x;url=/x", None),
        ("6;url=/x", None),
        ("99999999999;url=/x", None),
        ("", None),
    ],
)
def test_a_refresh_is_read_as_browsers_do(content: str, target: str | None) -> None:
    made = page(f"""<meta http-equiv=refresh content="{content.replace('"', "&quot;")}">""")
    assert made.refresh == target


def test_a_refresh_in_the_header_is_obeyed_as_browsers_do() -> None:
    made = Page("http://a/b/", 200, {"content-type": "text/html", "refresh": "0; url=c"}, b"<base href=http://z/>")
    assert made.refresh == "http://a/b/c"
    assert Page("http://a/", 200, {"content-type": "text/html", "refresh": "60; url=/c"}, b"x").refresh is None


def test_a_refresh_of_blanks_takes_no_time() -> None:
    began = time.process_time()
    assert page(f'<meta http-equiv=refresh content="{" " * 100_000}">x').refresh is None
    assert page(f'<meta http-equiv=refresh content="1{" ;" * 50_000}">x').refresh is None  # too long for an address
    assert time.process_time() - began < 5


def test_a_refresh_for_those_without_scripts_is_not_for_us() -> None:
    assert page('<noscript><meta http-equiv=refresh content="0;url=/enable"></noscript>').refresh is None


@pytest.mark.parametrize(
    "script",
    [
        '//<![CDATA[\n{"name": "x"}\n//]]>',
        '/*<![CDATA[*/{"name": "x"}/*]]>*/',
        '<!-- {"name": "x"} -->',
        '{"name": "x"} // a comment',
        '{"name": "x",}',
        '{"name": "x"};',
        '\ufeff{"name": "x"}',
        '[[{"name": "x"}]]',
        '{"@graph": [{"name": "x"},]}',
        '{"@graph": {"name": "x"}}',
    ],
)
def test_json_ld_that_is_nearly_json_is_read(script: str) -> None:
    assert page(f'<script type="application/ld+json">{script}</script>').jsonld == [{"name": "x"}]


def test_lists_in_json_ld_may_be_nested_and_keep_their_order() -> None:
    deep = "[" * 700 + "1" + "]" * 700
    found = page(f'<script type="application/ld+json">[[1, [2, 3]], {deep}, [], 4]</script>').jsonld
    assert found == [1, 2, 3, 1, 4]


def test_texts_in_json_ld_are_left_as_they_are() -> None:
    script = '{"url": "http://a.org/*x*/y,]", "say": "// no \\" comment ,}",}'
    found = page(f'<script type="application/ld+json">{script}</script>').jsonld
    assert found == [{"url": "http://a.org/*x*/y,]", "say": '// no " comment ,}'}]


def test_the_title_of_an_icon_is_none_of_the_page() -> None:
    assert page("<svg><title>close</title></svg><p>x").title is None


def test_the_canonical_link_is_told_in_any_case() -> None:
    assert page('<link rel="Canonical" href="/own">').canonical == "http://a.org/own"


def test_headers_are_asked_for_in_any_case() -> None:
    headers = page("x").headers
    assert headers["Content-Type"] == headers["content-type"] == headers.get("CONTENT-TYPE")
    assert "Content-Type" in headers
    assert headers.get("X-None", "y") == "y"
    with pytest.raises(KeyError):
        headers["X-None"]


FEED = '<rss version="2.0"><channel><item>{}</item></channel></rss>'


@pytest.mark.parametrize(
    ("body", "urls"),
    [
        (FEED.format("<guid>http://a.org/1</guid>"), ["http://a.org/1"]),
        (FEED.format("<guid>http://a.org/1</guid><link>http://a.org/2</link>"), ["http://a.org/2"]),
        (FEED.format('<guid isPermaLink="false">http://a.org/1</guid>'), []),
        (FEED.format("<guid>tag:1</guid>"), []),
        ("<urlset><url><loc>http://a.org/<!-- c -->1</loc></url></urlset>", ["http://a.org/1"]),
        (
            '<feed xml:base="/blog/"><entry><link href="1"/></entry><entry xml:base="/x/y"><link href="2"/></entry></feed>',
            ["http://a.org/blog/1", "http://a.org/x/2"],
        ),
        ("Sitemap: /map.xml # the main one\nSitemap: /a#b", ["http://a.org/map.xml", "http://a.org/a"]),
    ],
)
def test_what_feeds_and_sitemaps_name(body: str, urls: list[str]) -> None:
    url = "http://a.org/robots.txt" if body.startswith("Sitemap") else "http://a.org/feed"
    made = page(body, "text/plain" if body.startswith("Sitemap") else "application/xml", url)
    assert [link.url for link in listing(made, date(2026, 1, 1)).links] == urls


@pytest.mark.parametrize(
    ("label", "body"),
    [
        ("gb2312", "镕 ".encode("gbk") + b"\x80"),
        ("euc-kr", "됬".encode("cp949")),
        ("Shift_JIS", "①髙".encode("cp932")),
        ("us-ascii", "é".encode()),
        ("utf-16", "é".encode()),
        ("utf-8", b"\xe9"),
        ("windows-1252", b"\x81\xe9"),
        ("no-such-thing", "é".encode()),
    ],
)
def test_a_feed_is_read_whole_whatever_its_encoding_lacks(label: str, body: bytes) -> None:
    head = f'<?xml version="1.0" encoding="{label}"?><rss><channel>'.encode()
    one = b"<item><title>%s</title><link>http://a.org/%d</link></item>"
    made = page(head + one % (body, 1) + one % (body, 2) + b"</channel></rss>", "application/rss+xml", "http://a.org/f")
    assert [link.url for link in listing(made, date(2026, 1, 1)).links] == ["http://a.org/1", "http://a.org/2"]


def test_the_header_says_the_encoding_of_a_feed_too() -> None:
    body = "<rss><channel><item><link>http://a.org/é</link></item></channel></rss>".encode("latin-1")
    made = page(body, "text/xml; charset=iso-8859-1", "http://a.org/f")
    assert [link.url for link in listing(made, date(2026, 1, 1)).links] == ["http://a.org/%C3%A9"]


def test_a_change_counts_before_a_birth() -> None:
    entry = '<entry><link href="/1"/><published>2020-01-01T00:00:00Z</published><updated>2024-05-05T00:00:00Z</updated></entry>'
    (link,) = listing(page(f"<feed>{entry}</feed>", "application/atom+xml", "http://a.org/f"), date(2026, 1, 1)).links
    assert link.modified_at == datetime(2024, 5, 5, tzinfo=UTC)


@pytest.mark.parametrize("late", ["\r\n\x1a", "&#8;x", "\ufffe", "<html>\x0cx</html>"])
def test_letters_that_xml_does_not_know_after_the_end_cost_no_page(late: str) -> None:
    assert links(page(f'<html><body><a href="/next">n</a></body></html>{late}')) == ["http://a.org/next"]


def json_feed(items: object, **more: object) -> tuple[Link, ...]:
    text = json.dumps({"version": "https://jsonfeed.org/version/1.1", "items": items, **more})
    return listing(page(text, "application/feed+json", "http://a.org/feed.json"), date(2026, 1, 9)).links


def test_a_json_feed_is_one_too() -> None:
    first, second = json_feed(
        [{"id": 1, "url": "/1", "date_published": "2026-01-08T10:00:00Z"}, {"external_url": "http://b.org/2"}, 7, {}]
    )
    assert (first.url, first.priority, first.modified_at) == ("http://a.org/1", 4, datetime(2026, 1, 8, 10, tzinfo=UTC))
    assert (second.url, second.priority, second.modified_at) == ("http://b.org/2", 0, None)
    assert json_feed([], next_url="/feed.json?page=2") == (Link("http://a.org/feed.json?page=2", "sitemap"),)


@pytest.mark.parametrize("items", [None, "x", [[]], [{"url": 7}], {"url": "/1"}])
def test_a_json_feed_of_anything_names_nothing(items: object) -> None:
    assert json_feed(items) == ()


async def yields(page: Page) -> AsyncIterator[dict[str, int]]:
    yield {"a": 1}


async def returns(page: Page) -> list[dict[str, int]]:
    return [{"a": 1}]


@pytest.mark.parametrize("parser", [yields, returns])
def test_a_parser_that_is_async_is_told_to_be_a_plain_one(parser: Any) -> None:
    with pytest.raises(VisitFailed, match="def in place of async def"):
        by_parser(page("x"), parser)


def test_a_form_sends_what_a_browser_would() -> None:
    form = form_with(
        page(
            "<form action=/in method=post><input name=user><input name=password type=password><input type=hidden name=csrf value=t>"
            "<select name=lang><option value=en>English<option selected>Deutsch</select><select name=site><option value=1>a<option>b</select>"
            "<select name=none></select><textarea name=note>so <!-- x -->it is</textarea><input type=checkbox name=keep checked>"
            "<input type=checkbox name=spam><input name=off value=x disabled><input type=radio name=r value=1><input type=radio name=r value=2 checked>"
            "<button name=do value=login>Log in</button><button name=do value=register>Register</button><input type=reset name=z></form>"
        ),
        ("user", "password"),
    )
    assert form is not None
    assert (form.action, form.method) == ("http://a.org/in", "POST")
    assert dict(form.fields) == {"user": "", "password": "", "csrf": "t", "lang": "Deutsch", "site": "1"} | {
        "note": "so <!-- x -->it is",
        "keep": "on",
        "r": "2",
        "do": "login",
    }


@pytest.mark.parametrize(
    ("yields", "keys"),
    [
        (lambda _: {"a": 1}, ["http://a.org/x"]),
        (lambda _: Item("book", "k", {"a": 1}), ["k"]),
        (lambda _: [None, {"a": 1}], ["http://a.org/x"]),
        (lambda _: ["/next", "/other", {"a": 1}, "/more", {"a": 2}], ["http://a.org/x", "http://a.org/x#1"]),
        (lambda _: [Item("book", "", {"a": 1}), Item("book", None, {"a": 1})], []),  # type: ignore[arg-type]
    ],
    ids=["one dict", "one item", "nothing among others", "links among items", "without a key"],
)
def test_items_of_a_parser_are_told_apart_by_what_they_are(yields: Any, keys: list[str]) -> None:
    found, _ = by_parser(Page("http://a.org/x", 200, {}, b""), yields)
    assert [item.key for item in found] == keys


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (b"abc", "abc"),
        (Link("http://a.org/"), {"url": "http://a.org/", "kind": "page", "priority": 0, "modified_at": None}),
        (Selector("<b>x</b>").css("b"), ["<b>x</b>"]),
        (iter([1]), None),
        (object(), None),
    ],
    ids=["bytes", "dataclass", "selectors", "iterator", "object"],
)
def test_what_json_has_not_is_kept_as_what_it_holds_or_refused(given: Any, kept: Any) -> None:
    def parser(_: Page) -> Any:
        yield {"a": given}

    if kept is None:
        with pytest.raises(VisitFailed, match="of a kind that JSON has not"):
            by_parser(Page("http://a.org/x", 200, {}, b""), parser)
        return
    found, _ = by_parser(Page("http://a.org/x", 200, {}, b""), parser)
    assert found[0].data == {"a": kept}


def test_each_json_ld_object_is_asked_by_itself() -> None:
    script = b'<script type="application/ld+json">[{"name": "A", "sku": "1"}, {"name": "B", "sku": "2"}]</script>'
    rule = ItemRule(
        select=Expression(jsonld="@"), key=("sku",), fields={n: FieldRule(jsonld=n) for n in ("name", "sku")}
    )
    found = by_rules(Page("http://a.org/x", 200, {"content-type": "text/html"}, script), (rule,))
    assert [item.data for item in found] == [{"name": "A", "sku": "1"}, {"name": "B", "sku": "2"}]


def test_rules_without_kind_and_key_do_not_name_each_others_items() -> None:
    rules = tuple(ItemRule(fields={name: FieldRule(css=name)}) for name in ("h1", "h2"))
    found = by_rules(Page("http://a.org/x", 200, {"content-type": "text/html"}, b"<h1>a</h1><h2>b</h2>"), rules)
    assert [(item.key, item.data) for item in found] == [
        ("http://a.org/x", {"h1": "a"}),
        ("http://a.org/x#1.0", {"h2": "b"}),
    ]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("12.990 Ft", "12990"),
        ("5.125 ft", "5.125"),
        ("1.299 lei", "1299"),
        ("1.299 euros", "1299"),
        ("1.299 złotych", "1299"),
        ("1.299 kroner", "1299"),
        ("150.000 VNĐ", "150000"),
        ("150.000 đồng", "150000"),
        ("COP 45.900", "45900"),
        ("₲ 150.000", "150000"),
        ("₡12.500", "12500"),
        ("2.350 €/m²", "2350"),
        ("1,849 €/l", "1.849"),
        ("1.849 € par litre", "1.849"),
        ("1.849 €/100 ml", "1.849"),
        ("1.234 €/m³", "1.234"),
        ("5.000.-", "5000"),
        ("CHF 5.000.–", "5000"),
        ("12€99", "12.99"),
        ("1\xad299", "1299"),
        ("1,849 $/kg", "1849"),
        ("1.500,-", "1500"),
        ("19.90", "19.90"),
        ("€ 1.299", "1299"),
        ("1.799 €/kg", "1.799"),
        ("1,299.00 €", "1299.00"),
    ],
)
def test_prices_are_read_as_their_country_writes_them(text: str, found: str) -> None:
    assert str(number(text)) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("2024-05-12 10:30:00 UTC", "2024-05-12T10:30:00+00:00"),
        ("2024-5-2", "2024-05-02"),
        ("12-05-2024", "2024-05-12"),
        ("2024.05.12", "2024-05-12"),
        ("2024年5月12日", "2024-05-12"),
        ("May 12 2024", "2024-05-12"),
        ("May 12th, 2024", "2024-05-12"),
        ("Sunday, May 12, 2024", "2024-05-12"),
        ("Sun, 12 May 2024", "2024-05-12"),
        ("Sept. 12, 2024", "2024-09-12"),
        ("Dec. 5, 2024", "2024-12-05"),
        ("12.05.24", "2024-05-12"),
        ("2024-05-12t10:30:00z", "2024-05-12T10:30:00+00:00"),
        ("Sun, 12 May 2024 10:30:00 +0200", "2024-05-12T10:30:00+02:00"),
        ("May 12, 2024 at 3:05 PM", "2024-05-12T15:05:00"),
        ("١٢/٠٥/٢٠٢٤", "2024-05-12"),
        ("12 May 2024", "2024-05-12"),
        ("September 3, 2024", "2024-09-03"),
        ("20240512", "2024-05-12"),
        ("Monday 3rd March 2025", "2025-03-03"),
        ("2024-05-12T10:30:00.123Z", "2024-05-12T10:30:00.123000+00:00"),
    ],
)
def test_dates_are_read_as_people_write_them(text: str, found: str) -> None:
    assert convert(text, "date", "") == found


def test_a_notice_before_a_feed_is_none_of_it() -> None:
    body = "<br />\n<b>Notice</b>: Undefined x in <b>/y.php</b><br />\n<?xml version='1.0'?><rss><channel><item><link>http://a.org/1</link></item></channel></rss>"
    assert [link.url for link in listing(page(body, "text/xml", "http://a.org/f"), date(2026, 1, 1)).links] == [
        "http://a.org/1"
    ]


@pytest.mark.parametrize("head", ["<!DOCTYPE html>", "<!doctype html>", "<html>"])
def test_a_page_of_html_is_said_to_be_no_sitemap(head: str) -> None:
    with pytest.raises(VisitFailed, match="HTML page"):
        listing(page(f"{head}<p>Not<br>found", "text/xml", "http://a.org/f"), date(2026, 1, 1))


def test_a_field_with_an_address_is_in_the_encoding_of_its_page() -> None:
    made = page('<a href="?q=\u043f">x</a>'.encode("cp1251"), "text/html; charset=windows-1251", "http://a.org/")
    rule = ItemRule(fields={"u": FieldRule(css="a::attr(href)", type="url")})
    assert by_rules(made, (rule,))[0].data == {"u": "http://a.org/?q=%EF"}


USER = "<input name=u><input name=p type=password>"


@pytest.mark.parametrize(
    ("form", "sent"),
    [
        (f"{USER}<input type=submit value=In><input type=submit name=forgot value=F>", "POST /in u=&p="),
        (f"{USER}<button>In</button><button name=cancel value=1>Cancel</button>", "POST /in u=&p="),
        (f"{USER}<button name=a disabled>A</button><button name=b value=1>B</button>", "POST /in u=&p=&b=1"),
        (f"{USER}<button name=a type=foo value=1>A</button>", "POST /in u=&p=&a=1"),
        (f"{USER}<input type=image name=go>", "POST /in u=&p=&go.x=0&go.y=0"),
        (f"{USER}<button formaction=/other formmethod=get>In</button>", "GET /other u=&p="),
        (
            f"{USER}<input type=checkbox name=r value=1 checked><input type=checkbox name=r value=2 checked>",
            "POST /in u=&p=&r=1&r=2",
        ),
        (f"{USER}<select name=s multiple><option>1<option>2</select>", "POST /in u=&p="),
        (f"{USER}<select name=s><option disabled>pick<option>2</select>", "POST /in u=&p=&s=2"),
        (f"{USER}<fieldset disabled><input name=x></fieldset><template><input name=y></template>", "POST /in u=&p="),
        (f"{USER}<textarea name=t>\n\nx</textarea>", "POST /in u=&p=&t=%0Ax"),
    ],
)
def test_a_form_is_sent_as_by_who_presses_enter(form: str, sent: str) -> None:
    found = form_with(page(f"<form action=/in method=post>{form}</form>"), ["u", "p"])
    assert found is not None
    assert f"{found.method} {urlsplit(found.action).path} {found.filled({})}" == sent


def test_a_form_is_sent_in_the_encoding_of_its_page() -> None:
    made = page(f"<form action=/in>{USER}</form>".encode(), "text/html; charset=windows-1251", "http://a.org/")
    found = form_with(made, ["u", "p"])
    assert found is not None
    assert found.filled({"u": "имя", "p": "a b"}) == "u=%E8%EC%FF&p=a+b"


def test_a_page_of_many_forms_costs_no_time() -> None:
    began = time.process_time()
    form_with(page(f"{USER}{'<form id=f></form>' * 20_000}{'<input form=f>' * 20_000}"), ["u", "p"])
    assert time.process_time() - began < 5


def test_the_form_to_log_in_is_the_one_that_asks_for_least() -> None:
    register = '<form action="/new"><input name=u><input name=p type=password><input name=again type=password></form>'
    enter = '<form action="/in" id=f><input name=u></form><input name=p type=password form=f><input type=hidden name=t value=1 form=f>'
    found = form_with(page(register + enter), ["u", "p"])
    assert found is not None
    assert (found.action, dict(found.fields)["t"]) == ("http://a.org/in", "1")


@pytest.mark.parametrize("title", ["I <3 owls", "a<br>b", "bold</b>", "<b>x", "a < b", "x & y"])
def test_a_feed_whose_titles_are_no_xml_names_all_its_pages(title: str) -> None:
    entries = "".join(f"<item><title>{title}</title><link>http://a.org/{n}</link></item>" for n in range(4))
    made = page(f"<rss><channel>{entries}</channel></rss>", "text/xml", "http://a.org/f")
    found = listing(made, date(2026, 1, 1))
    assert ([link.url for link in found.links], found.fault) == ([f"http://a.org/{n}" for n in range(4)], None)


URLSET = '<?xml version="1.0"?><urlset><url><loc>http://a.org/1</loc></url><url><loc>http://a.org/2</loc></url>'


@pytest.mark.parametrize(
    ("rest", "fault"),
    [
        ("</urlset>", False),
        ("</urlset><!-- 0.3 s --><script>x", False),
        ("", True),
        ("<url><loc>http://a.org/prod", True),
        ("<url>", True),
        ("<br />\n<b>Fatal error</b>: Allowed memory size of 1 bytes exhausted", True),
    ],
)
def test_a_sitemap_that_ends_in_the_middle_is_not_all_of_it(rest: str, fault: bool) -> None:
    found = listing(page(URLSET + rest, "text/xml", "http://a.org/f"), date(2026, 1, 1))
    assert [link.url for link in found.links] == ["http://a.org/1", "http://a.org/2"]
    assert (found.fault is not None) == fault


@pytest.mark.parametrize(
    "body", ["<urlset/>", "<urlset></urlset>", '<?xml version="1.0"?>\n<urlset xmlns="x" />\n', "<rss><channel/></rss>"]
)
def test_a_sitemap_of_nothing_is_one(body: str) -> None:
    found = listing(page(body, "text/xml", "http://a.org/f"), date(2026, 1, 1))
    assert (found.links, found.fault) == ((), None)


@pytest.mark.parametrize(
    "body",
    [
        "<Error><Code>AccessDenied</Code></Error>",
        '{"error": "x"}',
        "Service temporarily unavailable",
        "<div>Maintenance</div>",
    ],
)
def test_what_is_no_sitemap_is_a_failure(body: str) -> None:
    with pytest.raises(VisitFailed, match="is no sitemap: it begins"):
        listing(page(body, "text/xml", "http://a.org/f"), date(2026, 1, 1))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("-$5.00", "-5.00"),
        ("\u2212\u20ac12,50", "-12.50"),
        ("-USD 5.00", "-5.00"),
        ("-kr 5", "-5"),
        ("change: -$1.23", "-1.23"),
        ("Small - $5.00", "5.00"),
        ("Small-$5", "5"),
        ("12.000\u0111/kg", "12000"),
        ("Rp 15.000/kg", "15000"),
        ("1.299 Ft/kg", "1299"),
        ("1,849 \u20ac/l", "1.849"),
    ],
)
def test_sums_that_are_owed_and_those_without_small_change(text: str, value: str) -> None:
    assert convert(text, "decimal", "") == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Mon, 30 Nov 2026 10:14:55 +02:00", "2026-11-30T10:14:55+02:00"),
        ("13-Jan-2020", "2020-01-13"),
        ("1700000000", "2023-11-14T22:13:20+00:00"),
        ("1701011500000", "2023-11-26T15:11:40+00:00"),
        ("31 December, 2012", "2012-12-31"),
        ("13th of January, 2020", "2020-01-13"),
        ("\u0661\u0662\u200f/\u0661\u0661\u200f/\u0662\u0660\u0662\u0666", "2026-11-12"),
        ("2026\u5e741\u67085\u65e5(\u6708)", "2026-01-05"),
    ],
)
def test_dates_as_sites_write_them(text: str, value: str) -> None:
    assert convert(text, "date", "") == value


def test_a_span_of_time_is_no_date() -> None:
    with pytest.raises(ValueError, match="no date"):
        convert("30 November 2026 10:00-18:00", "date", "")


def test_a_link_of_a_feed_that_is_none_costs_no_other() -> None:
    entries = '<entry><link href="http://[your-domain]/x"/></entry><entry><link href="/1"/></entry>'
    made = page(f'<feed xml:base="http://a.org/f/">{entries}</feed>', "text/xml", "http://a.org/f")
    assert [link.url for link in listing(made, date(2026, 1, 1)).links] == ["http://a.org/1"]


def test_an_item_is_the_same_whatever_session_its_address_has() -> None:
    sessions = [f"http://a.org/p/1?sid={digit * 32}&utm_source={digit}" for digit in "12"]
    rule = ItemRule(fields={"t": FieldRule(css="h1")})
    assert {by_rules(page("<h1>x", url=url), (rule,))[0].key for url in sessions} == {"http://a.org/p/1"}
    linked = ItemRule(select=Expression(css="a"), key=("u",), fields={"u": FieldRule(css="::attr(href)", type="url")})
    found = [by_rules(page(f'<a href="{url}">x</a>'), (linked,))[0] for url in sessions]
    assert {item.key for item in found} == {"http://a.org/p/1"}
    assert [item.data["u"] for item in found] == sessions


def test_entities_of_html_in_a_feed_are_what_they_stand_for() -> None:
    text = "caf&eacute; &hearts; 5&nbsp;&euro; &amp;lt; &nosuch; <![CDATA[&eacute;]]>"
    made = page(f"<rss><channel><item><title>{text}</title></item></channel></rss>", "application/rss+xml")
    rule = ItemRule(select=Expression(css="item"), fields={"t": FieldRule(css="title::text", many=True)})
    assert "".join(by_rules(made, (rule,))[0].data["t"]) == "café ♥ 5\xa0€ &lt;&eacute;"


def test_what_follows_the_place_of_an_item_counts_too() -> None:
    rule = ItemRule(select=Expression(css="dt"), fields={"n": FieldRule(css="dt ~ dd"), "t": FieldRule(css="dt + dd")})
    found = by_rules(page("<dl><dt>a<dd>1<dt>b<dd>2</dl>"), (rule,))
    assert [item.data for item in found] == [{"n": "1", "t": "1"}, {"n": "2", "t": "2"}]


def test_names_without_a_prefix_are_those_of_the_document() -> None:
    entry = '<entry><title>A</title><link rel="alternate" href="/1"/><m:title xmlns:m="urn:m">M</m:title></entry>'
    atom = page(f'<feed xmlns="http://www.w3.org/2005/Atom">{entry * 2}</feed>', "application/atom+xml")
    rule = ItemRule(
        select=Expression(css="feed > entry"),
        fields={"t": FieldRule(css="title::text", many=True), "u": FieldRule(css="link[rel=alternate]::attr(href)")},
    )
    assert [item.data for item in by_rules(atom, (rule,))] == [{"t": ["A"], "u": "/1"}] * 2
    rss = page('<rss xmlns:m="urn:m"><item><m:title>M</m:title><title>A</title></item></rss>', "application/rss+xml")
    rule = ItemRule(select=Expression(css="item"), fields={"t": FieldRule(css="title::text", many=True)})
    assert by_rules(rss, (rule,))[0].data == {"t": ["A"]}
    declared = 'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns="http://purl.org/rss/1.0/"'
    rdf = page(f"<rdf:RDF {declared}><item><title>A</title></item></rdf:RDF>", "application/rdf+xml")
    assert by_rules(rdf, (rule,))[0].data == {"t": ["A"]}


@pytest.mark.parametrize(
    "script",
    [
        'var wc = {"nonce": "x"}; var product = {"price": 35}; var product2 = {"price": 36}',
        'window.a = JSON.parse("{\\"price\\":35}")',
        'window.a = JSON.parse(\'{"price": 35, "s": "it\\\'s"}\')',
        'f({"x": "a = {"}, {"price": 35})  ; g({"price": 35})',
        r"""x = JSON.parse('{"price": 35, "t": "\\"quoted\\""}')""",
        r"""JSON.parse('\x7b\x22price\x22\x3a\u0033\u{35}\x7d')""",
        'JSON.parse(`{"price": 35}`)',
        'window.__STATE__={"price": 35, "err":undefined,"all":[ undefined ]}',
    ],
)
def test_of_a_script_the_first_value_that_has_it_is_taken(script: str) -> None:
    rule = ItemRule(fields={"p": FieldRule(css="script", json="price")})
    assert by_rules(page(f"<script>{script}</script>"), (rule,))[0].data == {"p": 35}


def test_json_behind_a_guard_is_read() -> None:
    """So that nobody runs it as a script."""
    assert page(')]}\',\n{"a": 1}', "text/json").json() == {"a": 1}
