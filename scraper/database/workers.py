"""workers: who crawls at this moment, in whichever process and on whichever machine, so that they share the work evenly."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, select

from scraper.database.bulk import upsert
from scraper.database.models import workers

LIVES_S = 20.0


def seen(connection: Connection, owner: str, at: datetime, due: int) -> None:
    """Note that a worker is there, and how many hosts it could ask now."""
    values = {"seen_at": at, "due": due}
    made = upsert(connection.dialect.name, workers).values(owner=owner, **values)
    connection.execute(made.on_conflict_do_update(index_elements=["owner"], set_=values))


def at_work(connection: Connection, at: datetime) -> Sequence[str]:
    """Return the workers that are there and could ask hosts, in an order that is the same for all."""
    since = at - timedelta(seconds=LIVES_S)
    living = select(workers.c.owner).where(workers.c.seen_at > since, workers.c.due > 0)
    return connection.scalars(living.order_by(workers.c.owner)).all()


def gone(connection: Connection, owner: str, at: datetime) -> None:
    """Note that a worker has left, and forget those that were not seen for long."""
    connection.execute(
        delete(workers).where((workers.c.owner == owner) | (workers.c.seen_at < at - timedelta(seconds=LIVES_S)))
    )
