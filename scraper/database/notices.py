"""notify_rules, deliveries: how far each rule has looked, what it has told, and what is on its way."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, or_, select, update

from scraper.database.bulk import NOTICES, in_turn, upsert
from scraper.database.connection import made_id
from scraper.database.models import deliveries, notify_rules
from scraper.errors import NotFound

KEPT = timedelta(days=30)
CLAIM = timedelta(seconds=120)
FIRST_WAIT_S, LONGEST_WAIT_S, ATTEMPTS = 10.0, 3600.0, 12
QUEUED, SENT, DEAD = "queued", "sent", "dead"


@dataclass(frozen=True, slots=True)
class Looked:
    """How far a rule has looked, and what it has told and not seen mended: when it told it last, by name."""

    change_id: int
    event_id: int
    told: Mapping[str, str]


def looked(connection: Connection, rule: str, change_id: int, event_id: int) -> Looked:
    """Return how far a rule has looked; a new one begins here. Nobody else looks for it until the transaction ends."""
    in_turn(connection, NOTICES)
    row = connection.execute(select(notify_rules).where(notify_rules.c.name == rule)).first()
    if row is not None and row.change_id <= change_id and row.event_id <= event_id:
        return Looked(row.change_id, row.event_id, row.told)
    fresh = Looked(change_id, event_id, {})
    keep(connection, rule, fresh)
    return fresh


def keep(connection: Connection, rule: str, now: Looked) -> None:
    """Keep how far a rule has looked."""
    values = {"change_id": now.change_id, "event_id": now.event_id, "told": dict(now.told)}
    made = upsert(connection.dialect.name, notify_rules).values(name=rule, **values)
    connection.execute(made.on_conflict_do_update(index_elements=["name"], set_=values))


def add(
    connection: Connection, rule: str, subject: str, payload: Mapping[str, Any], at: datetime, due_at: datetime
) -> int:
    """Have a message delivered at an instant. Returns its number."""
    values = {"rule": rule, "state": QUEUED, "subject": subject, "payload": dict(payload), "attempts": 0}
    return made_id(connection.execute(insert(deliveries).values(made_at=at, due_at=due_at, **values)))


def gathering(connection: Connection, rule: str, at: datetime) -> Row[Any] | None:
    """Return the message of a rule that still waits for its time, so that more can go into it."""
    mine = (deliveries.c.rule == rule) & (deliveries.c.state == QUEUED) & (deliveries.c.attempts == 0)
    found = connection.execute(
        select(deliveries).where(mine, deliveries.c.due_at > at, deliveries.c.claimed_until.is_(None)).limit(1)
    ).first()
    return found if found is not None and found.payload.get("type") == "changes" else None


def rewrite(connection: Connection, delivery_id: int, subject: str, payload: Mapping[str, Any]) -> None:
    """Put other words into a message that waits."""
    mine = deliveries.c.id == delivery_id
    connection.execute(update(deliveries).where(mine).values(subject=subject, payload=dict(payload)))


def claim(connection: Connection, at: datetime, limit: int, without: Sequence[str] = ()) -> list[Row[Any]]:
    """Take messages that are due, save those of some rules; whoever took one and died loses it to others after a while."""
    in_turn(connection, NOTICES)
    free = or_(deliveries.c.claimed_until.is_(None), deliveries.c.claimed_until < at)
    due = (
        select(deliveries)
        .where(deliveries.c.state == QUEUED, deliveries.c.due_at <= at, free, deliveries.c.rule.not_in(without))
        .order_by(deliveries.c.due_at)
        .limit(limit)
    )
    rows = list(connection.execute(due).all())
    if rows:
        ids = [row.id for row in rows]
        connection.execute(update(deliveries).where(deliveries.c.id.in_(ids)).values(claimed_until=at + CLAIM))
    return rows


def settle(connection: Connection, delivery_id: int, at: datetime, answer: str, *, sent: bool, final: bool) -> None:
    """Note how it went: sent, to be tried again later and later, or given up."""
    row = connection.execute(select(deliveries.c.attempts).where(deliveries.c.id == delivery_id)).first()
    attempts = (row.attempts if row is not None else 0) + 1
    wait = timedelta(seconds=min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** (attempts - 1)))
    state = SENT if sent else DEAD if final or attempts >= ATTEMPTS else QUEUED
    values: dict[str, Any] = {"state": state, "attempts": attempts, "answer": answer[:500], "claimed_until": None}
    values |= {"sent_at": at} if sent else {"due_at": at + wait}
    connection.execute(update(deliveries).where(deliveries.c.id == delivery_id).values(**values))


def put_off(connection: Connection, at: datetime, delivery_id: int, until: datetime) -> None:
    """Have a message that was claimed be sent later; that is no try."""
    values = {"due_at": until, "claimed_until": None}
    connection.execute(update(deliveries).where(deliveries.c.id == delivery_id).values(**values))


def hold(connection: Connection, at: datetime, rule: str, seconds: float) -> None:
    """Have nothing be sent by a rule for a while: its receiver asked for that (RFC 9110 section 10.2.3)."""
    until = at + timedelta(seconds=seconds)
    mine = (deliveries.c.rule == rule) & (deliveries.c.state == QUEUED) & (deliveries.c.due_at < until)
    connection.execute(update(deliveries).where(mine, deliveries.c.claimed_until.is_(None)).values(due_at=until))


def again(connection: Connection, delivery_id: int, at: datetime) -> dict[str, Any]:
    """Have a message be tried again, now. Raises NotFound."""
    values = {"state": QUEUED, "attempts": 0, "due_at": at, "claimed_until": None}
    row = connection.execute(
        update(deliveries).where(deliveries.c.id == delivery_id).values(**values).returning(*deliveries.c)
    ).first()
    if row is None:
        raise NotFound(f"there is no delivery {delivery_id}")
    return public(row)


def forget(connection: Connection, at: datetime, rules: Sequence[str]) -> None:
    """Drop messages that were sent, or given up, long ago, and what is known of rules that are there no more."""
    old = (deliveries.c.made_at < at - KEPT) & (deliveries.c.state != QUEUED)
    connection.execute(delete(deliveries).where(old))
    connection.execute(delete(notify_rules).where(notify_rules.c.name.not_in(list(rules))))


def counts(connection: Connection) -> dict[str, dict[str, int]]:
    """Return how many messages of each rule are in each state."""
    rows = connection.execute(
        select(deliveries.c.rule, deliveries.c.state, func.count()).group_by(deliveries.c.rule, deliveries.c.state)
    )
    found: dict[str, dict[str, int]] = {}
    for rule, state, count in rows:
        found.setdefault(rule, {})[state] = count
    return found


def public(row: Row[Any]) -> dict[str, Any]:
    """Return a delivery as the API tells it."""
    names = ("id", "rule", "state", "subject", "payload", "made_at", "due_at", "attempts", "answer", "sent_at")
    return {name: getattr(row, name) for name in names}
