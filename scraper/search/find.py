"""One question over all that was stored: by its words, by its meaning, or by both; as results or as passages."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Literal

from scraper.database import Db, documents
from scraper.search import ranks, semantic, text
from scraper.search.query import Query, parse
from scraper.search.semantic import Matrix

Mode = Literal["text", "semantic", "hybrid"]

DEEP = 100  # how far down each list the other is looked at
PASSAGE_MOST = 1200
SPARE = 10  # results that may turn out to say the same as others


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked. source, kind: beside those that the text names. vector: of the words, where meaning counts."""

    text: str
    mode: Mode = "text"
    source: str | None = None
    kind: str | None = None
    limit: int = 20
    offset: int = 0
    vector: bytes | None = None


def words(asked: str, now: datetime) -> str:
    """Return the words of a question alone, for a model to make a vector of: without fields and what is not wanted. Raises BadQuery."""
    query = parse(asked, now)
    return " ".join(" ".join(term.words) for terms in query.all for term in terms)


def find(db: Db, question: Question, now: datetime, matrix: Matrix | None = None) -> list[dict[str, Any]]:
    """Return pages and items, the best first; those that say the same as one before them are its `same`.

    matrix: of the model that made the vector. Raises BadQuery, NoVectors, Unavailable, Unusable.
    """
    query = parse(question.text, now)
    deep = question.offset + question.limit + SPARE
    if question.mode != "text":
        deep = max(DEEP, deep)
    lists = []
    if question.mode != "semantic":
        lists.append(_by_words(db, question, now, deep))
    if question.mode != "text":
        lists.append(ranks.by_subject(_by_meaning(db, question, query, matrix, 2 * deep)))
    found = ranks.fused(lists) if len(lists) > 1 else lists[0]
    return ranks.folded(found)[question.offset : question.offset + question.limit]


def _by_words(db: Db, question: Question, now: datetime, deep: int) -> list[dict[str, Any]]:
    asked = partial(text.search, text=question.text, now=now, source=question.source, kind=question.kind, limit=deep)
    return db.read(asked)


def _by_meaning(db: Db, question: Question, query: Query, matrix: Matrix | None, count: int) -> list[dict[str, Any]]:
    if matrix is None or question.vector is None:
        raise semantic.NoVectors(semantic.NONE_YET)
    return semantic.search(db, matrix, question.vector, query, question.source, question.kind, count)


def retrieve(db: Db, question: Question, now: datetime, matrix: Matrix | None = None) -> list[dict[str, Any]]:
    """Return the passages that answer a question best, each with where it is from; for those who build on them.

    Raises BadQuery, NoVectors, Unavailable, Unusable.
    """
    query = parse(question.text, now)
    lists = []
    if question.mode != "semantic":
        found = _by_words(db, question, now, question.limit * 2)
        lists.append([_best_passage(db, row, query) for row in found])
    if question.mode != "text":
        near = _by_meaning(db, question, query, matrix, question.limit * 2)
        lists.append([_passage(row, row["subject_id"], row["text"]) for row in near])
    merged = _merged(lists)
    return [{name: value for name, value in row.items() if name != "lead"} for row in merged[: question.limit]]


def _merged(lists: Sequence[Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Passages by reciprocal rank; the same words of one page are one passage."""
    scores: dict[tuple[str, int, str], float] = {}
    rows: dict[tuple[str, int, str], dict[str, Any]] = {}
    for found in lists:
        for rank, row in enumerate(found, 1):
            name = (row["of"], row["id"], row["text"])
            scores[name] = scores.get(name, 0.0) + 1 / (ranks.RANK_K + rank)
            rows.setdefault(name, row)
    order = sorted(scores, key=lambda name: (-scores[name], name))
    return [{**rows[name], "score": round(scores[name], 5)} for name in order]


def _passage(row: dict[str, Any], subject_id: int, words: str) -> dict[str, Any]:
    named = {name: row[name] for name in ("of", "source", "kind", "url", "title", "at", "version", "until")}
    return {**named, "id": subject_id, "text": words, "score": row["score"]}


def _best_passage(db: Db, row: dict[str, Any], query: Query) -> dict[str, Any]:
    """The stretch of a document in which most of the words stand."""
    whole = db.read(lambda c: documents.text_of(c, row["of"], row["id"], row["version"] or 0))
    meant = [word.casefold() for terms in query.all for term in terms for word in term.words]
    lines, best, most = whole.split("\n"), "", -1
    for start in range(len(lines)):
        piece = _stretch(lines, start)
        hits = sum(word in piece.casefold() for word in meant)
        if hits > most:
            best, most = piece, hits
        if hits == len(meant):
            break
    return _passage(row, row["id"], best)


def _stretch(lines: Sequence[str], start: int) -> str:
    taken: list[str] = []
    size = 0
    for line in lines[start:]:
        if taken and size + len(line) > PASSAGE_MOST:
            break
        taken.append(line[:PASSAGE_MOST])
        size += len(line) + 1
    return "\n".join(taken)
