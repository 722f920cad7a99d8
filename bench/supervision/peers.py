"""How each supervisor is started, with its defaults, and which of its processes is the one to kill."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.support import Endless, family, free_port, kill_all, until

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
BIN = Path(sys.executable).parent


@dataclass
class Peer:
    """A started supervisor."""

    name: str
    head: "subprocess.Popen[bytes]"
    victim: Callable[[], int | None]  # the pid of the process that scrapes, None while there is none
    stamps: Path

    def first_line_after(self, moment: float, pid: int) -> float | None:
        """Return when a process other than this one ran its first line."""
        for line in self.stamps.read_text().splitlines():
            at, who = line.split()
            if float(at) > moment and int(who) != pid:
                return float(at)
        return None

    def end(self) -> None:
        """Kill everything."""
        left = family(self.head.pid) if self.head.poll() is None else []
        kill_all(left)
        self.head.wait()


def _start(name: str, command: list[str], folder: Path, site: Endless, **env: str) -> "subprocess.Popen[bytes]":
    stamps = folder / "stamps"
    stamps.touch()
    told = {"PROBE_LOG": str(stamps), "SITE_URL": site.url, "PYTHONPATH": f"{HERE}:{ROOT}", **env}
    with (folder / f"{name}.log").open("wb") as log:
        return subprocess.Popen(
            command,
            cwd=folder,
            env=os.environ | told,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )


def _below(head: "subprocess.Popen[bytes]", word: str) -> Callable[[], int | None]:
    """The newest process below a supervisor whose command line has a word."""

    def find() -> int | None:
        found = [
            p for p in family(head.pid)[1:] if p.status() != psutil.STATUS_ZOMBIE and word in " ".join(p.cmdline())
        ]
        return max(found, key=lambda p: p.create_time()).pid if found else None

    def safely() -> int | None:
        try:
            return find()
        except psutil.Error:
            return None

    return safely


def supervisord(folder: Path, site: Endless) -> Peer:
    """One program, restarted whenever it ends."""
    (folder / "supervisord.conf").write_text(
        f"[supervisord]\nnodaemon=true\nlogfile={folder}/s.log\npidfile={folder}/s.pid\n"
        f"[program:child]\ncommand={sys.executable} {HERE}/child.py\nautorestart=true\n"
    )
    head = _start("supervisord", [str(BIN / "supervisord"), "-c", "supervisord.conf"], folder, site)
    return Peer("supervisord", head, _below(head, "child.py"), folder / "stamps")


def circus(folder: Path, site: Endless) -> Peer:
    """One watcher."""
    ports = [free_port() for _ in range(2)]
    (folder / "circus.ini").write_text(
        f"[circus]\nendpoint = tcp://127.0.0.1:{ports[0]}\npubsub_endpoint = tcp://127.0.0.1:{ports[1]}\n"
        f"[watcher:child]\ncmd = {sys.executable} {HERE}/child.py\ncopy_env = True\n"
    )
    head = _start("circus", [str(BIN / "circusd"), "circus.ini"], folder, site)
    return Peer("circus", head, _below(head, "child.py"), folder / "stamps")


def gunicorn(folder: Path, site: Endless) -> Peer:
    """One worker, which scrapes in a thread."""
    command = [str(BIN / "gunicorn"), "-w", "1", "-b", f"127.0.0.1:{free_port()}", "child:wsgi"]
    head = _start("gunicorn", command, folder, site)
    return Peer("gunicorn", head, _below(head, "gunicorn"), folder / "stamps")


def uvicorn(folder: Path, site: Endless) -> Peer:
    """Two workers (one would not be supervised), which scrape in a thread."""
    command = [str(BIN / "uvicorn"), "--workers", "2", "--port", str(free_port()), "child:app"]
    head = _start("uvicorn", command, folder, site)
    return Peer("uvicorn --workers", head, _below(head, "spawn_main"), folder / "stamps")


def bowerbird(folder: Path, site: Endless) -> Peer:
    """The whole service: API, database, scraper."""
    port = free_port()
    (folder / "bowerbird.toml").write_text(
        f'[server]\nport = {port}\n[http]\nallow_networks = ["127.0.0.0/8"]\ndelay = 0.02\nper_host = 1\nauto_throttle = false\n'
        f'[[source]]\nname = "s"\nstart = ["{site.url}/0"]\nfollow = true\nevery = "1s"\nmax_depth = 100000\nmax_pages = 1000000\n'
    )
    head = _start(
        "bowerbird", [sys.executable, "-m", "scraper", "serve"], folder, site, PYTHONPATH=f"{HERE}/probe:{ROOT}"
    )

    def victim() -> int | None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/scraper-status", timeout=5) as answer:
                pid: int | None = json.load(answer)["pid"]
                return pid
        except OSError:
            return None

    return Peer("bowerbird", head, victim, folder / "stamps")


ALL = (bowerbird, gunicorn, uvicorn, supervisord, circus)


def kill_once(peer: Peer, site: Endless) -> tuple[float, float]:
    """Kill the scraping process. Returns the seconds to the replacement's first line and to its first page."""
    pid = until(peer.victim, f"{peer.name}: there is a process")
    moment = time.monotonic()
    os.kill(pid, 9)
    line = until(lambda: peer.first_line_after(moment, pid), f"{peer.name}: a replacement")
    page = until(lambda: site.first_page_after(moment), f"{peer.name}: a page")
    return line - moment, page - moment
