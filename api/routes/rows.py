"""What was scraped: runs, pages, items, changes, alarms, failures. Lists are newest first and page by cursor."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import Field

from api.deps import Given, OfChanges, Paging, RowId, Since, Text, TheDb, Word, before_of
from api.examples import example
from api.verbs import end_run, retry_all
from scraper.database import alarms, changes, items, listing, pages, runs, visits
from scraper.database.connection import now
from scraper.errors import BadConfig, Failure, Problem
from scraper.states import RunState

router = APIRouter(prefix="/api")

SANDBOX = {"Content-Security-Policy": "sandbox; default-src 'none'"}


@router.get("/runs", tags=["runs"], responses=example("run", listed=True))
def list_runs(db: TheDb, page: Paging, source: Word = None, state: RunState | None = None) -> dict[str, Any]:
    """Runs with their counts."""
    return page.answer(db, "runs", source=source, state=state)


@router.get("/runs/{run_id}", tags=["runs"], responses=example("run"))
def get_run(run_id: RowId, db: TheDb) -> dict[str, Any]:
    """One run."""
    return db.read(lambda c: runs.one(c, run_id, now()))


@router.post("/runs/{run_id}/stop", tags=["runs"], responses=example("run"))
def stop_run(run_id: RowId, db: TheDb) -> dict[str, Any]:
    """End a run before it is done: what is in flight is stored, nothing more is visited. One that has ended stays as it is."""
    return db.write(lambda c: end_run(c, run_id))


@router.get("/pages", tags=["pages"], responses=example("page", listed=True))
def list_pages(
    db: TheDb,
    page: Paging,
    source: Word = None,
    url: Word = None,
    status: Annotated[int | None, Query(ge=100, le=599)] = None,
    changed_since: Since = None,
    fetched_since: Since = None,
    gone: bool | None = None,
) -> dict[str, Any]:
    """Pages, without their content."""
    instants = {"changed_since": changed_since, "fetched_since": fetched_since}
    return page.answer(db, "pages", source=source, address=url, status=status, gone=gone, **instants)


@router.get("/pages/{page_id}", tags=["pages"], responses=example("page"))
def get_page(page_id: RowId, db: TheDb) -> dict[str, Any]:
    """One page."""
    return db.read(lambda c: pages.one(c, page_id))


@router.get("/pages/{page_id}/versions", tags=["pages"])
def get_versions(page_id: RowId, db: TheDb, page: Paging) -> dict[str, Any]:
    """What a page is and was, the newest first. The first one, whose id is null, is what it is now."""
    return page.cut(db.read(lambda c: pages.versions(c, page_id, before_of(page.cursor), page.limit + 1)))


@router.get("/pages/{page_id}/content", tags=["pages"])
def get_content(page_id: RowId, db: TheDb, version: Annotated[int | None, Query(ge=0, lt=2**63)] = None) -> Response:
    """The stored body, of an earlier version too, as a download in a sandbox: a scraped page must not run here."""
    body, headers = db.read(lambda c: pages.version_body(c, page_id, version))
    kind = str(headers.get("content-type", "application/octet-stream"))
    kind = "".join(letter for letter in kind if letter.isprintable())
    named = {"Content-Disposition": f'attachment; filename="page-{page_id}"'}
    return Response(
        body, headers={"Content-Type": kind.encode("latin-1", "replace").decode("latin-1")} | named | SANDBOX
    )


@router.get("/items", tags=["items"], responses=example("item", listed=True))
def list_items(
    db: TheDb,
    page: Paging,
    source: Word = None,
    kind: Word = None,
    q: Word = None,
    changed_since: Since = None,
    removed: bool | None = None,
) -> dict[str, Any]:
    """Items as they are now, those that are gone too (removed_at), or only these, or all but these (removed)."""
    return page.answer(db, "items", source=source, kind=kind, q=q, changed_since=changed_since, removed=removed)


@router.get("/items/{item_id}", tags=["items"], responses=example("item"))
def get_item(item_id: RowId, db: TheDb) -> dict[str, Any]:
    """One item."""
    return db.read(lambda c: items.one(c, item_id))


@router.get("/items/{item_id}/history", tags=["items"])
def get_history(item_id: RowId, db: TheDb, page: Paging) -> dict[str, Any]:
    """The versions of an item, the newest first. The first one, whose id is null, is what it is now."""
    return page.cut(db.read(lambda c: items.history(c, item_id, before_of(page.cursor), page.limit + 1)))


@router.get("/changes", tags=["changes"], responses=example("change", listed=True))
def list_changes(db: TheDb, page: Paging, filters: OfChanges) -> dict[str, Any]:
    """What was created, changed, removed, came back and moved, with what changed: {name: [old, new]}."""
    before, most = before_of(page.cursor), page.limit + 1
    return page.cut(db.read(lambda c: changes.with_subjects(c, listing.rows(c, "changes", filters, before, most))))


class Read(Given):
    """Which changes a person has seen: these, and all up to one."""

    ids: list[int] = Field(default=[], max_length=500)
    up_to: int | None = Field(default=None, ge=0, lt=2**63)


@router.post("/changes/read", tags=["changes"])
def mark_read(which: Read, db: TheDb) -> dict[str, int]:
    """Note that a person has seen changes."""
    ids = [n for n in which.ids if 0 <= n < 2**63]
    return {"marked": db.write(lambda c: changes.mark_read(c, now(), ids, which.up_to))}


@router.get("/changes/{change_id}", tags=["changes"], responses=example("change"))
def get_change(change_id: RowId, db: TheDb) -> dict[str, Any]:
    """One change, with what it is of."""
    return db.read(lambda c: changes.one(c, change_id))


@router.get("/alarms", tags=["alarms"])
def list_alarms(db: TheDb, source: Word = None) -> dict[str, Any]:
    """What is wrong with what sources yield: items that vanished at once, fields that were lost."""
    return {"items": db.read(lambda c: alarms.standing(c, source)), "next": None}


@router.post("/alarms/{alarm_id}/accept", tags=["alarms"])
def accept_alarm(alarm_id: RowId, db: TheDb) -> dict[str, Any]:
    """Say that it is right so: the next run takes the items that it does not see for gone."""
    return db.write(lambda c: alarms.accept(c, alarm_id, now()))


@router.get("/failures", tags=["failures"], responses=example("failure", listed=True))
def list_failures(
    db: TheDb, page: Paging, source: Word = None, reason: Failure | None = None, unresolved: bool = True
) -> dict[str, Any]:
    """What failed and why; what has passed meanwhile only with unresolved=false."""
    return page.answer(db, "failures", source=source, reason=reason, unresolved=unresolved or None)


class Retry(Given):
    """Which failures: by number, or all of a source, with a reason."""

    ids: list[Annotated[int, Field(ge=0, lt=2**63)]] = Field(default=[], max_length=500)
    source: Text | None = Field(default=None, max_length=100)
    reason: Failure | None = None
    dry_run: bool = False


@router.post("/failures/retry", status_code=202, tags=["failures"])
def retry_failures(which: Retry, db: TheDb) -> dict[str, Any]:
    """Visit URLs that failed again, now; with dry_run only say how many. Answers the runs that do it, by source."""
    if not which.ids and which.source is None and which.reason is None:
        raise BadConfig([Problem("ids", "say which: ids, or source, reason of those that are meant")])
    named = {"source": which.source, "reason": which.reason}
    filters = {name: value for name, value in named.items() if value is not None}
    return db.write(lambda c: retry_all(c, which.ids, filters, dry_run=which.dry_run))


@router.post("/failures/{failure_id}/retry", status_code=202, tags=["failures"])
def retry_failure(failure_id: RowId, db: TheDb) -> dict[str, Any]:
    """Visit a URL that failed again, now, one that was set aside too. Answers the run that does it."""
    asked = db.write(lambda c: visits.retry(c, [failure_id], now()))
    source, run = next(iter(asked.items()))
    return {"run": run, "source": source}
