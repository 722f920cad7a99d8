"""meta: single numbers that the database keeps of itself."""

from sqlalchemy import Connection, select

from scraper.database.bulk import upsert
from scraper.database.models import meta


def kept(connection: Connection, name: str) -> int:
    """Return a number, 0 if it was never kept."""
    return int(connection.scalar(select(meta.c.value).where(meta.c.name == name)) or 0)


def keep(connection: Connection, name: str, number: int) -> None:
    """Keep a number under a name."""
    row = upsert(connection.dialect.name, meta).values(name=name, value=str(number))
    connection.execute(row.on_conflict_do_update(index_elements=["name"], set_={"value": str(number)}))
