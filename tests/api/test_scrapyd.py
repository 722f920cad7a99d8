"""The calls of Scrapyd: what its own documentation, its client library and ScrapydWeb make of our answers."""

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import insert

from scraper.database import Db
from scraper.database.connection import made_id, now
from scraper.database.models import runs
from scraper.states import RunState
from tests.support import Project

# As ScrapydWeb reads the table of jobs (scrapydweb/views/dashboard/jobs.py).
ROW = re.compile(
    r"""<tr>\s*<td>(?P<project>.*?)</td>\s*<td>(?P<spider>.*?)</td>\s*<td>(?P<job>.*?)</td>\s*
    (?:<td>(?P<pid>.*?)</td>\s*)?(?:<td>(?P<start>.*?)</td>\s*)?(?:<td>(?P<runtime>.*?)</td>\s*)?
    (?:<td>(?P<finish>.*?)</td>\s*)?(?:<td>(?P<log>.*?)</td>\s*)?(?:<td>(?P<items>.*?)</td>\s*)?[\w\W]*?</tr>""",
    re.VERBOSE,
)


def run(db: Db, state: RunState) -> str:
    """Have a run in a state."""
    at = {"queued_at": now()} | ({} if state == RunState.QUEUED else {"started_at": now()})
    at |= {} if state in (RunState.QUEUED, RunState.RUNNING) else {"finished_at": now()}
    return str(
        db.write(lambda c: made_id(c.execute(insert(runs).values(source="books", state=state, kind="crawl", **at))))
    )


async def test_the_calls_answer_as_documented(http: httpx.AsyncClient, kept: Db) -> None:
    async def get(call: str, **params: str) -> dict[str, Any]:
        answer = await http.get(f"/{call}.json", params=params)
        assert answer.status_code == 200
        told: dict[str, Any] = answer.json()
        assert told.pop("node_name")
        assert told.pop("status") == "ok", told
        return told

    async def post(call: str, **data: str) -> dict[str, Any]:
        told: dict[str, Any] = (await http.post(f"/{call}.json", data=data)).json()
        return told

    assert await get("daemonstatus") == {"pending": 0, "running": 0, "finished": 0}
    assert await get("listprojects") == {"projects": ["default"]}
    assert await get("listversions", project="default") == {"versions": []}
    assert await get("listspiders", project="default") == {"spiders": ["books"]}
    scheduled = await post("schedule", project="default", spider="books")
    assert scheduled["status"] == "ok"
    job = scheduled["jobid"]
    assert (await post("schedule", project="default", spider="books"))["jobid"] == job
    assert await get("status", job=job) == {"currstate": "pending"}
    assert [one["id"] for one in (await get("listjobs", project="default"))["pending"]] == [job]
    assert await post("cancel", project="default", job=job) | {"node_name": ""} == {
        "node_name": "",
        "status": "ok",
        "prevstate": "pending",
    }
    assert await get("status", job=job) == {"currstate": "finished"}
    running = run(kept, RunState.RUNNING)
    run(kept, RunState.FAILED)
    jobs = await get("listjobs", project="default", spider="books")
    assert [one["id"] for one in jobs["running"]] == [running]
    assert len(jobs["finished"]) == 2
    for one in jobs["finished"][:1]:
        for name in ("start_time", "end_time"):
            datetime.strptime(one[name], "%Y-%m-%d %H:%M:%S.%f")  # noqa: DTZ007  Scrapyd writes no zone
    assert (await post("cancel", project="default", job=running))["prevstate"] == "running"
    assert await get("daemonstatus") == {"pending": 0, "running": 0, "finished": 3}
    for call, form in (
        ("schedule", {"project": "default", "spider": "nobody"}),
        ("schedule", {"project": "default"}),
        ("schedule", {"project": "default", "spider": "books", "setting": "DOWNLOAD_DELAY=2"}),
        ("schedule", {"project": "default", "spider": "books", "arg1": "x"}),
        ("addversion", {"project": "x", "version": "1"}),
        ("delversion", {"project": "x", "version": "1"}),
        ("delproject", {"project": "x"}),
    ):
        told = await post(call, **form)
        assert (told["status"], bool(told["message"])) == ("error", True), call
    assert (await post("cancel", project="default", job="nothing"))["prevstate"] is None


async def test_scrapydweb_reads_the_table_of_jobs(http: httpx.AsyncClient, kept: Db) -> None:
    pending, running, done = (run(kept, state) for state in (RunState.QUEUED, RunState.RUNNING, RunState.DONE))
    text = (await http.get("/jobs")).text
    assert re.search(r"<h1>Jobs</h1>", text)
    found = [match.groupdict() for match in ROW.finditer(re.sub(r"<thead>.*?</thead>", "", text, flags=re.DOTALL))]
    assert [(one["project"], one["spider"], one["job"]) for one in found] == [
        ("default", "books", pending),
        ("default", "books", running),
        ("default", "books", done),
    ]
    assert [(bool(one["start"]), bool(one["finish"])) for one in found] == [(False, False), (True, False), (True, True)]
    for one in found[1:]:
        for name in ("start", "finish"):
            assert not one[name] or datetime.strptime(one[name], "%Y-%m-%d %H:%M:%S")  # noqa: DTZ007
        assert re.fullmatch(r"\d+:\d\d:\d\d", one["runtime"])


async def test_the_table_says_nothing_that_a_browser_takes_for_code(
    app: FastAPI, http: httpx.AsyncClient, kept: Db
) -> None:
    kept.write(
        lambda c: c.execute(insert(runs).values(source="<script>", state="queued", kind="crawl", queued_at=now()))
    )
    assert "<script>" not in (await http.get("/jobs")).text


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_its_client_library_works_with_us(project: Project, serve: Callable[..., Any]) -> None:
    from scrapyd_api import ScrapydAPI, ScrapydError  # noqa: PLC0415  it imports what is deprecated

    project.configure('[[source]]\nname = "books"\nstart = ["http://127.0.0.9:1/"]\nenabled = false\n')
    serve()
    api = ScrapydAPI(f"http://127.0.0.1:{project.port}")
    assert api.list_projects() == ["default"]
    assert api.list_spiders("default") == ["books"]
    assert api.list_versions("default") == []
    job = api.schedule("default", "books")
    assert api.job_status("default", job) in ("pending", "running", "finished")
    assert api.cancel("default", job) in ("pending", "running", None)
    assert set(api.list_jobs("default")) >= {"pending", "running", "finished"}
    with pytest.raises(ScrapydError):
        api.schedule("default", "nobody")
    with pytest.raises(ScrapydError):
        api.delete_project("default")
    api.client.close()
