"""Fixtures: a site, a database of each kind, a project directory, a running service."""

import gc
import os
import signal
import subprocess
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import psutil
import pytest
from hypothesis import settings
from sqlalchemy.pool import QueuePool

from scraper.config.settings import Database
from scraper.database import Db, schema
from tests import postgres as postgresql
from tests.postgres import Address, Server
from tests.site import Site, running
from tests.support import Project, Running, until

# A shell that starts the tests in the background has them, and whatever they start, ignore what Ctrl-C sends.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes is the machine's affair.
settings.register_profile("bowerbird", deadline=None)
settings.load_profile("bowerbird")


TOLD_MOST = 20_000  # characters of a service's output


@pytest.fixture(autouse=True, scope="module")
def _nothing_piles_up() -> Iterator[None]:
    """Sockets of loops that are over wait in cycles until they are looked for, which is seldom in a process that has grown."""
    yield
    gc.collect()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what a service said beside the test that failed with it: what happened once in a hundred runs is told once."""
    report = yield
    if report.failed:
        for project in {used for used in getattr(item, "funcargs", {}).values() if isinstance(used, Project)}:
            report.sections.append(("What the service said", project.output()[-TOLD_MOST:]))
    return report


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


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what is marked with `databases` once for each that it names."""
    marked = metafunc.definition.get_closest_marker("databases")
    if marked is not None and "database" in metafunc.fixturenames:
        metafunc.parametrize("database", marked.args, indirect=True)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """One PostgreSQL for all tests, from the first that asks for it."""
    with postgresql.running() as made:
        yield made


@pytest.fixture(scope="session")
def postgres_with_vectors() -> Iterator[Server]:
    """One PostgreSQL with pgvector for all tests, from the first that asks for it."""
    with postgresql.running_with_vectors() as made:
        yield made


@pytest.fixture
def address(postgres: Server) -> Iterator[Address]:
    """An empty database in that PostgreSQL."""
    with postgres.database() as made:
        yield made


@pytest.fixture
def address_with_vectors(postgres_with_vectors: Server) -> Iterator[Address]:
    """An empty database in the PostgreSQL with pgvector."""
    with postgres_with_vectors.database() as made:
        yield made


@pytest.fixture
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    """An empty database: SQLite's, or of the kinds that the mark `databases` names."""
    kind = getattr(request, "param", "sqlite")
    if kind == "sqlite":
        return Database(url=f"sqlite:///{tmp_path / 'test.db'}")
    assert kind in ("postgresql", "pgbouncer", "pgvector")
    address: Address = request.getfixturevalue("address_with_vectors" if kind == "pgvector" else "address")
    return address.settings(pooled=kind != "postgresql")


@pytest.fixture
def db(database: Database) -> Iterator[Db]:
    """A database with its tables, which waits for nobody for long."""
    with Db(replace(database, timeout=0.2)) as made:
        schema.upgrade(made)
        yield made
        pool = made.engine.pool
        if isinstance(pool, QueuePool):  # a stream that was closed may be reading still
            until(lambda: not pool.checkedout(), "all connections are given back")


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
