"""GET /: what is running, over the same calls as everybody. The live part is one fragment, fetched each second."""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, FileSystemLoader

from api.deps import RowId, TheDb, TheService
from api.timeline import lanes
from scraper.database import Db, changes, health, listing, visits
from scraper.database.connection import now
from scraper.errors import BowerbirdError
from scraper.service import Service
from scraper.statedir import Verb

ROWS = 12
EVENTS = 500
HAPPENED = 5

router = APIRouter(include_in_schema=False)
templates = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True, trim_blocks=True, lstrip_blocks=True
)


def _ago(moment: datetime | str | None) -> str:
    if moment is None:
        return "never"
    at = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    seconds = (datetime.now(UTC) - at).total_seconds()
    ago = seconds >= 0
    seconds = abs(seconds)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            text = f"{seconds / size:.0f} {unit}"
            break
    else:
        text = f"{seconds:.0f} s"
    return f"{text} ago" if ago else f"in {text}"


def _amount(bytes_: int | None) -> str:
    if bytes_ is None:
        return "–"
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if bytes_ >= size:
            return f"{bytes_ / size:.1f} {unit}"
    return f"{bytes_} B"


def _every(source: dict[str, Any]) -> str:
    if source["cron"]:
        return str(source["cron"])
    if source["every"] is None:
        return "when asked"
    seconds = float(source["every"])
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size and seconds % size == 0:
            return f"every {seconds / size:.0f} {unit}"
    return f"every {seconds:g} s"


def _short(value: Any) -> str:
    text = "–" if value is None or value == "" else str(value)
    return text if len(text) <= 60 else text[:59] + "…"


templates.filters.update(ago=_ago, amount=_amount, every=_every, short=_short)


def _picture(service: Service, db: Db) -> dict[str, Any]:
    picture: dict[str, Any] = {"status": service.status().answer(time.monotonic()), "trouble": None}
    try:
        picture["sources"] = db.read(health.listed)[0]
        picture["runs"] = {
            run["source"]: run for run in reversed(db.read(lambda c: listing.rows(c, "runs", {}, None, 100)))
        }
        picture["changes"] = db.read(lambda c: changes.with_subjects(c, listing.rows(c, "changes", {}, None, ROWS)))
        picture["items"] = db.read(lambda c: listing.rows(c, "items", {"present": True}, None, ROWS))
        told = db.read(lambda c: listing.rows(c, "events", {"kind": "process"}, None, EVENTS))
        picture["lanes"] = lanes([p["name"] for p in picture["status"]["processes"]], told, now())
        picture["happened"] = [e for e in told if e["event"] != "moved" and e["level"] != "info"][:HAPPENED]
        picture["failures"] = db.read(lambda c: listing.rows(c, "failures", {"unresolved": True}, None, ROWS))
    except BowerbirdError as error:
        picture |= {
            "trouble": str(error),
            "sources": [],
            "runs": {},
            "changes": [],
            "items": [],
            "failures": [],
            "lanes": [],
            "happened": [],
        }
    picture["processes"] = [
        (process, picture["status"]["shared_state"]["board"].get(process["name"], {}))
        for process in picture["status"]["processes"]
    ]
    return picture


@router.get("/")
def overview(service: TheService, db: TheDb) -> HTMLResponse:
    """The whole page."""
    return HTMLResponse(templates.get_template("overview.html").render(_picture(service, db)))


@router.get("/live")
def live(service: TheService, db: TheDb) -> HTMLResponse:
    """The part that changes."""
    return HTMLResponse(templates.get_template("live.html").render(_picture(service, db)))


@router.post("/control/{verb}")
def control(verb: Verb, service: TheService) -> RedirectResponse:
    """A button of the page: a form, so that it works without JavaScript."""
    service.ask(verb)
    return RedirectResponse("/", status_code=303)


@router.post("/retry/{failure_id}")
def retry(failure_id: RowId, db: TheDb) -> RedirectResponse:
    """Try a failed URL again."""
    db.write(lambda c: visits.retry(c, [failure_id], now()))
    return RedirectResponse("/", status_code=303)


@router.get("/docs")
def docs(request: Request) -> HTMLResponse:
    """The calls of the API, from its OpenAPI description at /openapi.json."""
    return HTMLResponse(templates.get_template("docs.html").render(api=request.app.openapi()))
