"""Real processes, real signals."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest

from scraper import kernel
from tests.site import Site
from tests.storm import scrapers
from tests.support import PATIENCE_S, Project, Running, free_port, gone, rows, until

ROOT = Path(__file__).parents[2]
Serve = Callable[..., Running]


def test_the_status_has_every_field_of_the_contract(serve: Serve, scraping: Project) -> None:
    status = serve().until_state("scraping")
    assert {"running", "state", "last_check", "process_alive", "pid", "restarts", "heartbeat_age_s"} <= set(status)
    assert {"started_at", "last_exit", "processes"} <= set(status)
    one = status["processes"][0]
    assert {"name", "pid", "process_alive", "state", "heartbeat_age_s", "restarts"} <= set(one)
    assert {"rss_bytes", "cpu_percent", "sources", "last_exit"} <= set(one)
    assert status["running"] is True
    assert status["process_alive"] is True
    assert one["name"] == "scraper-0"
    assert one["sources"] == ["endless"]
    assert psutil.Process(status["pid"]).ppid() != 1


def test_kill_9_twenty_times_in_a_row_and_it_scrapes_again_each_time(serve: Serve, scraping: Project) -> None:
    service = serve()
    for number in range(1, 21):
        pid = service.until_state("scraping")["pid"]
        os.kill(pid, signal.SIGKILL)
        until(lambda p=pid: service.status()["pid"] not in (None, p), "a new pid")  # type: ignore[misc]
        status = service.until_state("scraping")
        assert status["restarts"] == number
        assert status["last_exit"]["pid"] == pid
        assert status["last_exit"]["signal"] == "SIGKILL"
        assert status["last_exit"]["reason"] == "killed from outside"
        assert status["running"] is True
    assert rows(scraping, "SELECT count(*) - count(DISTINCT final_url) FROM pages") == [(0,)]
    assert rows(scraping, "PRAGMA integrity_check") == [("ok",)]


def test_one_scraper_under_four_workers_and_failover(serve: Serve, scraping: Project) -> None:
    service = serve("--workers", "4")
    first = service.until_state("scraping")
    until(lambda: len(_scrapers(service)) == 1, "one scraper")
    os.kill(first["owner_pid"], signal.SIGKILL)

    def replaced() -> bool:
        try:
            status = service.status()
        except httpx.HTTPError:  # the connection was the dead worker's
            return False
        return status["pid"] not in (None, first["pid"]) and status["state"] == "scraping"

    until(replaced, "another worker's scraper")
    until(lambda: len(_scrapers(service)) == 1, "one scraper")
    answers = set()
    for _ in range(30):  # a new connection each, so that every worker is asked
        with httpx.Client(base_url=f"http://127.0.0.1:{scraping.port}", trust_env=False) as client:
            answers.add(client.get("/api/scraper-status").json()["pid"])
    assert len(answers) == 1
    assert service.status()["last_exit"]["reason"] == "lost with its service"


def _scrapers(service: Running) -> list[int]:
    """The processes that hold the scraper's lock file open."""
    found = []
    for process in service.family():
        try:
            files = [file.path for file in process.open_files()]
        except psutil.Error:
            continue
        if any(path.endswith("scraper-0.lock") for path in files):
            found.append(process.pid)
    return found


def test_stop_start_pause_resume_restart(serve: Serve, scraping: Project) -> None:
    service = serve()
    pid = service.until_state("scraping")["pid"]
    assert service.http.post("/api/scraper/start").status_code == 200
    assert service.http.post("/api/scraper/pause").status_code == 202
    assert service.until_state("paused")["pid"] == pid
    assert service.http.post("/api/scraper/pause").status_code == 200
    assert service.http.post("/api/scraper/resume").status_code == 202
    assert service.until_state("scraping")["pid"] == pid
    assert service.http.post("/api/scraper/restart").status_code == 202
    until(lambda: service.status()["pid"] not in (None, pid), "a new pid")
    service.until_state("scraping")
    assert service.http.post("/api/scraper/stop").status_code == 202
    stopped = service.until_state("stopped")
    assert (stopped["running"], stopped["process_alive"], stopped["pid"]) == (False, False, None)
    assert stopped["last_exit"]["reason"] == "requested"
    assert service.http.post("/api/scraper/stop").status_code == 200
    assert service.http.post("/api/scraper/start").status_code == 202
    assert service.until_state("scraping")["running"] is True


