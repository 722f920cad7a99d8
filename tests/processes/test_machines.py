"""Services on several machines with one PostgreSQL: they share the work, and a cable that is pulled out costs nothing."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.machines import HUB, NET, Machine, Wire, wired
from tests.postgres import Address
from tests.processes.test_postgres import TAKEN_UP_WITHIN_S, judge, watched
from tests.site import Request, Site, html, running
from tests.support import Project, paced, until

DELAY_S = 0.05
PAGES = 300  # of each host: more than a machine takes in hand at once
NETWORKS = [f"{NET}.0/24"]


@pytest.fixture
def wire(address: Address) -> Iterator[Wire]:
    """Three machines; the database is at the switch."""
    with wired(3) as made:
        made.offer(address.server)
        yield made


@pytest.fixture
def sites(wire: Wire) -> Iterator[list[Site]]:
    """Six hosts at the switch: their ports make them six."""
    with contextlib.ExitStack() as stack:
        yield [wire.inside(lambda: stack.enter_context(running(HUB))) for _ in range(6)]


@pytest.fixture
def started(wire: Wire, address: Address, tmp_path: Path) -> Iterator[Callable[[str], dict[str, Project]]]:
    """Start the service on each machine, by machine."""
    projects: dict[str, Project] = {}

    def start(config: str) -> dict[str, Project]:
        url = address.url(host=HUB)
        for machine in wire.machines:
            (tmp_path / machine.name).mkdir()
            project = projects[machine.name] = Project(tmp_path / machine.name, machine.prefix)
            project.configure(config, http=f"delay = {DELAY_S}", networks=NETWORKS)
            project.start("serve", DATABASE_URL=url)
        for machine in wire.machines:
            until(lambda machine=machine: asked(machine, projects, "/readyz"), f"{machine.name} is ready")  # type: ignore[misc]
        return projects

    yield start
    for project in projects.values():
        for process in project.started:
            process.terminate()
        for process in project.started:
            process.wait(20)
        project.end()


def asked(machine: Machine, projects: dict[str, Project], path: str, method: str = "GET") -> Any:
    """What a machine's service answers, None if it does not."""

    def ask() -> Any:
        with contextlib.suppress(httpx.HTTPError):
            answer = httpx.request(
                method, f"http://127.0.0.1:{projects[machine.name].port}{path}", timeout=5, trust_env=False
            )
            return answer.json() if answer.is_success else None

    return machine.do(ask)


def holders(address: Address) -> dict[str, str]:
    """Which machine's service has which host, by the names of the hosts."""
    found = address.rows("SELECT host, lease_owner FROM hosts WHERE lease_owner IS NOT NULL AND lease_until > now()")
    return {host: owner.rpartition("@")[2].partition("/")[0] for host, owner in found}


def wide(site: Site) -> None:
    """A site whose first page leads to all others: there is always something that another machine could do."""
    links = "".join(f'<a href="/{number}">x</a>' for number in range(1, PAGES))

    def page(request: Request) -> bytes:
        number = int(request.path.strip("/") or 0)
        return html(f"<title>{number}</title><h1>{number}</h1>{'' if number else links}")

    site.raw("*", page, close=False)
    site.raw("/robots.txt", html("", status="404 Not Found"), close=False)


def finished(machine: Machine, projects: dict[str, Project]) -> bool:
    """Whether all runs are over, as a machine's service tells it."""
    told = asked(machine, projects, "/api/runs")
    return told is not None and all(run["finished_at"] for run in told["items"])


@pytest.mark.timeout(120 + 2 * TAKEN_UP_WITHIN_S)
def test_a_machine_that_is_cut_off_costs_nothing(
    started: Callable[[str], dict[str, Project]], wire: Wire, sites: list[Site], address: Address
) -> None:
    for site in sites:
        wide(site)
    projects = started("".join(watched(site, f"s{number}", every=None) for number, site in enumerate(sites)))
    for number in range(len(sites)):
        assert asked(wire.machines[0], projects, f"/api/sources/s{number}/run", "POST")
    names = {machine.name for machine in wire.machines}
    until(lambda: set(holders(address).values()) == names, "each machine has a host of its own")

    victim = wire.machines[1]
    wire.cut(victim)
    held = {host for host, name in holders(address).items() if name == victim.name}
    assert held
    until(lambda: finished(wire.machines[0], projects), "the others have done all", TAKEN_UP_WITHIN_S)
    judge(address, PAGES * len(sites), runs=len(sites))

    status = asked(victim, projects, "/api/scraper-status")  # it answers at once, and knows
    assert status["process_alive"]
    wire.mend(victim)
    until(lambda: asked(victim, projects, "/readyz"), "the machine is back", TAKEN_UP_WITHIN_S)
    until(lambda: asked(victim, projects, "/api/scraper-status")["state"] == "idle", "it is at rest", TAKEN_UP_WITHIN_S)
    judge(address, PAGES * len(sites), runs=len(sites))
    for site in sites:
        assert paced([request.at for request in site.log], DELAY_S)
