"""Fixtures: a site, a project directory, a running service."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from hypothesis import settings

from tests.site import Site, running
from tests.support import Project, Running, until

# How long an example takes is the machine's affair.
settings.register_profile("bowerbird", deadline=None)
settings.load_profile("bowerbird")


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


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    made = Project(tmp_path)
    yield made
    made.end()


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
