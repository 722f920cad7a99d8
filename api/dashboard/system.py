"""The machinery: what happened to it, what it runs on, who may call, whom it tells."""

import platform
import re
import time
from dataclasses import asdict
from datetime import timedelta
from importlib.metadata import version
from typing import Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from api.dashboard.lists import part
from api.dashboard.overview import disk
from api.dashboard.views import back, page, render
from api.deps import Cursor, Form, RowId, TheDb, TheService, Word
from api.verbs import rules_with_counts, shown
from scraper.config.settings import Settings
from scraper.database import Connection, alarms, connection, maintenance, notices, schema, tokens
from scraper.database.connection import now
from scraper.errors import BadConfig, BowerbirdError, NotFound, Problem
from scraper.notify import message

HISTORY = 50
DELIVERIES = 50

router = APIRouter(include_in_schema=False)


@page(router, "/events", "events.html")
def list_events(
    request: Request,
    db: TheDb,
    kind: Word = None,
    level: Literal["info", "warning", "error"] | None = None,
    name: Word = None,
    cursor: Cursor = None,
) -> dict[str, Any]:
    """What happened to the machinery, the newest first."""
    filters = {"kind": kind or None, "level": level, "name": name or None}
    return db.read(lambda c: part(c, "events", filters, cursor) | {"wanted": filters})


@page(router, "/system", "system.html")
def show_system(request: Request, db: TheDb, service: TheService) -> dict[str, Any]:
    """What it runs on, and by which settings."""
    found: dict[str, Any] = {
        "status": service.status().answer(time.monotonic()),
        "versions": {
            "bowerbird": version("bowerbird"),
            "Python": platform.python_version(),
            "system": platform.platform(),
        },
        "disk": disk(service.loaded.base),
        "database": {"shown": db.shown, "version": schema.HEAD, **db.gauges()},
        "state_dir": str(service.state_dir),
        "config": str(service.loaded.path) if service.loaded.path is not None else None,
        "settings": plain_settings(service.settings),
        "trouble": None,
        "tables": [],
        "restarts": [],
    }
    try:
        return found | db.read(_kept)
    except BowerbirdError as error:
        return found | {"trouble": str(error)}


def _kept(c: Connection) -> dict[str, Any]:
    told = part(c, "events", {"kind": "process", "event": "ended"}, None, HISTORY)["rows"]
    return {"tables": maintenance.sizes(c), "restarts": told}


def plain_settings(settings: Settings) -> dict[str, dict[str, Any]]:
    """The settings in force, table by table, without what is secret in them."""
    tables = {
        name: {key: _plain(value) for key, value in table.items()}
        for name, table in asdict(settings).items()
        if isinstance(table, dict)
    }
    tables["server"]["token"] = "***" if settings.server.token else ""
    tables["database"]["url"] = connection.shown(settings.database.url)
    if settings.http.proxy:
        tables["http"]["proxy"] = shown(settings.http.proxy)
    return tables


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


@router.post("/alarms/{alarm_id}/accept")
def accept(request: Request, alarm_id: RowId, db: TheDb, form: Form) -> Response:
    """Say that it is right so."""
    db.write(lambda c: alarms.accept(c, alarm_id, now()))
    return back(request, form.get("next", ["/"])[0])


@page(router, "/notifications", "notifications.html")
def notifications(
    request: Request,
    db: TheDb,
    service: TheService,
    state: Literal["queued", "sent", "dead"] | None = None,
    rule: Word = None,
    cursor: Cursor = None,
) -> dict[str, Any]:
    """Whom it tells, and what became of it."""

    def unit(c: Connection) -> dict[str, Any]:
        found = part(c, "deliveries", {"state": state, "rule": rule or None}, cursor, DELIVERIES)
        return found | {
            "rules": rules_with_counts(c, service.settings.notify),
            "wanted": {"state": state, "rule": rule},
        }

    return db.read(unit)


@router.post("/notifications/{name}/test")
def test(request: Request, name: str, db: TheDb, service: TheService) -> Response:
    """Send a test message."""
    if name not in {rule.name for rule in service.settings.notify}:
        raise NotFound(f"there is no rule {name!r}")
    payload = message.test(name)
    db.write(lambda c: notices.add(c, name, message.subject(payload), payload, now(), now()))
    return back(request, "/notifications")


@router.post("/deliveries/{delivery_id}/retry")
def retry(request: Request, delivery_id: RowId, db: TheDb) -> Response:
    """Try to deliver a message again."""
    db.write(lambda c: notices.again(c, delivery_id, now()))
    return back(request, "/notifications")


@page(router, "/tokens", "tokens.html")
def list_tokens(request: Request, db: TheDb) -> dict[str, Any]:
    """Who may call."""
    return {"tokens": db.read(tokens.listed), "made": None, "problem": None}


@router.post("/tokens")
def make_token(request: Request, db: TheDb, form: Form) -> Response:
    """Make a token, and show it once."""
    name, scope, days = (form.get(key, [""])[0].strip() for key in ("name", "scope", "days"))
    made, problem = None, None
    try:
        if not name or scope not in tokens.SCOPES or (days and not re.fullmatch("[1-9][0-9]{0,4}", days)):
            raise BadConfig([Problem("name", "wants a name, a scope, and days as a whole number or nothing")])
        until = now() + timedelta(days=int(days)) if days else None
        made = db.write(lambda c: tokens.make(c, name, scope, now(), until))[1]
    except BowerbirdError as error:
        problem = str(error)
    values = {"tokens": db.read(tokens.listed), "made": made, "problem": problem}
    return HTMLResponse(render(request, "tokens.html", values), status_code=422 if problem else 200)


@router.post("/tokens/revoke")
def revoke_token(request: Request, db: TheDb, form: Form) -> Response:
    """Have a token be valid no more. Its name is in the form: it may hold what no path does."""
    name = form.get("name", [""])[0]
    db.write(lambda c: tokens.revoke(c, name))
    return back(request, "/tokens")
