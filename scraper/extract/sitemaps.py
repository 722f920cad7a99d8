"""Sitemaps (sitemaps.org: XML, index, text, gzip) and feeds (RSS, Atom): the URLs that they name."""

from typing import Any

from lxml import etree

from scraper.errors import Failure, VisitFailed
from scraper.extract.page import Page, decode
from scraper.inflate import Damaged, TooLarge, inflate
from scraper.records import Link
from scraper.urls import canonical, is_web

MAX_URLS = 50_000  # sitemaps.org: of one file
MAX_BYTES = 50 * 2**20


def links(page: Page) -> tuple[Link, ...]:
    """Return the URLs of a sitemap or feed; those of an index are sitemaps themselves. Raises VisitFailed."""
    body = _unzipped(page.body)
    head = body[:2048].lstrip()
    if not head.startswith(b"<") and not head.startswith(b"\xef\xbb\xbf<"):
        lines = decode(body, page.headers.get("content-type", "")).split()
        return tuple(Link(url) for url in _usable(lines[: MAX_URLS * 2], page.url))
    pages: list[str] = []
    sitemaps: list[str] = []
    parser = etree.XMLPullParser(events=("end",), resolve_entities=False, no_network=True, recover=True)
    try:
        parser.feed(body)
        parser.close()
    except etree.XMLSyntaxError as error:
        if not body:
            raise VisitFailed(Failure.DECODE, f"is no sitemap: {error}") from None
    events: Any = parser.read_events()
    for _, element in events:
        name, outer = _name(element), _name(element.getparent())
        if name == "loc" and outer in ("url", "sitemap"):
            (sitemaps if outer == "sitemap" else pages).append(element.text or "")
        elif name == "link" and outer in ("item", "entry"):
            relation = element.get("rel", "alternate")
            if relation == "alternate":
                pages.append(element.get("href") or element.text or "")
        if len(pages) + len(sitemaps) >= MAX_URLS:
            break
    found = [Link(url, "sitemap") for url in _usable(sitemaps, page.url)]
    return (*found, *(Link(url) for url in _usable(pages, page.url)))


def _usable(texts: list[str], base: str) -> list[str]:
    urls = (canonical(text, base) for text in texts if text.strip())
    return [url for url in dict.fromkeys(urls) if url is not None and is_web(url)][:MAX_URLS]


def _unzipped(body: bytes) -> bytes:
    if not body.startswith(b"\x1f\x8b"):
        return body
    try:
        return inflate(body, MAX_BYTES)
    except TooLarge as error:
        raise VisitFailed(Failure.DECODED_TOO_LARGE, f"the sitemap: {error}") from None
    except Damaged as error:
        raise VisitFailed(Failure.DECODE, f"the sitemap: {error}") from None


def _name(element: Any) -> str:
    """The tag without its namespace; a prefix that nobody declared stays."""
    return str(element.tag).rpartition("}")[2] if element is not None and isinstance(element.tag, str) else ""
