"""Sources: list, read, add, change, remove, pause, run now, try on one page."""

import asyncio
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Header, Response
from pydantic import Field

from api.deps import Cursor, Given, Limit, Text, TheDb, TheService, Word, after_text, pointer
from api.verbs import Action, act, chosen
from scraper.config.masking import unmasked
from scraper.config.secrets import environment
from scraper.crawl.check import check
from scraper.database import Connection, health, runs, sources
from scraper.database.connection import now
from scraper.errors import BadConfig, Problem
from scraper.startup import checked_source, due

router = APIRouter(prefix="/api/sources", tags=["sources"])

EXAMPLE = {
    "name": "books",
    "start": ["https://books.toscrape.com/"],
    "every": "1h",
    "follow": ["article h3 a", "li.next a"],
    "item": [{"kind": "book", "key": ["upc"], "fields": {"title": "h1::text", "upc": {"xpath": "//td[1]/text()"}}}],
}
Definition = Annotated[dict[str, Any], Body(examples=[EXAMPLE])]
IfMatch = Annotated[str | None, Header()]
State = Literal["ok", "failing", "degraded", "paused", "disabled", "new"]
Sort = Literal["name", "health", "last", "next"]


def _tags(if_match: str | None) -> list[str] | None:
    """The tags of If-Match (RFC 9110 section 13.1.1), None where anything will do."""
    if if_match is None or if_match.strip() == "*":
        return None
    return [tag.strip().removeprefix("W/").strip('"') for tag in if_match.split(",")]


@router.get("")
def list_sources(
    db: TheDb,
    limit: Limit = 100,
    cursor: Cursor = None,
    state: State | None = None,
    q: Word = None,
    tag: Word = None,
    origin: Literal["file", "database"] | None = None,
    sort: Sort = "name",
) -> dict[str, Any]:
    """Sources, by name or in another order."""
    wanted = health.Wanted(state, q, tag, origin, sort, after_text(cursor), limit)
    found, last = db.read(lambda c: health.listed(c, wanted))
    return {"items": found, "next": pointer(last) if last is not None else None}


@router.post("", status_code=201)
def add_source(db: TheDb, service: TheService, definition: Definition, response: Response) -> dict[str, Any]:
    """Add a source, written as in the configuration. It lives in the database, and is visited from now on."""
    made = checked_source(definition, service.settings, environment(service.loaded.base), trusted=False)

    def unit(c: Connection) -> dict[str, Any]:
        sources.add(c, made, due)
        return health.one(c, made.name)

    found = db.write(unit)
    response.headers["Location"] = f"/api/sources/{made.name}"
    response.headers["ETag"] = f'"{found["tag"]}"'
    return found


@router.post("/check")
def check_source(db: TheDb, service: TheService, definition: Definition, url: Word = None) -> dict[str, Any]:
    """Try a source, written as in the configuration, on one page: its first, or another one of its hosts. Stores nothing."""
    variables = environment(service.loaded.base)
    made = checked_source({"name": "check", **definition}, service.settings, variables, trusted=False)
    try:
        return asyncio.run(check(made, service.settings.http, url, service.settings.limits, variables, db=db))
    except ValueError as error:
        raise BadConfig([Problem("url", str(error))]) from None


class Several(Given):
    """Which sources: by name, or all in a state, with a tag, with a text in their name."""

    names: list[Text] = Field(default=[], max_length=10_000)
    state: State | None = None
    tag: Text | None = Field(default=None, max_length=100)
    q: Text | None = Field(default=None, max_length=200)
    dry_run: bool = False


@router.post("/actions/{action}")
def act_on_sources(action: Action, which: Several, db: TheDb) -> dict[str, Any]:
    """Pause, resume, run or remove several sources at once. With dry_run: only say which."""
    if not (which.names or which.state or which.tag or which.q):
        raise BadConfig([Problem("names", "say which: names, or state, tag, q of those that are meant")])
    wanted = health.Wanted(which.state, which.q, which.tag, limit=1_000_000)

    def unit(c: Connection) -> list[str]:
        names = chosen(c, action, wanted, which.names)
        return names if which.dry_run else act(c, action, names)

    return {"names": db.write(unit), "dry_run": which.dry_run}


@router.get("/{name}")
def get_source(name: str, db: TheDb, response: Response) -> dict[str, Any]:
    """One source. Its ETag is for If-Match."""
    found = db.read(lambda c: health.one(c, name))
    response.headers["ETag"] = f'"{found["tag"]}"'
    return found


@router.put("/{name}")
def change_source(
    name: str, db: TheDb, service: TheService, definition: Definition, response: Response, if_match: IfMatch = None
) -> dict[str, Any]:
    """Replace the definition of a source that lives in the database."""
    before = db.read(lambda c: sources.definition(c, name))
    given = unmasked({**definition, "name": definition.get("name", name)}, before)
    made = checked_source(given, service.settings, environment(service.loaded.base), trusted=False)
    if made.name != name:
        raise BadConfig([Problem("name", f"stays {name!r}; add another source, and remove this one")])

    def unit(c: Connection) -> dict[str, Any]:
        sources.change(c, made, due, _tags(if_match))
        return health.one(c, name)

    found = db.write(unit)
    response.headers["ETag"] = f'"{found["tag"]}"'
    return found


@router.delete("/{name}", status_code=204)
def remove_source(name: str, db: TheDb, if_match: IfMatch = None) -> None:
    """Remove a source that lives in the database. What was scraped of it stays."""
    db.write(lambda c: sources.remove(c, name, _tags(if_match)))


@router.post("/{name}/pause")
def pause_source(name: str, db: TheDb) -> dict[str, Any]:
    """Visit a source no more until it is resumed, wherever it is written down."""
    return _paused(db, name, paused=True)


@router.post("/{name}/resume")
def resume_source(name: str, db: TheDb) -> dict[str, Any]:
    """Visit a source again."""
    return _paused(db, name, paused=False)


def _paused(db: TheDb, name: str, *, paused: bool) -> dict[str, Any]:
    def unit(c: Connection) -> dict[str, Any]:
        sources.definition(c, name)
        sources.pause(c, [name], now() if paused else None)
        return health.one(c, name)

    return db.write(unit)


@router.post("/{name}/run", status_code=202)
def run_source(name: str, db: TheDb) -> dict[str, Any]:
    """Run a source now. If it is running already, that run is the answer."""

    def unit(c: Connection) -> dict[str, Any]:
        sources.runnable(c, name)
        run_id = runs.request(c, name, now())
        return {"run": run_id} | runs.one(c, run_id, now())

    return db.write(unit)


@router.get("/{name}/robots")
def get_robots(name: str, db: TheDb) -> dict[str, Any]:
    """What the robots.txt of a source's hosts said last."""
    return {"items": db.read(lambda c: health.robots_of(c, name)), "next": None}
