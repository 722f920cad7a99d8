"""The service while its database file is gone, replaced, on a full disk, or not to be written."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from scraper.kernel import temporary
from tests.processes.test_postgres import PAGES, ended, tree, watched
from tests.site import Site
from tests.support import Project, Running, until

Serve = Callable[..., Running]
ROOM = "6m"


class Disk:
    """A small disk that a service alone sees, with the service's database on it."""

    def __init__(self, service: Running, folder: Path) -> None:
        self.pid = service.process.pid
        self.folder = folder
        self.inside = Path(f"/proc/{self.pid}/root{folder}")
        self.file = folder / "bowerbird.db"

    def fill(self) -> None:
        """Leave no room."""
        with (self.inside / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
            for size in (1 << 16, 1 << 12, 1):
                with contextlib.suppress(OSError):
                    while filler.write(bytes(size)):
                        pass

    def empty(self) -> None:
        """Make room again."""
        (self.inside / "filler").unlink()

    def mount(self, command: str) -> None:
        """Run a command where the service lives."""
        subprocess.run(["nsenter", "-t", str(self.pid), "-m", "sh", "-c", command], check=True)


READ = """
import json, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
print(json.dumps([connection.execute(query).fetchall() for query in sys.argv[2:]]))
connection.close()
"""


def rows(file: Path, *queries: str, pid: int = 0) -> list[list[list[Any]]]:
    """Read a database behind everybody's back: the one that a process sees, or that all see."""
    command = [*(["nsenter", "-t", str(pid), "-m"] if pid else []), sys.executable, "-c", READ, str(file), *queries]
    found: list[list[list[Any]]] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return found


def stored(service: Running, at_least: int) -> None:
    """Wait until so many pages are stored, as the run says."""

    def fact() -> bool:
        with contextlib.suppress(httpx.HTTPError):
            answer = service.http.get("/api/runs")
            return answer.status_code == 200 and any(run["pages"] >= at_least for run in answer.json()["items"])
        return False

    until(fact, f"{at_least} pages are stored")


def troubled(service: Running, *words: str) -> None:
    """Wait until the service says what it lacks: in its status, and where it is asked whether it is ready."""

    def fact() -> bool:
        told = str(service.status()["processes"][0]["trouble"])
        return all(word in told for word in words)

    until(fact, f"trouble: {words}")
    answer = service.http.get("/readyz")
    assert answer.status_code == 503
    for word in words:
        assert word in answer.json()["checks"]["database"]
    assert service.http.get("/healthz").status_code == 200


def judge(file: Path, pages: int = PAGES, pid: int = 0) -> None:
    """See that everything is there, once."""
    assert rows(
        file,
        "PRAGMA integrity_check",
        "SELECT count(*), count(DISTINCT final_url) FROM pages",
        "SELECT count(*), count(DISTINCT url) FROM items",
        "SELECT state, pages, failures FROM runs",
        'SELECT "of", change, count(*) FROM changes GROUP BY 1, 2 ORDER BY 1',
        pid=pid,
    ) == [
        [["ok"]],
        [[pages, pages]],
        [[pages, pages]],
        [["done", pages, 0]],
        [["item", "created", pages], ["page", "created", pages]],
    ]


@pytest.fixture
def service(serve: Serve, project: Project, site: Site) -> Running:
    """A service that has begun with a site."""
    tree(site)
    project.configure(watched(site), http="delay = 0.02")
    return serve()


@pytest.fixture
def disk(serve: Serve, project: Project, site: Site) -> tuple[Running, Disk]:
    """A service that has begun with a site, with its database on a small disk of its own."""
    tree(site)
    folder = project.path / "disk"
    folder.mkdir()
    project.configure(watched(site) + f'[database]\nurl = "sqlite:///{folder}/bowerbird.db"\n', http="delay = 0.02")
    tried = subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", folder], check=False, capture_output=True)
    if tried.returncode != 0:
        pytest.fail(f"this test mounts a file system, which takes root, unshare and mount: {tried.stderr!r}")
    script = f"mount -t tmpfs -o size={ROOM} tmpfs {folder} && exec {sys.executable} -m scraper serve"
    begun = serve(command=["unshare", "-m", "sh", "-c", script])
    return begun, Disk(begun, folder)


def test_a_file_that_was_taken_away_is_waited_for(service: Running, project: Project) -> None:
    file, away = project.path / "bowerbird.db", project.path / "away.db"
    stored(service, 10)
    file.rename(away)
    troubled(service, "there is no such file", "put it back")
    assert not file.exists()
    away.rename(file)
    until(lambda: service.http.get("/readyz").status_code == 200, "it is ready")
    assert ended(service)["state"] == "done"
    judge(file)
    assert service.status()["restarts"] == 0


def test_a_backup_that_is_put_in_place_is_gone_on_with(service: Running, project: Project) -> None:
    file, copy = project.path / "bowerbird.db", project.path / "copy.db"
    stored(service, 10)
    assert project.run("db", "backup", "copy.db").returncode == 0
    before = rows(copy, "SELECT pages FROM runs")[0][0][0]
    stored(service, before + 30)
    copy.rename(file)
    until(lambda: "replaced or deleted" in project.output(), "it is noticed")
    assert ended(service)["state"] == "done"
    judge(file)
    assert (
        service.status()["last_exit"]["reason"] == "recycled"
    )  # who remembers nothing of the former file goes on with it


def test_a_full_disk_is_waited_for(disk: tuple[Running, Disk]) -> None:
    service, small = disk
    stored(service, 10)
    small.fill()
    troubled(service, "full", "free some space")
    small.empty()
    until(lambda: service.http.get("/readyz").status_code == 200, "it is ready")
    assert ended(service)["state"] == "done"
    judge(small.file, pid=small.pid)
    assert service.status()["restarts"] == 0


def test_a_disk_that_may_only_be_read_is_waited_for(disk: tuple[Running, Disk]) -> None:
    """Who has the file open may go on; the next one may not."""
    service, small = disk
    stored(service, 10)
    small.mount(f"mount --bind {small.folder} {small.folder} && mount -o remount,bind,ro {small.folder}")
    os.kill(service.status()["pid"], signal.SIGKILL)
    troubled(service, "readonly", "writable for this user")
    small.mount(f"mount -o remount,bind,rw {small.folder}")
    until(lambda: service.http.get("/readyz").status_code == 200, "it is ready")
    assert ended(service)["state"] == "done"
    judge(small.file, pid=small.pid)
    assert service.status()["restarts"] == 1


def test_a_temporary_directory_goes_with_its_owner_or_when_the_next_one_comes() -> None:
    prefix = f"bowerbird-test-{os.getpid()}-"
    code = f"import time\nfrom scraper.kernel import temporary\nwith temporary({prefix!r}) as place:\n    print(place, flush=True)\n    time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        left = Path(owner.stdout.readline().strip())
        with temporary(prefix) as mine:
            assert left.is_dir()  # somebody has it
            assert mine.is_dir()
        assert not mine.exists()
        owner.kill()
        owner.wait()
        with temporary(prefix):
            assert not left.exists()
