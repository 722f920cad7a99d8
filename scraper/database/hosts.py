"""hosts, robots: who may ask a host, and when; what its robots.txt said."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import datetime, timedelta

from sqlalchemy import Connection, bindparam, or_, select, update

from scraper.database.bulk import Bulk, upsert
from scraper.database.models import hosts, robots
from scraper.records import HostTimes

LEASE_S = 60.0
KEPT = tuple(field.name for field in fields(HostTimes))


def lease(connection: Connection, host: str, owner: str, at: datetime) -> HostTimes | None:
    """Take a host for this worker alone, or return None if another one has it."""
    until = at + timedelta(seconds=LEASE_S)
    statement = upsert(connection.dialect.name, hosts).values(
        host=host, lease_owner=owner, lease_until=until, delay_s=0.0
    )
    statement = statement.on_conflict_do_update(
        index_elements=["host"],
        set_={"lease_owner": owner, "lease_until": until},
        where=or_(hosts.c.lease_owner.is_(None), hosts.c.lease_owner == owner, hosts.c.lease_until < at),
    ).returning(*(hosts.c[name] for name in KEPT))
    row = connection.execute(statement).first()
    return HostTimes(*row) if row else None


def renew(connection: Connection, owner: str, at: datetime) -> set[str]:
    """Keep what this worker has leased; return which hosts these are: others were taken over meanwhile."""
    until = at + timedelta(seconds=LEASE_S)
    mine = update(hosts).where(hosts.c.lease_owner == owner).values(lease_until=until).returning(hosts.c.host)
    return set(connection.scalars(mine))


def record(connection: Connection, owner: str, states: Iterable[HostTimes]) -> None:
    """Store when hosts that are leased to this owner may be asked next, so that it holds over restarts."""
    rows = [{f"new_{name}": getattr(state, name) for name in KEPT} | {"mine": owner} for state in states]
    _RECORD.run(connection, rows)


_RECORD = Bulk(
    lambda _: (
        update(hosts)
        .where(hosts.c.host == bindparam("new_host"), hosts.c.lease_owner == bindparam("mine"))
        .values({name: bindparam(f"new_{name}", type_=hosts.c[name].type) for name in KEPT if name != "host"})
    )
)


def release(connection: Connection, host: str, owner: str) -> None:
    """Give a host back."""
    connection.execute(
        update(hosts)
        .where(hosts.c.host == host, hosts.c.lease_owner == owner)
        .values(lease_owner=None, lease_until=None)
    )


def recover(connection: Connection, owner: str, died_at: datetime) -> None:
    """Give back what an earlier worker of this name held when it died.

    Its last requests may have been sent up to that moment without being recorded, so the delay counts from there.
    """
    held = connection.execute(select(hosts).where(hosts.c.lease_owner == owner)).all()
    for row in held:
        earliest = died_at + timedelta(seconds=row.delay_s)
        next_at = max(row.next_at, earliest) if row.next_at else earliest
        connection.execute(
            update(hosts).where(hosts.c.host == row.host).values(lease_owner=None, lease_until=None, next_at=next_at)
        )


@dataclass(frozen=True, slots=True)
class StoredRobots:
    """A robots.txt as it was answered."""

    status: int
    text: str
    fetched_at: datetime


def robots_of(connection: Connection, origin: str) -> StoredRobots | None:
    """Return what an origin's robots.txt said when it was last asked for."""
    row = connection.execute(
        select(robots.c.status, robots.c.text, robots.c.fetched_at).where(robots.c.origin == origin)
    ).first()
    return StoredRobots(*row) if row else None


def keep_robots(connection: Connection, origin: str, found: StoredRobots) -> None:
    """Store a robots.txt."""
    values = {"status": found.status, "text": found.text, "fetched_at": found.fetched_at}
    connection.execute(
        upsert(connection.dialect.name, robots)
        .values(origin=origin, **values)
        .on_conflict_do_update(index_elements=["origin"], set_=values)
    )
