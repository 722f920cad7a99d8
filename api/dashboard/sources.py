"""Sources: all of them, one of them, a new one."""

import asyncio
import json
import re
import tomllib
from typing import Any, Literal, get_args

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from api.dashboard import definition
from api.dashboard.lists import part, without_echoes
from api.dashboard.views import back, page, render, templates
from api.deps import Cursor, Form, Limit, RowId, TheDb, TheService, Word, after_text, pointer
from api.verbs import Action, act, chosen, end_run
from scraper.config.masking import unmasked
from scraper.config.secrets import environment
from scraper.crawl.check import check
from scraper.crawl.robots import agent_token, group_for
from scraper.database import Connection, changes, health, sources
from scraper.errors import BadConfig, BowerbirdError, Problem
from scraper.service import Service
from scraper.startup import checked_source, due

ROWS = 50
TAB_ROWS = 30

DOTS_MOST = 500
_QUOTED = re.compile(r"\"[^\"\n]*\"|'[^'\n]*'")

router = APIRouter(include_in_schema=False)

State = Literal["ok", "failing", "degraded", "paused", "disabled", "new"]
Tab = Literal["overview", "pages", "items", "changes", "runs", "failures", "settings", "robots"]


@page(router, "/sources", "sources.html")
def list_sources(
    request: Request,
    db: TheDb,
    state: State | None = None,
    q: Word = None,
    tag: Word = None,
    sort: Literal["name", "health", "last", "next"] = "health",
    cursor: Cursor = None,
    limit: Limit = ROWS,
) -> dict[str, Any]:
    """All sources, the worst first."""
    wanted = health.Wanted(state, q or None, tag or None, None, sort, after_text(cursor), limit)

    def unit(c: Connection) -> dict[str, Any]:
        summed = health.summaries(c, wanted)
        found, more = health.chosen(summed, wanted)
        names = [one.name for one in found]
        return {
            "sources": [row | {"definition": None} for row in health.told(c, found)],
            "outcomes": health.outcomes(c, names, health.OUTCOMES_LISTED),
            "counts": health.counts(summed),
            "total": len(summed),
            "next": pointer(names[-1]) if more else None,
            "wanted": {"state": state, "q": q, "tag": tag, "sort": sort},
        }

    return db.read(unit)


@router.post("/sources/actions")
def act_on_sources(request: Request, db: TheDb, form: Form) -> Response:
    """The buttons above the list: what is ticked, or all that the filter lets through."""
    actions: dict[str, Action] = {name: name for name in get_args(Action)}
    action = actions.get(form.get("action", [""])[0])
    if action is None:
        raise BadConfig([Problem("action", "choose what to do")])
    state, q, tag = (form.get(name, [""])[0] or None for name in ("state", "q", "tag"))
    names = [] if form.get("all") else form.get("name", [])
    if not names and not form.get("all"):
        raise BadConfig([Problem("name", "tick the sources that are meant, or all of them")])
    wanted = health.Wanted(state, q, tag, limit=1_000_000)
    db.write(lambda c: act(c, action, chosen(c, action, wanted, names)))
    return back(request, form.get("next", ["/sources"])[0])


@page(router, "/sources/new", "new.html")
def new_source(request: Request, db: TheDb, url: Word = None) -> dict[str, Any]:
    """A form for a new source."""
    return definition.blank(url or "")


@router.post("/sources/preview")
def preview(request: Request, db: TheDb, service: TheService, form: Form) -> Response:
    """What a source would yield, with proposals for its items. Stores nothing."""
    given = definition.of_form(form)
    values = definition.blank(given["start"][0] if given["start"] else "") | {"given": definition.shown(form, given)}
    try:
        values["found"] = _checked(db, service, {**given, "name": "preview"}, form.get("page", [""])[0] or None)
    except BowerbirdError as error:
        values["problem"] = str(error)
    return HTMLResponse(render(request, "new.html", values))


def _checked(db: TheDb, service: Service, given: dict[str, Any], url: str | None) -> dict[str, Any]:
    variables = environment(service.loaded.base)
    made = checked_source(given, service.settings, variables, trusted=False)
    try:
        http, limits = service.settings.http, service.settings.limits
        found = asyncio.run(check(made, http, url, limits, variables, db=db, proposals=True))
    except ValueError as error:
        raise BadConfig([Problem("page", str(error))]) from None
    return found | {"links": found["links"][:200], "link_count": len(found["links"])}


@router.post("/sources/add")
def add_source(request: Request, db: TheDb, service: TheService, form: Form) -> Response:
    """Add the source of the form."""
    given = definition.of_form(form)
    try:
        made = checked_source(given, service.settings, environment(service.loaded.base), trusted=False)
        db.write(lambda c: sources.add(c, made, due))
    except BowerbirdError as error:
        values = definition.blank("") | {"given": definition.shown(form, given), "problem": str(error)}
        return HTMLResponse(render(request, "new.html", values), status_code=422)
    return back(request, f"/sources/{made.name}")


