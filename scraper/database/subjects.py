"""Pages and items as what something is made of: in brief, to see what is due; and whole."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, select

from scraper.database import documents
from scraper.database.bulk import IN_MOST
from scraper.database.documents import Subject
from scraper.database.models import items, pages
from scraper.records import called

AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Brief:
    """A page or an item as it is now. mark: another one when what can be made of it is another."""

    of: str
    id: int
    source: str
    kind: str | None
    url: str
    title: str
    mark: str
    data: dict[str, Any] = field(default_factory=dict)


def after(connection: Connection, of: str, number: int, source: str | None) -> list[Brief]:
    """Return pages or items that are there, after a number, in order; at most AT_ONCE."""
    table, there = _there(of)
    meant = [table.c.id > number, there]
    if source is not None:
        meant.append(table.c.source == source)
    rows = connection.execute(select(*_columns(of)).where(*meant).order_by(table.c.id).limit(AT_ONCE))
    return [_brief(of, row) for row in rows]


def briefs(connection: Connection, of: str, ids: Sequence[int]) -> list[Brief]:
    """Return those of these pages or items that are there."""
    table, there = _there(of)
    found: list[Brief] = []
    for start in range(0, len(ids), IN_MOST):
        some = table.c.id.in_(list(ids[start : start + IN_MOST]))
        found += [_brief(of, row) for row in connection.execute(select(*_columns(of)).where(some, there))]
    return found


def whole(connection: Connection, of: str, ids: Sequence[int]) -> dict[int, Subject]:
    """Return those of these pages or items that are there, with bodies and data, by their numbers."""
    return {subject.id: subject for subject in documents.subjects(connection, of, set(ids))}


def _there(of: str) -> tuple[Any, Any]:
    if of == "item":
        return items, items.c.removed_at.is_(None)
    return pages, pages.c.gone_at.is_(None) & pages.c.duplicate_of.is_(None) & (pages.c.content_hash != "")


def _columns(of: str) -> list[Any]:
    if of == "item":
        return [items.c.id, items.c.source, items.c.kind, items.c.url, items.c.key, items.c.data]
    return [pages.c.id, pages.c.source, pages.c.final_url, pages.c.title, pages.c.content_hash]


def _brief(of: str, row: Any) -> Brief:
    if of == "item":
        text = json.dumps(row.data, sort_keys=True, default=str)
        mark = hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).hexdigest()
        title = str(called(row.data, row.key))
        return Brief(of, row.id, row.source, row.kind, row.url, title, mark, row.data)
    return Brief(of, row.id, row.source, None, row.final_url, row.title or "", row.content_hash)
