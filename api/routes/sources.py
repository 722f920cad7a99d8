"""Sources: list, read, run now, try on one page."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Body

from api.deps import TheDb, TheService
from scraper.config.load import dotted
from scraper.config.settings import Source
from scraper.config.shape import Fault, build
from scraper.crawl.check import check
from scraper.database import runs, sources
from scraper.database.connection import now
from scraper.errors import BadConfig, Problem
from scraper.startup import review

router = APIRouter(prefix="/api/sources", tags=["sources"])
# What decides whom this machine asks is the operator's, not a caller's.
OPERATORS = {"allow_networks", "proxy"}


@router.get("")
def list_sources(db: TheDb) -> dict[str, Any]:
    """All sources."""
    return {"items": db.read(sources.listed), "next": None}


@router.post("/check")
def check_source(
    service: TheService,
    source: Annotated[dict[str, Any], Body(examples=[{"name": "x", "start": ["https://example.com/"]}])],
) -> dict[str, Any]:
    """Try a source, written as in the config, on its first page. Stores nothing."""
    faults: list[Fault] = []
    made = build(Source, {"name": "check", **source}, (), faults)
    faults += review(made) if made is not None else []
    if made is not None and made.parser and made.parser not in {s.parser for s in service.settings.source}:
        faults.append((("parser",), "may only be one that a source of the configuration file uses"))
    if made is not None:
        faults += [(("http", key), "may only be set in the configuration file") for key in OPERATORS & set(made.http)]
    if made is None or faults:
        raise BadConfig([Problem(dotted(path) or "source", message) for path, message in faults])
    return asyncio.run(check(made, service.settings.http))


@router.get("/{name}")
def get_source(name: str, db: TheDb) -> dict[str, Any]:
    """One source."""
    return db.read(lambda c: sources.one(c, name))


@router.post("/{name}/run", status_code=202)
def run_source(name: str, db: TheDb) -> dict[str, Any]:
    """Run a source now. If it is running already, that run is the answer."""

    def unit(c: Any) -> int:
        sources.one(c, name)
        return runs.request(c, name, now())

    return {"run": db.write(unit), "source": name}
