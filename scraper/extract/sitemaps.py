"""Sitemaps (sitemaps.org: XML, index, text, gzip, news), feeds (RSS, Atom, JSON Feed), robots.txt: the URLs that they name."""

import json
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from operator import itemgetter
from typing import Any
from urllib.parse import urljoin

from lxml import etree

from scraper.compression import Damaged, TooLarge, inflate
from scraper.errors import Failure, VisitFailed
from scraper.extract.charset import decode
from scraper.extract.convert import convert
from scraper.extract.page import Page
from scraper.records import SITEMAP_MOST, Kind, Link
from scraper.urls import canonical, is_web

_COMMENT = re.compile(r"(?:^|\s)#")  # RFC 9309 section 2.2; one within a URL is its fragment
MAX_URLS = 50_000  # sitemaps.org: of one file
# What changed so many days ago comes before what changed earlier, and that before what does not say.
FRESH_DAYS = ((1, 4), (7, 3), (30, 2), (365, 1))
ENTRY_MOST = 40  # elements of one entry that are looked at
PREAMBLE_MOST = 2048
_HTML = b"<!doctype html"
_NOTICE = re.compile(rb"<(?:br|b|p|div|pre|font|table)\b", re.IGNORECASE)
_START = re.compile(rb"<\?xml\b|<(?:urlset|sitemapindex|rss|feed)\b")
# An ampersand that begins none of XML's own entities: many sites forget to write it as one. Not in CDATA, where it stands for itself.
_AMPERSAND = re.compile(
    rb"<!\[CDATA\[.*?(?:\]\]>|\Z)|&(?!(?:amp|lt|gt|quot|apos|#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6});)", re.DOTALL
)
_JSON_DATES = ("date_modified", "date_published")
# Of changes, then of births.
_DATES = ("lastmod", "updated", "modified", "date", "publication_date", "pubDate", "published")
_DECLARED = re.compile(r"^\s*<\?xml[^>]*\?>")


def links(page: Page, today: date) -> tuple[Link, ...]:
    """Return the URLs of a sitemap or feed; those of an index are sitemaps themselves. Raises VisitFailed.

    What was modified lately has the higher priority.
    """
    body = _document(page)
    if body is None:
        text = decode(_unzipped(page.body), page.headers.get("content-type", ""))
        return _of_json(text, page.url, today) or _of_text(text, page.url)
    pages: dict[str, tuple[int, datetime | None]] = {}
    sitemaps: list[str] = []
    parser = etree.XMLPullParser(events=("end",), resolve_entities=False, no_network=True, recover=True)
    root = None
    try:
        parser.feed(body)
        root = parser.close()
    except etree.XMLSyntaxError as error:
        if not body:
            raise VisitFailed(Failure.DECODE, f"is no sitemap: {error}") from None
    events: Any = parser.read_events()
    for _, element in events:
        kind, url = _named(element)
        if kind == "sitemap":
            sitemaps.append(url)
        elif kind is not None:
            pages.setdefault(url, _dated(_told(element.getparent()), today))
        if len(pages) + len(sitemaps) >= MAX_URLS:
            break
    is_html = _name(root).lower() == "html" or body[: len(_HTML)].lower() == _HTML
    if not pages and not sitemaps and is_html:
        raise VisitFailed(Failure.DECODE, "is no sitemap: it is an HTML page")
    found = [Link(url, "sitemap") for url in _usable(sitemaps, page.url)]
    for text, (priority, modified_at) in pages.items():
        found += [Link(url, priority=priority, modified_at=modified_at) for url in _usable([text], page.url)]
    return tuple(dict.fromkeys(found))


def _document(page: Page) -> bytes | None:
    """The sitemap from its first tag on, fit for a parser of XML; None for one of plain text."""
    body = _unzipped(page.body)
    wide = {b"\xfe\xff": "utf-16-be", b"\xff\xfe": "utf-16-le", b"\0<": "utf-16-be", b"<\0": "utf-16-le"}.get(body[:2])
    if wide is not None:
        body = _plain(body.decode(wide, "replace"))
    elif not _is_utf8(body):
        # libxml2 knows fewer letters of these than browsers do, and drops all after one that it does not.
        body = _plain(decode(body, page.headers.get("content-type", "")))
    elif b"encoding" in body[:PREAMBLE_MOST].partition(b"?>")[0]:  # whatever it says there
        body = _plain(body.decode())
    body = body.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not body.startswith(b"<") or _NOTICE.match(body):
        start = _START.search(body[:PREAMBLE_MOST])  # what a broken site says before its sitemap
        if start is None and not body.startswith(b"<"):
            return None
        body = body[start.start() :] if start is not None else body
    return _AMPERSAND.sub(_escaped, body) if b"&" in body else body


def _is_utf8(body: bytes) -> bool:
    """Whether bytes are UTF-8; what switches between sets of letters looks so too (ISO-2022-JP)."""
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return b"\x1b" not in body


