"""What searches need in this process: vectors of questions, and the matrices that they are compared with."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from scraper.config.settings import Settings
from scraper.database import Db, vectors
from scraper.database.connection import now
from scraper.enrichment.question import Questions
from scraper.search import find
from scraper.search.find import Mode, Question
from scraper.search.semantic import Matrices, Matrix


class Searching:
    """Searches of one process."""

    def __init__(self, settings: Settings, base: Path, variables: Mapping[str, str]) -> None:
        """base: the directory of the configuration."""
        self._questions = Questions(settings, base, variables)
        self._matrices = Matrices()

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

    async def close(self) -> None:
        """End what was started."""
        await self._questions.close()
