"""What searches need in this process: vectors of questions, and the matrices that they are compared with."""

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from anyio import to_thread

from scraper.config.settings import Settings
from scraper.database import Connection, Db, hosts, notes, vectors
from scraper.database.connection import now
from scraper.enrichment.asking import Asking
from scraper.enrichment.question import NoVector, Questions
from scraper.enrichment.work import is_for_models
from scraper.search import find
from scraper.search.find import Mode, Question
from scraper.search.query import QUERY_MOST, TERMS_MOST
from scraper.search.semantic import Matrices, Matrix
from scraper.urls import parts

SAME_MEANING = 0.88  # the cosine above which two notes say the same
_WORD = re.compile(r"\w+")

log = logging.getLogger(__name__)


def _alike(vector: bytes, others: Sequence[bytes]) -> bool:
    import numpy as np  # noqa: PLC0415  where there is a vector, there is this too

    others = [other for other in others if len(other) == len(vector)]  # the rest is of another model of that name
    if not others:
        return False
    known = np.frombuffer(b"".join(others), dtype="<f4").reshape(len(others), -1)
    return bool((known @ np.frombuffer(vector, dtype="<f4")).max() > SAME_MEANING)


class Searching:
    """Searches of one process."""

    def __init__(self, settings: Settings, base: Path, variables: Mapping[str, str]) -> None:
        """base: the directory of the configuration."""
        self._questions = Questions(settings, base, variables)
        self._matrices = Matrices()
        self._http = settings.http
        self.asking = Asking(settings, variables)

    async def vector(self, q: str, mode: Mode) -> bytes | None:
        """Return the vector of a question, where its meaning counts. Raises BadQuery, NoVector."""
        return None if mode == "text" else await self._questions.vector(find.words(q, now()))

    def best_mode(self, db: Db) -> Mode:
        """Return how a question is best asked: by meaning too, where there are vectors. Raises Unavailable, Unusable."""
        return "hybrid" if db.read(lambda c: vectors.newest(c, self._questions.model)) else "text"

    def _matrix(self, question: Question) -> Matrix | None:
        return None if question.mode == "text" else self._matrices.of(self._questions.model)

    def find(self, db: Db, question: Question, at: datetime) -> list[dict[str, Any]]:
        """Return what a question finds. Raises BadQuery, NoVectors, Unavailable, Unusable."""
        return find.find(db, question, at, self._matrix(question))

    def retrieve(self, db: Db, question: Question, at: datetime) -> list[dict[str, Any]]:
        """Return the passages that answer a question. Raises BadQuery, NoVectors, Unavailable, Unusable."""
        return find.retrieve(db, question, at, self._matrix(question))

    def for_models(self, db: Db, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return those passages whose sites let them be given to a model. Raises Unavailable, Unusable."""
        origins = {row["url"]: parts(row["url"]).origin for row in found}
        said = db.read(lambda c: hosts.robots_of(c, sorted(set(origins.values())))) if found else {}
        return [row for row in found if is_for_models(said.get(origins[row["url"]]), self._http)]

    def loosely(self, question: str) -> str:
        """Return a question of a person's as a query: any of its words will do, as many of them as a query may have."""
        found = [word for word in dict.fromkeys(_WORD.findall(question)) if word not in ("OR", "AND")][:TERMS_MOST]
        while len(asked := " OR ".join(found)) > QUERY_MOST:
            found.pop()
        return asked or question

    async def add_notes(
        self, db: Db, about: str, texts: list[str], also: Callable[[Connection], None] | None = None
    ) -> list[str]:
        """Add the notes that are new, by their words and by their meaning. Returns them. Raises Unavailable, Unusable.

        also: done in the same transaction.
        """
        model, vectors_ = None, []
        try:
            vectors_ = [await self._questions.vector(text) for text in texts]
            model = self._questions.model
        except NoVector as error:
            vectors_ = []
            log.debug("notes are compared by their words alone", extra={"reason": str(error)})
        add = partial(notes.add, about=about, texts=texts, at=now(), model=model, vectors=vectors_, alike=_alike)

        def unit(connection: Connection) -> list[str]:
            if also is not None:
                also(connection)
            return add(connection)

        return await to_thread.run_sync(db.write, unit)

    async def close(self) -> None:
        """Drop all connections."""
        await self.asking.close()
        await self._questions.close()
