"""What was scraped: runs, pages, items, changes, failures. Lists are newest first and page by cursor."""

from typing import Any

from fastapi import APIRouter, Response

from api.deps import Paging, RowId, Since, TheDb, Word
from scraper.database import items, pages, runs, visits
from scraper.database.connection import now

router = APIRouter(prefix="/api")


@router.get("/runs", tags=["runs"])
def list_runs(db: TheDb, page: Paging, source: Word = None, state: Word = None) -> dict[str, Any]:
    """Runs with their counts."""
    return page.answer(db, "runs", source=source, state=state)


@router.get("/runs/{run_id}", tags=["runs"])
def get_run(run_id: RowId, db: TheDb) -> dict[str, Any]:
    """One run."""
    return db.read(lambda c: runs.one(c, run_id, now()))


@router.get("/pages", tags=["pages"])
def list_pages(db: TheDb, page: Paging, source: Word = None, url: Word = None) -> dict[str, Any]:
    """Pages, without their content."""
    return page.answer(db, "pages", source=source, final_url=url)


@router.get("/pages/{page_id}", tags=["pages"])
def get_page(page_id: RowId, db: TheDb) -> dict[str, Any]:
    """One page."""
    return db.read(lambda c: pages.one(c, page_id))


@router.get("/pages/{page_id}/content", tags=["pages"])
def get_content(page_id: RowId, db: TheDb) -> Response:
    """The stored body, as a download in a sandbox: a scraped page must not run here."""
    kind, body = db.read(lambda c: pages.content(c, page_id))
    return Response(
        body,
        headers={
            "Content-Type": kind.encode("latin-1", "replace").decode("latin-1"),
            "Content-Disposition": f'attachment; filename="page-{page_id}"',
            "Content-Security-Policy": "sandbox; default-src 'none'",
        },
    )


@router.get("/items", tags=["items"])
def list_items(
    db: TheDb,
    page: Paging,
    source: Word = None,
    kind: Word = None,
    q: Word = None,
    changed_since: Since = None,
) -> dict[str, Any]:
    """Items as they are now."""
    return page.answer(db, "items", source=source, kind=kind, q=q, changed_since=changed_since)


@router.get("/items/{item_id}", tags=["items"])
def get_item(item_id: RowId, db: TheDb) -> dict[str, Any]:
    """One item."""
    return db.read(lambda c: items.one(c, item_id))


@router.get("/items/{item_id}/history", tags=["items"])
def get_history(item_id: RowId, db: TheDb) -> dict[str, Any]:
    """The versions of an item, the newest first."""
    return {"items": db.read(lambda c: items.history(c, item_id)), "next": None}


@router.get("/changes", tags=["items"])
def list_changes(
    db: TheDb, page: Paging, source: Word = None, change: Word = None, since: Since = None, kind: Word = None
) -> dict[str, Any]:
    """What was created, changed, removed, and came back."""
    return page.answer(db, "changes", source=source, change=change, since=since, kind=kind)


@router.get("/failures", tags=["failures"])
def list_failures(
    db: TheDb, page: Paging, source: Word = None, reason: Word = None, unresolved: bool = True
) -> dict[str, Any]:
    """What failed and why; what has passed meanwhile only with unresolved=false."""
    return page.answer(db, "failures", source=source, reason=reason, unresolved=unresolved or None)


@router.post("/failures/{failure_id}/retry", status_code=202, tags=["failures"])
def retry_failure(failure_id: RowId, db: TheDb) -> dict[str, Any]:
    """Visit a URL that failed again, now, one that was set aside too. Answers the run that does it."""
    asked = db.write(lambda c: visits.retry(c, [failure_id], now()))
    source, run = next(iter(asked.items()))
    return {"run": run, "source": source}
