"""The service with a PostgreSQL that is restarted, frozen, or shared with another service."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from scraper.config.settings import Database
from scraper.database.hosts import LEASE_S
from tests.postgres import PASSWORD, Address, Server
from tests.site import Request, Site, html, running
from tests.support import Project, Running, until

Serve = Callable[..., Running]

pytestmark = pytest.mark.databases("postgresql", "pgbouncer")
PAGES = 120
FROZEN_S = 9.0
TOLD_WITHIN_S = 30.0
# Until what a dead service held is taken up: the lease runs out, somebody looks.
TAKEN_UP_WITHIN_S = LEASE_S * 1.5 + 10


def tree(site: Site, pages: int = PAGES) -> None:
    """A site of so many pages, with an item on each."""

    def page(request: Request) -> bytes:
        number = int(request.path.strip("/") or 0)
        below = "".join(f'<a href="/{n}">x</a>' for n in (number * 2 + 1, number * 2 + 2) if n < pages)
        return html(f"<title>{number}</title><h1>{number}</h1>{below}")

    site.raw("*", page, close=False)
    site.raw("/robots.txt", html("", status="404 Not Found"), close=False)


def watched(site: Site, name: str = "tree", every: str | None = "1h") -> str:
    """Return a source that watches such a site; without a schedule it waits to be asked."""
    return (
        f'[[source]]\nname = "{name}"\nstart = ["{site.url}/0"]\nfollow = true\n'
        + (f'every = "{every}"\n' if every else "")
        + '[[source.item]]\nkind = "page"\nkey = ["n"]\nfields = { n = "h1::text" }\n'
    )


def env(database: Database) -> dict[str, str]:
    """Return the environment in which a command uses a database."""
    pooler = str(database.transaction_pooler).lower()
    return {"DATABASE_URL": database.url, "BOWERBIRD_DATABASE__TRANSACTION_POOLER": pooler}


@pytest.fixture
def service(serve: Serve, project: Project, site: Site, database: Database) -> Running:
    """A service that has begun with a site."""
    tree(site)
    project.configure(watched(site), http="delay = 0.02", supervisor="heartbeat_timeout = 5.0")
    begun = serve(**env(database))
    begun.until_state("scraping")
    return begun


def stored(address: Address, at_least: int) -> int:
    """Wait until so many pages are stored. Returns how many there are."""

    def fact() -> int:
        count: int = address.rows("SELECT count(*) FROM pages")[0][0]
        return count if count >= at_least else 0

    return int(until(fact, f"{at_least} pages are stored"))


def ended(service: Running, name: str = "tree", within_s: float = 60) -> dict[str, Any]:
    """Wait until a source's only run has ended, and return it."""

    def fact() -> dict[str, Any] | None:
        with contextlib.suppress(httpx.HTTPError):
            answer = service.http.get("/api/runs")
            if answer.status_code == 200:
                found = [run for run in answer.json()["items"] if run["source"] == name]
                assert len(found) == 1, found
                if found[0]["finished_at"]:
                    return dict(found[0])
        return None

    run: dict[str, Any] = until(fact, f"the run of {name} ends", within_s)
    return run


def judge(address: Address, pages: int = PAGES, runs: int = 1) -> None:
    """See that everything is there, once."""
    assert address.rows("SELECT count(*), count(DISTINCT final_url) FROM pages") == [(pages, pages)]
    assert address.rows("SELECT count(*), count(DISTINCT url) FROM items") == [(pages, pages)]
    told = address.rows('SELECT "of", change, count(*) FROM changes GROUP BY 1, 2 ORDER BY 1')
    assert told == [("item", "created", pages), ("page", "created", pages)]
    assert address.rows("SELECT state, count(*), sum(pages), sum(failures) FROM runs GROUP BY 1") == [
        ("done", runs, pages, 0)
    ]
    assert address.rows("SELECT count(*) FROM urls WHERE state != 'done' OR claimed_by IS NOT NULL") == [(0,)]


def test_a_scraper_that_is_killed_time_and_again_stores_everything_once(service: Running, address: Address) -> None:
    for count in (10, 40, 80):
        stored(address, count)
        pid = service.until_state("scraping")["pid"]
        os.kill(pid, signal.SIGKILL)
        until(lambda p=pid: service.status()["pid"] not in (None, p), "a new pid")  # type: ignore[misc]
    assert ended(service)["state"] == "done"
    judge(address)
    assert service.status()["restarts"] == 3


def test_a_server_that_is_restarted_is_waited_for(service: Running, address: Address, postgres: Server) -> None:
    stored(address, 10)
    postgres.restart()
    stored(address, 50)
    postgres.stop_hard()
    postgres.start_again()
    assert ended(service)["state"] == "done"
    judge(address)
    assert service.status()["restarts"] == 0
    assert PASSWORD not in service.project.output()


def test_a_server_that_is_away_is_told(
    service: Running, address: Address, postgres: Server, database: Database
) -> None:
    stored(address, 10)
    postgres.stop_hard()
    until(lambda: service.status()["processes"][0]["trouble"], "it says what it waits for", TOLD_WITHIN_S)
    assert PASSWORD not in str(service.status())
    postgres.start_again()
    until(lambda: service.status()["processes"][0]["trouble"] is None, "the trouble is over")
    assert ended(service)["state"] == "done"
    judge(address)
    assert service.status()["restarts"] == 0
    assert PASSWORD not in service.project.output()


def test_connections_that_are_cut_off_cost_nothing(service: Running, address: Address, postgres: Server) -> None:
    for count in (5, 30, 60, 90):
        stored(address, count)
        postgres.terminate_backends(address.name)
    assert ended(service)["state"] == "done"
    judge(address)
    assert service.status()["restarts"] == 0


