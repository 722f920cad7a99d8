"""What searches need in this process: vectors of questions, and the matrices that they are compared with."""

import asyncio
import logging
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from anyio import to_thread

from scraper.config.settings import Settings
from scraper.database import Db, notes, vectors
from scraper.database.connection import now
from scraper.enrichment.asking import Asking
from scraper.enrichment.model import NoRecord
from scraper.enrichment.question import NoVector, Questions
from scraper.errors import BowerbirdError
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
        self._noting: set[asyncio.Task[None]] = set()

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

    # -- notes

    def note_down(self, db: Db, about: str, text: str) -> None:
        """Have what a text tells be noted, beside what else is done."""
        task = asyncio.create_task(self._note_down(db, about, text), name="notes")
        self._noting.add(task)
        task.add_done_callback(self._noting.discard)

    async def _note_down(self, db: Db, about: str, text: str) -> None:
        try:
            added = await self.add_notes(db, about, await self.asking.notes(text))
        except (BowerbirdError, NoRecord) as error:
            log.warning("nothing was noted", extra={"about": about, "reason": str(error)})
            return
        log.info("notes", extra={"about": about, "added": len(added)})

    async def add_notes(self, db: Db, about: str, texts: list[str]) -> list[str]:
        """Add the notes that are new, by their words and by their meaning. Returns them. Raises Unavailable, Unusable."""
        model, vectors_ = None, []
        try:
            vectors_ = [await self._questions.vector(text) for text in texts]
            model = self._questions.model
        except NoVector as error:
            vectors_ = []
            log.debug("notes are compared by their words alone", extra={"reason": str(error)})
        unit = partial(notes.add, about=about, texts=texts, at=now(), model=model, vectors=vectors_, alike=_alike)
        return await to_thread.run_sync(db.write, unit)

    async def close(self) -> None:
        """End what was started; notes that are being made are given up."""
        for task in self._noting:
            task.cancel()
        await asyncio.gather(*self._noting, return_exceptions=True)
        await self.asking.close()
        await self._questions.close()
