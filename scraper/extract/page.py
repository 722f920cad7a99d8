"""Page: what a parser gets. Everything that costs time is built when it is first asked for."""

import json
import re
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import webencodings
from lxml import etree, html
from parsel import Selector, SelectorList

from scraper import clean
from scraper.errors import Failure, VisitFailed
from scraper.records import Fetched
from scraper.urls import canonical

if TYPE_CHECKING:
    from bs4 import BeautifulSoup

_META_CHARSET = re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([a-zA-Z0-9_:.-]{1,40})""", re.IGNORECASE)
_CHARSET = re.compile(r"""charset\s*=\s*["']?([^\s"';]+)""", re.IGNORECASE)
_BOMS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xfe\xff", "utf-16-be"), (b"\xff\xfe", "utf-16-le"))


class Page:
    """One fetched page.

    url: where it lives, redirects followed. status, headers (lower-case names), body (bytes, decoded), text.
    soup: BeautifulSoup. css(), xpath(): parsel selectors, as in Scrapy. json(): the parsed document.
    """

    def __init__(self, url: str, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.url = url
        self.status = status
        self.headers = headers
        self.body = body

    @classmethod
    def of(cls, fetched: Fetched) -> "Page":
        """Return the page of what was fetched."""
        return cls(fetched.final_url, fetched.status, fetched.headers, fetched.body)

    def __repr__(self) -> str:
        return f"<Page {self.status} {self.url}>"

    @property
    def content_type(self) -> str:
        """The media type, without parameters."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def is_json(self) -> bool:
        """Whether the page says that it is JSON."""
        return self.content_type.endswith(("/json", "+json"))

    @cached_property
    def text(self) -> str:
        """The body as text; NUL and lone surrogates are gone."""
        return decode(self.body, self.headers.get("content-type", ""))

    @cached_property
    def soup(self) -> "BeautifulSoup":
        """The page for BeautifulSoup. Slow on large pages: css() and xpath() are some 20 times faster."""
        from bs4 import BeautifulSoup  # noqa: PLC0415  0.07 s of each start that most sources never need

        return BeautifulSoup(self.text, "lxml")

    @cached_property
    def root(self) -> "etree._Element":
        """The lxml tree of the page."""
        source = self.text.strip().encode("utf-8") or b"<html/>"
        parser = html.HTMLParser(recover=True, encoding="utf-8", huge_tree=True)
        root = etree.fromstring(source, parser=parser)
        if any("Excessive depth" in entry.message for entry in parser.error_log):
            raise VisitFailed(Failure.PARSE_LIMIT, "the page is nested too deeply")
        return root if root is not None else etree.fromstring(b"<html/>", parser=parser)

    @cached_property
    def base_url(self) -> str:
        """What relative links are relative to."""
        found: Any = self.root.xpath("//base/@href")
        for href in found[:1]:
            return canonical(str(href), self.url) or self.url
        return self.url

    @cached_property
    def title(self) -> str | None:
        """The text of <title>, white space folded."""
        if self.is_json:
            return None
        found = self.root.xpath("string(//title)")
        return clean.text(" ".join(str(found)[:10_000].split())[:1000]) or None

    @cached_property
    def selector(self) -> Selector:
        """The page as a parsel Selector."""
        return Selector(root=self.root, type="html", base_url=self.url)

    def css(self, query: str) -> SelectorList[Selector]:
        """Select by CSS, with ::text and ::attr(name)."""
        return self.selector.css(query)

    def xpath(self, query: str) -> SelectorList[Selector]:
        """Select by XPath 1.0."""
        return self.selector.xpath(query)

    def json(self) -> Any:
        """Return the parsed document. Raises VisitFailed: decode."""
        return self._document

    @cached_property
    def _document(self) -> Any:
        try:
            return json.loads(self.text)
        except (ValueError, RecursionError) as error:
            raise VisitFailed(Failure.DECODE, f"is not valid JSON: {error}") from None

    @cached_property
    def jsonld(self) -> list[Any]:
        """The JSON-LD objects of the page, graphs and lists flattened; invalid ones are left out."""
        found: list[Any] = []
        scripts: Any = self.root.xpath("//script[@type='application/ld+json']/text()")
        for script in scripts:
            try:
                document = json.loads(str(script))
            except (ValueError, RecursionError):
                continue
            for entry in document if isinstance(document, list) else [document]:
                graph = entry.get("@graph") if isinstance(entry, dict) else None
                found.extend(graph if isinstance(graph, list) else [entry])
        return found


def decode(body: bytes, content_type: str) -> str:
    """Return the text of a body: byte order mark, then header, then meta, then UTF-8, else windows-1252.

    The order and the labels are those of the WHATWG Encoding and HTML standards.
    """
    for bom, name in _BOMS:
        if body.startswith(bom):
            return _clean(body[len(bom) :].decode(name, "replace"))
    labels = []
    if match := _CHARSET.search(content_type):
        labels.append(match[1])
    if match_meta := _META_CHARSET.search(body[:1024]):
        labels.append(match_meta[1].decode("ascii"))
    for label in labels:
        encoding = webencodings.lookup(label)
        if encoding is not None:
            if encoding.name.startswith("utf-16") and label is not labels[0]:
                continue  # a meta element that could be read is not UTF-16
            return _clean(encoding.codec_info.decode(body, "replace")[0])
    try:
        return _clean(body.decode("utf-8"))
    except UnicodeDecodeError:
        return _clean(body.decode("cp1252", "replace"))


def _clean(text: str) -> str:
    if "\x00" in text:
        text = text.replace("\x00", "")
    return text
