"""Enrichment in a running service: its processes come with the work, and are watched like the scraper."""

import os
import signal
from collections.abc import Callable
from typing import Any

import httpx
import psutil
import pytest
from sqlalchemy import update

from scraper.database import models as tables
from scraper.database.changes import row, tell
from tests.enrichment.endpoint import Endpoint, says
from tests.enrichment.factory import Factory, task
from tests.export import stock
from tests.support import Running, gone, until

Serve = Callable[..., Running]


def enrichers(service: Running) -> list[dict[str, Any]]:
    """The processes that enrich, as the status tells them."""
    try:
        return [process for process in service.status()["processes"] if process["role"] == "enricher"]
    except httpx.HTTPError:
        return []


def living(service: Running) -> list[dict[str, Any]]:
    return [process for process in enrichers(service) if process["process_alive"]]


def arrive(factory: Factory, numbers: range) -> None:
    """Have items arrive as a visit would bring them."""
    factory.books(len(numbers), first=numbers[0])
    told = [row(stock.AT, "shop", "item", "created", item_id=number, kind="book") for number in numbers]
    factory.db.write(lambda c: tell(c, told))


def done(factory: Factory, name: str, count: int) -> None:
    until(lambda: factory.counts(name)["done"] == count, f"{count} of {name} are done", 60)


@pytest.mark.databases("sqlite", "pgbouncer")
def test_what_is_stored_is_enriched_and_a_changed_task_does_it_anew(factory: Factory, serve: Serve) -> None:
    factory.configure(task("square", when="stored"))
    arrive(factory, range(1, 4))
    service = serve()
    done(factory, "square", 3)
    arrive(factory, range(4, 7))
    done(factory, "square", 6)
    assert [record[3] for record in factory.records("square")] == [{"square": n**2} for n in range(1, 7)]
    (one,) = enrichers(service)
    assert one["name"] == "enricher-0"
    assert one["heartbeat_age_s"] < 30
    factory.configure(task("square", "by", when="stored"))
    assert service.http.post("/api/scraper/restart").status_code < 300
    until(lambda: [r for r in factory.records("square") if "by" in r[3]], "made anew", 60)
    done(factory, "square", 6)
    assert all("by" in record[3] for record in factory.records("square"))


def test_killed_and_stopped_ones_are_replaced_and_all_go_with_the_service(factory: Factory, serve: Serve) -> None:
    factory.books(6)
    factory.function("""
        def waits(subject):
            while not os.path.exists("go"):
                time.sleep(0.02)
            return square(subject)
    """)
    factory.configure(task("waits", workers=2), supervisor="heartbeat_timeout = 3.0")
    service = serve()
    assert service.http.post("/api/tasks/waits/run").status_code == 202
    first = until(lambda: len(found := living(service)) == 2 and found, "two of them", 60)
    os.kill(first[0]["pid"], signal.SIGKILL)
    second = until(
        lambda: len(found := living(service)) == 2 and found[0]["pid"] != first[0]["pid"] and found, "another one", 60
    )
    assert second[0]["last_exit"]["signal"] == "SIGKILL"
    assert second[1]["pid"] == first[1]["pid"]
    os.kill(second[1]["pid"], signal.SIGSTOP)
    until(lambda: len(found := living(service)) == 2 and found[1]["pid"] != second[1]["pid"], "the other too", 60)
    (factory.project.path / "go").touch()
    done(factory, "waits", 6)
    assert [record[3]["square"] for record in factory.records("waits")] == [n**2 for n in range(1, 7)]
    family = service.family()
    assert {process["pid"] for process in living(service)} <= {process.pid for process in family}
    service.process.kill()
    until(lambda: gone(family), "nothing is left", 30)


