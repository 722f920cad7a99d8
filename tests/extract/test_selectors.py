"""Selectors give what Scrapy's give, on pages made at random, well-formed and broken, and on real documentation."""

import random
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from lxml import etree
from parsel import Selector

from scraper.config.settings import Expression, FieldRule, ItemRule, Limits, Source
from scraper.errors import VisitFailed
from scraper.extract import Page
from scraper.extract.classes import asks_by_class, walker
from scraper.extract.select import compiled_css, matches
from scraper.offload import Readers
from scraper.records import Fetched, Manners
from tests.extract.test_extract import TODAY, read

DOCS = Path("/usr/share/doc/python3-doc/html")
URL = "http://a.org/dir/page"

CSS = [
    # simple ones and combinators
    "*", "a", "p", "A", "li", "td", "tr", "tbody", "div p", "div > p", "h1 + p", "h1 ~ p", "ul > li > a", "a, p", "table tr",
    "table > tr", "div * a", "body > *", "svg", "form input", "html > body", "title",
    # classes, identifiers, attributes
    ".x", "p.x", ".x.y", "#i", "a#i", "[href]", "a[href='x']", 'a[href="x"]', "[class~=x]", "[class|=x]", "[href^=x]",
    "[href$=y]", "[href*=z]", "[class!=x]", "[data-a]", "[CLASS]", "a[href][class]", "[lang|=en]",
    # pseudo-classes
    ":root", "p:first-child", "p:last-child", "li:only-child", "p:first-of-type", "p:last-of-type", "p:only-of-type", "p:empty",
    "li:nth-child(1)", "li:nth-child(2n)", "li:nth-child(2n+1)", "li:nth-child(odd)", "li:nth-child(even)", "li:nth-child(-n+2)",
    "li:nth-last-child(2)", "p:nth-of-type(2)", "p:nth-last-of-type(1)", "li:nth-child(n+2):nth-child(-n+3)", "p:not(.x)",
    "a:not([href])", ":not(p)", "p:not(:first-child)", "p:contains('x')", "a:contains(y)", "div:has(p)", "div:has(> a)",
    "p:has(+ p)", ":is(a, p)", "div :is(.x, #i)", ":where(a, p).x", "a:link", "input:checked", "option:checked", "input:disabled",
    "input:enabled", "p:lang(en)",
    # what Scrapy adds
    "p::text", "*::text", "a::attr(href)", "a::attr(HREF)", "::attr(class)", "::text", "p.x::text, a::attr(href)", "div > a::text",
    "li:nth-child(2)::text", "a:has(b)::attr(href)", "script::text", "style::text", "title::text", "*::attr(data-a)",
]  # fmt: skip


BY_CLASS = [
    ".x", ".y", ".X", "p.x", "P.x", ".x.y", ".y.x", "a.x.y", "body.x", ".x::text", "p.x::text", "div.y::text", ".x::attr(href)",
    "a.y::attr(class)", ".x::attr(data-a)", "a.x.y::attr(href)", ".i", ".xyz", ".en-GB", "script.x::text", "svg.x::text",
]  # fmt: skip


def serialised(found: Any) -> list[str]:
    """Return matches as parsel's getall() gives them."""
    assert isinstance(found, list)
    return [v if isinstance(v, str) else str(Selector(root=v, type="html").get()) for v in found]


def page(text: str) -> Page:
    return Page(URL, 200, {"content-type": "text/html; charset=utf-8"}, text.encode())


def compared(text: str, queries: Sequence[str]) -> None:
    """Compare what we and parsel find in a page."""
    ours, theirs = page(text), Selector(text=text, type="html")
    if theirs.root.getnext() is not None:  # parsel loses what stands after the end of the document
        return
    for query in queries:
        expected = theirs.css(query).getall()
        assert serialised(compiled_css(query)(ours.root)) == expected, query
        assert ours.css(query).getall() == expected, query


# -- pages at random

NAMES = ["a", "p", "div", "li", "ul", "b", "i", "h1", "table", "tbody", "tr", "td", "form", "input", "select", "option", "span",
         "svg", "path", "template", "br", "article", "section", "label", "button", "pre", "center", "P", "DIV", "x-y", "dl", "dt"]  # fmt: skip
