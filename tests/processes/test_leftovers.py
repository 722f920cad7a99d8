"""Nothing is left behind, whoever dies how."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from tests.site import Site
from tests.support import Project, Running, fault, gone, until

Serve = Callable[..., Running]

STARTS = """
subprocess.Popen(["sleep", "1001"])
subprocess.Popen(["sleep", "1002"], start_new_session=True)
if os.fork() == 0:
    os.setsid()
    time.sleep(1003)
"""


@pytest.fixture
def prolific(project: Project, site: Site) -> Project:
    """A scraper that leaves processes in its own group, in sessions of their own, and forked ones."""
    site.page("/", "x")
    project.configure(f'[[source]]\nname = "s"\nstart = ["{site.url}/"]\nevery = "1h"\n')
    return project


def _offspring(service: Running) -> list[psutil.Process]:
    """What the scraper started: three processes."""
    scraper = psutil.Process(service.until_state("idle")["pid"])
    return until(lambda: found if len(found := scraper.children(recursive=True)) == 3 else None, "three processes")  # type: ignore[no-any-return]


def test_a_death_takes_what_started_anew_with_an_empty_environment(serve: Serve, prolific: Project) -> None:
    service = serve(**fault(STARTS.replace("start_new_session=True", "start_new_session=True, env={}")))
    offspring = _offspring(service)
    os.kill(service.status()["pid"], signal.SIGKILL)
    until(lambda: gone(offspring), "all gone", within_s=2.0)
    event = until(lambda: _ended(service), "an event")
    assert event["facts"]["cause"] == "killed from outside"
    assert set(event["facts"]["left"]) == {process.pid for process in offspring}


def test_a_death_takes_nobody_else(serve: Serve, scraping: Project) -> None:
    (scraping.path / "embeds.py").write_text(
        "import subprocess\nfrom fastapi_app import app\nsubprocess.Popen(['sleep', '3334'])\n"
        "subprocess.Popen(['sleep', '3335'], start_new_session=True)\n__all__ = ['app']\n"
    )
    run = f'sleep 3333 & exec "$0" -m uvicorn embeds:app --port {scraping.port}'
    service = serve(command=["/bin/bash", "-c", run, sys.executable], PYTHONPATH=str(scraping.path))
    pid = service.until_state("scraping")["pid"]
    others = [p for p in service.family() if p.name() == "sleep"]
    assert len(others) == 3
    until(lambda: service.status()["processes"][0]["rss_bytes"], "it was looked at")
    moment = time.monotonic() + 2.5
    until(lambda: time.monotonic() > moment, "it was looked at twice")
    os.kill(pid, signal.SIGKILL)
    until(lambda: service.status()["pid"] not in (None, pid), "a new pid")
    service.until_state("scraping")
    assert [p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in others] == [True] * 3
    for other in others:
        other.kill()


def test_a_killed_service_takes_what_has_an_empty_environment(serve: Serve, prolific: Project) -> None:
    service = serve(**fault(STARTS.replace('"1001"]', '"1001"], env={}')))
    offspring = _offspring(service)
    until(lambda: service.status()["shared_state"]["alive"], "a Manager")
    os.kill(service.process.pid, signal.SIGKILL)
    service.process.wait()
    until(lambda: gone(offspring), "its offspring is gone", within_s=2.0)


def _ended(service: Running) -> Any:
    listed = service.http.get("/api/events?level=warning", headers={"Accept": "application/json"}).json()["items"]
    return next((e for e in listed if e["event"] == "ended"), None)


def test_one_scrapers_death_is_not_its_neighbours(serve: Serve, prolific: Project, site: Site) -> None:
    text = (prolific.path / "bowerbird.toml").read_text().replace("[supervisor]", "[supervisor]\nprocesses = 2")
    (prolific.path / "bowerbird.toml").write_text(text)
    service = serve(**fault(STARTS))
    until(lambda: "/" in site.paths(), "a page is read")
    until(lambda: [p["state"] for p in service.status()["processes"]] == ["idle", "idle"], "both are idle")
    parents = {p["name"]: psutil.Process(p["pid"]) for p in service.status()["processes"]}
    offspring = {name: parent.children(recursive=True) for name, parent in parents.items()}
    worker = next(name for name, children in offspring.items() if children)
    other = next(name for name in parents if name != worker)
    parents[other].kill()
    until(
        lambda: {p["name"]: p["pid"] for p in service.status()["processes"]}[other] not in (None, parents[other].pid),
        "another",
    )
    assert len(parents[worker].children(recursive=True)) == 3


def test_a_stopped_api_worker_goes_with_the_main_process(serve: Serve, scraping: Project) -> None:
    service = serve("--workers", "2")
    owner = service.until_state("scraping")["owner_pid"]
    family = service.family()
    os.kill(owner, signal.SIGSTOP)
    os.kill(service.process.pid, signal.SIGKILL)
    service.process.wait()
    until(lambda: gone(family), "all gone", within_s=4.0)


def test_a_death_takes_its_descendants(serve: Serve, prolific: Project) -> None:
    service = serve(**fault(STARTS))
    offspring = _offspring(service)
    pid = service.status()["pid"]
    os.kill(pid, signal.SIGKILL)
    until(lambda: gone(offspring), "all gone", within_s=2.0)
    until(lambda: service.status()["pid"] not in (None, pid), "a new pid")
    service.until_state("idle")


@pytest.mark.parametrize("first", ["service", "scraper", "manager"])
def test_a_killed_service_takes_all_descendants(serve: Serve, prolific: Project, first: str) -> None:
    service = serve(**fault(STARTS))
    offspring = _offspring(service)
    status = service.status()
    family = service.family()
    if first == "scraper":  # stopped, so that it cannot hear that its service is gone
        os.kill(status["pid"], signal.SIGSTOP)
    if first == "manager":  # stopped: the kernel wakes it when the service is gone
        os.kill(until(lambda: service.status()["shared_state"]["pid"], "the Manager"), signal.SIGSTOP)
    os.kill(service.process.pid, signal.SIGKILL)
    service.process.wait()
    until(lambda: gone(family), "the family is gone", within_s=2.0)
    until(lambda: gone(offspring), "its offspring is gone", within_s=2.0)


def test_what_a_killed_service_left_is_ended_by_the_next_one(serve: Serve, prolific: Project) -> None:
    service = serve(**fault(STARTS))
    offspring = _offspring(service)
    os.kill(service.status()["shared_state"]["pid"], signal.SIGKILL)  # who would have seen to it
    os.kill(service.process.pid, signal.SIGKILL)
    service.process.wait()
    serve().until_state("idle")
    until(lambda: gone(offspring), "its offspring is gone", within_s=2.0)


def test_kill_9_of_the_service_leaves_nothing(serve: Serve, scraping: Project) -> None:
    service = serve()
    service.until_state("scraping")
    until(lambda: len(service.family()) >= 3, "scraper and manager")
    family = service.family()
    os.kill(service.process.pid, signal.SIGKILL)
    service.process.wait()
    until(lambda: gone(family), "all gone", within_s=2.0)


def test_the_workers_go_when_their_main_process_is_killed(serve: Serve, scraping: Project) -> None:
    service = serve("--workers", "2")
    service.until_state("scraping")
    family = service.family()
    os.kill(service.process.pid, signal.SIGKILL)
    service.process.wait()
    until(lambda: gone(family), "all gone", within_s=4.0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_everything(serve: Serve, scraping: Project, number: signal.Signals) -> None:
    service = serve()
    service.until_state("scraping")
    family = service.family()
    service.process.send_signal(number)
    service.process.wait(10)
    until(lambda: gone(family), "all gone", within_s=2.0)
    assert "Traceback" not in scraping.output()


def test_ctrl_c_twice_leaves_nothing(serve: Serve, scraping: Project) -> None:
    service = serve()
    service.until_state("scraping")
    family = service.family()
    service.process.send_signal(signal.SIGINT)
    service.process.send_signal(signal.SIGINT)
    service.process.wait(10)
    until(lambda: gone(family), "all gone", within_s=2.0)


def test_ctrl_c_at_any_moment_shows_no_traceback(scraping: Project) -> None:
    for wait_s in (0.3, 0.5, 0.7, 0.9, 1.2):
        process = scraping.start("serve")
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(wait_s)
        while process.poll() is None:  # the interpreter's own start may swallow one: then a person presses again
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
    assert "Traceback" not in scraping.output()
