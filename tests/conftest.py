"""Fixtures: a site, a project directory, a running service."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.site import Site, running

PATIENCE_S = 30.0


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("BOWERBIRD_") or name in ("DATABASE_URL", "POOL_SIZE", "ENVIRONMENT", "STATE_DIRECTORY"):
            monkeypatch.delenv(name)


@pytest.fixture
def site() -> Iterator[Site]:
    with running() as made:
        yield made


def until(fact: Callable[[], Any], what: str = "", within_s: float = PATIENCE_S) -> Any:
    """Wait for a fact and return it; fail when it does not come true in time."""
    deadline = time.monotonic() + within_s
    while True:
        found = fact()
        if found:
            return found
        if time.monotonic() > deadline:
            pytest.fail(f"did not come true within {within_s} s: {what or fact}")
        time.sleep(0.01)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as end:
        end.bind(("127.0.0.1", 0))
        return int(end.getsockname()[1])


class Project:
    """A directory with a bowerbird.toml, and the commands in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.port = free_port()

    def configure(self, text: str, *, http: str = "delay = 0", supervisor: str = "") -> None:
        """Write the configuration; loopback may be asked."""
        (self.path / "bowerbird.toml").write_text(
            f"[server]\nport = {self.port}\n[supervisor]\n{supervisor}\n"
            f'[http]\nallow_networks = ["127.0.0.0/8"]\n{http}\n{text}\n'
        )

    def run(self, *args: str, timeout: float = 60, **env: str) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end."""
        return subprocess.run(
            [sys.executable, "-m", "scraper", *args],
            cwd=self.path,
            env=os.environ | env,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def start(self, *args: str, **env: str) -> "subprocess.Popen[bytes]":
        """Start a command in a session of its own; its output goes to out.log."""
        with (self.path / "out.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "scraper", *args],
                cwd=self.path,
                env=os.environ | env,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def output(self) -> str:
        """Return what the started commands said."""
        return (self.path / "out.log").read_text()


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


class Running:
    """A service under test, in a process of its own."""

    def __init__(self, project: Project, process: "subprocess.Popen[bytes]") -> None:
        self.project = project
        self.process = process
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{project.port}", timeout=5, trust_env=False)

    def status(self) -> dict[str, Any]:
        """Return the status."""
        answer: dict[str, Any] = self.http.get("/api/scraper-status").json()
        return answer

    def until_state(self, *states: str, within_s: float = PATIENCE_S) -> dict[str, Any]:
        """Wait for a state and return the status then."""
        seen: dict[str, Any] = {}

        def fact() -> bool:
            try:
                seen.update(self.status())
            except httpx.HTTPError:
                assert self.process.poll() is None, self.project.output()
                return False
            return seen["state"] in states

        until(fact, f"state in {states}", within_s)
        return seen

    def family(self) -> list[psutil.Process]:
        """Return the service's process and all below it."""
        parent = psutil.Process(self.process.pid)
        return [parent, *parent.children(recursive=True)]


def gone(processes: list[psutil.Process]) -> bool:
    """Say whether all of these have ended."""
    return not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in processes if psutil.pid_exists(p.pid))


@pytest.fixture
def serve(project: Project) -> Iterator[Callable[..., Running]]:
    """Start a service; whatever it left is ended afterwards."""
    started: list[Running] = []
    known: dict[int, psutil.Process] = {}

    def start(*args: str, command: list[str] | None = None, **env: str) -> Running:
        if command is None:
            process = project.start("serve", *args, **env)
        else:
            with (project.path / "out.log").open("ab") as log:
                process = subprocess.Popen(
                    command, cwd=project.path, env=os.environ | env, stdout=log, stderr=log, start_new_session=True
                )
        service = Running(project, process)
        started.append(service)
        until(lambda: _answers(service), "the service answers")
        known.update({p.pid: p for p in service.family()})
        return service

    yield start
    for service in started:
        service.http.close()
        if service.process.poll() is None:
            known.update({p.pid: p for p in service.family()})
            service.process.send_signal(signal.SIGTERM)
            try:
                service.process.wait(15)
            except subprocess.TimeoutExpired:
                service.process.kill()
                service.process.wait()
    for process in known.values():
        if process.is_running():
            process.kill()


def _answers(service: Running) -> bool:
    if service.process.poll() is not None:
        pytest.fail(f"the service ended with {service.process.returncode}: {service.project.output()}")
    try:
        return service.http.get("/healthz").status_code == 200
    except httpx.HTTPError:
        return False


def rows(project: Project, query: str) -> list[tuple[Any, ...]]:
    """Read the project's database behind everybody's back."""
    import sqlite3

    connection = sqlite3.connect(project.path / "bowerbird.db")
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def status_file(project: Project) -> dict[str, Any]:
    """Return status.json."""
    kept: dict[str, Any] = json.loads((project.path / ".bowerbird" / "status.json").read_text())
    return kept