name = st.sampled_from(NAMES)
words = st.text("xyz \n\u00e4\u4e2d&<>\"'=/", max_size=6)
attribute = st.one_of(
    st.builds(
        lambda n, v, q: f" {n}={q}{v.replace(q, '')}{q}",
        st.sampled_from(["href", "class", "id", "data-a", "lang", "CLASS", "type", "checked", "disabled"]),
        st.sampled_from(["x", "y", "x y", "i", "xyz", "en-GB", "checkbox", "", "zz\u00e4", "a&amp;b", "x\ny"]),
        st.sampled_from(['"', "'"]),
    ),
    st.sampled_from(
        [" href=x", " class=x", " class=y", " id=i", " checked", " disabled", " href", " =", ' "', " /", " selected"]
    ),
)
tag = st.builds(lambda n, a: f"<{n}{''.join(a)}>", name, st.lists(attribute, max_size=3))
end = name.map(lambda n: f"</{n}>")
odd = st.sampled_from([
    "<!-- c -->", "<!-- <p> -->", "<!--", "-->", "<![CDATA[<p>x</p>]]>", "<?pi x?>", "<!DOCTYPE html>", "<!x>", "</>", "< p>",
    "<script>if (a<b) '<p>'</script>", "<style>p{}</style>", "<title>x <b>y</title>", "<textarea><p></textarea>", "&amp;", "&lt;",
    "&nbsp;", "&#120;", "&#x78;", "&bogus;", "&", "<html lang=en>", "<head>", "<body class=x>", "</body>", "</html>", "<svg><a/>",
    "<table><p>x", "<td>x", "<form><form>", "<base href=x>", "\x0b", "\x0c", "<p", "<br/>", "<a><a>", "<b><p></b>x</p>",
])  # fmt: skip
well_formed = st.recursive(
    words.map(lambda t: t.replace("&", "&amp;").replace("<", "&lt;")),
    lambda inner: st.builds(lambda t, a, c: f"<{t}{''.join(a)}>{''.join(c)}</{t}>", name, st.lists(attribute, max_size=2), st.lists(inner, max_size=4)),
    max_leaves=15,
)  # fmt: skip
broken = st.lists(st.one_of(tag, end, words, odd), max_size=40).map("".join)
queries = st.lists(st.sampled_from(CSS), min_size=10, max_size=10)
thorough = settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@given(st.one_of(well_formed, broken))
@example("<p class=x>a<!-- c -->b<b class='y x'>c</b>d<?pi x?>e</p>f")
@example("<p class='x\u00a0y'>nbsp</p><p class='x\x0cy'>feed</p><p class='x\ty\r\nxyz'>all</p><p class=' x '>one</p>")
@example("<script class=x>if (a<b) '</p>'</script><p class=xx>no</p><p class='y'><p class='x'><p class='y'>")
@thorough
def test_what_asks_by_class_is_found_by_one_walk_as_it_is_by_xpath(text: str) -> None:
    root = page(text).root
    places: Any = [root, *root.iter("div", "p")]
    for place in places:
        classes = walker(tuple(BY_CLASS)).walk(place)
        for query in BY_CLASS:
            found = classes.find(query)
            if found is None:
                assert query.endswith("::text")
                found = matches(Expression(css=query), page(text), place, classes)
            assert serialised(found) == Selector(root=place, type="html").css(query).getall(), query


def test_what_asks_for_more_than_classes_does_not_ask_by_class() -> None:
    assert all(map(asks_by_class, BY_CLASS))
    others = [query for query in CSS if asks_by_class(query)]
    assert others == [".x", "p.x", ".x.y"]
    more = (
        "p.x a",
        "p .x",
        ".x:first-child",
        ".x[href]",
        "#i.x",
        "*.x",
        ".x,.y",
        r".x\:y",
        ".x::attr(HREF)",
        "p",
        "",
        None,
    )
    assert not any(map(asks_by_class, more))


@given(well_formed, queries)
@thorough
def test_well_formed_pages_give_what_parsel_gives(text: str, wanted: list[str]) -> None:
    compared(text, wanted)


@given(broken, queries)
@example("", CSS)
@example(" ", CSS)
@example("x", CSS)
@example("<!-- only -->", CSS)
@example("\ufeff<p>x", CSS)
@example("<p>a\x00b</p>", CSS)
@example("<table><tr><td>x<tr><td>y</table>", CSS)
@example("<table><tbody><tr><td>x</table>", CSS)
@example("<ul><li>a<li class=x>b<li>c</ul>", CSS)
@example("<form><form><input checked></form></form>", CSS)
@example("<a href=x href=y CLASS=x class=y>z</a>", CSS)
@example("<svg viewBox='0 0 1 1'><a xlink:href='x'><title>t</title></a></svg>", CSS)
@example("<template><p class=x>y</p></template>", CSS)
@example("<html><head><title>t</title></head><frameset><frame></frameset></html>", CSS)
@example(
    "<?xml version='1.0' encoding='iso-8859-1'?><html xmlns='http://www.w3.org/1999/xhtml'><p>\u00e4</p></html>", CSS
)
@example("<meta charset=koi8-r><p>\u00e4</p>", CSS)
@example("<P CLASS=x>\u00e4<BR>y</P>", CSS)
@example("</p></div><p>x</b></p>", CSS)
@example("<p>&#xD800;&#0;&#128;</p>", CSS)
@example("<p>x</p>\x1a<p>y</p>", CSS)
@example("<p id=i>x<p id=i>y", CSS)
@example("<pre>\n\nx\n</pre><textarea>\n\ny</textarea>", CSS)
@example("<select><option selected>x<option>y</select>", CSS)
@thorough
def test_broken_pages_give_what_parsel_gives(text: str, wanted: list[str]) -> None:
    compared(text, wanted)


