"""Changes as an Atom feed (RFC 4287). Pure: rows to bytes."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from lxml import etree

from scraper.export.wanted import Row
from scraper.export.words import plain, text
from scraper.records import called
from scraper.urls import is_web

MEDIA = "application/atom+xml"
ATOM = "http://www.w3.org/2005/Atom"
# Whoever runs this has no name of their own that stays; .invalid is nobody's (RFC 2606), and the moment of the change is in the tag.
MINTED_BY = "bowerbird.invalid,2026"
TITLE_MOST = 200
VALUE_MOST = 500
SUMMARY_MOST = 10_000
BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
# https://www.w3.org/TR/xml/#charsets
_ILLEGAL = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def feed(rows: Sequence[Row], title: str, address: str) -> bytes:
    """Return a feed of changes, the newest first as they are given, each with the item's key, url and data as far as there is one.

    address: where the feed is asked for; with the same rows it is the same feed.
    """
    root = etree.Element(f"{{{ATOM}}}feed", nsmap={None: ATOM})  # type: ignore[dict-item]  # the stubs know no default namespace
    _add(root, "id", _tag("feed", quote(re.sub(r"^https?://[^/]*", "", address), safe="/")))
    _add(root, "title", _line(title))
    _add(root, "updated", text(max((row["at"] for row in rows), default=BEGINNING)))
    _add(_add(root, "author"), "name", "Bowerbird")
    _add(root, "generator", "Bowerbird")
    if is_web(address):
        _add(root, "link", rel="self", type=MEDIA, href=_legal(address))
    for row in rows:
        _entry(root, row)
    return etree.tostring(root, xml_declaration=True, encoding="utf-8", pretty_print=True)


def _entry(root: Any, row: Row) -> None:
    entry = _add(root, "entry")
    moment = f"{row['at'].astimezone(UTC):%Y%m%dT%H%M%S.%fZ}"
    _add(entry, "id", _tag("change", quote(row["source"], safe=""), str(row["id"]), moment))
    _add(entry, "title", _title(row))
    _add(entry, "updated", text(row["at"]))
    _add(entry, "category", term=_legal(row["source"]), label="source")
    _add(entry, "category", term=_legal(row["change"]), label="change")
    url = row.get("url")
    told = difference(row)
    if isinstance(url, str) and is_web(url):
        _add(entry, "link", rel="alternate", href=_legal(url))
        _add(entry, "summary", told, type="text")
    else:  # without a link an entry must have content
        _add(entry, "content", told, type="text")


def _title(row: Row) -> str:
    name = called(row.get("data"), row.get("title"), row.get("key"), row.get("url"), row["of"])
    changed = f" ({', '.join(row['fields'])})" if row["change"] == "changed" and row["of"] == "item" else ""
    return f"{_line(str(name))}: {_line(row['change'] + changed)}"


def difference(row: Row) -> str:
    """Return what changed, a line a field: `price: 10 -> 12`."""
    whose = " ".join(part for part in (row["source"], row.get("kind") or row["of"], row.get("key")) if part)
    fields = (row["fields"] or {}).items()
    lines = [
        f"{_cut(name)}: {_cut(plain(old)) or 'nothing'} -> {_cut(plain(new)) or 'nothing'}"
        for name, (old, new) in fields
        if name != "content_hash"
    ]
    return _legal("\n".join([f"{_line(whose)}: {row['change']}", *lines]))[:SUMMARY_MOST]


def _tag(*parts: str) -> str:
    """A tag URI (RFC 4151)."""
    return f"tag:{MINTED_BY}:{'/'.join(parts)}"


def _add(parent: Any, name: str, said: str | None = None, **attributes: str) -> Any:
    made = etree.SubElement(parent, f"{{{ATOM}}}{name}", attributes)
    made.text = said
    return made


def _legal(said: str) -> str:
    return _ILLEGAL.sub("", said)


def _line(said: str) -> str:
    made = " ".join(_legal(said).split())
    return made if len(made) <= TITLE_MOST else made[: TITLE_MOST - 1] + "…"


def _cut(said: str) -> str:
    return said if len(said) <= VALUE_MOST else said[: VALUE_MOST - 1] + "…"
