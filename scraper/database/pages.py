"""pages: what was stored of each URL, once."""

import hashlib
import zlib
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from scraper.database.connection import made_id
from scraper.database.models import changes, pages
from scraper.errors import NotFound
from scraper.records import Visit
from scraper.urls import fingerprint

# What a site sets in a visitor's browser is nobody's business later.
_SECRET_HEADERS = {"set-cookie", "set-cookie2"}
BRIEF = [column for column in pages.c if column.name not in ("body", "fingerprint")]


@dataclass(frozen=True, slots=True)
class Stored:
    """The page of a visit; changed: it is new or its content differs from before."""

    id: int
    changed: bool


def body_of(connection: Connection, source: str, url: str) -> tuple[bytes, dict[str, str]] | None:
    """Return the stored body and headers of a URL, or None if there is none."""
    row = connection.execute(
        select(pages.c.body, pages.c.headers).where(pages.c.source == source, pages.c.fingerprint == fingerprint(url))
    ).first()
    return (zlib.decompress(row.body), row.headers) if row is not None else None


def content(connection: Connection, page_id: int) -> tuple[str, bytes]:
    """Return the content type and the stored body of a page. Raises NotFound."""
    row = connection.execute(select(pages.c.headers, pages.c.body).where(pages.c.id == page_id)).first()
    if row is None:
        raise NotFound(f"there is no page {page_id}")
    return str((row.headers or {}).get("content-type", "application/octet-stream")), zlib.decompress(row.body)


def seen_in(connection: Connection, source: str, url: str, run_id: int) -> bool:
    """Say whether this run has stored the page of a URL already."""
    found = connection.scalar(
        select(pages.c.run_id).where(pages.c.source == source, pages.c.fingerprint == fingerprint(url))
    )
    return found == run_id


def put(connection: Connection, visit: Visit) -> Stored:
    """Store the page of a visit: new, changed, or as it was (a 304 too)."""
    fetched, claim = visit.fetched, visit.claim
    assert fetched is not None
    digest = hashlib.sha256(fetched.body).hexdigest()
    mark = fingerprint(fetched.final_url)
    known = connection.execute(
        select(pages.c.id, pages.c.content_hash, pages.c.gone_at).where(
            pages.c.source == claim.source, pages.c.fingerprint == mark
        )
    ).first()
    values: dict[str, Any] = {
        "run_id": claim.run_id,
        "final_url": fetched.final_url,
        "depth": claim.depth,
        "fetched_at": visit.at,
        "gone_at": None,
    }
    if not fetched.not_modified:
        values["status"] = fetched.status
        values["headers"] = {name: value for name, value in fetched.headers.items() if name not in _SECRET_HEADERS}
    if known is not None and known.content_hash == digest:
        connection.execute(update(pages).where(pages.c.id == known.id).values(**values))
        if known.gone_at is not None:
            _change(connection, visit, known.id, "returned", {})
        return Stored(known.id, changed=False)
    values |= {
        "content_type": fetched.content_type,
        "title": visit.reading.title,
        "content_hash": digest,
        "bytes": len(fetched.body),
        "body": zlib.compress(fetched.body, 1),
        "changed_at": visit.at,
    }
    if known is None:
        values |= {"source": claim.source, "fingerprint": mark, "url": claim.url}
        page_id = made_id(connection.execute(insert(pages).values(**values)))
        _change(connection, visit, page_id, "created", {})
        return Stored(page_id, changed=True)
    connection.execute(update(pages).where(pages.c.id == known.id).values(**values))
    change = "returned" if known.gone_at is not None else "changed"
    _change(connection, visit, known.id, change, {"content_hash": [known.content_hash, digest]})
    return Stored(known.id, changed=True)


def mark_gone(connection: Connection, visit: Visit) -> None:
    """Note that a site says that a page is no more; what was stored of it stays."""
    row = connection.execute(
        select(pages.c.id).where(
            pages.c.source == visit.claim.source,
            pages.c.fingerprint == fingerprint(visit.claim.url),
            pages.c.gone_at.is_(None),
        )
    ).first()
    if row is not None:
        connection.execute(update(pages).where(pages.c.id == row.id).values(gone_at=visit.at))
        _change(connection, visit, row.id, "removed", {})


def _change(connection: Connection, visit: Visit, page_id: int, change: str, fields: dict[str, Any]) -> None:
    connection.execute(
        insert(changes).values(
            at=visit.at, source=visit.claim.source, of="page", change=change, page_id=page_id, fields=fields
        )
    )


def public(row: Row[Any]) -> dict[str, Any]:
    """Return a page as the API tells it."""
    names = ("id", "source", "url", "final_url", "status", "content_type", "title", "depth", "content_hash", "bytes")
    return {name: getattr(row, name) for name in names} | {
        "fetched_at": row.fetched_at,
        "changed_at": row.changed_at,
        "gone_at": row.gone_at,
        "headers": row.headers,
    }


def one(connection: Connection, page_id: int) -> dict[str, Any]:
    """Return one page as the API tells it. Raises NotFound."""
    row = connection.execute(select(*BRIEF).where(pages.c.id == page_id)).first()
    if row is None:
        raise NotFound(f"there is no page {page_id}")
    return public(row)
