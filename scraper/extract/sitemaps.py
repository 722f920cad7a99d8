"""Sitemaps (sitemaps.org: XML, index, text, gzip, news), feeds (RSS, Atom, JSON Feed), robots.txt: the URLs that they name."""

import contextlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
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
SHOWN = 60
_HTML = b"<!doctype html"
_ROOTS = {"urlset", "sitemapindex", "rss", "feed", "rdf", "channel"}
_MARKUP = re.compile(
    rb"</?(?:br|hr|img|p|b|i|u|em|strong|span|font|small|sup|sub|div|a)(?=[\s/>])[^<>]*>", re.IGNORECASE
)
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


@dataclass(frozen=True, slots=True)
class Listing:
    """What a sitemap or feed names. fault: why that is not all of it, if it is not."""

    links: tuple[Link, ...]
    fault: str | None = None


def listing(page: Page, today: date) -> Listing:
    """Return the URLs of a sitemap or feed; those of an index are sitemaps themselves. Raises VisitFailed.

    What was modified lately has the higher priority.
    """
    body = _document(page)
    if body is None:
        text = decode(_unzipped(page.body), page.headers.get("content-type", ""))
        return Listing(_of_text(text, page.url, today))
    root = _root(body)
    is_cut = root is not None and not _is_closed(root, body)
    sitemaps, pages = _listed(root, body, today, is_cut=is_cut) if root is not None else ([], {})
    if not pages and not sitemaps and (said := _is_none(root, body)) is not None:
        raise VisitFailed(Failure.DECODE, f"is no sitemap: it {said}")
    found = [Link(url, "sitemap") for url in _usable(sitemaps, page.url)]
    for text, (priority, modified_at) in pages.items():
        found += [Link(url, priority=priority, modified_at=modified_at) for url in _usable([text], page.url)]
    return Listing(tuple(dict.fromkeys(found)), "the sitemap or feed ends in the middle" if is_cut else None)


def _listed(
    root: Any, body: bytes, today: date, *, is_cut: bool
) -> tuple[list[str], dict[str, tuple[int, datetime | None]]]:
    """The sitemaps that a document names, and the pages, each with its priority and date of change."""
    pages: dict[str, tuple[int, datetime | None]] = {}
    sitemaps: list[str] = []
    unfinished = _last(root) if is_cut and not body[body.rfind(b"<") :].startswith(b"</") else None
    for element in root.iter("{*}loc", "{*}link", "{*}guid"):
        if element is unfinished:
            continue
        kind, url = _named(element)
        if kind == "sitemap":
            sitemaps.append(url)
        elif kind is not None:
            pages.setdefault(url, _dated(_told(element.getparent()), today))
        if len(pages) + len(sitemaps) >= MAX_URLS:
            break
    return sitemaps, pages


def _is_none(root: Any, body: bytes) -> str | None:
    """Say what a document that names nothing is, if it is no sitemap."""
    if _name(root).lower() == "html" or body[: len(_HTML)].lower() == _HTML:
        return "is an HTML page"
    return None if _name(root).lower() in _ROOTS else f"begins {body[:SHOWN].decode(errors='replace')!r}"


def _root(body: bytes) -> Any:
    """The root of a document, None if it has no element. HTML in its texts, which need not be XML, is left out where it is none."""
    for text in (body, None):
        parser = etree.XMLParser(resolve_entities=False, no_network=True, recover=True)
        try:
            root = etree.fromstring(body if text is not None else _MARKUP.sub(b" ", body), parser)
        except etree.XMLSyntaxError as error:
            raise VisitFailed(Failure.DECODE, f"is no sitemap: {error}") from None
        if not parser.error_log:
            break
    return root


def _is_closed(root: Any, body: bytes) -> bool:
    """Whether a document is there to its end. What a broken site says after that does not matter."""
    name = f"{root.prefix}:{_name(root)}" if root.prefix else _name(root)
    return f"</{name}".encode() in body or (not len(root) and re.search(rb"/\s*>\s*\Z", body) is not None)


def _last(root: Any) -> Any:
    """The element that a document ends in."""
    while len(root):
        root = root[-1]
    return root


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


def _of_text(text: str, base: str, today: date) -> tuple[Link, ...]:
    """Raises VisitFailed."""
    if (feed := _of_json(text, base, today)) is not None:
        return feed
    if base.endswith("/robots.txt"):
        return tuple(Link(url, "sitemap") for url in _usable(_named_by_robots(text), base))
    named = [word for word in text.split() if word.lower().startswith(("http://", "https://"))]
    if not named and text.strip():
        raise VisitFailed(Failure.DECODE, f"is no sitemap: it begins {text.strip()[:SHOWN]!r}")
    return tuple(Link(url) for url in _usable(named, base))


def _of_json(text: str, base: str, today: date) -> tuple[Link, ...] | None:
    """What a JSON Feed names (https://www.jsonfeed.org/version/1.1/): its items, and where it goes on. None: it is none."""
    try:
        feed = json.loads(text) if "jsonfeed.org/version/" in text[:PREAMBLE_MOST] else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(feed, dict):
        return None
    found = []
    items = feed.get("items")
    for item in items[:MAX_URLS] if isinstance(items, list) else []:
        told = {name: value for name, value in item.items() if isinstance(value, str)} if isinstance(item, dict) else {}
        priority, changed = _dated((told[name] for name in _JSON_DATES if name in told), today)
        url = told.get("url") or told.get("external_url") or ""
        found += [Link(url, priority=priority, modified_at=changed) for url in _usable([url], base)]
    further = feed.get("next_url")
    return (*(Link(url, "sitemap") for url in _usable([str(further or "")], base)), *dict.fromkeys(found))


def _named(element: Any) -> tuple[Kind | None, str]:
    """What an element names, if anything: a page or a sitemap."""
    name, outer = _name(element), _name(element.getparent())
    if name == "loc" and outer in ("url", "sitemap"):
        return ("sitemap" if outer == "sitemap" else "page"), str(
            element.xpath("string()") if len(element) else element.text or ""
        )
    if name == "link" and outer in ("item", "entry") and element.get("rel", "alternate") == "alternate":
        return "page", _joined(element.base or "", element.get("href") or element.text or "")  # of XML Base
    if name == "guid" and outer == "item" and element.get("isPermaLink", "true").lower() == "true":
        others = any(
            _name(other) == "link" for other in element.getparent()
        )  # RSS 2.0: where there is no link, it is one
        said = (element.text or "").strip()
        return ("page", said) if said.startswith(("http://", "https://")) and not others else (None, "")
    return None, ""


def _joined(base: str, url: str) -> str:
    with contextlib.suppress(ValueError):  # what is no URL is left to who looks at all of them
        return urljoin(base, url)
    return url


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
