"""What changed: the stream of it, and one change word by word."""

from typing import Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import Response

from api.dashboard.lists import part, without_echoes
from api.dashboard.views import back, page
from api.deps import Cursor, Form, RowId, TheDb, Word
from scraper import differ
from scraper.config.settings import Noise
from scraper.database import Connection, changes, items, pages
from scraper.database.connection import now
from scraper.errors import NotFound, VisitFailed
from scraper.extract.page import Page
from scraper.extract.visible import blocks

BODY_MOST = 2 * 2**20
AROUND = 2  # blocks that are shown beside what differs

router = APIRouter(include_in_schema=False)

Change = Literal["created", "changed", "removed", "returned", "moved"]


@page(router, "/changes", "changes.html")
def list_changes(
    request: Request,
    db: TheDb,
    source: Word = None,
    change: Change | None = None,
    of: Literal["item", "page"] | None = None,
    kind: Word = None,
    unread: bool | None = None,
    cursor: Cursor = None,
) -> dict[str, Any]:
    """What changed, the newest first; what was created only where it is asked for."""
    filters: dict[str, Any] = {
        "source": source or None,
        "change": change,
        "of": of,
        "kind": kind or None,
        "unread": unread,
    }
    filters |= {"news": True} if change is None else {}

    def unit(c: Connection) -> dict[str, Any]:
        found = part(c, "changes", filters, cursor)
        found["rows"] = changes.with_subjects(c, found["rows"] if of else without_echoes(found["rows"]))
        return found | {"unread": changes.unread(c), "newest": changes.newest(c), "wanted": filters}

    return db.read(unit)


@router.post("/changes/read")
def mark_read(request: Request, db: TheDb, form: Form) -> Response:
    """Note that changes were seen: those that are named, or all up to one."""
    ids = [int(text) for text in form.get("id", []) if text.isdecimal() and len(text) < 19]
    up_to = form.get("up_to", [""])[0]
    last = int(up_to) if up_to.isdecimal() and len(up_to) < 19 else None
    db.write(lambda c: changes.mark_read(c, now(), ids, last))
    return back(request, form.get("next", ["/changes"])[0])


@page(router, "/changes/{change_id}", "change.html")
def show_change(
    request: Request,
    change_id: RowId,
    db: TheDb,
    old: Word = None,
    new: Word = None,
    whole: bool = False,
    side: bool = False,
) -> dict[str, Any]:
    """One change. old, new: which two versions to compare; otherwise from what was seen last to what is now."""

    def unit(c: Connection) -> dict[str, Any]:
        change = changes.one(c, change_id)
        before, after = changes.neighbours(c, change_id, None)
        found: dict[str, Any] = {
            "change": change,
            "before": before,
            "after": after,
            "others": changes.of_subject(c, change),
        }
        seen = next((other["at"] for other in found["others"] if other["read"] and other["id"] < change_id), None)
        return found | _versions(c, change, old, new, seen)

    found = db.read(unit)
    bodies = found.pop("bodies", None)
    shown = _compared(*bodies, whole=whole) if bodies is not None else None
    return found | {"hunks": shown, "whole": whole, "side": side}


def _versions(c: Connection, change: dict[str, Any], old: str | None, new: str | None, seen: Any) -> dict[str, Any]:
    """The versions that there are, and the two that are compared: their data, or for a page their bodies."""
    try:
        if change["of"] == "item" and change["item_id"] is not None:
            kept = items.history(c, change["item_id"])
        elif change["page_id"] is not None:
            kept = pages.versions(c, change["page_id"])
        else:
            return {"versions": [], "old": None, "new": None}
    except NotFound:
        return {"versions": [], "old": None, "new": None}
    was, now_is = _pair(kept, change, old, new, seen)
    found: dict[str, Any] = {"versions": kept, "old": was, "new": now_is}
    if change["of"] == "item":
        fields = items.difference(was["data"], now_is["data"]) if was is not None and now_is is not None else {}
        return found | {"fields": fields or change["fields"]}
    if was is None or now_is is None:
        return found
    try:
        bodies = [pages.version_body(c, change["page_id"], one["id"]) for one in (was, now_is)]
    except NotFound:
        return found
    return found | {"bodies": (change["url"] or "", bodies)}


def _pair(
    kept: list[dict[str, Any]], change: dict[str, Any], old: str | None, new: str | None, seen: Any
) -> tuple[Any, Any]:
    """The two versions that are meant: those that were named; else what this change made, and what was there before."""
    by_name = {str(one["id"] or "now"): one for one in kept}
    later = by_name.get(new or "") or next((one for one in kept if one["at"] <= change["at"]), None)
    earlier = by_name.get(old or "")
    if earlier is None and later is not None:
        before = kept[kept.index(later) + 1 :]
        earlier = next((one for one in before if seen is not None and one["at"] <= seen), before[0] if before else None)
    return earlier, later


def _compared(url: str, bodies: list[tuple[bytes, dict[str, str]]], *, whole: bool) -> list[dict[str, Any]] | None:
    """Where two versions of a page differ, block by block; None if one of them cannot be read."""
    try:
        was, now_is = (blocks(Page(url, 200, headers, body[:BODY_MOST]), Noise()) for body, headers in bodies)
    except VisitFailed:
        return None
    hunks: list[dict[str, Any]] = []
    for kind, old, new in differ.aligned(was, now_is):
        if kind == "same" and not whole and len(old) > 2 * AROUND + 1:
            hunks.append({"kind": "same", "old": old[:AROUND] if hunks else [], "new": []})
            hunks.append(
                {"kind": "gap", "count": len(old) - (2 if hunks[-1]["old"] else 1) * AROUND, "old": [], "new": []}
            )
            hunks.append({"kind": "same", "old": old[-AROUND:], "new": []})
        else:
            hunks.append({"kind": kind, "old": old, "new": new})
    return hunks