def test_what_was_stopped_stays_stopped_over_a_restart_of_the_service(serve: Serve, scraping: Project) -> None:
    service = serve()
    service.until_state("scraping")
    service.http.post("/api/scraper/stop")
    service.until_state("stopped")
    service.process.send_signal(signal.SIGTERM)
    service.process.wait(10)
    again = serve()
    assert again.until_state("stopped")["running"] is False
    assert "was=stopped is=starting" not in scraping.output().rpartition("Application startup complete")[2]


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
def test_the_status_does_not_wait_for_the_manager(serve: Serve, scraping: Project, number: signal.Signals) -> None:
    service = serve()
    status = service.until_state("scraping")
    until(lambda: service.status()["shared_state"]["alive"], "the shared dict")
    manager = service.status()["shared_state"]["pid"]
    os.kill(manager, number)
    worst = 0.0

    def mended() -> bool:
        nonlocal worst
        began = time.monotonic()
        seen = service.status()
        worst = max(worst, time.monotonic() - began)
        assert (seen["pid"], seen["process_alive"]) == (status["pid"], True)
        shared = seen["shared_state"]
        return shared["alive"] and shared["pid"] != manager and bool(shared["board"])

    until(mended, "another Manager")
    assert worst < 1.0
    assert service.status()["shared_state"]["restarts"] == 1


def test_the_scraper_loads_nothing_that_it_does_not_need() -> None:
    lacking = ("fastapi", "uvicorn", "httpx", "bs4", "pydantic", "parsel", "sqlalchemy.dialects.postgresql")
    code = f"import scraper.worker.start, scraper.worker.main, sys; print([m for m in {lacking} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_kill_by_sigterm_is_a_kill_too(serve: Serve, scraping: Project) -> None:
    service = serve()
    pid = service.until_state("scraping")["pid"]
    os.kill(pid, signal.SIGTERM)
    until(lambda: service.status()["pid"] not in (None, pid), "a new pid")
    last = service.until_state("scraping")["last_exit"]
    assert (last["pid"], last["signal"], last["reason"]) == (pid, "SIGTERM", "killed from outside")


def test_without_a_descriptor_left_it_supervises_on(serve: Serve, scraping: Project) -> None:
    service = serve(command=["/bin/bash", "-c", 'ulimit -n 100; exec "$0" -m scraper serve', sys.executable])
    pid = service.until_state("scraping")["pid"]
    crowd: list[socket.socket] = []
    for _ in range(120):
        with contextlib.suppress(OSError):
            crowd.append(socket.create_connection(("127.0.0.1", scraping.port), 1))
    os.kill(pid, signal.SIGKILL)
    until(lambda: kernel.birth(pid) is None, "it died")
    assert service.status()["running"] is True
    for end in crowd:
        end.close()
    until(lambda: service.status()["pid"] not in (None, pid), "a new pid")
    service.until_state("scraping")
    assert len(scraping.output()) < 100_000


def test_of_two_that_take_new_locks_one_gives_way(serve: Serve, scraping: Project) -> None:
    service = serve("--workers", "2")
    service.until_state("scraping")
    for file in (*(scraping.path / ".bowerbird").iterdir(), scraping.path / "bowerbird.db-owner"):
        file.unlink()
    until(lambda: (scraping.path / "bowerbird.db-owner").exists(), "a lock is made anew")
    until(lambda: len(scrapers(scraping.path)) == 1 and service.status()["state"] == "scraping", "one scraper")
    for _ in range(20):
        assert len(scrapers(scraping.path)) <= 1
    pid = service.until_state("scraping")["pid"]
    with contextlib.suppress(ProcessLookupError):  # the new owner may be ending what the old one left
        os.kill(pid, signal.SIGKILL)
    until(lambda: service.status()["pid"] not in (None, pid), "it is supervised")


def test_a_lock_that_could_not_be_made_anew_is_tried_again(serve: Serve, scraping: Project) -> None:
    service = serve()
    pid = service.until_state("scraping")["pid"]
    lock = scraping.path / "bowerbird.db-owner"
    lock.unlink()
    lock.mkdir()
    until(lambda: "the lock cannot be made anew" in scraping.output(), "it says so")
    lock.rmdir()
    until(lock.exists, "it is made anew")
    scraping.port = free_port()
    second = serve("--port", str(scraping.port), BOWERBIRD_SERVICE__STATE_DIR=str(scraping.path / "other"))
    assert second.until_state("scraping")["pid"] == pid


