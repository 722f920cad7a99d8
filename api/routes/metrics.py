"""metrics: for Prometheus. The same from every API worker, but for its own connections, which carry its process id."""

import os
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version

from fastapi import APIRouter, Response

from api.deps import TheDb, TheService
from scraper.database import Db
from scraper.supervisor.status import ProcessStatus, ScraperStatus

# https://prometheus.io/docs/instrumenting/exposition_formats/
TEXT = "text/plain; version=0.0.4; charset=utf-8"
ESCAPED = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})

router = APIRouter(tags=["health"])

Sample = tuple[dict[str, str], float]


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
def metrics(db: TheDb, service: TheService) -> Response:
    """Gauges of the processes and the database, in the text format of Prometheus. Neither of them is waited for."""
    lines = [line for metric in (*_of_processes(service.status()), *_of_database(db)) for line in _lines(*metric)]
    return Response("\n".join(lines) + "\n", media_type=TEXT)


def _of_processes(status: ScraperStatus) -> Iterator[tuple[str, str, str, list[Sample]]]:
    yield "bowerbird_info", "gauge", "The version that runs.", [({"version": version("bowerbird")}, 1)]
    running: list[Sample] = [({}, float(status.running))]
    yield "bowerbird_running", "gauge", "Whether the operator wants it running and it has not failed.", running
    several: dict[str, tuple[str, str, Callable[[ProcessStatus], float | None]]] = {
        "bowerbird_process_alive": ("gauge", "Whether the scraper process exists.", lambda p: p.process_alive),
        "bowerbird_process_restarts_total": ("counter", "How often it was started again.", lambda p: p.restarts),
        "bowerbird_process_heartbeat_age_seconds": ("gauge", "Since its last beat.", _silence),
        "bowerbird_process_resident_memory_bytes": ("gauge", "Its memory.", lambda p: p.rss_bytes),
        "bowerbird_process_cpu_percent": ("gauge", "Its share of one processor.", lambda p: p.cpu_percent),
    }
    for name, (kind, told, value) in several.items():
        found = [({"process": p.name}, float(x)) for p in status.processes if (x := value(p)) is not None]
        yield name, kind, told, found
    states = [({"process": p.name, "state": str(p.state)}, 1.0) for p in status.processes]
    yield "bowerbird_process_state", "gauge", "The state that it is in.", states


def _silence(process: ProcessStatus) -> float | None:
    return max(0.0, time.monotonic() - process.beat) if process.beat is not None else None


def _of_database(db: Db) -> Iterator[tuple[str, str, str, list[Sample]]]:
    found = db.gauges()
    worker = {"worker": str(os.getpid())}
    told = "Connections of this API worker's pool."
    used = [
        ({**worker, "use": use}, found[f"connections_{use}"])
        for use in ("open", "in_use")
        if "connections_open" in found
    ]
    yield "bowerbird_database_connections", "gauge", told, used
    if "wal_bytes" in found:
        yield (
            "bowerbird_database_wal_bytes",
            "gauge",
            "How long SQLite's write-ahead log is.",
            [({}, found["wal_bytes"])],
        )


def _lines(name: str, kind: str, told: str, samples: list[Sample]) -> Iterator[str]:
    if not samples:
        return
    yield f"# HELP {name} {told}"
    yield f"# TYPE {name} {kind}"
    for labels, value in samples:
        inside = ",".join(f'{label}="{text.translate(ESCAPED)}"' for label, text in labels.items())
        number = int(value) if value == int(value) else value
        yield f"{name}{{{inside}}} {number}" if inside else f"{name} {number}"
