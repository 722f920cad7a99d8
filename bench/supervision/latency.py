"""How long the status takes, idle and while scraping at full speed: from a process of its own, and from a thread."""

import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from bench.support import family, free_port, kill_all, nginx, quantile, table, until

ROOT = Path(__file__).parents[2]
PAGES = 3000
ASKED = 2000
EACH_S = 0.003


def ask(port: int, path: str) -> list[float]:
    """Ask so many times over one connection. Returns the seconds that each answer took."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    took = []
    for number in range(ASKED + 100):
        began = time.perf_counter()
        connection.request("GET", path)
        connection.getresponse().read()
        if number >= 100:
            took.append(time.perf_counter() - began)
        time.sleep(EACH_S)
    connection.close()
    return took


def _answer(port: int, path: str) -> dict[str, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        found: dict[str, Any] = json.loads(connection.getresponse().read())
        return found
    except OSError:
        return {}
    finally:
        connection.close()


def _figures(idle: list[float], busy: list[float], pages_per_s: float) -> dict[str, float]:
    told = {
        f"{when}_{name}_ms": quantile(v, q) * 1000
        for when, v in (("idle", idle), ("busy", busy))
        for name, q in (("p50", 0.5), ("p99", 0.99))
    }
    assert pages_per_s > 1, "it does not scrape"
    ratio = told["busy_p99_ms"] / told["idle_p99_ms"]
    return {name: round(v, 2) for name, v in {**told, "p99_ratio": ratio, "pages_per_s": pages_per_s}.items()}


def of_bowerbird(folder: Path, site: str) -> dict[str, float]:
    """The service as it is."""
    port = free_port()
    config = folder / "bowerbird.toml"
    text = (
        f'[server]\nport = {port}\n[http]\nallow_networks = ["127.0.0.0/8"]\ndelay = 0\nper_host = 16\nauto_throttle = false\n'
        f'[[source]]\nname = "s"\nstart = ["{site}/0.html"]\nfollow = true\nmax_depth = 99\n'
    )
    config.write_text(text)
    head = _start([sys.executable, "-m", "scraper", "serve"], folder)
    path = "/api/scraper-status"
    try:
        until(lambda: _answer(port, path).get("state") == "idle", "it is idle")
        idle = ask(port, path)
        config.write_text(text + 'every = "1s"\n')
        _post(port, "/api/scraper/restart")
        until(lambda: _answer(port, path).get("state") == "scraping", "it scrapes")
        time.sleep(1)
        began, before = time.monotonic(), _pages(port)
        busy = ask(port, path)
        assert _answer(port, path)["state"] in ("scraping", "idle")
        return _figures(idle, busy, (_pages(port) - before) / (time.monotonic() - began))
    finally:
        kill_all(family(head.pid))
        head.wait()


def _pages(port: int) -> int:
    return sum(run["pages"] for run in _answer(port, "/api/runs?limit=500")["items"])


def _post(port: int, path: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("POST", path)
    assert connection.getresponse().status == 202
    connection.close()


def of_thread(folder: Path, site: str, parser: str) -> dict[str, float]:
    """A service that scrapes in a thread of its own process."""
    port = free_port()
    command = [sys.executable, "-m", "bench.supervision.threaded", str(port), f"{site}/0.html", parser]
    head = _start(command, folder)
    try:
        until(lambda: _answer(port, "/status"), "it answers")
        idle = ask(port, "/status")
        _answer(port, "/begin")
        time.sleep(1)
        began, before = time.monotonic(), _answer(port, "/status")["pages"]
        busy = ask(port, "/status")
        return _figures(idle, busy, (_answer(port, "/status")["pages"] - before) / (time.monotonic() - began))
    finally:
        kill_all(family(head.pid))
        head.wait()


def _start(command: list[str], folder: Path) -> "subprocess.Popen[bytes]":
    with (folder / "out.log").open("ab") as log:
        env = os.environ | {"PYTHONPATH": str(ROOT)}
        return subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env=env, start_new_session=True)


def measure() -> dict[str, Any]:
    """Return the figures of all three."""
    ways: dict[str, Callable[[Path, str], dict[str, float]]] = {
        "bowerbird: a process": of_bowerbird,
        "a thread, lxml": partial(of_thread, parser="lxml"),
        "a thread, BeautifulSoup": partial(of_thread, parser="soup"),
    }
    found = {}
    with tempfile.TemporaryDirectory() as place, nginx(Path(place) / "nginx", PAGES) as site:
        for number, (name, work) in enumerate(ways.items()):
            print(f"{name} ...", flush=True)
            folder = Path(place, str(number))
            folder.mkdir()
            found[name] = work(folder, site)
    return found


def show(found: dict[str, Any]) -> None:
    """Print them."""
    names = ["idle_p50_ms", "idle_p99_ms", "busy_p50_ms", "busy_p99_ms", "p99_ratio", "pages_per_s"]
    table(
        "The status, idle and while scraping at full speed",
        ["", *names],
        [[k, *(v[n] for n in names)] for k, v in found.items()],
    )
