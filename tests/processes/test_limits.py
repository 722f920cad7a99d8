"""Memory: ours to limit, and the kernel's to take."""

import contextlib
import os
import secrets
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.site import Site
from tests.support import Project, Running, fault, until

Serve = Callable[..., Running]

ONCE = """
if url.endswith("/bad") and not os.path.exists({once!r}):
    open({once!r}, "w").close()
    held = [bytearray(b"x" * 2**20) for _ in range(2048)]
"""
LEAKS = "os.__dict__.setdefault('leaked', []).append(b'x' * 50 * 2**20)"


def two_pages(project: Project, site: Site, limits: str = "") -> None:
    """A source of two pages."""
    site.page("/", '<a href="/bad">x</a>')
    site.page("/bad", "x")
    project.configure(
        f'[limits]\n{limits}\n[[source]]\nname = "s"\nstart = ["{site.url}/"]\nfollow = true\nevery = "1h"\n',
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
    two_pages(project, site)
    enter = f'echo $$ > "{small_group}/cgroup.procs"; exec "$0" -m scraper serve'
    once = ONCE.format(once=str(project.path / "once"))
    service = serve(command=["/bin/sh", "-c", enter, sys.executable], **fault(once))
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


@pytest.mark.parametrize("said", ["", "glibc.malloc.arena_max=2"])
def test_freed_blocks_are_kept_unless_the_user_has_his_own_way(
    serve: Serve, project: Project, site: Site, said: str
) -> None:
    two_pages(project, site)
    service = serve(**({"GLIBC_TUNABLES": said} if said else {}))
    pid = service.until_state("idle")["pid"]
    # The C library cuts the text at its colons while it reads it.
    there = set(Path(f"/proc/{pid}/environ").read_bytes().replace(b"GLIBC_TUNABLES=", b"").split(b"\0"))
    ours = {b"glibc.malloc.tcache_count=2000", b"glibc.malloc.tcache_max=256"}
    wanted = {said.encode()} if said else ours
    assert there & (ours | wanted) == wanted


def test_above_its_limit_it_finishes_what_is_in_flight_and_makes_way(
    serve: Serve, project: Project, site: Site
) -> None:
    two_pages(project, site)
    site.page("/", "".join(f'<a href="/{n}">x</a>' for n in range(8)))
    for n in range(8):
        site.page(f"/{n}", "x")
    text = (project.path / "bowerbird.toml").read_text()
    (project.path / "bowerbird.toml").write_text(
        text.replace("[limits]", '[limits]\nmemory = "300 MiB"').replace("delay = 0", "delay = 0.5")
    )
    service = serve(**fault(LEAKS))
    last = until(lambda: service.status()["last_exit"], "it made way")
    assert (last["reason"], last["exit_code"]) == ("recycled", 75)
    until(lambda: service.http.get("/api/runs/1").json()["state"] == "done", "the run goes on to its end")
    assert service.http.get("/api/runs/1").json()["pages"] == 9
    assert sorted(site.paths()) == sorted(["/", *(f"/{n}" for n in range(8))])  # nothing was asked for twice


def test_far_above_its_limit_it_is_killed(serve: Serve, project: Project, site: Site) -> None:
    two_pages(project, site, 'memory = "200 MiB"')
    service = serve(**fault("held = b'x' * 400 * 2**20\ntime.sleep(30)"))
    last = until(lambda: service.status()["last_exit"], "it was ended", within_s=20)
    assert (last["reason"], last["signal"], last["url"]) == ("memory", "SIGKILL", site.url + "/")


def test_a_parser_that_forks_gives_no_page_the_items_of_another(serve: Serve, project: Project, site: Site) -> None:
    (project.path / "forks.py").write_text(
        "import os\ndef parse(page):\n    os.fork()\n    print('noise')\n    yield {'title': page.title}\n    yield from page.css('a::attr(href)').getall()\n"
    )
    site.page("/", "<title>/</title>" + "".join(f'<a href="/{n}">x</a>' for n in range(10)))
    for n in range(10):
        site.page(f"/{n}", f"<title>/{n}</title>")
    project.configure(f'[[source]]\nname = "s"\nstart = ["{site.url}/"]\nparser = "forks:parse"\nevery = "1h"\n')
    service = serve()
    until(lambda: len(service.http.get("/api/items").json()["items"]) == 11, "all items")
    for item in service.http.get("/api/items").json()["items"]:
        assert item["url"] == site.url + item["data"]["title"]


def test_a_parser_that_leaks_has_its_process_replaced(serve: Serve, project: Project, site: Site) -> None:
    (project.path / "leaky.py").write_text(
        "held = []\nimport os\ndef parse(page):\n    held.append(b'x' * 60 * 2**20)\n    yield {'pid': os.getpid()}\n"
        "    yield from page.css('a::attr(href)').getall()\n"
    )
    site.page("/", "".join(f'<a href="/{n}">x</a>' for n in range(8)))
    for n in range(8):
        site.page(f"/{n}", "x")
    project.configure(
        f'[limits]\nmemory = "200 MiB"\n[[source]]\nname = "s"\nstart = ["{site.url}/"]\nparser = "leaky:parse"\nevery = "1h"\n'
    )
    service = serve()
    until(lambda: service.http.get("/api/runs").json()["items"], "a run")
    until(lambda: service.http.get("/api/runs/1").json()["state"] == "done", "the run ends")
    pids = {item["data"]["pid"] for item in service.http.get("/api/items?source=s").json()["items"]}
    assert service.http.get("/api/runs/1").json()["items"] == 9
    assert len(pids) > 1
    assert service.status()["restarts"] == 0
    assert not any(psutil.pid_exists(pid) for pid in list(pids)[:1] if pid not in {p.pid for p in service.family()})


def test_a_parser_that_takes_too_much_at_once_fails_alone(serve: Serve, project: Project, site: Site) -> None:
    (project.path / "greedy.py").write_text(
        "def parse(page):\n    held = b'x' * 900 * 2**20\n    yield {'url': page.url}\n"
    )
    site.page("/", "x")
    project.configure(
        f'[limits]\nmemory = "200 MiB"\n[[source]]\nname = "s"\nstart = ["{site.url}/"]\nparser = "greedy:parse"\nevery = "1h"\n'
    )
    service = serve()
    failure = until(lambda: service.http.get("/api/failures").json()["items"], "a failure")[0]
    assert (failure["reason"], "MemoryError" in failure["message"]) == ("extract", True)
    assert service.status()["restarts"] == 0
