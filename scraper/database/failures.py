"""failures: what failed, why, and whether it has passed."""

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, update

from scraper.database.connection import Db
from scraper.database.models import failures
from scraper.records import Visit


def note(db: Db, connection: Connection, visit: Visit) -> None:
    """Keep a failure with its reason; one row a URL."""
    claim = visit.claim
    values = {
        "reason": str(visit.failure),
        "message": visit.message[:2000],
        "attempts": claim.attempts + 1,
        "last_at": visit.at,
        "resolved_at": None,
    }
    connection.execute(
        db.upsert(failures)
        .values(url_id=claim.url_id, source=claim.source, url=claim.url, first_at=visit.at, **values)
        .on_conflict_do_update(index_elements=["url_id"], set_=values)
    )


def resolve(connection: Connection, url_id: int, at: datetime) -> None:
    """Note that a URL works (again)."""
    connection.execute(
        update(failures).where(failures.c.url_id == url_id, failures.c.resolved_at.is_(None)).values(resolved_at=at)
    )


def public(row: Row[Any]) -> dict[str, Any]:
    """Return a failure as the API tells it."""
    names = ("id", "source", "url", "reason", "message", "attempts", "first_at", "last_at", "resolved_at")
    return {name: getattr(row, name) for name in names}