def test_a_wish_outlives_its_file(serve: Serve, scraping: Project) -> None:
    service = serve("--workers", "2")
    service.until_state("scraping")
    service.http.post("/api/scraper/stop")
    service.until_state("stopped")
    file = scraping.path / ".bowerbird" / "wish.json"
    file.unlink()
    until(file.exists, "it is written anew")
    file.unlink()
    for _ in range(6):  # whichever worker is asked
        httpx.post(f"{service.http.base_url}/api/scraper/pause", trust_env=False)
        httpx.post(f"{service.http.base_url}/api/scraper/resume", trust_env=False)
        assert service.status()["state"] == "stopped"
    assert json.loads(file.read_text())["running"] is False


@pytest.mark.parametrize("ending", ["os._exit(0)", "os._exit(75)", "os._exit(78)", "os._exit(255)", "os.abort()"])
def test_a_page_whose_parser_ends_the_process_is_set_aside(
    serve: Serve, project: Project, site: Site, ending: str
) -> None:
    (project.path / "my_parser.py").write_text(
        f"import os\ndef parse(page):\n    if page.url.endswith('/bad'):\n        {ending}\n    yield {{'url': page.url}}\n"
        "    yield from page.css('a::attr(href)').getall()\n"
    )
    site.page("/", '<a href="/bad">x</a><a href="/good">x</a>')
    site.page("/bad", "x")
    site.page("/good", "x")
    project.configure(
        f'[[source]]\nname = "s"\nstart = ["{site.url}/"]\nparser = "my_parser:parse"\nevery = "1h"\n',
        supervisor="backoff_max = 0.2",
    )
    service = serve()
    failure = until(lambda: service.http.get("/api/failures").json()["items"], "poison")[0]
    assert (failure["url"], failure["reason"]) == (site.url + "/bad", "poison")
    until(lambda: service.http.get("/api/runs/1").json()["state"] == "done", "the run ends")
    answer = service.http.post(f"/api/failures/{failure['id']}/retry")
    assert answer.status_code == 202
    run = answer.json()["run"]
    until(lambda: service.http.get(f"/api/runs/{run}").json()["state"] in ("done", "failed"), "it was tried again")
    assert site.paths().count("/bad") == 2


def test_a_crash_loop_is_failed_and_told(serve: Serve, project: Project, endless_source: str) -> None:
    project.configure(endless_source, supervisor="max_restarts = 2\nbackoff_max = 0.1")
    service = serve()
    service.until_state("scraping")
    for _ in range(3):
        pid = service.until_state("scraping")["pid"]
        os.kill(pid, signal.SIGSEGV)
        until(lambda p=pid: service.status()["pid"] != p, "it died")  # type: ignore[misc]
    failed = service.until_state("failed")
    assert failed["running"] is False
    assert failed["last_exit"]["reason"] == "native crash"
    assert failed["last_exit"]["signal"] == "SIGSEGV"
    assert failed["processes"][0]["next_start_in_s"] > 60
    assert service.http.get("/readyz").status_code == 503
    assert service.http.post("/api/scraper/restart").status_code == 202
    service.until_state("scraping")


def test_two_services_on_one_database_have_one_scraper(serve: Serve, scraping: Project) -> None:
    first = serve().until_state("scraping")
    scraping.port = free_port()
    second = serve("--port", str(scraping.port), BOWERBIRD_SERVICE__STATE_DIR=str(scraping.path / "other"))
    seen = second.until_state("scraping")
    assert (seen["pid"], seen["owner_pid"]) == (first["pid"], first["owner_pid"])


def test_a_bad_edit_is_refused_and_the_old_configuration_stays(serve: Serve, scraping: Project) -> None:
    service = serve()
    pid = service.until_state("scraping")["pid"]
    file = scraping.path / "bowerbird.toml"
    good = file.read_text()
    file.write_text(good.replace("delay", "dely"))
    answer = service.http.post("/api/scraper/restart")
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert 'did you mean "delay"?' in answer.json()["detail"]
    assert service.status()["pid"] == pid
    file.write_text(good.replace('name = "endless"', 'name = "renamed"'))
    service.process.send_signal(signal.SIGHUP)
    until(lambda: service.status()["processes"][0]["sources"] == ["renamed"], "the new configuration")


