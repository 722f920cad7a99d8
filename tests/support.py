"""What tests share: waiting for facts, a project directory, a running service."""

import json
import os
import socket
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

PATIENCE_S = 30.0


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


def paced(times: Sequence[float], delay: float) -> bool:
    """Say whether requests came no faster than one in so many seconds, by the site's own notes of when they came.

    A busy site notes a request late, and so the one after it too soon: one gap proves nothing, most of them do, and all.
    """
    gaps = [b - a for a, b in pairwise(times)]
    return statistics.median(gaps) > delay * 0.9 and times[-1] - times[0] > delay * 0.9 * (len(gaps) - 1)


FAULTS = Path(__file__).parent / "processes" / "faults"


def fault(code: str) -> dict[str, str]:
    """Return the environment in which the scraper does this while it reads a page; the page's address is `url`."""
    body = "\n".join(f"    {line}" for line in code.splitlines())
    return {
        "PYTHONPATH": str(FAULTS),
        "FAULT": f"import os, re, subprocess, threading, time\ndef fault(url):\n{body}\n",
    }


class Project:
    """A directory with a bowerbird.toml, and the commands in it."""

    def __init__(self, path: Path, prefix: Sequence[str] = ()) -> None:
        """prefix: what each command begins with, such as where it runs."""
        self.path = path
        self.prefix = prefix
        self.port = free_port()
        self.started: list[subprocess.Popen[bytes]] = []

    def configure(
        self,
        text: str,
        *,
        http: str = "delay = 0",
        supervisor: str = "",
        networks: Sequence[str] = ("127.0.0.0/8",),
    ) -> None:
        """Write the configuration; some private networks may be asked: loopback alone, if no others are named."""
        (self.path / "bowerbird.toml").write_text(
            f"[server]\nport = {self.port}\n[supervisor]\n{supervisor}\n"
            f"[http]\nallow_networks = {json.dumps(list(networks))}\n{http}\n{text}\n"
        )

    def run(self, *args: str, timeout: float = 60, **env: str) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end."""
        return subprocess.run(
            [*self.prefix, sys.executable, "-m", "scraper", *args],
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
            process = subprocess.Popen(
                [*self.prefix, sys.executable, "-m", "scraper", *args],
                cwd=self.path,
                env=os.environ | env,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self.started.append(process)
        return process

    def end(self) -> None:
        """Kill what was started and not ended by its test; what that started goes with it."""
        for process in self.started:
            if process.poll() is None:
                process.kill()
                process.wait()

    def output(self) -> str:
        """Return what the started commands said."""
        log = self.path / "out.log"
        return log.read_text() if log.exists() else ""


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


def rows(project: Project, query: str) -> list[tuple[Any, ...]]:
    """Read the project's database behind everybody's back."""
    connection = sqlite3.connect(project.path / "bowerbird.db")
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()
