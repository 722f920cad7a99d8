"""failures: what failed, why, and whether it has passed."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, bindparam, func, select, update

from scraper.database.among import Among
from scraper.database.bulk import IN_MOST, upsert
from scraper.database.models import failures
from scraper.errors import NotFound
from scraper.records import Visit


def note(connection: Connection, visit: Visit) -> None:
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
        upsert(connection.dialect.name, failures)
        .values(url_id=claim.url_id, source=claim.source, url=claim.url, first_at=visit.at, **values)
        .on_conflict_do_update(index_elements=["url_id"], set_=values)
    )


def resolve(connection: Connection, url_ids: Sequence[int], at: datetime) -> None:
    """Note that URLs work (again)."""
    _RESOLVE.run(connection, url_ids, now=at)


_RESOLVE = Among(
    lambda _: (
        update(failures)
        .where(failures.c.url_id.in_(bindparam("mine", expanding=True)), failures.c.resolved_at.is_(None))
        .values(resolved_at=bindparam("now"))
    )
)


def of(connection: Connection, ids: Sequence[int]) -> list[Row[Any]]:
    """Return failures. Raises NotFound for one that is not there."""
    found: list[Row[Any]] = []
    for start in range(0, len(ids), IN_MOST):
        found += connection.execute(select(failures).where(failures.c.id.in_(ids[start : start + IN_MOST]))).all()
    missing = set(ids) - {row.id for row in found}
    if missing:
        raise NotFound(f"there is no failure {min(missing)}; `bowerbird failures list` shows their numbers")
    return found


def public(row: Row[Any]) -> dict[str, Any]:
    """Return a failure as the API tells it."""
    names = ("id", "source", "url", "reason", "message", "attempts", "first_at", "last_at", "resolved_at")
    return {name: getattr(row, name) for name in names}


def reasons(connection: Connection, source: str | None) -> dict[str, int]:
    """Return how many URLs fail at present, by the name of the failure."""
    statement = select(failures.c.reason, func.count()).where(failures.c.resolved_at.is_(None))
    if source is not None:
        statement = statement.where(failures.c.source == source)
    rows = connection.execute(statement.group_by(failures.c.reason).order_by(func.count().desc())).all()
    return {str(reason): int(count) for reason, count in rows}
