"""Notifications: the rules, what is on its way, what could not be delivered."""

from collections.abc import Sequence
from typing import Any, Literal
from urllib.parse import urlsplit

from fastapi import APIRouter

from api.deps import Paging, RowId, TheDb, TheService, Word
from scraper.config.settings import Notify
from scraper.database import Connection, notices
from scraper.database.connection import now
from scraper.errors import NotFound
from scraper.notify import message

router = APIRouter(prefix="/api", tags=["notifications"])


def rules_with_counts(c: Connection, rules: Sequence[Notify]) -> list[dict[str, Any]]:
    """Return the rules as the API tells them; of an address, which may hold a secret, only the kind and the host."""
    found = notices.counts(c)
    return [
        {
            "name": rule.name,
            "to": shown(rule.url),
            "on": list(rule.on),
            "source": list(rule.source),
            "where": rule.where,
        }
        | {"deliveries": found.get(rule.name, {})}
        for rule in rules
    ]


def shown(url: str) -> str:
    """An address without what may be secret in it."""
    try:
        parts = urlsplit(url)
        return f"{parts.scheme}://{parts.hostname}/…" if parts.scheme in ("http", "https") else f"{parts.scheme}://…"
    except ValueError:
        return "…"


@router.get("/notifications")
def list_rules(db: TheDb, service: TheService) -> dict[str, Any]:
    """The rules of the configuration, and how many messages of each were sent, wait, or were given up."""
    return {"items": db.read(lambda c: rules_with_counts(c, service.settings.notify)), "next": None}


@router.post("/notifications/{name}/test", status_code=202)
def send_test(name: str, db: TheDb, service: TheService) -> dict[str, Any]:
    """Send a test message by a rule. It is a delivery like all others."""
    if name not in {rule.name for rule in service.settings.notify}:
        raise NotFound(f"there is no rule {name!r}; [[notify]] in the configuration makes one")
    payload = {"type": "test", "rule": name, "said": "This is a test. Whoever reads it is told by Bowerbird."}
    at = now()
    number = db.write(lambda c: notices.add(c, name, message.subject(payload), payload, at, at))
    return {"delivery": number}


@router.get("/deliveries")
def list_deliveries(
    db: TheDb, page: Paging, rule: Word = None, state: Literal["queued", "sent", "dead"] | None = None
) -> dict[str, Any]:
    """Messages, the newest first; state=dead are those that could not be delivered."""
    return page.answer(db, "deliveries", rule=rule, state=state)


@router.post("/deliveries/{delivery_id}/retry", status_code=202)
def retry_delivery(delivery_id: RowId, db: TheDb) -> dict[str, Any]:
    """Try to deliver a message again, now."""
    return db.write(lambda c: notices.again(c, delivery_id, now()))
