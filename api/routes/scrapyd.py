"""The calls of Scrapyd that scripts and ScrapydWeb use, over the same sources and runs as everybody.

https://scrapyd.readthedocs.io/en/latest/api.html: a spider is a source here, a job is a run, and there is one project.
"""

import html
import os
import socket
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, JSONResponse

from api.deps import Form, TheDb
from api.verbs import end_run
from scraper.database import Connection, Db, listing, runs, sources
from scraper.database.connection import now
from scraper.errors import Conflict, NotFound
from scraper.states import RunState

PROJECT = "default"
JOBS_MOST = 500
STATES = {RunState.QUEUED: "pending", RunState.RUNNING: "running"}

router = APIRouter(tags=["scrapyd"], include_in_schema=False)


def _answer(**told: Any) -> JSONResponse:
    return JSONResponse({"node_name": socket.gethostname(), "status": "ok"} | told)


def _error(message: str) -> JSONResponse:
    """Scrapyd says 200 to most errors, and its clients look at the word."""
    return JSONResponse({"node_name": socket.gethostname(), "status": "error", "message": message})


@router.get("/daemonstatus.json")
def daemonstatus(db: TheDb) -> JSONResponse:
    """How many runs wait, are open, and have ended."""

    def unit(c: Connection) -> dict[str, int]:
        found = {state: listing.count(c, "runs", {"state": state}) for state in RunState}
        over = found[RunState.DONE] + found[RunState.FAILED] + found[RunState.STOPPED]
        return {"pending": found[RunState.QUEUED], "running": found[RunState.RUNNING], "finished": over}

    return _answer(**db.read(unit))


@router.get("/listprojects.json")
def listprojects() -> JSONResponse:
    """The one project."""
    return _answer(projects=[PROJECT])


@router.get("/listversions.json")
def listversions() -> JSONResponse:
    """Sources have no versions that could be chosen."""
    return _answer(versions=[])


@router.get("/listspiders.json")
def listspiders(db: TheDb) -> JSONResponse:
    """The names of the sources."""
    return _answer(spiders=sorted(db.read(sources.definitions)))


@router.get("/listjobs.json")
def listjobs(db: TheDb, spider: str | None = None) -> JSONResponse:
    """The last runs, by state."""
    found: dict[str, list[dict[str, Any]]] = {"pending": [], "running": [], "finished": []}
    for run in _runs(db, spider):
        found[STATES.get(RunState(run["state"]), "finished")].append(_job(run))
    return _answer(**found)


@router.get("/status.json")
def status(db: TheDb, job: str = "") -> JSONResponse:
    """The state of one run."""
    try:
        run = db.read(lambda c: runs.one(c, _number(job), now()))
    except NotFound:
        return _error(f"job {job!r} is unknown")
    return _answer(currstate=STATES.get(RunState(run["state"]), "finished"))


@router.post("/schedule.json")
def schedule(form: Form, db: TheDb) -> JSONResponse:
    """Ask for a run. Settings and arguments of a spider have no meaning here, and are refused rather than ignored."""
    spider = _first(form).get("spider", "")
    strange = sorted(set(form) - {"project", "spider", "_version", "priority", "jobid"})
    if strange:
        return _error(f"{', '.join(strange)}: a source takes its settings from its definition, not from a run")

    def unit(c: Connection) -> int:
        sources.runnable(c, spider)
        return runs.request(c, spider, now())

    try:
        return _answer(jobid=str(db.write(unit)))
    except NotFound:
        return _error(f"spider {spider!r} not found")
    except Conflict as error:
        return _error(str(error))


@router.post("/cancel.json")
def cancel(form: Form, db: TheDb) -> JSONResponse:
    """End a run."""
    job = _first(form).get("job", "")

    def unit(c: Connection) -> str | None:
        run = runs.one(c, _number(job), now())
        end_run(c, run["id"])
        return STATES.get(RunState(run["state"]))

    try:
        return _answer(prevstate=db.write(unit))
    except NotFound:
        return _answer(prevstate=None)


@router.post("/addversion.json")
@router.post("/delversion.json")
@router.post("/delproject.json")
def unsupported() -> JSONResponse:
    """Code is not taken over the network."""
    return _error("sources are defined in bowerbird.toml, or over /api/sources; no code is taken here")


@router.get("/jobs")
def jobs(db: TheDb) -> HTMLResponse:
    """The table of runs that ScrapydWeb reads."""
    heads = ("Project", "Spider", "Job", "PID", "Start", "Runtime", "Finish", "Log", "Items")
    parts = ["<!doctype html><html lang=en><title>Jobs</title><h1>Jobs</h1><table border=1><thead><tr>"]
    parts += [f"<th>{head}</th>" for head in heads]
    parts.append("</tr></thead><tbody>\n")
    for name, state in (("Pending", "pending"), ("Running", "running"), ("Finished", "finished")):
        parts.append(f'<tr><th colspan="9">{name}</th></tr>\n')
        found = [run for run in _runs(db, None) if STATES.get(RunState(run["state"]), "finished") == state]
        parts += [_line(run) for run in found]
    return HTMLResponse("".join(parts) + "</tbody></table></html>")


def _line(run: dict[str, Any]) -> str:
    lasted = (run["finished_at"] or now()) - run["started_at"] if run["started_at"] else None
    cells = [PROJECT, run["source"], str(run["id"]), "", _second(run["started_at"])]
    cells += [str(lasted).partition(".")[0] if lasted is not None else "", _second(run["finished_at"]), "", ""]
    return "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>\n"


def _runs(db: Db, spider: str | None) -> list[dict[str, Any]]:
    return db.read(lambda c: listing.rows(c, "runs", {"source": spider}, None, JOBS_MOST))


def _job(run: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {"id": str(run["id"]), "project": PROJECT, "spider": run["source"]}
    if run["state"] != RunState.QUEUED:
        made |= {"start_time": _text(run["started_at"]), "pid": os.getpid()}
    if run["finished_at"] is not None:
        made |= {
            "end_time": _text(run["finished_at"]),
            "items_url": f"/api/export/{run['source']}",
            "log_url": "/events",
        }
        made.pop("pid", None)
    return made


def _text(at: datetime | None) -> str:
    """An instant as Scrapyd writes it."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f") if at is not None else ""


def _second(at: datetime | None) -> str:
    """An instant as the table has it: ScrapydWeb reads whole seconds."""
    return _text(at).partition(".")[0]


def _number(job: str) -> int:
    if not job.isascii() or not job.isdigit() or len(job) > 18:
        raise NotFound(f"there is no run {job!r}")
    return int(job)


def _first(form: dict[str, list[str]]) -> dict[str, str]:
    return {name: values[0] for name, values in form.items()}
