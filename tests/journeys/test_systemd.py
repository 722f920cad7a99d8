"""The shipped unit, under a real systemd."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.site import Site
from tests.support import free_port, until
from tests.systemd_box import Box, Refused

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "systemd" / "bowerbird.service"


def test_the_unit_is_valid(tmp_path: Path) -> None:
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace("/opt/bowerbird/bin/bowerbird", "/bin/true"))
    verified = subprocess.run(["systemd-analyze", "verify", copy], capture_output=True, text=True, check=False)
    assert (verified.returncode, verified.stderr) == (0, "")  # unknown keys are told on stderr alone


def test_the_unit_is_hardened() -> None:
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=15", str(UNIT)]
    judged = subprocess.run(command, capture_output=True, text=True, check=False)
    assert judged.returncode == 0, judged.stdout[-300:]


class Unit:
    """The unit, started in a box, and its API."""

    def __init__(self, box: Box, port: int) -> None:
        self.box = box
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=5, trust_env=False)

    def systemctl(self, line: str) -> str:
        done = self.box.run(f"systemctl {line}")
        assert done.returncode == 0, done.stderr + self.box.run("journalctl -u bowerbird -n 40 --no-pager").stdout
        return done.stdout.strip()

    def shown(self, name: str) -> str:
        return self.systemctl(f"show bowerbird --value -p {name}")

    def until_scraping(self) -> dict[str, Any]:
        def fact() -> dict[str, Any] | None:
            try:
                status: dict[str, Any] = self.http.get("/api/scraper-status").json()
            except httpx.HTTPError:
                return None
            return status if status["state"] == "scraping" else None

        found: dict[str, Any] = until(fact, "it scrapes")
        return found


@pytest.fixture
def unit(site: Site) -> Iterator[Unit]:
    box, port = Box(), free_port()
    site.raw("*", lambda request: _page(request.path), close=False)
    (box.files / "bowerbird.toml").write_text(
        f'[server]\nport = {port}\n[http]\nallow_networks = ["127.0.0.0/8"]\ndelay = 0.1\nobey_robots = false\n'
        f'[[source]]\nname = "s"\nstart = ["{site.url}/0"]\nfollow = true\nevery = "1s"\nmax_depth = 99999\n'
    )
    for name in ("scraper", "api"):
        shutil.copytree(ROOT / name, box.files / "src" / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "fastapi_app.py", box.files / "src")
    shutil.copy(UNIT, box.units)
    dropin = box.units / "bowerbird.service.d"
    dropin.mkdir()
    home = "ProtectHome=tmpfs\n" if sys.base_prefix.startswith(("/root", "/home")) else ""
    (dropin / "paths.conf").write_text(  # where this machine keeps its Python; all else is as shipped
        f"[Service]\nExecStart=\nExecStart=/run/box/venv/bin/python -m scraper serve --config /run/box/bowerbird.toml\n"
        f"Environment=PYTHONPATH=/run/box/src\n{home}"
        f"BindReadOnlyPaths={sys.base_prefix} {sys.prefix}:/run/box/venv\nWatchdogSec=4\n"
    )
    try:
        box.up()
        made = Unit(box, port)
        with made.http:
            yield made
    except Refused as reason:
        message = f"no systemd can be booted here: {reason}"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    finally:
        box.down()


def _page(path: str) -> bytes:
    number = int(path.strip("/") or 0)
    body = f'<a href="/{number + 1}">x</a>'.encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n" % len(body) + body


@pytest.mark.timeout(240)
def test_the_unit_lives_through_kills_and_leaves_nothing(unit: Unit) -> None:
    unit.systemctl("start bowerbird")  # returns when the service said READY=1
    first = unit.until_scraping()
    until(lambda: "scraping: scraper-0 pid" in unit.shown("StatusText"), "STATUS= reached systemd")
    main = unit.shown("MainPID")

    unit.box.run(f"kill -9 {first['pid']}")
    until(lambda: unit.until_scraping()["pid"] != first["pid"], "another scraper")
    assert (unit.shown("MainPID"), unit.shown("NRestarts")) == (main, "0")

    unit.systemctl("reload bowerbird")
    until(lambda: unit.until_scraping()["restarts"] == 2, "a restarted scraper")
    assert unit.shown("MainPID") == main

    unit.systemctl("kill -s KILL --kill-who=main bowerbird")
    until(lambda: unit.shown("NRestarts") == "1" and unit.shown("ActiveState") == "active", "another service")
    unit.until_scraping()

    main = unit.shown("MainPID")
    unit.box.run(f"kill -STOP {main}")
    until(lambda: unit.shown("NRestarts") == "2", "the watchdog", within_s=60)
    until(lambda: unit.shown("ActiveState") == "active", "another service")
    unit.until_scraping()

    unit.systemctl("stop bowerbird")
    assert (unit.shown("ActiveState"), unit.shown("Result")) == ("inactive", "success")
    left = unit.box.run("bash -c 'cat /sys/fs/cgroup/system.slice/bowerbird.service/cgroup.procs 2>/dev/null || true'")
    assert left.stdout == ""
    journal = unit.box.run("journalctl -u bowerbird --no-pager -o cat").stdout
    assert "Traceback" not in journal
    assert '"event": "process moved"' in journal  # JSON lines in production
