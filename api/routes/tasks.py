"""Enrichment: tasks with their counts, what they are to make and failed to make, and their records."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Query, Response
from pydantic import Field

from api.deps import Given, Paging, RowId, Text, TheDb, TheService, Word
from api.examples import example
from api.verbs import run_part, task_told, tasks_told
from scraper.config.settings import Enrich
from scraper.config.shape import Fault, build
from scraper.database import Connection, enrichments, jobs, tasks
from scraper.database.jobs import Only
from scraper.errors import BadConfig, Problem
from scraper.service import Service
from scraper.startup import checked_task

router = APIRouter(prefix="/api", tags=["enrichment"])

EXAMPLE = {
    "task": "digest",
    "over": "pages",
    "source": "books",
    "kind": "llm",
    "prompt": "Summarise in one line: {{ text }}",
    "schema": {"summary": "str", "level": "int"},
    "when": "stored",
}
Definition = Annotated[dict[str, Any], Body(examples=[EXAMPLE])]
Number = Annotated[int | None, Query(ge=0, lt=2**63)]
OURS = {"scraper.enrichment.maintext:record"}  # functions of our own


@router.get("/tasks", responses=example("task", listed=True))
def list_tasks(db: TheDb) -> dict[str, Any]:
    """Tasks by name, each with how many of its jobs wait, are done and failed, and what it has cost."""
    return {"items": db.read(tasks_told), "next": None}


@router.get("/tasks/{task}", responses=example("task"))
def get_task(task: str, db: TheDb) -> dict[str, Any]:
    """One task."""
    return db.read(lambda c: task_told(c, tasks.one(c, task)))


@router.post("/tasks", status_code=201, responses=example("task"))
def add_task(db: TheDb, service: TheService, definition: Definition, response: Response) -> dict[str, Any]:
    """Add a task, written as in the configuration. It lives in the database, and is done as it says, or when asked."""
    made = _checked(definition, service)

    def unit(c: Connection) -> dict[str, Any]:
        tasks.add(c, made)
        return task_told(c, tasks.one(c, made.task))

    response.headers["Location"] = f"/api/tasks/{made.task}"
    return db.write(unit)


def _checked(given: dict[str, Any], service: Service) -> Enrich:
    """Return a task that a caller wrote. What code runs on this machine is the operator's to say. Raises BadConfig."""
    faults: list[Fault] = []
    made = build(Enrich, given, (), faults)
    if made is None:
        raise BadConfig([Problem(".".join(map(str, path)) or "task", said) for path, said in faults])
    known = {path for task in service.settings.enrich for path in (task.function, task.schema) if isinstance(path, str)}
    for key, path in (("function", made.function), ("schema", made.schema)):
        if isinstance(path, str) and path not in known and path not in OURS:
            raise BadConfig([Problem(key, "may only be one that a task of the configuration file uses")])
    checked_task(made, service.loaded.base)
    return made


@router.delete("/tasks/{task}", status_code=204)
def remove_task(task: str, db: TheDb) -> None:
    """Remove a task that lives in the database; what it has made stays."""
    db.write(lambda c: tasks.remove(c, task))


class Part(Given):
    """Which part of a task: over one source, one kind of record, at most so many; redo: what exists is made anew."""

    source: Text | None = Field(default=None, max_length=100)
    kind: Text | None = Field(default=None, max_length=100)
    limit: int | None = Field(default=None, ge=1, lt=2**31)
    redo: bool = False


@router.post("/tasks/{task}/run", status_code=202, responses=example("task"))
def run_task(task: str, db: TheDb, part: Part | None = None) -> dict[str, Any]:
    """Do a task now, or a part of it; what exists is skipped."""
    return db.write(lambda c: run_part(c, task, (part or Part()).model_dump()))


@router.get("/tasks/{task}/jobs")
def list_jobs(
    task: str,
    db: TheDb,
    page: Paging,
    state: Literal["queued", "claimed", "done", "failed"] | None = None,
    source: Word = None,
) -> dict[str, Any]:
    """What a task is to make, has made and failed to make, with the reason."""
    db.read(lambda c: tasks.one(c, task))
    return page.answer(db, "jobs", task=task, state=state, source=source)


@router.post("/tasks/{task}/retry", status_code=202)
def retry_task(task: str, db: TheDb, source: Word = None, kind: Word = None, reason: Word = None) -> dict[str, int]:
    """Try again what failed, all of it or what has a reason."""

    def unit(c: Connection) -> int:
        tasks.one(c, task)
        return jobs.retry(c, task, db.now(), Only(source, kind), reason)

    return {"jobs": db.write(unit)}


@router.get("/enrichments", responses=example("enrichment", listed=True))
def list_enrichments(
    db: TheDb,
    page: Paging,
    task: Word = None,
    kind: Word = None,
    source: Word = None,
    page_id: Number = None,
    item_id: Number = None,
) -> dict[str, Any]:
    """The records that tasks have made."""
    named = {"task": task, "kind": kind, "source": source}
    return page.answer(db, "enrichments", **named, page_id_of=page_id, item_id_of=item_id)


@router.get("/enrichments/{enrichment_id}", responses=example("enrichment"))
def get_enrichment(enrichment_id: RowId, db: TheDb) -> dict[str, Any]:
    """One record."""
    return db.read(lambda c: enrichments.one(c, enrichment_id))
