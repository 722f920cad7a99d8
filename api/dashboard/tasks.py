"""Enrichment: its tasks, how far each is, what it has made and could not make."""

from typing import Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import Response

from api.dashboard.lists import part
from api.dashboard.views import back, page
from api.deps import Cursor, Form, TheDb, TheService, Word
from api.verbs import run_part, task_told, tasks_told
from scraper.database import Connection, jobs, tasks
from scraper.database.jobs import Only

router = APIRouter(include_in_schema=False)


@page(router, "/tasks", "tasks.html")
def list_tasks(request: Request, db: TheDb, service: TheService) -> dict[str, Any]:
    """All tasks."""
    workers = [process for process in service.status().processes if process.role == "enricher"]
    return {
        "tasks": db.read(tasks_told),
        "workers": [{"name": w.name, "state": w.state, "sources": w.sources} for w in workers],
    }


@page(router, "/tasks/{name}", "task.html")
def show_task(
    request: Request,
    name: str,
    db: TheDb,
    show: Literal["made", "failed", "queued"] = "made",
    source: Word = None,
    kind: Word = None,
    cursor: Cursor = None,
) -> dict[str, Any]:
    """One task, with its records or with what it could not make."""
    named = {"task": name, "source": source or None, "kind": kind or None}

    def unit(c: Connection) -> dict[str, Any]:
        told = task_told(c, tasks.one(c, name))
        found = (
            part(c, "enrichments", named, cursor)
            if show == "made"
            else part(c, "jobs", named | {"state": show}, cursor)
        )
        return found | {"task": told, "show": show, "wanted": named}

    return db.read(unit)


@router.post("/tasks/{name}/run")
def run_task(request: Request, name: str, db: TheDb, form: Form) -> Response:
    """Do a task now; with redo, all of it anew."""
    db.write(lambda c: run_part(c, name, {"redo": bool(form.get("redo"))}))
    return back(request, form.get("next", ["/tasks"])[0])


@router.post("/tasks/{name}/retry")
def retry_task(request: Request, name: str, db: TheDb, form: Form) -> Response:
    """Try again what failed."""

    def unit(c: Connection) -> int:
        tasks.one(c, name)
        return jobs.retry(c, name, db.now(), Only())

    db.write(unit)
    return back(request, form.get("next", ["/tasks"])[0])
