"""The parts, each giving its figures."""

import contextlib
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import func, select

from bench.enrichment import locks
from bench.enrichment.place import Place, fill_items
from bench.support import free_port, until
from scraper.database import Db
from scraper.database.models import attempts, enrichments, jobs

WAIT_S = 0.15
HANDS = 3
LLM = """
[llm]
base_url = "http://127.0.0.1:{port}/v1"
model = "slow"
[[enrich]]
task = "digest"
over = "items"
prompt = "Summarise: {{{{ text }}}}"
workers = 3
[enrich.schema]
summary = "str"
level = "int"
"""
FUNCTION = """
[[enrich]]
task = "count"
over = "items"
kind = "python"
function = "made:count"
workers = 4
batch = 2
"""
MADE = "def count(subject):\n    return {'letters': len(subject.text)}\n"


@contextlib.contextmanager
def endpoint(wait_s: float) -> Iterator[int]:
    """Run a model that answers after so long. Yields its port."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "bench.enrichment.endpoint", str(port), str(wait_s)])
    try:
        until(lambda: _listens(port), "the model listens")
        yield port
    finally:
        process.terminate()
        process.wait()


def _listens(port: int) -> bool:
    import socket

    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def parallel(place: Place, calls: int) -> dict[str, Any]:
    """How much of the time of three workers is spent waiting for the model, between the first call and the last answer."""
    with endpoint(WAIT_S) as port:
        place.write(LLM.format(port=port))
        with Db(place.settings) as db:
            fill_items(db, calls)
            took_s, _, said = place.run("enrich", "digest", "--workers", str(HANDS))
            first, last, count, faults = db.read(_span)
    between_s = (last - first).total_seconds() + WAIT_S
    return {
        "efficiency": calls * WAIT_S / HANDS / between_s,
        "seconds": between_s,
        "whole_seconds": took_s,
        "records": count,
        "faults": faults + said.count("locked"),
    }


def _span(connection: Any) -> tuple[Any, Any, int, int]:
    first, last = connection.execute(select(func.min(attempts.c.at), func.max(attempts.c.at))).one()
    count = connection.scalar(select(func.count()).select_from(enrichments))
    faults = connection.scalar(select(func.count()).select_from(attempts).where(attempts.c.outcome != "ok"))
    return first, last, int(count or 0), int(faults or 0)


def by_locks(folder: Path, calls: int) -> dict[str, Any]:
    """The same number of calls by the two ways with a lock."""
    return {name: way(folder, calls, HANDS, WAIT_S) for name, way in (("broad", locks.broad), ("narrow", locks.narrow))}


def kills(place: Place, count: int, deaths: int) -> dict[str, Any]:
    """So many quick jobs by four workers, some of which are killed meanwhile: is each record there once?"""
    (place.folder / "made.py").write_text(MADE)
    place.write(FUNCTION)
    dice = random.Random(7)
    with Db(place.settings) as db:
        fill_items(db, count)
        process = place.command("enrich", "count")
        began = time.perf_counter()
        killed = 0
        for share in range(1, deaths + 1):
            until(lambda share=share: db.read(_done) > count * share // (deaths + 2), "the workers come along", 300)  # type: ignore[misc]
            killed += _kill_one(process.pid, dice)
        out, said = process.communicate()
        took_s = time.perf_counter() - began
        made, distinct = db.read(_records)
        left = db.read(lambda c: c.scalar(select(func.count()).select_from(jobs).where(jobs.c.state != "done")))
    return {
        "jobs": count,
        "killed": killed,
        "lost": count - distinct,
        "doubled": made - distinct,
        "left": int(left or 0),
        "exit": process.returncode,
        "jobs_per_s": count / took_s,
        "said": (out + said).decode()[-400:] if process.returncode else "",
    }


def _done(connection: Any) -> int:
    return int(connection.scalar(select(func.count()).select_from(enrichments)) or 0)


def _records(connection: Any) -> tuple[int, int]:
    made = select(func.count(), func.count(func.distinct(enrichments.c.subject_id))).select_from(enrichments)
    first, second = connection.execute(made).one()
    return int(first), int(second)


def _kill_one(pid: int, dice: random.Random) -> int:
    """Kill one of the workers: the children of the command that lead a session of their own."""
    workers = [p for p in psutil.Process(pid).children() if os.getsid(p.pid) == p.pid]
    if not workers:
        return 0
    dice.choice(workers).kill()
    return 1
