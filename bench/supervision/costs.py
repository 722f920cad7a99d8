"""What the idle service takes of memory, process by process, and what a scraper process takes to load."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from bench.supervision.latency import ROOT, _answer, _start
from bench.support import family, free_port, kill_all, table, until

SETTLE_S = 3.0
LOADS = {
    "nothing": "pass",
    "a scraper's first line": "import scraper.worker.start",
    "a scraper, whole": "import scraper.worker.start, scraper.worker.main",
    "the service's application": "import fastapi_app",
}


def pss(pid: int) -> float:
    """Return the proportional share of memory of a process, in MiB."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return round(sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")) / 1024, 1)


def memory() -> dict[str, float]:
    """Return the MiB of each process of an idle service, and of a bare FastAPI application for comparison."""
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as place:
        folder, port = Path(place), free_port()
        (folder / "bowerbird.toml").write_text(f"[server]\nport = {port}\n")
        head = _start([sys.executable, "-m", "scraper", "serve"], folder)
        try:
            status = until(lambda: _idle(port), "it is idle")
            time.sleep(SETTLE_S)
            names = {head.pid: "API and supervisor", status["pid"]: "scraper", status["shared_state"]["pid"]: "Manager"}
            for process in family(head.pid):
                found[names.get(process.pid, "resource tracker")] = pss(process.pid)
        finally:
            kill_all(family(head.pid))
            head.wait()
        bare = _start([sys.executable, "-m", "uvicorn", "bench.supervision.threaded:app", "--port", str(port)], folder)
        try:
            until(lambda: _answer(port, "/status"), "it answers")
            time.sleep(SETTLE_S)
            found["for comparison: FastAPI, httpx, bs4, lxml in one process"] = pss(bare.pid)
        finally:
            kill_all([psutil.Process(bare.pid)])
            bare.wait()
    return found


def _idle(port: int) -> dict[str, Any] | None:
    status = _answer(port, "/api/scraper-status")
    return status if status.get("state") == "idle" and status["shared_state"]["alive"] else None


def imports(rounds: int) -> dict[str, dict[str, float]]:
    """Return how long a fresh interpreter takes to load each, in milliseconds."""
    found = {}
    for name, code in LOADS.items():
        took = []
        for _ in range(rounds + 1):  # the first one warms the disk's cache
            began = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
            took.append(time.perf_counter() - began)
        found[name] = {"min": round(1000 * min(took[1:]), 1), "median": round(1000 * statistics.median(took[1:]), 1)}
    return found


def show(used: dict[str, float], loads: dict[str, dict[str, float]]) -> None:
    """Print them."""
    table("Memory of the idle service, proportional share", ["", "MiB"], list(used.items()))
    table(
        "Loading, with the interpreter",
        ["", "min ms", "median ms"],
        [[k, v["min"], v["median"]] for k, v in loads.items()],
    )
