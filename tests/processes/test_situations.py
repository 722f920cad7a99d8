"""What the status answers in each situation that a process, a Manager or a service can be in."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx

from scraper import kernel
from scraper.kernel import FileLock
from scraper.service import verified
from scraper.states import State
from scraper.supervisor.status import ProcessStatus, ScraperStatus
from tests.site import Site
from tests.support import Project, Running, fault, free_port, rows, until

Serve = Callable[..., Running]


def told(status: dict[str, Any]) -> tuple[Any, ...]:
    return status["running"], status["state"], status["process_alive"], status["pid"]


def test_healthy(serve: Serve, scraping: Project) -> None:
    status = serve().until_state("scraping")
    assert told(status) == (True, "scraping", True, status["pid"])
    assert status["heartbeat_age_s"] < 2
    assert status["processes"][0]["stale"] is False
    assert status["last_exit"] is None
    assert kernel.birth(status["pid"]) is not None


def test_starting_and_waiting_for_its_predecessor(serve: Serve, scraping: Project) -> None:
    folder = scraping.path / ".bowerbird"
    folder.mkdir()
    lock = FileLock(folder / "scraper-0.lock")
    assert lock.acquire("")
    service = serve()
    until(lambda: service.status()["processes"][0]["trouble"], "it says what it waits for")
    status = service.status()
    assert told(status) == (True, "starting", True, status["pid"])
    assert "waiting for process" in status["processes"][0]["trouble"]
    lock.release()
    assert service.until_state("scraping")["pid"] == status["pid"]


def test_dead_and_not_yet_replaced(serve: Serve, project: Project, endless_source: str) -> None:
    project.configure(endless_source, supervisor="backoff_max = 60")
    service = serve()
    for _ in range(3):  # the third wait is some two seconds
        pid = service.until_state("scraping")["pid"]
        os.kill(pid, signal.SIGABRT)
        until(lambda p=pid: service.status()["pid"] != p, "it died")  # type: ignore[misc]
    status = service.until_state("restarting")
    assert told(status) == (True, "restarting", False, None)
    assert status["heartbeat_age_s"] is None
    assert status["processes"][0]["next_start_in_s"] > 0
    assert status["last_exit"]["reason"] == "native crash"
    assert "Fatal Python error: Aborted" in status["last_exit"]["stacks"]


def test_silent_and_not_yet_hung(serve: Serve, project: Project, endless_source: str) -> None:
    project.configure(endless_source, supervisor="heartbeat_timeout = 60")
    service = serve()
    pid = service.until_state("scraping")["pid"]
    os.kill(pid, signal.SIGSTOP)
    until(lambda: service.status()["processes"][0]["stale"], "it is silent")
    assert told(service.status()) == (True, "scraping", True, pid)
    assert service.status()["heartbeat_age_s"] > 5
    os.kill(pid, signal.SIGCONT)
    until(lambda: not service.status()["processes"][0]["stale"], "it speaks")
    assert told(service.status())[3] == pid

    def silences() -> list[str]:
        listed = service.http.get("/api/events?level=warning", headers={"Accept": "application/json"}).json()["items"]
        return [e["facts"]["process_is"] for e in listed if e["event"] == "silent"]

    until(lambda: silences() == ["stopped by a signal"], "an event")


def test_being_stopped(serve: Serve, project: Project, site: Site) -> None:
    site.page("/", "x")
    project.configure(
        f'[[source]]\nname = "s"\nstart = ["{site.url}/"]\nevery = "1h"\n',
        supervisor="stop_timeout = 3.0",
    )
    service = serve(**fault("time.sleep(60)"))
    pid = service.until_state("scraping")["pid"]
    until(lambda: "/" in site.paths(), "it is in the page")
    until(lambda: service.status()["processes"][0]["stale"], "it is in the fault")
    service.http.post("/api/scraper/stop")
    assert told(service.until_state("stopping")) == (False, "stopping", True, pid)
    stopped = service.until_state("stopped")
    assert told(stopped) == (False, "stopped", False, None)
    assert stopped["last_exit"]["reason"] == "stop timeout"
    assert service.http.get("/readyz").json()["checks"]["scraper"] == "ok"


def test_it_cannot_start_until_a_person_mends_something(serve: Serve, scraping: Project) -> None:
    service = serve()
    pid = service.until_state("scraping")["pid"]
    [(was,)] = rows(scraping, "SELECT version_num FROM alembic_version")
    _set_version(scraping, "9999")
    os.kill(pid, signal.SIGKILL)
    failed = service.until_state("failed")
    assert told(failed) == (False, "failed", False, None)
    assert failed["last_exit"]["reason"] == "config error"
    assert "made by a newer version" in failed["last_exit"]["message"]
    assert failed["processes"][0]["next_start_in_s"] > 60  # slowly, and not never
    assert service.http.get("/readyz").status_code == 503
    _set_version(scraping, was)
    assert service.http.post("/api/scraper/start").status_code == 202
    service.until_state("scraping")


def _set_version(project: Project, version: str) -> None:
    connection = sqlite3.connect(project.path / "bowerbird.db", timeout=30)
    with connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (version,))
    connection.close()


def test_an_import_that_fails_is_a_boot_failure_with_its_traceback(serve: Serve, scraping: Project) -> None:
    broken = scraping.path / "scraper_breaks"
    broken.mkdir()
    (broken / "sitecustomize.py").write_text(
        "import sys\nif '--multiprocessing-fork' in sys.argv:\n    sys.modules['scraper.worker.main'] = None\n"
    )
    service = serve(PYTHONPATH=str(broken))
    last = until(lambda: service.status()["last_exit"], "it died")
    assert (last["reason"], last["exit_code"]) == ("boot failure", 1)
    assert "ModuleNotFoundError" in last["message"]
    assert "Traceback" in last["stacks"]


def test_asked_at_a_worker_that_does_not_own_it_and_while_the_owner_dies(serve: Serve, scraping: Project) -> None:
    service = serve("--workers", "2")
    first = service.until_state("scraping")
    answers: list[dict[str, Any]] = []

    def asked() -> bool:
        with httpx.Client(base_url=f"http://127.0.0.1:{scraping.port}", trust_env=False, timeout=5) as client:
            try:
                answers.append(client.get("/api/scraper-status").json())
            except httpx.HTTPError:  # the connection was the dead one's
                return False
        return bool(answers[-1]["owner_pid"] != first["owner_pid"] and answers[-1]["state"] == "scraping")

    def all_the_same() -> bool:
        answers.clear()
        for _ in range(20):
            asked()
        return {told(answer) for answer in answers} == {told(first)}

    until(all_the_same, "both answer the same")
    answers.clear()
    os.kill(first["owner_pid"], signal.SIGKILL)
    died = time.monotonic()
    wrong_until = died
    while not asked():
        claims = answers[-1]["process_alive"] if answers else False
        if claims and kernel.birth(answers[-1]["pid"]) is None:
            wrong_until = time.monotonic()
    assert wrong_until - died < 1.0
    assert answers[-1]["restarts"] == first["restarts"] + 1
    assert answers[-1]["last_exit"]["reason"] == "lost with its service"


def test_a_zombie_and_a_stranger_with_the_same_pid_are_not_it() -> None:
    zombie = subprocess.Popen([sys.executable, "-c", ""])
    born = kernel.birth(zombie.pid)
    until(lambda: kernel.birth(zombie.pid) is None, "it is a zombie")
    for process in (
        ProcessStatus("scraper-0", State.SCRAPING, pid=zombie.pid, born=born, process_alive=True),
        ProcessStatus("scraper-0", State.SCRAPING, pid=os.getpid(), born="1", process_alive=True),
    ):
        picture = ScraperStatus(True, State.SCRAPING, time.monotonic(), 1, (process,))
        assert told(verified(picture).answer(time.monotonic())) == (True, "restarting", False, None)
    zombie.wait()
    living = replace(process, born=kernel.birth(os.getpid()))
    assert verified(replace(picture, processes=(living,))).processes == (living,)


def test_a_frozen_service_is_told_by_the_others(serve: Serve, scraping: Project) -> None:
    first = serve()
    owner = first.until_state("scraping")["owner_pid"]
    scraping.port = free_port()
    second = serve("--port", str(scraping.port))
    second.until_state("scraping")
    os.kill(owner, signal.SIGSTOP)
    until(lambda: "is silent" in second.status()["message"], "it says so", within_s=10)
    assert second.status()["process_alive"] is True
    os.kill(owner, signal.SIGCONT)
    until(lambda: second.status()["message"] == "", "it is back")


def test_what_goes_on_is_told_by_events_in_order(serve: Serve, scraping: Project) -> None:
    service = serve()
    pid = service.until_state("scraping")["pid"]
    with httpx.stream(
        "GET", f"{service.http.base_url}/api/events?since=0&kind=process", timeout=20, trust_env=False
    ) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = answer.iter_lines()
        os.kill(pid, signal.SIGKILL)
        seen = []
        for line in lines:
            seen.append(line)
            if '"is": "scraping"' in line and "killed from outside" in "".join(seen):
                break
    ids = [int(line[4:]) for line in seen if line.startswith("id: ")]
    assert ids == sorted(set(ids))
    moves = [line for line in seen if '"event": "moved"' in line]
    states = [part.partition('"')[0] for line in moves for part in line.split('"is": "')[1:]]
    assert states == ["starting", "idle", "scraping", "restarting", "starting", "idle", "scraping"]
    again = httpx.stream(
        "GET",
        f"{service.http.base_url}/api/events?kind=process",
        headers={"Last-Event-ID": str(ids[2])},
        timeout=20,
        trust_env=False,
    )
    with again as answer:
        following = next(line for line in answer.iter_lines() if line.startswith("id: "))
    assert following == f"id: {ids[3]}"
    with httpx.stream(
        "GET", f"{service.http.base_url}/api/events?since=999999000000000000", timeout=20, trust_env=False
    ) as answer:
        assert next(line for line in answer.iter_lines() if line.startswith("event: ")) == "event: resync"


def test_an_open_stream_does_not_keep_the_service(serve: Serve, scraping: Project) -> None:
    service = serve()
    service.until_state("scraping")
    with httpx.stream("GET", f"{service.http.base_url}/api/events", timeout=20, trust_env=False) as answer:
        lines = answer.iter_lines()
        next(lines)
        service.process.send_signal(signal.SIGTERM)
        assert list(lines) is not None  # to its end
    service.process.wait(5)