@pytest.mark.parametrize(
    "command",
    [
        [sys.executable, "-m", "uvicorn", "fastapi_app:app", "--port", "{port}"],
        [sys.executable, "-m", "uvicorn", "fastapi_app:app", "--port", "{port}", "--reload"],
        [sys.executable, str(ROOT / "fastapi_app.py")],
    ],
    ids=["uvicorn", "uvicorn --reload", "python fastapi_app.py"],
)
def test_every_way_to_start_it(serve: Serve, scraping: Project, command: list[str]) -> None:
    service = serve(command=[part.format(port=scraping.port) for part in command])
    status = service.until_state("scraping")
    family = service.family()
    os.kill(status["pid"], signal.SIGKILL)
    until(lambda: service.status()["pid"] not in (None, status["pid"]), "a new pid")
    service.until_state("scraping")
    family += service.family()
    service.process.send_signal(signal.SIGTERM)
    service.process.wait(15)
    until(lambda: gone(family), "all gone", within_s=3.0)


def test_a_wish_right_after_a_kill_is_obeyed(serve: Serve, scraping: Project) -> None:
    service = serve()
    for _ in range(3):
        pid = service.until_state("scraping")["pid"]
        os.kill(pid, signal.SIGKILL)
        until(lambda p=pid: service.status()["pid"] not in (None, p), "a new pid")  # type: ignore[misc]
        assert service.http.post("/api/scraper/pause").status_code == 202
        service.until_state("paused")
        assert service.http.post("/api/scraper/resume").status_code == 202
    until(lambda: service.status()["shared_state"]["board"], "the shared dict is written")


def test_wishes_at_the_same_time_are_all_kept(serve: Serve, scraping: Project) -> None:
    service = serve("--workers", "2")
    service.until_state("scraping")
    url = f"http://127.0.0.1:{scraping.port}/api/scraper/"

    def ask(verb: str) -> int:
        return httpx.post(url + verb, trust_env=False, timeout=10).status_code

    for number in range(10):
        verbs = ("stop", "pause") if number % 2 == 0 else ("start", "resume")
        with ThreadPoolExecutor(2) as pool:
            assert list(pool.map(ask, verbs)) == [202, 202]
        wish = json.loads((scraping.path / ".bowerbird" / "wish.json").read_text())
        assert (wish["running"], wish["paused"]) == (number % 2 == 1, number % 2 == 0)


def test_what_was_stopped_stays_stopped_when_its_directory_is_taken_away(serve: Serve, scraping: Project) -> None:
    service = serve()
    service.until_state("scraping")
    service.http.post("/api/scraper/stop")
    service.until_state("stopped")
    taken = scraping.path / "taken"
    (scraping.path / ".bowerbird").rename(taken)  # at once: what is emptied first may be written to meanwhile
    shutil.rmtree(taken)
    until(lambda: (scraping.path / ".bowerbird" / "status.json").exists(), "the directory is made again")
    assert service.status()["state"] == "stopped"
    assert service.http.post("/api/scraper/start").status_code == 202
    service.until_state("scraping")


def test_start_revives_a_failed_scraper(serve: Serve, project: Project, endless_source: str) -> None:
    project.configure(endless_source, supervisor="max_restarts = 1\nbackoff_max = 0.1")
    service = serve()
    for _ in range(2):
        pid = service.until_state("scraping")["pid"]
        os.kill(pid, signal.SIGABRT)
        until(lambda p=pid: service.status()["pid"] != p, "it died")  # type: ignore[misc]
    service.until_state("failed")
    assert service.http.post("/api/scraper/start").status_code == 202
    service.until_state("scraping")


def test_the_number_of_processes_follows_the_configuration(serve: Serve, scraping: Project) -> None:
    service = serve()
    service.until_state("scraping")
    file = scraping.path / "bowerbird.toml"
    file.write_text(file.read_text().replace("[supervisor]", "[supervisor]\nprocesses = 3"))
    assert service.http.post("/api/scraper/restart").status_code == 202
    until(lambda: [p["process_alive"] for p in service.status()["processes"]] == [True] * 3, "three processes")
    file.write_text(file.read_text().replace("processes = 3", "processes = 1"))
    assert service.http.post("/api/scraper/restart").status_code == 202
    until(lambda: len(service.status()["processes"]) == 1, "one process")
    service.until_state("scraping")
    assert rows(scraping, "SELECT count(*) - count(DISTINCT final_url) FROM pages") == [(0,)]


