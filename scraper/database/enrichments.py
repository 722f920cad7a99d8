"""enrichments: what tasks have made of pages and items; and what a model answered before."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select

from scraper.database.bulk import IN_MOST, upsert
from scraper.database.models import answers_kept, enrichments
from scraper.errors import NotFound


def put(
    connection: Connection, job: Row[Any], records: Sequence[Mapping[str, Any]], model: str | None, at: datetime
) -> None:
    """Keep what a job has made, in place of what it made before."""
    mine = (enrichments.c.subject_id == job.subject_id) & (enrichments.c.task == job.task)
    mine &= (enrichments.c.of == job.of) & (enrichments.c.kind == job.kind)
    connection.execute(delete(enrichments).where(mine))
    if records:
        named = {
            name: getattr(job, name)
            for name in ("task", "kind", "source", "of", "subject_id", "input_hash", "attempts")
        }
        rows = [
            {**named, "number": number, "data": data, "model": model, "created_at": at}
            for number, data in enumerate(records)
        ]
        connection.execute(insert(enrichments), rows)


def one(connection: Connection, record_id: int) -> dict[str, Any]:
    """Return a record. Raises NotFound."""
    row = connection.execute(select(enrichments).where(enrichments.c.id == record_id)).first()
    if row is None:
        raise NotFound(f"there is no enrichment {record_id}")
    return public(row)


def public(row: Row[Any]) -> dict[str, Any]:
    """Return a record as the API tells it."""
    told = {
        name: getattr(row, name)
        for name in ("id", "task", "kind", "source", "number", "data", "model", "attempts", "created_at")
    }
    return told | {
        "page_id": row.subject_id if row.of == "page" else None,
        "item_id": row.subject_id if row.of == "item" else None,
    }


def of_subject(connection: Connection, of: str, subject_id: int) -> list[dict[str, Any]]:
    """Return all that was made of a page or an item."""
    mine = (enrichments.c.subject_id == subject_id) & (enrichments.c.of == of)
    return [public(row) for row in connection.execute(select(enrichments).where(mine).order_by(enrichments.c.id))]


def forget(connection: Connection, of: str, ids: Sequence[int]) -> None:
    """Drop what was made of pages or items that are kept no more."""
    for start in range(0, len(ids), IN_MOST):
        mine = (enrichments.c.of == of) & enrichments.c.subject_id.in_(ids[start : start + IN_MOST])
        connection.execute(delete(enrichments).where(mine))


def answered(connection: Connection, digest: str) -> str | None:
    """Return what a model answered to a prompt before."""
    return connection.scalar(select(answers_kept.c.text).where(answers_kept.c.digest == digest))


def keep_answer(connection: Connection, digest: str, text: str, at: datetime) -> None:
    """Keep what a model answered to a prompt."""
    made = upsert(connection.dialect.name, answers_kept).values(digest=digest, text=text, at=at)
    connection.execute(made.on_conflict_do_update(index_elements=["digest"], set_={"text": text, "at": at}))


def forget_answers(connection: Connection, before: datetime) -> None:
    """Drop answers that are older than an instant."""
    connection.execute(delete(answers_kept).where(answers_kept.c.at < before))
