"""Sources that come, change, pause and go while the scraper runs: nobody restarts anything."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.site import Request, Site, html
from tests.support import Project, Running, rows, until


def test_the_scraper_follows_what_is_said_of_sources_while_it_runs(
    scraping: Project, serve: Callable[..., Running], site: Site
) -> None:
    service = serve()
    http = service.http
    pid = service.until_state("scraping")["pid"]
    page = site.page("/added", "<title>added</title>")

    assert http.post("/api/sources", json={"name": "added", "start": [page], "every": "1s"}).status_code == 201
    until(lambda: "/added" in site.paths(), "the new source is visited")

    other = site.page("/changed", "<title>changed</title>")
    assert http.put("/api/sources/added", json={"name": "added", "start": [other], "every": "1s"}).status_code == 200
    until(lambda: "/changed" in site.paths(), "the changed source is visited")

    def pages_of(name: str) -> int:
        runs: list[dict[str, Any]] = http.get("/api/runs", params={"source": name}).json()["items"]
        return sum(run["pages"] for run in runs)

    until(lambda: pages_of("endless") > 3, "the endless one is under way")
    [run] = http.get("/api/runs", params={"source": "endless", "state": "running"}).json()["items"]
    assert http.post("/api/sources/endless/pause").status_code == 200

    def quiet() -> bool:
        before = len(site.log)
        until(lambda: len([one for one in site.log if one.path in ("/added", "/changed")]) > 0)
        seen = pages_of("endless")
        changed = site.paths().count("/changed")
        until(lambda: site.paths().count("/changed") >= changed + 2, "the other source goes on")
        return pages_of("endless") == seen and len(site.log) > before

    until(quiet, "the paused source is visited no more")
    at_rest = pages_of("endless")
    assert http.post("/api/sources/endless/resume").status_code == 200
    until(lambda: pages_of("endless") > at_rest, "it goes on")
    [again] = http.get("/api/runs", params={"source": "endless", "state": "running"}).json()["items"]
    assert again["id"] == run["id"]

    assert http.post(f"/api/runs/{run['id']}/stop").json()["state"] in ("running", "stopped")
    until(lambda: http.get(f"/api/runs/{run['id']}").json()["state"] == "stopped", "the run ends")

    assert http.delete("/api/sources/added").status_code == 204
    changed = site.paths().count("/changed")
    seen = pages_of("endless")
    until(lambda: pages_of("endless") > seen + 20, "time passes")
    assert site.paths().count("/changed") <= changed + 1
    assert http.get("/api/pages", params={"source": "added"}).json()["items"]
    status = service.status()
    assert (status["pid"], status["restarts"]) == (pid, 0)


@pytest.mark.parametrize("end", ["delete", "pause", "stop"])
def test_a_site_is_asked_no_more_when_its_source_goes(
    end: str, project: Project, serve: Callable[..., Running], site: Site
) -> None:
    """What was claimed in advance is not visited any more, and is nobody's afterwards."""
    links = "".join(f'<a href="/{number}">x</a>' for number in range(1, 300))

    def page(request: Request) -> bytes:
        return html(f"<title>{request.path}</title>{links if request.path == '/0' else ''}")

    site.raw("*", page, close=False)
    site.raw("/robots.txt", html("", status="404 Not Found"), close=False)
    project.configure("", http="delay = 0.05\nper_host = 1")
    http = serve().http
    source = {"name": "wide", "start": [f"{site.url}/0"], "follow": True}
    assert http.post("/api/sources", json=source).status_code == 201
    run = http.post("/api/sources/wide/run").json()["run"]
    until(lambda: len(site.paths()) > 30, "it is under way")
    if end == "delete":
        assert http.delete("/api/sources/wide").status_code == 204
    else:
        assert http.post("/api/sources/wide/pause" if end == "pause" else f"/api/runs/{run}/stop").is_success
    until(
        lambda: rows(project, "SELECT count(*) FROM urls WHERE claimed_by IS NOT NULL") == [(0,)], "all is given back"
    )
    asked = len(site.paths())
    assert asked < 120
    [(state, pages)] = rows(project, f"SELECT state, pages FROM runs WHERE id = {run}")
    assert state == ("running" if end == "pause" else "stopped")
    assert pages <= asked
    if end == "stop":
        assert rows(project, f"SELECT DISTINCT state FROM urls WHERE run_id = {run}") == [("done",)]
    if end == "pause":
        assert http.post("/api/sources/wide/resume").is_success
        until(lambda: rows(project, f"SELECT state, pages FROM runs WHERE id = {run}") == [("done", 300)], "it goes on")
        assert len(site.paths()) == len(set(site.paths())) == 300


LOOKS = ("sources", "doctor", "failures", "export", "search x", "token list")


def test_who_only_looks_changes_nothing_of_a_running_service(
    project: Project, serve: Callable[..., Running], site: Site, tmp_path: Path
) -> None:
    """What is in the file by now takes effect at a restart; where there is no file, none of the sources is gone."""
    site.page("/", "x")
    kept = f'[[source]]\nname = "kept"\nstart = ["{site.url}/"]\nevery = "1h"\n'
    project.configure(kept)
    service = serve()
    until(lambda: len(site.paths()) == 1, "it was visited")
    project.configure(
        kept.replace("1h", "9h") + f'[[source]]\nname = "next"\nstart = ["{site.url}/next"]\nevery = "1h"\n'
    )
    elsewhere = Project(tmp_path / "elsewhere")
    elsewhere.path.mkdir()
    for command in LOOKS:
        assert "Traceback" not in project.run(*command.split()).stderr
        assert (
            "Traceback"
            not in elsewhere.run(*command.split(), DATABASE_URL=f"sqlite:///{project.path}/bowerbird.db").stderr
        )
    assert [(one["name"], one["every"]) for one in service.http.get("/api/sources").json()["items"]] == [("kept", 3600)]
    refused = project.run("scrape", "next")
    assert (refused.returncode, "`bowerbird restart` first" in refused.stderr) == (2, True)
    assert site.paths() == ["/"]
    assert service.http.post("/api/scraper/restart").is_success
    until(lambda: len(service.http.get("/api/sources").json()["items"]) == 2, "the file is read")
