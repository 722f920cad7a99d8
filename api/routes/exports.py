"""Streamed exports, and changes as a feed."""

import hashlib
from collections.abc import Callable, Generator
from datetime import datetime
from typing import Annotated, Any

from anyio import CancelScope, to_thread
from fastapi import APIRouter, Depends, Header, HTTPException, Query, Request, Response
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from api.deps import OfChanges, Since, TheDb, Word
from scraper import export
from scraper.database import Db, changes, listing, sources
from scraper.errors import Failure
from scraper.export import Format, What, atom
from scraper.states import RunState

FEED_MOST = 100

router = APIRouter(prefix="/api", tags=["exports"])


class Download(StreamingResponse):
    """A file that is made while it is sent. What it was made with is given back at once, also when the reader has gone."""

    def __init__(self, pieces: Generator[bytes, None, None], **given: Any) -> None:
        super().__init__(pieces, **given)
        self._pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            with CancelScope(shield=True):
                await to_thread.run_sync(self._pieces.close)


@router.get("/export/{source}", response_class=StreamingResponse)
def export_source(
    source: str,
    db: TheDb,
    format: Format = Format.JSONL,
    what: What | None = None,
    kind: Word = None,
    fields: Word = None,
    since: Since = None,
    gz: bool = False,
) -> Download:
    """The items of a source, or what else there is of it, as a file. Items that are gone are left out."""
    db.read(lambda c: sources.known(c, source))
    return _download(db, format, gz, lambda: _wanted(source, what, kind, fields, since, format))


def _download(db: Db, format: Format, gz: bool, wanted: Callable[[], export.Wanted]) -> Download:
    style = export.Style(gz=gz)
    try:
        pieces = export.chunks(db, wanted(), format, style)
    except export.Unfit as error:
        raise HTTPException(422, str(error)) from None
    except export.Lacking as error:
        raise HTTPException(501, str(error)) from None
    name = f"export.{format}{'.gz' if gz else ''}"
    return Download(
        pieces,
        media_type=export.media(format, style),
        headers={"Content-Disposition": f'attachment; filename="{name}"', "X-Content-Type-Options": "nosniff"},
    )


def _of_pages(
    url: Word = None,
    status: Annotated[int | None, Query(ge=100, le=599)] = None,
    fetched_since: Since = None,
    gone: bool | None = None,
) -> dict[str, Any]:
    return {"address": url, "status": status, "fetched_since": fetched_since, "gone": gone}


@router.get("/export", response_class=StreamingResponse)
def export_list(
    db: TheDb,
    of_changes: OfChanges,
    of_pages: Annotated[dict[str, Any], Depends(_of_pages)],
    what: What = "items",
    format: Format = Format.JSONL,
    q: Word = None,
    changed_since: Since = None,
    removed: bool = False,
    reason: Failure | None = None,
    unresolved: bool = True,
    state: RunState | None = None,
    fields: Word = None,
    gz: bool = False,
) -> Download:
    """A list of all sources, or of one, as a file, with the filters of that list."""
    given: dict[What, dict[str, Any]] = {
        "items": {"kind": of_changes["kind"], "q": q, "changed_since": changed_since, "removed": removed},
        "pages": {**of_pages, "changed_since": changed_since},
        "changes": of_changes,
        "failures": {"reason": reason, "unresolved": unresolved or None},
        "runs": {"state": state},
    }
    names = [name.strip() for name in (fields or "").split(",") if name.strip()]
    filters = {name: of_changes[name] for name in ("source", "since")} | given[what]
    filters = {name: value for name, value in filters.items() if value != ""}
    return _download(db, format, gz, lambda: export.Wanted(what=what, filters=filters, fields=tuple(names)))


def _wanted(
    source: str, what: What | None, kind: str | None, fields: str | None, since: datetime | None, form: Format
) -> export.Wanted:
    what = what or ("pages" if form is Format.WARC else "items")
    if kind is not None and what not in ("items", "changes"):
        raise export.Unfit(f"{what} have no kind; leave it out")
    filters: dict[str, Any] = {"source": source, "kind": kind, "since": since}
    names = [name.strip() for name in (fields or "").split(",")]
    present = {"present": True} if what == "items" else {}
    return export.Wanted(what=what, filters=filters | present, fields=tuple([name for name in names if name]))


@router.get("/changes.atom", response_class=Response, responses={200: {"content": {atom.MEDIA: {}}}, 304: {}})
def changes_feed(
    request: Request,
    db: TheDb,
    filters: OfChanges,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """The newest changes as an Atom feed."""
    rows = db.read(lambda c: changes.with_subjects(c, listing.rows(c, "changes", filters, None, FEED_MOST)))
    title = f"Changes of {filters['source']}" if filters["source"] else "Changes"
    body = atom.feed(rows, title, str(request.url))
    headers = {"ETag": f'"{hashlib.sha256(body).hexdigest()[:32]}"', "Cache-Control": "no-cache"}
    if _matches(if_none_match, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return Response(body, media_type=atom.MEDIA, headers=headers)


def _matches(asked: str | None, tag: str) -> bool:
    """Say whether a reader has this already (RFC 9110 section 13.1.2)."""
    known = [one.strip().removeprefix("W/") for one in (asked or "").split(",")]
    return tag in known or known == ["*"]
