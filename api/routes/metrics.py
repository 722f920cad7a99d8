"""metrics: for Prometheus. The same from every API worker, but for its own connections, which carry its process id."""

import os
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version

from anyio import move_on_after, to_thread
from fastapi import APIRouter, Response

from api.deps import TheDb, TheService
from scraper.database import Connection, Db, activity, health, jobs, notices, runs, tasks
from scraper.errors import BowerbirdError
from scraper.supervisor.status import ProcessStatus, ScraperStatus

# https://prometheus.io/docs/instrumenting/exposition_formats/
TEXT = "text/plain; version=0.0.4; charset=utf-8"
ESCAPED = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})

router = APIRouter(tags=["health"])

Sample = tuple[dict[str, str], float]
Metric = tuple[str, str, str, list[Sample]]  # name, type, help, samples; without a type: of the family before it
PATIENCE_S = 3.0


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(db: TheDb, service: TheService) -> Response:
    """Processes, sources, requests and the database, in the text format of Prometheus, the same from every API process.

    What the database does not tell within three seconds is left out, and `bowerbird_database_up` is 0.
    """
    found = [*_of_processes(service.status())]
    kept: list[Metric] = []
    with move_on_after(PATIENCE_S):
        kept = await to_thread.run_sync(_of_database, db, abandon_on_cancel=True)
    up: list[Sample] = [({}, float(bool(kept)))]
    found.append(("bowerbird_database_up", "gauge", "Whether the database answers.", up))
    lines = [line for metric in (*found, *kept) for line in _lines(*metric)]
    return Response("\n".join(lines) + "\n", media_type=TEXT)


def _of_processes(status: ScraperStatus) -> Iterator[Metric]:
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


def _of_database(db: Db) -> list[Metric]:
    try:
        return [*db.read(_kept), *_of_pool(db)]
    except BowerbirdError:
        return []


def _kept(connection: Connection) -> list[Metric]:
    """What all processes of all services did, out of the database: it survives any of them."""
    totals = activity.totals(connection)
    visited: list[Sample] = [
        ({"source": source, "outcome": outcome}, value)
        for (source, outcome), value in sorted(totals.get(activity.VISITS, {}).items())
    ]
    healths = health.counts(health.summaries(connection))
    sent = notices.counts(connection)
    made = jobs.counts(connection)
    return [
        ("bowerbird_visits_total", "counter", "URLs visited, by outcome: stored, or the name of a failure.", visited),
        *_histogram({label: value for (_, label), value in totals.get(activity.FETCH, {}).items()}),
        ("bowerbird_sources", "gauge", "Sources, by health.", [({"health": h}, float(n)) for h, n in healths.items()]),
        (
            "bowerbird_queue_depth",
            "gauge",
            "URLs that open runs know and have not visited.",
            [({}, runs.waiting(connection))],
        ),
        (
            "bowerbird_deliveries",
            "gauge",
            "Notifications of the last 30 days, by state.",
            [({"rule": rule, "state": s}, float(n)) for rule, states in sent.items() for s, n in states.items()],
        ),
        (
            "bowerbird_jobs",
            "gauge",
            "What enrichment tasks have to do, have done and failed to do.",
            [({"task": task, "state": s}, float(n)) for task, states in made.items() for s, n in states.items()],
        ),
        *_of_tasks(connection),
    ]


def _of_tasks(connection: Connection) -> Iterator[Metric]:
    """What enrichment tasks have cost."""
    rows = tasks.every(connection)
    told = {
        "calls": "Calls of models.",
        "tokens_in": "Tokens sent to models.",
        "tokens_out": "Tokens that models made.",
    }
    for name, said in told.items():
        samples: list[Sample] = [({"task": row.name}, float(getattr(row, name))) for row in rows]
        yield f"bowerbird_task_{name}_total", "counter", said, samples


def _histogram(counted: dict[str, float]) -> list[Metric]:
    """How long answers took, in the cumulative buckets that Prometheus wants."""
    if not counted:
        return []
    total = 0.0
    buckets: list[Sample] = []
    for bound in (*(f"{bound:g}" for bound in activity.BOUNDS_S), activity.REST):
        total += counted.get(bound, 0.0)
        buckets.append(({"le": bound}, total))
    name, told = "bowerbird_fetch_seconds", "How long it took until a response was complete."
    return [
        (name, "histogram", told, []),
        (f"{name}_bucket", "", "", buckets),
        (f"{name}_sum", "", "", [({}, counted.get("sum", 0.0))]),
        (f"{name}_count", "", "", [({}, total)]),
    ]


def _of_pool(db: Db) -> Iterator[Metric]:
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
    if kind and (samples or kind == "histogram"):
        yield f"# HELP {name} {told}"
        yield f"# TYPE {name} {kind}"
    for labels, value in samples:
        inside = ",".join(f'{label}="{text.translate(ESCAPED)}"' for label, text in labels.items())
        number = int(value) if value == int(value) else value
        yield f"{name}{{{inside}}} {number}" if inside else f"{name} {number}"
