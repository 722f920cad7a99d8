"""Vectors: making them beside the bare model, and searching among many, with an index and without."""

import random
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from bench.enrichment.place import Place, fill, fill_pages
from bench.support import quantile
from scraper.config.settings import Embed
from scraper.database import Db, pgvector
from scraper.database.connection import now
from scraper.database.models import chunks, vectors
from scraper.enrichment import embedder
from scraper.enrichment.chunks import passages
from scraper.search import semantic
from scraper.search.query import parse

SPREAD = 24
EMBED = '[[enrich]]\ntask = "passages"\nkind = "embed"\nbatch = 8\n'
WORDS = [
    "bower",
    "bird",
    "blue",
    "bottle",
    "cap",
    "nest",
    "twig",
    "feather",
    "shell",
    "glass",
    "berry",
    "moss",
    "stone",
    "leaf",
    "dance",
    "song",
]
DIMENSIONS = 384


def throughput(place: Place, count: int) -> dict[str, Any]:
    """Passages a second by one worker, from its first to its last, beside a bare loop over the same passages."""
    dice = random.Random(3)
    texts = [" ".join(dice.choice(WORDS) for _ in range(110)).capitalize() + "." for _ in range(count)]
    found = [
        (f"http://docs.test/{n}", f"<title>t</title><article><p>{text}</p></article>".encode())
        for n, text in enumerate(texts)
    ]
    model = embedder.local(Embed(), Path())
    given = [piece for text in texts for piece in passages(f"t\n\n{text}", Embed().chunk)]
    model.embed(given[:4])
    began = time.perf_counter()
    model.embed(given)
    bare = len(given) / (time.perf_counter() - began)
    place.write(EMBED)
    with Db(place.settings) as db:
        fill_pages(db, found)
        place.run("enrich", "passages", "--workers", "1")
        busy = db.read(_busy)
    return {"bare_per_s": bare, "ours_per_s": busy, "ratio": busy / bare, "passages": len(given)}


def _busy(connection: Any) -> float:
    """Passages a second between the first job that was stored and the last."""
    from sqlalchemy import func, select

    from scraper.database.models import attempts

    first, last, count = connection.execute(
        select(func.min(attempts.c.at), func.max(attempts.c.at), func.count()).where(attempts.c.outcome == "ok")
    ).one()
    made = connection.scalar(select(func.count()).select_from(vectors))
    return float(made * (count - 1) / count / max(1e-9, (last - first).total_seconds()))


def search(place: Place, count: int, times: int) -> dict[str, Any]:
    """How long a search among so many passages takes, in milliseconds, where all are looked at."""
    with Db(place.settings) as db:
        draw = _fill(db, count)
        matrix = semantic.Matrix("m")
        began = time.perf_counter()
        matrix.refresh(db, 4 * DIMENSIONS)
        loaded_s = time.perf_counter() - began
        took = _timed(db, matrix, draw, times)
    return {"passages": count, "load_s": loaded_s} | _quantiles(took)


def by_index(place: Place, count: int, times: int) -> dict[str, Any]:
    """The same by pgvector's index; and what share of the ten nearest it finds, and how many are entered in a second."""
    with Db(place.settings) as db:
        draw = _fill(db, count)
        began = time.perf_counter()
        for _ in pgvector.keep(db):
            pass
        filled_s = time.perf_counter() - began
        matrix = semantic.Matrix("m")
        took = _timed(db, matrix, draw, times)
        assert not matrix.filled
        matrix.refresh(db, 4 * DIMENSIONS)
        hits = 0
        for _ in range(100):
            by = draw(1)[0].tobytes()
            found = db.read(partial(pgvector.nearest, model="m", vector=by, count=10))
            hits += len({n for n, _ in found} & {n for n, _ in matrix.nearest(10, None, vector=by)})
    return {"passages": count, "entered_per_s": count / filled_s, "recall": hits / 1000} | _quantiles(took)


def _fill(db: Db, count: int) -> Callable[[int], Any]:
    """Store so many passages with vectors. Returns what draws more vectors of the kind.

    As those of texts are, they are spread along few of their dimensions, and a little along all.
    """
    import numpy as np

    random_ = np.random.default_rng(5)
    along = random_.standard_normal((SPREAD, DIMENSIONS)) / DIMENSIONS**0.5

    def draw(many: int) -> Any:
        made = random_.standard_normal((many, SPREAD)) @ along + 0.05 * random_.standard_normal((many, DIMENSIONS))
        return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype("<f4")

    fill_pages(db, [(f"http://docs.test/{n}", b"") for n in range(count // 10 + 1)])
    at = now()
    for start in range(0, count, 10_000):
        some = range(start, min(count, start + 10_000))
        rows = [
            {"id": n + 1, "of": "page", "subject_id": n // 10 + 1, "source": "docs", "kind": None, "number": n % 10}
            | {"url": "http://docs.test/", "title": "t", "text": f"passage {n}", "at": at}
            for n in some
        ]
        made = draw(len(some))
        fill(db, chunks, rows)
        fill(db, vectors, [{"chunk_id": n + 1, "model": "m", "vector": made[n - start].tobytes()} for n in some])
    return draw


def _timed(db: Db, matrix: semantic.Matrix, draw: Callable[[int], Any], times: int) -> list[float]:
    """Return the seconds of each of so many searches."""
    took = []
    for _ in range(times):
        question = draw(1)[0].tobytes()
        began = time.perf_counter()
        semantic.search(db, matrix, question, parse("bird", now()), None, None, 10)
        took.append(time.perf_counter() - began)
    return took


def _quantiles(took: list[float]) -> dict[str, float]:
    return {"p50_ms": 1000 * statistics.median(took), "p95_ms": 1000 * quantile(took, 0.95)}