@page(router, "/sources/{name}", "source.html")
def show_source(
    request: Request, name: str, db: TheDb, service: TheService, tab: Tab = "overview", cursor: Cursor = None
) -> dict[str, Any]:
    """One source: how it is doing, and what it brought."""
    agent = agent_token(service.settings.http.user_agent)

    def unit(c: Connection) -> dict[str, Any]:
        found: dict[str, Any] = {"source": health.one(c, name), "tab": tab, "alarms": [], "next": None, "rows": []}
        found["outcomes"] = health.outcomes(c, [name])[name]
        if tab in ("pages", "items", "changes", "runs", "failures"):
            filters = {"source": name} | ({"unresolved": True} if tab == "failures" else {})
            filters |= {"news": True} if tab == "changes" else {}
            found |= part(c, tab, filters, cursor, TAB_ROWS)
            if tab == "changes":
                found["rows"] = changes.with_subjects(c, without_echoes(found["rows"]))
        elif tab == "overview":
            found["rows"] = changes.with_subjects(
                c, part(c, "changes", {"source": name, "news": True}, None, 10)["rows"]
            )
            found["runs"] = part(c, "runs", {"source": name}, None, 10)["rows"]
        elif tab == "settings":
            found["toml"] = definition.as_toml(found["source"]["definition"])
        elif tab == "robots":
            found["rows"] = [row | {"rules": group_for(row["text"], agent)} for row in health.robots_of(c, name)]
            found["agent"] = agent
        return found

    return db.read(unit)


@router.post("/sources/{name}/do/{action}")
def act_on_source(request: Request, name: str, action: Action, db: TheDb, form: Form) -> Response:
    """A button of one source."""

    def unit(c: Connection) -> list[str]:
        sources.definition(c, name)
        return act(c, action, [name])

    db.write(unit)
    return back(request, "/sources" if action == "remove" else form.get("next", [f"/sources/{name}"])[0])


@router.post("/sources/{name}/settings")
def change_source(request: Request, name: str, db: TheDb, service: TheService, form: Form) -> Response:
    """Replace the definition of a source of the database by the text of the form."""
    text = form.get("definition", [""])[0]
    try:
        given = _read(text)
        before = db.read(lambda c: sources.definition(c, name))
        whole = unmasked({**given, "name": name}, before)
        made = checked_source(whole, service.settings, environment(service.loaded.base), trusted=False)
        db.write(lambda c: sources.change(c, made, due, [tag] if (tag := form.get("tag", [""])[0]) else None))
    except (ValueError, RecursionError, BowerbirdError) as error:
        found: dict[str, Any] = db.read(
            lambda c: {"source": health.one(c, name), "outcomes": health.outcomes(c, [name])[name]}
        )
        if seen := form.get("tag", [""])[0]:  # what the person has seen, and changes
            found["source"]["tag"] = seen
        values = {**found, "tab": "settings", "toml": text, "problem": str(error), "next": None, "rows": []}
        return HTMLResponse(render(request, "source.html", values), status_code=422)
    return back(request, f"/sources/{name}?tab=settings")


def _read(text: str) -> dict[str, Any]:
    """The values of a TOML text. Raises ValueError. Python's parser takes memory with the square of a dotted key's length."""
    if _QUOTED.sub("", text).count(".") > DOTS_MOST:
        raise ValueError(f"more than {DOTS_MOST} dots outside of texts; write tables in place of dotted keys")
    return tomllib.loads(text)


@router.post("/sources/{name}/ignore")
def ignore(request: Request, name: str, db: TheDb, service: TheService, form: Form) -> Response:
    """Have a text count as noise from now on: a pattern more in the source's definition."""
    text = " ".join(form.get("text", [""])[0].split())
    if not text:
        raise BadConfig([Problem("text", "say which text is no news")])
    given = db.read(lambda c: sources.definition(c, name))
    noise = dict(given.get("noise") or {})
    noise["patterns"] = [*noise.get("patterns", ()), re.escape(text)]
    made = checked_source({**given, "noise": noise}, service.settings, environment(service.loaded.base), trusted=True)
    db.write(lambda c: sources.change(c, made, due))
    return back(request, form.get("next", [f"/sources/{name}?tab=settings"])[0])


@router.post("/runs/{run_id}/stop")
def stop_run(request: Request, run_id: RowId, db: TheDb, form: Form) -> Response:
    """End a run."""
    db.write(lambda c: end_run(c, run_id))
    return back(request, form.get("next", ["/"])[0])


templates.filters["json"] = lambda value: json.dumps(value, ensure_ascii=False, default=str)
