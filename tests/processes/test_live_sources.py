"""Sources that come, change, pause and go while the scraper runs: nobody restarts anything."""

from collections.abc import Callable
from typing import Any

from tests.site import Site
from tests.support import Project, Running, until


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