def test_a_server_that_does_not_answer_stops_nobody_from_asking(
    service: Running, address: Address, postgres: Server
) -> None:
    stored(address, 10)
    pid = service.status()["pid"]
    postgres.freeze()
    try:
        worst, end = 0.0, time.monotonic() + FROZEN_S
        while (began := time.monotonic()) < end:
            status = service.status()
            worst = max(worst, time.monotonic() - began)
            assert (status["running"], status["process_alive"], status["pid"]) == (True, True, pid)
    finally:
        postgres.thaw()
    assert worst < 0.5
    assert ended(service)["state"] == "done"
    judge(address)
    assert service.status()["restarts"] == 0


def test_a_server_that_does_not_answer_is_told(service: Running, address: Address, postgres: Server) -> None:
    stored(address, 10)
    postgres.freeze()
    try:
        until(lambda: service.status()["processes"][0]["trouble"], "it says what it waits for", TOLD_WITHIN_S)
    finally:
        postgres.thaw()


@pytest.mark.parametrize("fault", ["authority", "password", "database"])
@pytest.mark.databases("postgresql")
def test_what_only_a_person_can_mend_ends_the_service(
    project: Project, address: Address, postgres: Server, database: Database, fault: str
) -> None:
    urls = {
        "authority": address.url(sslmode="verify-full", sslrootcert=str(postgres.authority("foreign"))),
        "password": address.url().replace("nobody", "somebody"),
        "database": address.url().replace(f"/{address.name}?", "/none?"),
    }
    project.configure("")
    begun = project.start("serve", **(env(database) | {"DATABASE_URL": urls[fault]}))
    until(lambda: begun.poll() is not None, "it ends", TOLD_WITHIN_S)
    assert begun.returncode != 0
    assert "Traceback" not in project.output()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_encryption_is_checked_as_the_url_says(
    project: Project, address: Address, postgres: Server, database: Database, host: str
) -> None:
    def upgrade(**query: str) -> Any:
        url = address.url(pooled=database.transaction_pooler, host=host, **query)
        pooler = str(database.transaction_pooler).lower()
        return project.run("db", "upgrade", DATABASE_URL=url, BOWERBIRD_DATABASE__TRANSACTION_POOLER=pooler)

    assert upgrade(sslmode="require").returncode == 0
    assert upgrade(sslmode="verify-full", sslrootcert=str(postgres.authority())).returncode == 0
    for refused, why in (
        (upgrade(sslmode="verify-full", sslrootcert=str(postgres.authority("foreign"))), "certificate verify failed"),
        (upgrade(sslmode="disable"), "SSL required" if database.transaction_pooler else "no encryption"),
    ):
        assert refused.returncode != 0
        assert (refused.stdout, len(refused.stderr.splitlines())) == ("", 1), refused.stderr
        assert why in refused.stderr
        assert PASSWORD not in refused.stderr


# -- two services


@pytest.fixture
def sites() -> Iterator[list[Site]]:
    """Eight hosts."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(running(f"127.0.0.{number}")) for number in range(11, 19)]


@pytest.fixture
def two(tmp_path: Path) -> Iterator[list[Project]]:
    """Two directories, with a state of their own each."""
    made = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        made.append(Project(tmp_path / name))
    yield made
    for project in made:
        project.end()


@pytest.fixture
def started(two: list[Project]) -> Iterator[Callable[..., Running]]:
    """Start the service of one of them; what it left is ended afterwards."""
    services: list[Running] = []

    def start(project: Project, **env: str) -> Running:
        service = Running(project, project.start("serve", **env))
        services.append(service)
        service.until_state("idle", "scraping")
        return service

    yield start
    for service in services:
        service.http.close()
        if service.process.poll() is None:
            service.process.send_signal(signal.SIGTERM)
            service.process.wait(15)


def test_two_services_share_the_work(
    started: Callable[..., Running], two: list[Project], sites: list[Site], database: Database, address: Address
) -> None:
    pages = 20
    for site in sites:
        tree(site, pages)
    names = [f"s{number}" for number in range(len(sites))]
    config = "".join(watched(site, name, every=None) for site, name in zip(sites, names, strict=True))
    for project in two:
        project.configure(config, http="delay = 0.02")
    services = [started(project, **env(database)) for project in two]
    owners = set()
    for number, (name, site) in enumerate(zip(names, sites, strict=True)):
        assert services[number % 2].http.post(f"/api/sources/{name}/run").status_code == 202
        query = f"SELECT lease_owner FROM hosts WHERE host = '{site.host}:{site.port}' AND lease_owner IS NOT NULL"
        owners.add(until(lambda query=query: address.rows(query), "somebody has the host")[0][0])  # type: ignore[misc]
    for name in names:
        assert ended(services[0], name)["state"] == "done"
    assert len(owners) == 2
    judge(address, pages * len(sites), runs=len(sites))
    for site in sites:
        assert len(site.paths()) == len(set(site.paths())) == pages


@pytest.mark.timeout(60 + 2 * TAKEN_UP_WITHIN_S)
@pytest.mark.databases("postgresql")
def test_what_a_killed_service_held_is_taken_up_by_the_other(
    started: Callable[..., Running], two: list[Project], site: Site, database: Database, address: Address
) -> None:
    tree(site)
    for project in two:
        project.configure(watched(site), http="delay = 0.05")
    first = started(two[0], **env(database))
    stored(address, 10)
    second = started(two[1], **env(database))
    family = first.family()
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    first.process.wait()
    held = "SELECT count(*) FROM hosts WHERE lease_owner IS NOT NULL AND lease_until > now()"
    assert address.rows(held) == [(1,)]
    assert ended(second, within_s=TAKEN_UP_WITHIN_S)["state"] == "done"
    judge(address)
