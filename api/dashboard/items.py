"""Items and pages: all of them, and one of them."""

from collections import Counter
from itertools import pairwise
from typing import Any

from fastapi import APIRouter, Request

from api.dashboard.lists import COUNT_MOST, part
from api.dashboard.views import page
from api.deps import Cursor, RowId, Since, TheDb, Word
from scraper.config.settings import Noise
from scraper.database import Connection, changes, enrichments, items, listing, pages, sources
from scraper.database.hosts import robots_of
from scraper.errors import NotFound, VisitFailed
from scraper.extract.page import Page
from scraper.extract.visible import blocks
from scraper.records import unpacked

FACETS = 500  # of so many of the newest rows
VALUES = 12
COLUMNS = 6
TEXT_BLOCKS = 200
LINKS = 200
NAMES_MOST = 500  # sources that the filter proposes
BODY_MOST = 2 * 2**20

router = APIRouter(include_in_schema=False)


@page(router, "/items", "items.html")
def list_items(
    request: Request,
    db: TheDb,
    source: Word = None,
    kind: Word = None,
    q: Word = None,
    changed_since: Since = None,
    removed: bool = False,
    columns: Word = None,
    cursor: Cursor = None,
) -> dict[str, Any]:
    """Items as they are now."""
    filters: dict[str, Any] = {
        "source": source or None,
        "kind": kind or None,
        "q": q or None,
        "changed_since": changed_since,
        "removed": removed,
    }

    def unit(c: Connection) -> dict[str, Any]:
        found = part(c, "items", filters, cursor)
        sample = found["rows"] if q else listing.rows(c, "items", filters, None, FACETS)
        seen: Counter[str] = Counter(name for row in sample for name in row["data"])
        chosen = [name for name in (columns or "").split(",") if name in seen]
        names = chosen or [name for name in seen if _is_short(sample, name)][:COLUMNS]
        return found | {
            "fields": list(seen),
            "columns": names,
            "facets": _facets(sample),
            "count": items.count(c, filters, COUNT_MOST) if not q else None,
            "count_most": COUNT_MOST,
            "names": sources.names(c, NAMES_MOST),
            "wanted": filters,
        }

    return db.read(unit)


def _is_short(sample: list[dict[str, Any]], name: str) -> bool:
    """Whether a field fits into a column."""
    values = [row["data"].get(name) for row in sample[:50]]
    return not any(isinstance(value, list | dict) or len(str(value)) > 120 for value in values)


def _facets(sample: list[dict[str, Any]]) -> dict[str, list[tuple[str, int]]]:
    """Of the fields that have few different values, how often each is there among the newest rows."""
    found = {"source": Counter(row["source"] for row in sample), "kind": Counter(row["kind"] for row in sample)}
    return {name: counts.most_common(VALUES) for name, counts in found.items() if len(counts) > 1}


@page(router, "/items/{item_id}", "item.html")
def show_item(request: Request, item_id: RowId, db: TheDb) -> dict[str, Any]:
    """One item, and what it was."""

    def unit(c: Connection) -> dict[str, Any]:
        item = items.one(c, item_id)
        versions = items.history(c, item_id)
        steps = [
            {"at": new["at"], "fields": items.difference(old["data"], new["data"])} for new, old in pairwise(versions)
        ]
        told = changes.of_subject(c, {"item_id": item_id})
        made = enrichments.of_subject(c, "item", item_id)
        return {"item": item, "versions": versions, "steps": steps, "changes": told, "made": made}

    return db.read(unit)


@page(router, "/pages", "pages.html")
def list_pages(
    request: Request,
    db: TheDb,
    source: Word = None,
    url: Word = None,
    gone: bool | None = None,
    cursor: Cursor = None,
) -> dict[str, Any]:
    """Pages, the newest first."""
    filters = {"source": source or None, "address": url or None, "gone": gone}
    return db.read(lambda c: part(c, "pages", filters, cursor) | {"wanted": filters | {"url": url}})


@page(router, "/pages/{page_id}", "page.html")
def show_page(request: Request, page_id: RowId, db: TheDb) -> dict[str, Any]:
    """One page: what was answered, what it was, what it says, where it leads."""

    def unit(c: Connection) -> dict[str, Any]:
        found = pages.one(c, page_id)
        origin = "/".join(found["final_url"].split("/")[:3])
        stored = robots_of(c, [origin]).get(origin)
        return {
            "page": found,
            "versions": pages.versions(c, page_id),
            "links": [link.url for link in unpacked(pages.links_of(c, page_id))],
            "items": items.on_page(c, page_id),
            "robots": {"status": stored.status, "fetched_at": stored.fetched_at} if stored is not None else None,
            "changes": changes.of_subject(c, {"item_id": None, "page_id": page_id}),
            "made": enrichments.of_subject(c, "page", page_id),
            "body": _body(c, page_id),
        }

    found = db.read(unit)
    body = found.pop("body")
    links = found["links"]
    return found | {"text": _read(found["page"]["final_url"], body), "links": links[:LINKS], "link_count": len(links)}


def _body(c: Connection, page_id: int) -> tuple[bytes, dict[str, str]] | None:
    try:
        return pages.version_body(c, page_id, None)
    except NotFound:
        return None


def _read(url: str, stored: tuple[bytes, dict[str, str]] | None) -> list[str]:
    if stored is None:
        return []
    try:
        return blocks(Page(url, 200, stored[1], stored[0][:BODY_MOST]), Noise())[:TEXT_BLOCKS]
    except VisitFailed:
        return []
