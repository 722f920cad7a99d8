"""Meaning to what is found: by an index in the database where it has one, else all vectors of a model in one matrix.

The matrix is kept in memory and brought up to date before each question. It is exact: every vector is looked at. Vectors
that are gone are known by their passages, which are not there any more.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from scraper.database import Db, pgvector, vectors
from scraper.errors import BowerbirdError
from scraper.search.query import Query

NONE_YET = "there are no vectors to search by; add an [[enrich]] of kind embed, and run it"
NEEDS_EMBED = 'search by meaning needs the extra: pip install "bowerbird[embed]"'
SPARE = 4  # so many times more candidates than are wanted: some are gone, some are filtered out
DEAD_MOST = 0.1  # above this share of vectors that are gone, the matrix is read anew
COUNT_EACH_S = 20.0
FAR = 2000

# How many are wanted, and among which (None: all), to the numbers of the nearest passages and their cosines.
Nearest = Callable[[int, Sequence[int] | None], list[tuple[int, float]]]


class NoVectors(BowerbirdError):
    """There is nothing to search by meaning; the text says what to do."""


class Matrix:
    """The vectors of one model, as this process knows them. Thread-safe."""

    def __init__(self, model: str) -> None:
        """Raises NoVectors without the extra."""
        try:
            import numpy  # noqa: PLC0415  of the extra, and 0.1 s
        except ImportError:
            raise NoVectors(NEEDS_EMBED) from None
        self.model = model
        self._np: Any = numpy
        self._lock = threading.Lock()
        self._counted = time.monotonic()
        self._size = 0
        self._empty()

    def _empty(self) -> None:
        self._rows: Any = None  # more of them than are used, so that a few can be added
        self._chunks: Any = None
        self._used = self._last = self._passed = self._other = 0

    def refresh(self, db: Db, size: int) -> None:
        """Read what came since, or all if much is gone. size: bytes of a vector; others are of another model of that name.

        Raises Unavailable, Unusable.
        """
        with self._lock:
            if size != self._size:
                self._size = size
                self._empty()
            newest = db.read(lambda c: vectors.newest(c, self.model))
            if self._used and time.monotonic() - self._counted > COUNT_EACH_S:
                self._counted = time.monotonic()
                if self._used + self._passed - db.read(lambda c: vectors.count(c, self.model)) > DEAD_MOST * self._used:
                    self._empty()
            if newest < self._last:  # the last ones are gone, or all of the database is another one
                self._empty()
            while newest > self._last:
                last = self._last
                found = db.read(lambda c, last=last: vectors.after(c, self.model, last))  # type: ignore[misc]
                if not found:
                    return
                self._add(found)

    def _add(self, found: Sequence[Any]) -> None:
        np, last = self._np, found[-1].id
        fits = [row for row in found if len(row.vector) == self._size]
        if len(fits) < len(found):
            self._passed += len(found) - len(fits)
            self._other = next(len(row.vector) for row in found if len(row.vector) != self._size)
        found = fits
        self._last = last
        if not found:
            return
        fresh = np.frombuffer(b"".join(row.vector for row in found), dtype="<f4").reshape(len(found), -1)
        needed = self._used + len(found)
        if self._rows is None or needed > len(self._rows):
            rows = np.empty((max(1024, needed * 5 // 4), fresh.shape[1]), dtype=np.float32)
            numbers = np.empty(len(rows), dtype=np.int64)
            if self._rows is not None:
                rows[: self._used], numbers[: self._used] = self._rows[: self._used], self._chunks[: self._used]
            self._rows, self._chunks = rows, numbers
        self._rows[self._used : needed] = fresh
        self._chunks[self._used : needed] = [row.chunk_id for row in found]
        self._used = needed

    def drop(self) -> None:
        """Give the memory back, until the next refresh()."""
        with self._lock:
            self._empty()

    @property
    def filled(self) -> bool:
        """Whether there is any vector, as of the last refresh()."""
        return self._used > 0

    def check(self) -> None:
        """See that it is filled. Raises NoVectors, also where there are only vectors of another length."""
        if not self.filled:
            raise NoVectors(self._unfit(self._size, self._other) if self._other else NONE_YET)

    def _unfit(self, asked: int, there: int) -> str:
        return (
            f"the vectors of {self.model} have {there // 4} numbers, the question has {asked // 4}: run the task again"
        )

    def nearest(self, count: int, among: Sequence[int] | None, *, vector: bytes) -> list[tuple[int, float]]:
        """Return the passages nearest to a vector as (number, cosine), the nearest first. Raises NoVectors for one of another length.

        among: the numbers of those that are meant; None: all.
        """
        np = self._np
        with self._lock:
            rows, numbers, used = self._rows, self._chunks, self._used
        if not used:
            return []
        wanted = np.frombuffer(vector, dtype="<f4")
        if len(wanted) != rows.shape[1]:  # somebody has asked with another one meanwhile
            raise NoVectors(self._unfit(len(vector), 4 * rows.shape[1]))
        if among is not None:
            places = np.flatnonzero(np.isin(numbers[:used], np.asarray(among, dtype=numbers.dtype)))
            rows, numbers, used = rows[places], numbers[places], len(places)
            if not used:
                return []
        scores = rows[:used] @ wanted
        count = min(count, used)
        best = np.argpartition(scores, -count)[-count:]
        best = best[np.argsort(-scores[best], kind="stable")]
        return [(int(numbers[place]), float(scores[place])) for place in best]


class Matrices:
    """The matrices of this process, one for each model that was asked for."""

    def __init__(self) -> None:
        self._known: dict[str, Matrix] = {}
        self._lock = threading.Lock()

    def of(self, model: str) -> Matrix:
        """Return the matrix of a model. Raises NoVectors."""
        with self._lock:
            if model not in self._known:
                self._known[model] = Matrix(model)
            return self._known[model]


def search(
    db: Db, matrix: Matrix, vector: bytes, query: Query, source: str | None, kind: str | None, count: int
) -> list[dict[str, Any]]:
    """Return the passages nearest to a vector, at most so many, the nearest first, each with `score`; fields as they were asked for.

    Raises NoVectors, Unavailable, Unusable.
    """
    nearest, by_index = _nearest(db, matrix, vector)
    named, since = _meant(query, source, kind), query.since
    wanted = SPARE * count
    while True:
        near = nearest(wanted, None)
        found = _there(db, near, named, since)
        short = len(near) < wanted  # the matrix has no more; an index may have, and has looked far enough
        if len(found) >= count or (short and not by_index):
            return found[:count]
        if short or wanted >= FAR * SPARE:  # what is meant is rare, and far away: that alone is looked at
            chosen = db.read(partial(vectors.chosen, named=named, since=since))
            return _there(db, nearest(wanted, chosen), named, since)[:count]
        wanted *= SPARE


def _nearest(db: Db, matrix: Matrix, vector: bytes) -> tuple[Nearest, bool]:
    """What finds the nearest, and whether that is an index. Raises NoVectors, Unavailable, Unusable."""
    if db.read(partial(pgvector.covers, model=matrix.model, size=len(vector))):
        matrix.drop()
        asked = partial(pgvector.nearest, model=matrix.model, vector=vector)
        return lambda count, among: db.read(partial(asked, count=count, among=among)), True
    matrix.refresh(db, len(vector))
    matrix.check()
    return partial(matrix.nearest, vector=vector), False


def _meant(query: Query, source: str | None, kind: str | None) -> dict[str, str]:
    meant = {
        "of": query.fields.get("of"),
        "source": source or query.fields.get("source"),
        "kind": kind or query.fields.get("kind"),
    }
    return {name: value for name, value in meant.items() if value is not None}


def _there(
    db: Db, near: Sequence[tuple[int, float]], named: Mapping[str, str], since: datetime | None
) -> list[dict[str, Any]]:
    """Return the passages that are still there and fit, each once: one that was made again is in the matrix twice."""
    texts = db.read(partial(vectors.passages, ids=[number for number, _ in near]))
    found = []
    for number, score in near:
        row = texts.pop(number, None)
        if row is None or any(row[name] != value for name, value in named.items()):
            continue
        if since is None or row["at"] >= since:
            found.append({**row, "version": None, "until": None, "score": score})
    return found