def test_large_broken_pages_give_what_parsel_gives() -> None:
    dice = random.Random(5)
    pieces = (
        [f"<{n}>" for n in NAMES]
        + [f"</{n}>" for n in NAMES]
        + ["<p class=x>", "<a href=x>", "text ", "&amp;", "<!-- c -->"]
    )
    for _ in range(5):
        compared("".join(dice.choices(pieces, k=800)), CSS)


@pytest.mark.parametrize("query", CSS)
def test_a_selector_inside_a_match_gives_what_parsel_gives(query: str) -> None:
    text = (
        "<html lang=en><body><div class=x id=i><p class='x y'>x</p><p>y<b>z</b></p><a href=x class=x>y</a><ul><li>1<li>2"
        "<li><a href=xyz data-a=1>x</a></ul></div><div><table><tr><td>x</table><form><input checked disabled></form></div>"
    )
    ours, theirs = page(text), Selector(text=text, type="html")
    for outer in ("div", "ul > li", "p"):
        scopes: Any = compiled_css(outer)(ours.root)
        found = [serialised(compiled_css(query)(scope)) for scope in scopes]
        assert found == [scope.css(query).getall() for scope in theirs.css(outer)]


def by_rule(made: Page, css: str, many: bool) -> Any:
    rule = ItemRule(fields={"f": FieldRule(css=css, many=many)})
    found = read(made, Source(name="s", start=(URL,), item=(rule,))).items
    return found[0].data["f"] if found else [] if many else None


def folded(match: Selector) -> str:
    """Return what a field of a match is: the element's whole text with its white space folded, or a text stripped."""
    root = match.root
    return " ".join(str(etree.XPath("string()")(root)).split()) if etree.iselement(root) else str(root).strip()


@given(st.one_of(well_formed, broken), st.sampled_from(CSS))
@thorough
def test_fields_are_the_texts_of_what_parsel_finds(text: str, query: str) -> None:
    theirs = Selector(text=text, type="html")
    assume(theirs.root.getnext() is None)  # as in compared()
    assume(not theirs.css("br"))  # which parts words in ours
    expected = [value for value in map(folded, theirs.css(query)) if value]
    made = page(text)
    assert by_rule(made, query, many=True) == expected
    assert by_rule(made, query, many=False) == (expected[0] if expected else None)


@pytest.mark.parametrize("query", ["li:first-child", "li:last-child", "li ~ li", "li + li"])
def test_an_ordinary_selector_over_many_siblings_ends_soon(query: str) -> None:
    """It would take minutes if each sibling were compared with each."""
    rule = ItemRule(fields={"f": FieldRule(css=query)})
    made = page("<ul>" + "<li>x" * 30_000)
    began = time.process_time()
    read(made, Source(name="s", start=(URL,), item=(rule,)))
    assert time.process_time() - began < 5.0


async def test_a_selector_that_takes_too_long_ends_as_a_limit() -> None:
    made = Source(name="s", start=(URL,), item=(ItemRule(fields={"f": FieldRule(css="li:nth-child(2)")}),))
    body = b"<ul>" + b"<li>x" * 300_000
    readers = Readers(Limits(parse_timeout=1.0))
    try:
        fetched = Fetched(URL, URL, 200, {"content-type": "text/html"}, body, len(body), 0.0)
        with pytest.raises(VisitFailed) as caught:
            await readers.read(made, Manners(None, TODAY), fetched, "page")
        assert caught.value.failure == "parse_limit"
        short = replace(fetched, body=b"<ul><li>1<li>2")
        assert (await readers.read(made, Manners(None, TODAY), short, "page")).items[0].data == {"f": "2"}
    finally:
        await readers.close()


# -- the documentation of Python

DOC_CSS = [
    "a::attr(href)", "h1::text", "h1", "title::text", "p", "div.section > p::text", "dl.function > dt::attr(id)", "a.headerlink",
    "dt:has(> code)::attr(id)", "li:nth-child(2n+1) > a::text", "pre", "code.xref", "table tr td::text", "ul > li:last-child",
    "div[role=navigation] a", "a[href^=http]::attr(href)", "a:not([href^=http])::attr(href)", "p:contains('Python')::text",
    "section > h2 ~ p:first-of-type", "link[rel=next]::attr(href)", "span.pre", "em:only-child", "*::attr(class)", "dd > p:empty",
]  # fmt: skip


def test_the_documentation_of_python_gives_what_parsel_gives() -> None:
    files = sorted(path for path in DOCS.resolve().rglob("*.html") if path.stat().st_size < 300_000)
    assert len(files) > 300, "the documentation is needed: apt-get install python3-doc"
    for number, path in enumerate(files):
        text = path.read_text(encoding="utf-8")
        wanted = [DOC_CSS[(number * 5 + step) % len(DOC_CSS)] for step in range(5)]
        ours, theirs = page(text), Selector(text=text, type="html")
        for query in wanted:
            mine: Any = compiled_css(query)(ours.root)
            assert serialised(mine) == theirs.css(query).getall(), (path, query)