def test_tasks_are_added_run_retried_and_removed_over_the_api(
    factory: Factory, serve: Serve, endpoint: Endpoint
) -> None:
    endpoint.answers(says("nonsense"))
    secret = "sk-in-no-answer"
    llm = f'[llm]\nbase_url = "{endpoint.url}"\nmodel = "m"\napi_key_env = "MY_KEY"\n'
    factory.books(2)
    factory.configure(task("by"), text=llm)
    service = serve(MY_KEY=secret)
    http = service.http
    wanted = {"task": "sum", "over": "items", "prompt": "{{ item.title }}", "schema": {"words": "str"}, "attempts": 1}
    made = http.post("/api/tasks", json=wanted)
    assert made.status_code == 201, made.text
    assert made.headers["location"] == "/api/tasks/sum"
    assert http.post("/api/tasks", json=wanted).status_code == 409
    run = http.post("/api/tasks/sum/run", json={"limit": 1})
    assert run.status_code == 202, run.text
    until(lambda: http.get("/api/tasks/sum").json()["counts"]["failed"] == 1, "one has failed", 60)
    assert http.get("/api/tasks/sum").json()["reasons"] == {"invalid": 1}
    (failed,) = http.get("/api/tasks/sum/jobs", params={"state": "failed"}).json()["items"]
    assert failed["reason"] == "invalid"
    endpoint.answers(says({"words": "fine"}))
    assert http.post("/api/tasks/sum/retry").json() == {"jobs": 1}
    until(lambda: http.get("/api/tasks/sum").json()["counts"]["done"] == 1, "it is done", 60)
    (record,) = http.get("/api/enrichments", params={"task": "sum"}).json()["items"]
    assert record["data"] == {"words": "fine"}
    assert http.get(f"/api/enrichments/{record['id']}").json() == record
    assert endpoint.headers[0]["authorization"] == f"Bearer {secret}"
    for path in ("/api/tasks", "/api/tasks/sum/jobs", "/api/scraper-status"):
        assert secret not in http.get(path).text
    assert secret not in str(factory.db.read(lambda c: c.execute(tables.events.select()).all()))
    assert secret not in factory.project.output()
    assert http.delete("/api/tasks/by").status_code == 409
    assert http.delete("/api/tasks/sum").status_code == 204
    assert http.get("/api/tasks/sum").status_code == 404
    assert len(http.get("/api/enrichments", params={"task": "sum"}).json()["items"]) == 1
    for wrong in (
        wanted | {"task": "x", "prompt": "{{ a"},
        wanted | {"task": "x", "schema": {"a": "string"}},
        wanted | {"task": "x", "schema": "os:environ"},
        wanted | {"task": "x", "when": "sometimes"},
        wanted | {"task": "x", "where": "["},
        {"task": "x", "kind": "python", "function": "os:system"},
        {"task": "x", "kind": "nothing"},
    ):
        answer = http.post("/api/tasks", json=wrong)
        assert answer.status_code == 422, wrong
    assert http.post("/api/tasks/by/run", json={"kind": "nothing"}).status_code == 422
    assert http.post("/api/tasks/nothing/run").status_code == 404


def test_a_schedule_is_kept_and_max_workers_too_and_who_has_nothing_to_do_goes(factory: Factory, serve: Serve) -> None:
    factory.books(3)
    factory.configure(task("by", when="0 0 1 1 *", workers=3, over="items"))
    service = serve(MAX_WORKERS="1")

    def planned() -> Any:
        (found,) = service.http.get("/api/tasks").json()["items"] or [{"next_at": None}]
        return found["next_at"]

    until(planned, "it is planned", 60)
    assert factory.records("by") == []
    past = update(tables.tasks).values(next_at=stock.AT)
    factory.db.write(lambda c: c.execute(past))
    done(factory, "by", 3)
    assert len({record[3]["by"] for record in factory.records("by")}) == 1
    assert len(enrichers(service)) == 1
    assert planned() > "2026"
    pids = [process["pid"] for process in enrichers(service)]
    until(lambda: not enrichers(service), "it goes", 60)
    until(lambda: not any(psutil.pid_exists(pid) for pid in pids), "and is gone")
    assert service.status()["state"] != "failed"


def test_an_endpoint_that_is_away_is_told_and_waited_for(factory: Factory, serve: Serve, endpoint: Endpoint) -> None:
    reply = endpoint.site.routes.pop("/v1/chat/completions")  # 404: there is no such model, yet
    endpoint.answers(says({"text": "fine"}))
    factory.books(1)
    llm = f'[llm]\nbase_url = "{endpoint.url}"\nmodel = "m"\n'
    factory.configure(task("sum", None, kind="llm", prompt="{{ item.title }}", when="stored"), text=llm)
    arrive(factory, range(2, 3))
    service = serve()
    until(lambda: any("404" in str(one["trouble"]) for one in enrichers(service)), "it says so", 60)
    assert service.status()["state"] != "failed"
    assert service.http.get("/readyz").status_code == 200  # it keeps nobody from scraping
    endpoint.site.routes["/v1/chat/completions"] = reply
    done(factory, "sum", 2)
