"""A database with things in it to export."""

import hashlib
import zlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import insert

from scraper.database import Db
from scraper.database.models import changes, items, pages
from scraper.database.models import sources as source_table

AT = datetime(2026, 1, 6, 10, 30, tzinfo=UTC)


def source(db: Db, name: str = "shop") -> None:
    """Enter a source."""
    row = {
        "name": name,
        "definition": {"name": name, "start": ["http://shop.test/"]},
        "origin": "file",
        "enabled": True,
    }
    db.write(lambda c: c.execute(insert(source_table), [row]))


def page(db: Db, url: str = "http://shop.test/", body: bytes = b"<p>Hi</p>", name: str = "shop", **given: Any) -> int:
    """Store a page; return its id."""
    stored = zlib.compress(body) if body else b""
    row = {
        "source": name,
        "fingerprint": hashlib.blake2b(url.encode(), digest_size=16).digest(),
        "run_id": 1,
        "url": url,
        "final_url": url,
        "status": 200,
        "content_type": "text/html",
        "title": "Hi",
        "depth": 0,
        "content_hash": hashlib.sha256(body).hexdigest(),
        "bytes": len(body),
        "headers": {"content-type": "text/html; charset=utf-8"},
        "body": stored,
        "stored_bytes": len(stored),
        "fetched_at": AT,
        "changed_at": AT,
    } | given
    return int(db.write(lambda c: c.execute(insert(pages).values(row).returning(pages.c.id)).scalar_one()))


def item(page_id: int, data: Mapping[str, Any], number: int, kind: str = "book", name: str = "shop") -> dict[str, Any]:
    """Return the row of an item."""
    at = AT + timedelta(seconds=number)
    moments = {"first_seen": at, "last_seen": at, "changed_at": at, "removed_at": None}
    named = {"source": name, "kind": kind, "key": str(number), "url": f"http://shop.test/{number}"}
    return {**named, "page_id": page_id, "run_id": 1, "data": dict(data), **moments}


def put(db: Db, *data: Mapping[str, Any], kind: str = "book", page_id: int | None = None, first: int = 1) -> None:
    """Store items."""
    where = page_id or page(db, f"http://shop.test/{kind}")
    rows = [item(where, each, number, kind) for number, each in enumerate(data, first)]
    db.write(lambda c: c.execute(insert(items), rows))


def many(db: Db, count: int) -> None:
    """Store so many items, with what shops have."""
    where = page(db, "http://shop.test/many")
    for start in range(0, count, 5000):
        rows = [item(where, _sold(number), number, "thing") for number in range(start, min(count, start + 5000))]
        db.write(lambda c, rows=rows: c.execute(insert(items), rows))  # type: ignore[misc]


def _sold(number: int) -> dict[str, Any]:
    words = hashlib.sha256(str(number).encode()).hexdigest()
    return {
        "title": f"A thing called {words}",
        "price": number / 100,
        "stock": number % 50,
        "new": number % 2 == 0,
        "tags": [words[:4], words[4:8]],
        "text": words * 4,
    }


def changed(db: Db, *told: Mapping[str, Any]) -> None:
    """Tell changes, one a minute."""
    rows = [
        {"at": AT + timedelta(minutes=n), "source": "shop", "of": "item", "kind": "book", "change": "changed"}
        | {"item_id": None, "page_id": None, "fields": {}}
        | dict(each)
        for n, each in enumerate(told)
    ]
    db.write(lambda c: c.execute(insert(changes), rows))


def without_pulse(pieces: Iterator[bytes]) -> bytes:
    """Return all of an export."""
    return b"".join(pieces)
