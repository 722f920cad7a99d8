"""pages: what was stored of each URL, once."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, Select, bindparam, func, insert, select, update

from scraper.compression import deflate, stored
from scraper.database import changes
from scraper.database.among import Among
from scraper.database.bulk import Bulk, reserve, upsert
from scraper.database.models import UNREAD, page_versions, pages
from scraper.errors import NotFound
from scraper.records import Fetched, Visit, packed
from scraper.urls import fingerprint
from scraper.value import value

# What a site sets in a visitor's browser is nobody's business later.
_SECRET_HEADERS = {"set-cookie", "set-cookie2"}
BRIEF = [column for column in pages.c if column.name not in ("body", "fingerprint", "links", "rules")]
NEVER_READ = ""  # the content hash of a page that is known by its items alone

_PACE = ("check_every_s", "check_after")
_SEEN = ("run_id", "final_url", "depth", "fetched_at", "gone_at", "rules", "links", "item_count", "elapsed_s", *_PACE)


def _update(names: Sequence[str]) -> Bulk:
    values = {name: bindparam(name, type_=pages.c[name].type) for name in names}
    return Bulk(lambda _: update(pages).where(pages.c.id == bindparam("page")).values(values))


_CREATE = Bulk(lambda _: insert(pages))
_SEE = _update(_SEEN)  # a 304 has not all the headers
_SEE_ANEW = _update((*_SEEN, "status", "headers", "content_type", "title"))
_TOUCH = Bulk(
    lambda _: (
        update(pages)
        .where(pages.c.id == bindparam("page"))
        .values(
            {"run_id": bindparam("run"), "depth": bindparam("level"), "fetched_at": bindparam("at"), "gone_at": None}
            | {name: bindparam(f"new_{name}") for name in _PACE}
        )
    )
)
_PASS = Bulk(
    lambda _: (
        update(pages).where(pages.c.id == bindparam("page")).values(run_id=bindparam("run"), depth=bindparam("level"))
    )
)
_NAMED = ("id", "source", "fingerprint", "content_hash", "gone_at", "stored_bytes", "title")
_KNOWN = Among(
    lambda _: select(*(pages.c[name] for name in _NAMED)).where(
        pages.c.fingerprint.in_(bindparam("marks", expanding=True))
    )
)
_PLACE = Bulk(lambda dialect: upsert(dialect, pages).on_conflict_do_nothing())
_COPIES = Among(
    lambda _: (
        select(pages.c.source, pages.c.content_hash, func.min(pages.c.id))
        .where(pages.c.content_hash.in_(bindparam("digests", expanding=True)))
        .group_by(pages.c.source, pages.c.content_hash)
    )
)


def body_of(connection: Connection, page_id: int) -> tuple[bytes, dict[str, str]] | None:
    """Return the stored body and headers of a page, or None if there is none."""
    row = connection.execute(select(pages.c.body, pages.c.headers).where(pages.c.id == page_id)).first()
    body = stored(row.body) if row is not None else b""
    return (body, row.headers) if row is not None and body else None


def body_at(connection: Connection, source: str, url: str, digest: str) -> tuple[bytes, dict[str, str]] | None:
    """Return the stored body and headers of the page at a URL, if there is one, and it is not the one of this digest."""
    there = (pages.c.source == source) & (pages.c.fingerprint == fingerprint(url)) & (pages.c.content_hash != digest)
    row = connection.execute(select(pages.c.body, pages.c.headers).where(there)).first()
    body = stored(row.body) if row is not None else b""
    return (body, row.headers) if row is not None and body else None


def content(connection: Connection, page_id: int) -> tuple[str, bytes]:
    """Return the content type and the stored body of a page. Raises NotFound."""
    row = connection.execute(select(pages.c.headers, pages.c.body).where(pages.c.id == page_id)).first()
    if row is None:
        raise NotFound(f"there is no page {page_id}")
    if not (body := stored(row.body)):
        raise NotFound(f"the body of page {page_id} is kept no more ([retention] size)")
    return str((row.headers or {}).get("content-type", "application/octet-stream")), body


def seen_in(connection: Connection, source: str, url: str, run_id: int) -> int | None:
    """Return the id of the page of a URL if this run has stored it already."""
    there = (pages.c.source == source) & (pages.c.fingerprint == fingerprint(url)) & (pages.c.run_id == run_id)
    found: int | None = connection.scalar(select(pages.c.id).where(there))
    return found


def touch(connection: Connection, visits: Sequence[Visit]) -> None:
    """Note that pages were seen again and are as they are stored."""
    _TOUCH.run(
        connection,
        [
            {"page": v.claim.known.page_id, "run": v.claim.run_id, "level": v.claim.depth, "at": v.at}
            | {f"new_{name}": value for name, value in _pace(v).items()}
            for v in visits
            if v.claim.known is not None and not v.skipped
        ],
    )
    _PASS.run(
        connection,
        [
            {"page": v.claim.known.page_id, "run": v.claim.run_id, "level": v.claim.depth}
            for v in visits
            if v.claim.known is not None and v.skipped
        ],
    )


def _pace(visit: Visit) -> dict[str, Any]:
    every_s = visit.check_every_s
    return {
        "check_every_s": every_s,
        "check_after": visit.at + timedelta(seconds=every_s) if every_s is not None else None,
    }


@value
class Ready:
    """A visit and what is to be stored of its page, as far as that does not depend on what is stored already."""

    visit: Visit
    mark: bytes
    digest: str
    seen: dict[str, Any]
    content: dict[str, Any]


def ready(visit: Visit) -> Ready:
    """Make what is to be stored of a page. It takes a while, in which the database need not be ours."""
    digest = visit.digest or hashlib.sha256(_fetched(visit).body).hexdigest()
    return Ready(visit, fingerprint(_final(visit)), digest, _seen(visit), _content(visit, digest))


def put(connection: Connection, batch: Sequence[Ready], told: list[dict[str, Any]]) -> list[int]:
    """Store pages: new, changed, or as they were. Returns the id of each, in order.

    No two of them may be the same page of one source. told: takes what there is to tell of it.
    """
    known = _known(connection, [(page.visit.claim.source, page.mark) for page in batch])
    copies = _copies(connection, [page.digest for page in batch])
    seen: list[dict[str, Any]] = []
    ids: list[int] = []
    fresh: list[int] = []
    for number, page in enumerate(batch):
        row = known.get((page.visit.claim.source, page.mark))
        ids.append(row.id if row is not None else 0)
        if row is None:
            fresh.append(number)
            continue
        if row.content_hash != page.digest or (not row.stored_bytes and not _fetched(page.visit).not_modified):
            _alter(connection, page, row, copies)
        else:
            seen.append({"page": row.id} | page.seen)
        told += _told(page.visit, row, page.digest)
    _SEE.run(connection, [values for values in seen if "status" not in values])
    _SEE_ANEW.run(connection, [values for values in seen if "status" in values])
    made = _create(connection, [batch[number] for number in fresh], copies)
    for number, page_id in zip(fresh, made, strict=True):
        ids[number] = page_id
        told.append(_change(batch[number].visit, page_id, "created", {}))
    return ids


def placed(connection: Connection, source: str, urls: Sequence[str], run_id: int, at: datetime) -> dict[str, int]:
    """Return the page of each URL. Where there is none, one is made that was never read."""
    marks = {url: fingerprint(url) for url in urls}
    named = [(source, mark) for mark in marks.values()]
    known = _known(connection, named)
    new = {mark: url for url, mark in marks.items() if (source, mark) not in known}
    if new:
        _place(connection, source, new, run_id, at)
        known = _known(connection, named)
    return {url: known[source, mark].id for url, mark in marks.items()}


def _place(connection: Connection, source: str, new: Mapping[bytes, str], run_id: int, at: datetime) -> None:
    bare = {"status": 0, "content_type": "", "depth": 0, "content_hash": NEVER_READ, "bytes": 0, "headers": {}}
    bare |= {"source": source, "run_id": run_id, "body": b"", "stored_bytes": 0, "fetched_at": at, "changed_at": at}
    ids = reserve(connection, pages, len(new))
    rows = [
        bare | {"id": page_id, "fingerprint": mark, "url": url, "final_url": url}
        for page_id, (mark, url) in zip(ids, new.items(), strict=True)
    ]
    _PLACE.run(connection, rows)


def _known(connection: Connection, named: Sequence[tuple[str, bytes]]) -> dict[tuple[str, bytes], Row[Any]]:
    """What is stored of pages, by their source and fingerprint."""
    return {(row.source, row.fingerprint): row for row in _KNOWN.rows(connection, [mark for _, mark in named])}


def _copies(connection: Connection, digests: Sequence[str]) -> dict[tuple[str, str], int]:
    """The first page of each source with each of these contents."""
    return {(source, digest): page_id for source, digest, page_id in _COPIES.rows(connection, digests)}


def _fetched(visit: Visit) -> Fetched:
    assert visit.fetched is not None
    return visit.fetched


def _final(visit: Visit) -> str:
    return _fetched(visit).final_url


def _kept_headers(fetched: Fetched) -> dict[str, str]:
    return {name: value for name, value in fetched.headers.items() if name not in _SECRET_HEADERS}


def _seen(visit: Visit) -> dict[str, Any]:
    """What every visit tells of a page, whether it changed or not."""
    fetched, reading = _fetched(visit), visit.reading
    told = {
        "run_id": visit.claim.run_id,
        "final_url": fetched.final_url,
        "depth": visit.claim.depth,
        "fetched_at": visit.at,
        "gone_at": None,
        "rules": visit.rules,
        "links": packed(reading.links),
        "item_count": len(reading.items),
        "elapsed_s": round(fetched.elapsed_s, 3),
        **_pace(visit),
    }
    if not fetched.not_modified:
        told |= {"status": fetched.status, "headers": _kept_headers(fetched)}
        # Under another header the same bytes may be another kind of page, with another title.
        told |= {"content_type": fetched.content_type, "title": reading.title}
    return told


def _content(visit: Visit, digest: str) -> dict[str, Any]:
    fetched, reading = _fetched(visit), visit.reading
    stored = fetched.packed or deflate(fetched.body)
    return {
        "content_type": fetched.content_type,
        "title": reading.title,
        "content_hash": digest,
        "bytes": len(fetched.body),
        "body": stored,
        "stored_bytes": len(stored),
        "changed_at": visit.at,
        "simhash": reading.simhash - 2**63 if reading.simhash is not None else None,
        "canonical_url": reading.canonical,
    }


def _create(connection: Connection, new: Sequence[Ready], copies: dict[tuple[str, str], int]) -> list[int]:
    if not new:
        return []
    ids = reserve(connection, pages, len(new))
    rows = []
    for page_id, page in zip(ids, new, strict=True):
        claim = page.visit.claim
        named = {"id": page_id, "source": claim.source, "fingerprint": page.mark, "url": claim.url}
        first = copies.setdefault((claim.source, page.digest), page_id)
        rows.append(named | page.seen | page.content | {"duplicate_of": first if first != page_id else None})
    _CREATE.run(connection, rows)
    return ids


def _alter(connection: Connection, page: Ready, row: Row[Any], copies: dict[tuple[str, str], int]) -> None:
    values = page.seen | page.content | {"duplicate_of": copies.get((page.visit.claim.source, page.digest))}
    if page.digest == row.content_hash:  # its body was kept no more, and is again
        del values["changed_at"], values["duplicate_of"]
    elif _is_noise(page.visit):
        del values["changed_at"]
        if page.visit.reading.difference is not None and page.visit.reading.difference.slight:
            values = {name: value for name, value in values.items() if name not in AS_TOLD} | {"rules": UNREAD}
    elif row.content_hash != NEVER_READ:
        connection.execute(_KEEP, {"page": row.id, "now": page.visit.at})
    connection.execute(update(pages).where(pages.c.id == row.id).values(**values))


# What stays as it was told last where too little is new to be told: else a page could drift away bit by bit.
AS_TOLD = ("title", "content_hash", "bytes", "headers", "body", "stored_bytes", "simhash")

# As one statement: the body goes from one table to the other without a detour.
_KEPT = ("source", "status", "title", "content_hash", "bytes", "headers", "body", "stored_bytes")
_KEEP = insert(page_versions).from_select(
    ["page_id", "at", "until", *_KEPT],
    select(
        pages.c.id,
        pages.c.changed_at,
        bindparam("now", type_=pages.c.changed_at.type),
        *(pages.c[name] for name in _KEPT),
    ).where(pages.c.id == bindparam("page")),
)


def _is_noise(visit: Visit) -> bool:
    """Whether those who read a page see nothing new on it."""
    return visit.reading.difference is not None and visit.reading.difference.words == 0


def _told(visit: Visit, row: Row[Any], digest: str) -> list[dict[str, Any]]:
    if row.content_hash == NEVER_READ:
        return [_change(visit, row.id, "created", {})]
    changed = row.content_hash != digest and not _is_noise(visit)
    if not changed and row.gone_at is None:
        return []
    fields: dict[str, Any] = {"content_hash": [row.content_hash, digest]} if changed else {}
    if changed and row.title != visit.reading.title:
        fields["title"] = [row.title, visit.reading.title]
    if changed and visit.reading.difference is not None:
        fields["text"] = [visit.reading.difference.old, visit.reading.difference.new]
    return [_change(visit, row.id, "returned" if row.gone_at is not None else "changed", fields)]


def mark_moved(connection: Connection, visit: Visit, page_id: int) -> list[dict[str, Any]]:
    """Note that what was stored as the page of a URL is another page now, for good. Returns what there is to tell."""
    if not _fetched(visit).moved:
        return []
    row = connection.execute(_itself(visit)).first()
    if row is None or row.id == page_id:
        return []
    _leave(connection, row.id, visit)
    return [_change(visit, page_id, "moved", {"url": [row.final_url, _final(visit)]})]


def _itself(visit: Visit) -> Select[Any]:
    """The page that is stored as that of the URL that was visited, if it is not gone."""
    return select(pages.c.id, pages.c.final_url).where(
        pages.c.source == visit.claim.source,
        pages.c.fingerprint == fingerprint(visit.claim.url),
        pages.c.gone_at.is_(None),
    )


def standing(connection: Connection, ids: Collection[int]) -> dict[int, tuple[int, bool, str | None]]:
    """Return of each of these pages the last run that saw it, whether it is gone, and the address that it gave as its own."""
    rows = _STANDING.rows(connection, sorted(ids))
    return {row.id: (row.run_id, row.gone_at is not None, row.canonical_url) for row in rows}


_STANDING = Among(
    lambda _: select(pages.c.id, pages.c.run_id, pages.c.gone_at, pages.c.canonical_url).where(
        pages.c.id.in_(bindparam("some", expanding=True))
    )
)


def mark_gone(connection: Connection, visit: Visit) -> list[dict[str, Any]]:
    """Note that a site says that a page is no more; what was stored of it stays. Returns what there is to tell."""
    row = connection.execute(_itself(visit)).first()
    if row is None:
        return []
    _leave(connection, row.id, visit)
    return [_change(visit, row.id, "removed", {})]


def _leave(connection: Connection, page_id: int, visit: Visit) -> None:
    gone = update(pages).where(pages.c.id == page_id)
    connection.execute(gone.values(gone_at=visit.at, rules=UNREAD))


def _change(visit: Visit, page_id: int, change: str, fields: dict[str, Any]) -> dict[str, Any]:
    return changes.row(visit.at, visit.claim.source, "page", change, page_id=page_id, fields=fields)


def links_of(connection: Connection, page_id: int) -> bytes:
    """Return the links of a page as they are stored."""
    return connection.scalar(select(pages.c.links).where(pages.c.id == page_id)) or b""


def versions(
    connection: Connection, page_id: int, before: int | None = None, limit: int = changes.VERSIONS_MOST
) -> list[dict[str, Any]]:
    """Return what a page is and was, the newest first: `id` None is what it is now. before: only earlier ones than this.

    Raises NotFound.
    """
    page = one(connection, page_id)
    kept = page_versions.c
    columns = (kept.id, kept.at, kept.until, kept.status, kept.title, kept.content_hash, kept.bytes)
    chosen = select(*columns).where(kept.page_id == page_id).order_by(kept.id.desc())
    if before is not None:
        chosen = chosen.where(kept.id < before)
    rows = connection.execute(chosen.limit(limit - (before is None)))
    names = ("status", "title", "content_hash", "bytes")
    present = {"id": None, "at": page["changed_at"], "until": page["gone_at"]} | {name: page[name] for name in names}
    earlier = [
        {"id": row.id, "at": row.at, "until": row.until} | {name: getattr(row, name) for name in names} for row in rows
    ]
    return [present, *earlier] if before is None else earlier


def version_body(connection: Connection, page_id: int, version_id: int | None) -> tuple[bytes, dict[str, str]]:
    """Return the body and the headers of a version of a page, None: what it is now. Raises NotFound."""
    table, wanted = (pages, pages.c.id == page_id)
    if version_id is not None:
        table, wanted = (page_versions, (page_versions.c.id == version_id) & (page_versions.c.page_id == page_id))
    row = connection.execute(select(table.c.body, table.c.headers).where(wanted)).first()
    if row is None:
        one(connection, page_id)
        raise NotFound(f"there is no version {version_id} of page {page_id}")
    if not (body := stored(row.body)):
        raise NotFound(f"the body of page {page_id} is kept no more ([retention] size)")
    return body, row.headers or {}


def public(row: Row[Any]) -> dict[str, Any]:
    """Return a page as the API tells it."""
    names = ("id", "source", "url", "final_url", "status", "content_type", "title", "depth", "content_hash", "bytes")
    return {name: getattr(row, name) for name in names} | {
        "fetched_at": row.fetched_at,
        "changed_at": row.changed_at,
        "gone_at": row.gone_at,
        "canonical_url": row.canonical_url,
        "duplicate_of": row.duplicate_of,
        "elapsed_s": row.elapsed_s,
        "check_after": row.check_after,
        "headers": row.headers,
    }


def one(connection: Connection, page_id: int) -> dict[str, Any]:
    """Return one page as the API tells it. Raises NotFound."""
    row = connection.execute(select(*BRIEF).where(pages.c.id == page_id)).first()
    if row is None:
        raise NotFound(f"there is no page {page_id}")
    return public(row)
