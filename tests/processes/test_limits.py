"""Memory: ours to limit, and the kernel's to take."""

import contextlib
import os
import secrets
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.site import Site
from tests.support import Project, Running, until

Serve = Callable[..., Running]

GREEDY = """
import pathlib

def parse(page):
    once = pathlib.Path("{folder}/once")
    if page.url.endswith("/bad") and not once.exists():
        once.touch()
        held = [bytearray(b"x" * 2**20) for _ in range({mib})]
    yield {{"url": page.url}}
    yield from page.css("a::attr(href)").getall()
"""


def greedy(project: Project, site: Site, mib: int, limits: str = "") -> None:
    """A parser that once takes more memory than it may."""
    (project.path / "greedy.py").write_text(GREEDY.format(folder=project.path, mib=mib))
    site.page("/", '<a href="/bad">x</a>')
    site.page("/bad", "x")
    project.configure(
        f'[limits]\n{limits}\n[[source]]\nname = "s"\nstart = ["{site.url}/"]\nparser = "greedy:parse"\nevery = "1h"\n',
        http="delay = 0\nconcurrency = 32",
    )


@pytest.fixture
def small_group() -> Iterator[Path]:
    """A control group with 400 MiB of memory."""
    name = f"bowerbird-{secrets.token_hex(4)}"
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, below = line.split(":", 2)
        if "memory" in controllers.split(","):
            group, limit = Path("/sys/fs/cgroup/memory", below.lstrip("/"), name), "memory.limit_in_bytes"
        elif not controllers:
            group, limit = Path("/sys/fs/cgroup", below.lstrip("/"), name), "memory.max"
        else:
            continue
        with contextlib.suppress(OSError):
            group.mkdir()
            try:
                (group / limit).write_text(str(400 * 2**20))
            except OSError:
                group.rmdir()
                continue
            yield group
            until(lambda group=group: _removed(group), "the group is empty")  # type: ignore[misc]
            return
    pytest.skip("no control group for memory can be made here: it takes root, and the memory controller")


def _removed(group: Path) -> bool:
    try:
        group.rmdir()
    except OSError:
        return False
    return True


def test_out_of_memory_is_told_from_a_kill_and_halves_the_concurrency(
    serve: Serve, project: Project, site: Site, small_group: Path
) -> None:
    greedy(project, site, mib=2048)
    enter = f'echo $$ > "{small_group}/cgroup.procs"; exec "$0" -m scraper serve'
    service = serve(command=["/bin/sh", "-c", enter, sys.executable])
    last = until(lambda: service.status()["last_exit"], "the kernel ended it")
    assert (last["reason"], last["signal"]) == ("out of memory", "SIGKILL")
    assert last["url"] == site.url + "/bad"
    waiting = service.status()
    assert waiting["processes"][0]["next_start_in_s"] is None or waiting["processes"][0]["next_start_in_s"] > 1
    status = service.until_state("idle")
    assert "1/2 of the concurrency" in status["processes"][0]["note"]
    os.kill(status["pid"], 9)
    until(lambda: service.status()["last_exit"]["reason"] == "killed from outside", "a kill is a kill")
    assert service.http.post("/api/scraper/restart").status_code == 202
    until(lambda: service.status()["processes"][0]["note"] is None, "a restart forgets it")
    service.http.close()
    service.process.terminate()
    service.process.wait(15)


def test_above_its_limit_it_finishes_what_is_in_flight_and_makes_way(
    serve: Serve, project: Project, site: Site
) -> None:
    greedy(project, site, mib=20)
    (project.path / "greedy.py").write_text(
        "held = []\ndef parse(page):\n    held.append(b'x' * 50 * 2**20)\n    yield {'url': page.url}\n"
        "    yield from page.css('a::attr(href)').getall()\n"
    )
    site.page("/", "".join(f'<a href="/{n}">x</a>' for n in range(8)))
    for n in range(8):
        site.page(f"/{n}", "x")
    text = (project.path / "bowerbird.toml").read_text()
    (project.path / "bowerbird.toml").write_text(
        text.replace("[limits]", '[limits]\nmemory = "300 MiB"').replace("delay = 0", "delay = 0.5")
    )
    service = serve()
    last = until(lambda: service.status()["last_exit"], "it made way")
    assert (last["reason"], last["exit_code"]) == ("recycled", 75)
    until(lambda: service.http.get("/api/runs/1").json()["state"] == "done", "the run goes on to its end")
    assert service.http.get("/api/runs/1").json()["pages"] == 9
    assert sorted(site.paths()) == sorted(["/", *(f"/{n}" for n in range(8))])  # nothing was asked for twice


def test_far_above_its_limit_it_is_killed(serve: Serve, project: Project, site: Site) -> None:
    (project.path / "greedy.py").write_text(
        "import time\ndef parse(page):\n    held = b'x' * 400 * 2**20\n    time.sleep(30)\n    yield {'url': page.url}\n"
    )
    site.page("/", "x")
    project.configure(
        f'[limits]\nmemory = "200 MiB"\n[[source]]\nname = "s"\nstart = ["{site.url}/"]\nparser = "greedy:parse"\nevery = "1h"\n'
    )
    service = serve()
    last = until(lambda: service.status()["last_exit"], "it was ended", within_s=20)
    assert (last["reason"], last["signal"], last["url"]) == ("memory", "SIGKILL", site.url + "/")