@pytest.mark.parametrize("broken", [False, True])
def test_a_new_owner_uses_the_configuration_that_is_in_force(serve: Serve, scraping: Project, *, broken: bool) -> None:
    service = serve("--workers", "2")
    service.until_state("scraping")
    file = scraping.path / "bowerbird.toml"
    file.write_text(file.read_text().replace('name = "endless"', 'name = "renamed"'))
    service.http.post("/api/scraper/restart")
    until(lambda: service.status()["processes"][0]["sources"] == ["renamed"], "the new configuration")
    until(lambda: "read the configuration, as the owner did" in scraping.output(), "the other worker has it too")
    if broken:
        file.write_text("nonsense = 1\n" + file.read_text())
    owner = service.status()["owner_pid"]
    os.kill(owner, signal.SIGKILL)

    def taken_over() -> bool:
        try:
            status = service.status()
        except httpx.HTTPError:
            return False
        return bool(status["owner_pid"] != owner and status["processes"][0]["sources"] == ["renamed"])

    until(taken_over, "another owner, the same configuration")


def _break_file_and_kill_follower(service: Running, scraping: Project) -> str:
    """Returns the configuration as it was."""
    owner = service.status()["owner_pid"]
    file = scraping.path / "bowerbird.toml"
    right = file.read_text()
    file.write_text("nonsense = 1\n" + right)
    below = psutil.Process(service.process.pid).children()
    [other] = [each for each in below if each.pid != owner and "spawn_main" in " ".join(each.cmdline())]
    other.kill()
    until(lambda: "a worker cannot start before" in scraping.output(), "its successor reads the file", 60)
    return right


def test_a_worker_that_dies_while_the_file_is_broken_costs_no_other(serve: Serve, scraping: Project) -> None:
    service = serve("--workers", "2")
    before = service.until_state("scraping")
    right = _break_file_and_kill_follower(service, scraping)
    (scraping.path / "bowerbird.toml").write_text("nothing = 1\n" + right)
    until(lambda: 'no "nothing"' in scraping.output(), "it was tried again")
    now = service.status()
    assert (now["owner_pid"], now["pid"]) == (before["owner_pid"], before["pid"])
    (scraping.path / "bowerbird.toml").write_text(right)
    until(lambda: scraping.output().count("Application startup complete") == 3, "another worker")
    assert service.status()["pid"] == before["pid"]
    assert scraping.output().count("died") == 1  # the one that was killed


def test_a_worker_that_waits_for_the_file_ends_with_the_others(serve: Serve, scraping: Project) -> None:
    service = serve("--workers", "2")
    service.until_state("scraping")
    _break_file_and_kill_follower(service, scraping)
    service.process.terminate()
    assert service.process.wait(PATIENCE_S) == 0


def test_another_database_takes_more_than_a_restart(serve: Serve, scraping: Project) -> None:
    service = serve()
    service.until_state("scraping")
    file = scraping.path / "bowerbird.toml"
    file.write_text('[database]\nurl = "sqlite:///other.db"\n' + file.read_text())
    answer = service.http.post("/api/scraper/restart")
    assert answer.status_code == 422
    assert "end the service and start it again" in answer.json()["detail"]


def test_a_configuration_of_many_sources_is_no_trouble(serve: Serve, project: Project, site: Site) -> None:
    site.page("/", "x")
    many = "".join(
        f'[[source]]\nname = "s{n}"\nstart = ["{site.url}/{n}"]\nexclude = ["{"x" * 200}"]\n' for n in range(5000)
    )
    project.configure(many)
    service = serve()
    assert service.until_state("idle")["restarts"] == 0


def test_a_database_that_says_nothing_keeps_nobody_from_the_status(project: Project, site: Site) -> None:
    project.configure(f'[[source]]\nname = "s"\nstart = ["{site.url}/"]\n')
    with socket.create_server(("127.0.0.1", 0), backlog=100) as silent:
        url = f"postgresql+psycopg://u:p@127.0.0.1:{silent.getsockname()[1]}/x"
        service = Running(project, project.start("serve", DATABASE_URL=url))
        try:
            until(lambda: _answers(service), "the status", 45)
            assert service.http.get("/readyz").status_code == 503
        finally:
            service.http.close()
            service.process.kill()
            service.process.wait()


def _answers(service: Running) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return service.http.get("/api/scraper-status").status_code == 200
    return False


def test_a_link_to_the_database_is_the_same_database(serve: Serve, scraping: Project) -> None:
    first = serve().until_state("scraping")
    (scraping.path / "link.db").symlink_to(scraping.path / "bowerbird.db")
    scraping.port = free_port()
    second = serve(
        "--port",
        str(scraping.port),
        BOWERBIRD_SERVICE__STATE_DIR=str(scraping.path / "other"),
        DATABASE_URL="sqlite:///link.db",
    )
    assert second.until_state("scraping")["pid"] == first["pid"]
    assert second.http.post("/api/scraper/stop").status_code == 409
