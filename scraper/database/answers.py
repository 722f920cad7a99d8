"""answers: what was answered to calls that may be repeated with the same Idempotency-Key."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, select, update

from scraper.database.bulk import upsert
from scraper.database.models import answers

KEPT = timedelta(hours=24)
ABANDONED = timedelta(minutes=5)  # whoever began to work on it is dead


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered. status None: it is being worked on."""

    digest: str
    status: int | None
    headers: dict[str, str] | None
    body: bytes | None


def begin(connection: Connection, key: str, digest: str, at: datetime) -> Answer | None:
    """Take a key for a call, or return what is known of the call that has it. digest: of all that makes the call."""
    connection.execute(delete(answers).where(answers.c.at < at - KEPT))
    connection.execute(delete(answers).where(answers.c.status.is_(None), answers.c.at < at - ABANDONED))
    made = upsert(connection.dialect.name, answers).values(key=key, digest=digest, at=at)
    if connection.execute(made.on_conflict_do_nothing(index_elements=["key"])).rowcount:
        return None
    row = connection.execute(select(answers).where(answers.c.key == key)).one()
    return Answer(row.digest, row.status, row.headers, row.body)


def finish(connection: Connection, key: str, status: int, headers: Mapping[str, str], body: bytes) -> None:
    """Keep what was answered."""
    values = {"status": status, "headers": dict(headers), "body": body}
    connection.execute(update(answers).where(answers.c.key == key).values(**values))


def forget(connection: Connection, key: str) -> None:
    """Free a key whose call came to nothing."""
    connection.execute(delete(answers).where(answers.c.key == key))
