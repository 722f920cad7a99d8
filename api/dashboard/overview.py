"""GET /: what is running, what needs attention, what changed."""

import os
import shutil
import time
from itertools import islice
from typing import Any, Literal

from fastapi import APIRouter, Request

from api.dashboard.charts import RANGES, charts
from api.dashboard.lists import without_echoes
from api.dashboard.views import back, page, remember
from api.deps import Form, TheDb, TheService
from api.timeline import in_sight, lanes
from scraper.database import Connection, activity, alarms, changes, events, health, listing
from scraper.database.connection import now
from scraper.errors import BowerbirdError
from scraper.statedir import Verb
from scraper.states import RunState

ROWS = 20
WORST = 8
FAILING = health.Wanted(state="failing", sort="last", limit=WORST)
DEGRADED = health.Wanted(state="degraded", limit=WORST)
EVENTS = 500
HAPPENED = 5
DISK_LOW = 2**30
Span = Literal["1h", "24h", "7d"]
FRESH_S: dict[Span, float] = {"1h": 2.0, "24h": 20.0, "7d": 60.0}

router = APIRouter(include_in_schema=False)


@page(router, "/", "overview.html")
def overview(request: Request, service: TheService, db: TheDb, range: Span = "1h") -> dict[str, Any]:
    """The first page."""
    status = service.status().answer(time.monotonic())
    board = status["shared_state"]["board"]
    found: dict[str, Any] = {
        "status": status,
        "trouble": None,
        "range": range,
        "ranges": list(RANGES),
        "disk": disk(service.loaded.base),
        "processes": [(process, board.get(process["name"], {})) for process in status["processes"]],
    }
    try:
        names = [process["name"] for process in status["processes"]]
        kept = db.read(lambda c: _kept(c, names) | {"charts": charts(_series(request, c, range))})
        remember(request, kept["counts"], kept["unread"])
        return found | kept
    except BowerbirdError as error:
        empty: list[Any] = []
        nothing = {"counts": {}, "total": 0, "worst": empty, "alarms": empty, "changes": empty, "charts": empty}
        return (
            found | nothing | {"trouble": str(error), "lanes": empty, "happened": empty, "running": empty, "unread": 0}
        )


def _kept(c: Connection, names: list[str]) -> dict[str, Any]:
    summed = health.summaries(c, FAILING, DEGRADED)
    worst = [*health.chosen(summed, FAILING)[0], *health.chosen(summed, DEGRADED)[0]][:WORST]
    news = without_echoes(listing.rows(c, "changes", {"news": True}, None, 2 * ROWS))[:ROWS]
    fresh = news or listing.rows(c, "changes", {"of": "item"}, None, ROWS)
    at = now()
    shown = in_sight(events.brief(c, "process", EVENTS), names, at)
    ends = (event for event in events.brief(c, "process", EVENTS) if event.event != "moved" and event.level != "info")
    return {
        "counts": health.counts(summed),
        "total": len(summed),
        "worst": health.told(c, worst),
        "alarms": [alarm for alarm in alarms.standing(c) if alarm["accepted_at"] is None],
        "running": listing.rows(c, "runs", {"state": RunState.RUNNING}, None, WORST),
        "changes": changes.with_subjects(c, fresh),
        "unread": changes.unread(c),
        "lanes": lanes(names, [events.told(event) for event in shown], at),
        "happened": [events.told(event) for event in islice(ends, HAPPENED)],
    }


def _series(request: Request, c: Connection, span: Span) -> list[activity.Point]:
    """The points of the charts; of a long time they are thousands of rows, and looked at again only now and then."""
    state = request.app.state
    kept: dict[Span, tuple[float, list[activity.Point]]] = getattr(state, "series", {})
    state.series = kept
    at, found = kept.get(span, (float("-inf"), []))
    minutes, points = RANGES[span]
    if time.monotonic() - at > FRESH_S[span]:
        found = activity.series(c, now(), minutes, points)
        kept[span] = time.monotonic(), found
    return found


def disk(base: Any) -> dict[str, Any]:
    """How full the disk is that the service works on."""
    usage = shutil.disk_usage(os.fspath(base))
    return {"free": usage.free, "total": usage.total, "low": usage.free < DISK_LOW}


@router.post("/control/{verb}")
def control(verb: Verb, request: Request, service: TheService, form: Form) -> Any:
    """A button: a form, so that it works without JavaScript."""
    service.ask(verb)
    return back(request, form.get("next", ["/"])[0])
