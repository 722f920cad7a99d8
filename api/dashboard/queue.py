"""What is to be visited, what is being visited, what failed, and how the hosts are treated."""

import time
from typing import Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import Response

from api.dashboard.lists import part
from api.dashboard.views import back, page
from api.deps import Cursor, Form, TheDb, TheService, Word
from api.verbs import retry_all
from scraper.database import Connection, failures, frontier, hosts, runs
from scraper.database.connection import now
from scraper.errors import BadConfig, Failure, Problem

ROWS = 100

router = APIRouter(include_in_schema=False)


@page(router, "/queue", "queue.html")
def queue(
    request: Request,
    db: TheDb,
    service: TheService,
    state: Literal["due", "flight", "retrying", "dead", "hosts"] = "dead",
    source: Word = None,
    reason: Failure | None = None,
    cursor: Cursor = None,
) -> dict[str, Any]:
    """URLs by what is to become of them."""
    named = source or None

    def unit(c: Connection) -> dict[str, Any]:
        found: dict[str, Any] = {"rows": [], "next": None}
        if state == "dead":
            found = part(c, "failures", {"source": named, "reason": reason, "unresolved": True}, cursor)
        elif state == "hosts":
            found["rows"] = hosts.told(c, ROWS)
        else:
            found["rows"] = frontier.listed(c, state, named, ROWS)
        return found | {
            "reasons": failures.reasons(c, named),
            "waiting": runs.waiting(c),
            "state": state,
            "wanted": {"source": named, "reason": reason},
            "at": now(),
        }

    board = service.status().answer(time.monotonic())["shared_state"]["board"]
    visiting = {name: told.get("visiting", []) for name, told in board.items()}
    return db.read(unit) | {"visiting": visiting}


@router.post("/queue/retry")
def retry(request: Request, db: TheDb, form: Form) -> Response:
    """Try again what is ticked, or all that the filter lets through."""
    ids = [int(text) for text in form.get("id", []) if text.isdecimal() and len(text) < 19]
    filters: dict[str, Any] = {}
    if form.get("all"):
        filters = {name: form[name][0] for name in ("source", "reason") if form.get(name, [""])[0]} or {"source": None}
        ids = []
    elif not ids:
        raise BadConfig([Problem("id", "tick the URLs that are meant, or all of them")])
    db.write(lambda c: retry_all(c, ids, filters, dry_run=False))
    return back(request, form.get("next", ["/queue"])[0])
