"""hosts, robots: who may ask a host, and when; what its robots.txt said."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, bindparam, or_, select, update

from scraper.database.among import Among
from scraper.database.bulk import Bulk, upsert
from scraper.database.models import hosts, robots
from scraper.records import HostTimes

LEASE_S = 60.0
KEPT = tuple(field.name for field in fields(HostTimes))


@dataclass(frozen=True, slots=True)
class Leased:
    """Hosts that are this worker's now, and those among them that another one had, whose lease ran out: whose they were."""

    times: dict[str, HostTimes]
    former: dict[str, str]


def lease(
    connection: Connection, names: Sequence[str], owner: str, at: datetime, lapsed: datetime | None = None
) -> Leased:
    """Take hosts for this worker alone, those that nobody else has at this moment.

    lapsed: leases that ended before are over, left out: those that ended before at. Who had a host may have asked it until
    its lease ended, so the delay counts from there.
    """
    _KNOW.run(connection, [{"host": name, "delay_s": 0.0} for name in sorted(names)])
    times: dict[str, HostTimes] = {}
    former: dict[str, str] = {}
    for row in _FREE.rows(connection, names, mine=owner, lapsed=lapsed or at):
        kept = HostTimes(*(getattr(row, name) for name in KEPT))
        if row.lease_owner not in (None, owner):
            former[row.host] = row.lease_owner
            kept = replace(kept, next_at=_after(row, row.lease_until))
        times[row.host] = kept
    until = at + timedelta(seconds=LEASE_S)
    _TAKE.run(connection, [{"taken": name, "owner": owner, "until": until} for name in times])
    return Leased(times, former)


def known(connection: Connection, name: str) -> HostTimes | None:
    """Return what is kept of a host, whoever has it."""
    row = connection.execute(select(hosts).where(hosts.c.host == name)).first()
    return HostTimes(*(getattr(row, name) for name in KEPT)) if row is not None else None


_KNOW = Bulk(lambda dialect: upsert(dialect, hosts).on_conflict_do_nothing(index_elements=["host"]))
_FREE = Among(
    lambda _: (
        select(hosts)
        .where(
            hosts.c.host.in_(bindparam("names", expanding=True)),
            or_(
                hosts.c.lease_owner.is_(None),
                hosts.c.lease_owner == bindparam("mine"),
                hosts.c.lease_until < bindparam("lapsed"),
            ),
        )
        .with_for_update(skip_locked=True)  # what another one is just about to take is not free
    )
)
_TAKE = Bulk(
    lambda _: (
        update(hosts)
        .where(hosts.c.host == bindparam("taken"))
        .values(lease_owner=bindparam("owner"), lease_until=bindparam("until"))
    )
)


def renew(connection: Connection, owner: str, at: datetime) -> set[str]:
    """Keep what this worker has leased; return which hosts these are: others were taken over meanwhile."""
    until = at + timedelta(seconds=LEASE_S)
    mine = update(hosts).where(hosts.c.lease_owner == owner).values(lease_until=until).returning(hosts.c.host)
    return set(connection.scalars(mine))


def held(connection: Connection, names: Sequence[str], owner: str) -> set[str]:
    """Return which of these hosts are this worker's."""
    return {row.host for row in _HELD.rows(connection, names, owner=owner)}


_HELD = Among(
    lambda _: select(hosts.c.host).where(
        hosts.c.host.in_(bindparam("names", expanding=True)), hosts.c.lease_owner == bindparam("owner")
    )
)


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


def release(connection: Connection, names: Sequence[str], owner: str) -> None:
    """Give hosts back."""
    _RELEASE.run(connection, [{"left": name, "mine": owner} for name in names])


_RELEASE = Bulk(
    lambda _: (
        update(hosts)
        .where(hosts.c.host == bindparam("left"), hosts.c.lease_owner == bindparam("mine"))
        .values(lease_owner=None, lease_until=None)
    )
)


def recover(connection: Connection, owner: str, died_at: datetime) -> None:
    """Give back what an earlier worker of this name held when it died.

    Its last requests may have been sent up to that moment without being recorded, so the delay counts from there.
    """
    held = connection.execute(select(hosts).where(hosts.c.lease_owner == owner)).all()
    for row in held:
        free = {"lease_owner": None, "lease_until": None, "next_at": _after(row, died_at)}
        connection.execute(update(hosts).where(hosts.c.host == row.host).values(free))


def _after(row: Any, last: datetime) -> datetime:
    """When a host may be asked next, if it may have been asked until a moment and nobody has kept that."""
    earliest: datetime = last + timedelta(seconds=max(row.delay_s, row.crawl_delay_s))
    return max(row.next_at, earliest) if row.next_at else earliest


@dataclass(frozen=True, slots=True)
class StoredRobots:
    """A robots.txt as it was answered."""

    status: int
    text: str
    fetched_at: datetime


def robots_of(connection: Connection, origins: Sequence[str]) -> dict[str, StoredRobots]:
    """Return what the robots.txt of origins said when they were last asked for, as far as they were."""
    return {origin: StoredRobots(*rest) for origin, *rest in _ROBOTS.rows(connection, origins)}


def keep_robots(connection: Connection, found: Mapping[str, StoredRobots]) -> None:
    """Store what the robots.txt of origins said."""
    rows = [
        {"origin": origin, "status": told.status, "text": told.text, "fetched_at": told.fetched_at}
        for origin, told in found.items()
    ]
    _KEEP_ROBOTS.run(connection, rows)


_ROBOTS = Among(
    lambda _: select(robots.c.origin, robots.c.status, robots.c.text, robots.c.fetched_at).where(
        robots.c.origin.in_(bindparam("origins", expanding=True))
    )
)


def _robots_kept(dialect: str) -> Any:
    made = upsert(dialect, robots)
    set_ = {name: made.excluded[name] for name in ("status", "text", "fetched_at")}
    return made.on_conflict_do_update(index_elements=["origin"], set_=set_)


_KEEP_ROBOTS = Bulk(_robots_kept)


def told(connection: Connection, limit: int) -> list[dict[str, Any]]:
    """Return how hosts are treated: those first that are left alone for longest."""
    last = hosts.c.next_at.is_(None), hosts.c.next_at.desc(), hosts.c.host
    names = ("host", "delay_s", "crawl_delay_s", "penalty_s", "latency_s", "strikes", "next_at", "why", "lease_owner")
    rows = connection.execute(select(hosts).order_by(*last).limit(limit))
    return [{name: getattr(row, name) for name in names} for row in rows]
