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
from scraper.database import Connection, Db, notes, vectors
from scraper.database.connection import now
from scraper.enrichment.asking import Asking
from scraper.enrichment.question import NoVector, Questions
from scraper.search import find
from scraper.search.find import Mode, Question
from scraper.search.semantic import Matrices, Matrix

SAME_MEANING = 0.88  # the cosine above which two notes say the same
_WORD = re.compile(r"\w+")

log = logging.getLogger(__name__)


def _alike(vector: bytes, others: Sequence[bytes]) -> bool:
    import numpy as np  # noqa: PLC0415  where there is a vector, there is this too

    known = np.frombuffer(b"".join(others), dtype="<f4").reshape(len(others), -1)
    return bool((known @ np.frombuffer(vector, dtype="<f4")).max() > SAME_MEANING)


class Searching:
    """Searches of one process."""

    def __init__(self, settings: Settings, base: Path, variables: Mapping[str, str]) -> None:
        """base: the directory of the configuration."""
        self._questions = Questions(settings, base, variables)
        self._matrices = Matrices()
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

    def loosely(self, question: str) -> str:
        """Return a question of a person's as a query: any of its words will do."""
        return " OR ".join(word for word in _WORD.findall(question) if word not in ("OR", "AND")) or question

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