def _plain(text: str) -> bytes:
    """A document in UTF-8, which says of no other encoding."""
    return _DECLARED.sub("", text.removeprefix("\ufeff")).encode("utf-8", "replace")


def _escaped(found: re.Match[bytes]) -> bytes:
    return found[0] if found[0].startswith(b"<") else b"&amp;"


def _of_text(text: str, base: str) -> tuple[Link, ...]:
    if base.endswith("/robots.txt"):
        return tuple(Link(url, "sitemap") for url in _usable(_named_by_robots(text), base))
    named = [word for word in text.split() if word.lower().startswith(("http://", "https://"))]
    return tuple(Link(url) for url in _usable(named, base))


def _of_json(text: str, base: str, today: date) -> tuple[Link, ...]:
    """What a JSON Feed names (https://www.jsonfeed.org/version/1.1/): its items, and where it goes on."""
    try:
        feed = json.loads(text) if "jsonfeed.org/version/" in text[:PREAMBLE_MOST] else None
    except (ValueError, RecursionError):
        return ()
    found = []
    items = feed.get("items") if isinstance(feed, dict) else None
    for item in items[:MAX_URLS] if isinstance(items, list) else []:
        told = {name: value for name, value in item.items() if isinstance(value, str)} if isinstance(item, dict) else {}
        priority, changed = _dated((told[name] for name in _JSON_DATES if name in told), today)
        url = told.get("url") or told.get("external_url") or ""
        found += [Link(url, priority=priority, modified_at=changed) for url in _usable([url], base)]
    further = feed.get("next_url") if isinstance(feed, dict) else None
    return (*(Link(url, "sitemap") for url in _usable([str(further or "")], base)), *dict.fromkeys(found))


def _named(element: Any) -> tuple[Kind | None, str]:
    """What an element names, if anything: a page or a sitemap."""
    name, outer = _name(element), _name(element.getparent())
    if name == "loc" and outer in ("url", "sitemap"):
        return ("sitemap" if outer == "sitemap" else "page"), str(
            element.xpath("string()") if len(element) else element.text or ""
        )
    if name == "link" and outer in ("item", "entry") and element.get("rel", "alternate") == "alternate":
        return "page", urljoin(element.base or "", element.get("href") or element.text or "")  # of XML Base
    if name == "guid" and outer == "item" and element.get("isPermaLink", "true").lower() == "true":
        others = any(
            _name(other) == "link" for other in element.getparent()
        )  # RSS 2.0: where there is no link, it is one
        said = (element.text or "").strip()
        return ("page", said) if said.startswith(("http://", "https://")) and not others else (None, "")
    return None, ""


def _named_by_robots(text: str) -> list[str]:
    lines = (_COMMENT.split(line)[0].partition(":") for line in text.splitlines())
    return [value.strip() for name, _, value in lines if name.strip().lower() == "sitemap"]


def _told(entry: Any) -> Iterator[str]:
    """The dates of change that an entry tells, the surest first; all its elements are there when the whole document was read."""
    told = [
        (_DATES.index(name), e.text)
        for e in islice(entry.iter(), ENTRY_MOST)
        if (name := _name(e)) in _DATES and e.text
    ]
    return (text for _, text in sorted(told, key=itemgetter(0)))


def _dated(dates: Iterable[str], today: date) -> tuple[int, datetime | None]:
    """The priority of an entry, and its date of change: the first that is one."""
    for said in dates:
        try:
            text = convert(said.strip(), "date", "")
            changed = date.fromisoformat(text[:10])
        except ValueError:
            continue
        age = (today - changed).days
        return next((priority for days, priority in FRESH_DAYS if 0 <= age <= days), 0), _until(text)
    return 0, None


def _until(text: str) -> datetime | None:
    """The last instant that a date of change can mean: of a day alone, its end."""
    try:
        at = datetime.fromisoformat(text)
        at = at + timedelta(days=1) if len(text) <= len("2026-01-01") else at
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _usable(texts: list[str], base: str) -> list[str]:
    urls = (canonical(text, base) for text in texts if text.strip())
    return [url for url in dict.fromkeys(urls) if url is not None and is_web(url)][:MAX_URLS]


def _unzipped(body: bytes) -> bytes:
    if not body.startswith(b"\x1f\x8b"):
        return body
    try:
        return inflate(body, SITEMAP_MOST)
    except TooLarge as error:
        raise VisitFailed(Failure.DECODED_TOO_LARGE, f"the sitemap: {error}") from None
    except Damaged as error:
        raise VisitFailed(Failure.DECODE, f"the sitemap: {error}") from None


def _name(element: Any) -> str:
    """The tag without its namespace; a prefix that nobody declared stays."""
    return str(element.tag).rpartition("}")[2] if element is not None and isinstance(element.tag, str) else ""
