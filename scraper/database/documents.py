"""documents: the text of each page and item as it is now and as it was, and how its words are found."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, delete, exists, func, select, text, update

from scraper.compression import stored
from scraper.database import changes, numbers
from scraper.database.bulk import IN_MOST, Bulk, upsert
from scraper.database.models import documents, item_versions, items, page_versions, pages
from scraper.records import called
from scraper.unspaced import SEPARATOR, apart, together

CURSOR = "documents_change_id"
TITLE_MOST, TEXT_MOST = 500, 200_000
BODY_MOST = 2 * 2**20
VERSIONS_AT_ONCE = 100  # of those that a portion holds in memory, bodies and all
# Around words that were found; no text has these.
BEGIN, END = "\ue000", "\ue001"
SNIPPET_WORDS = 24
LEAD = 600  # characters of a text, by which two that say the same are known
KEPT = ("source", "kind", "url", "title", "text", "at", "until")


@dataclass(frozen=True, slots=True)
class Subject:
    """A page or an item whose text is to be found anew. data: of an item; body, headers: of a page.

    version, until: of what it was before, the number of that version, and until when it was so.
    """

    of: str
    id: int
    source: str
    kind: str | None
    url: str
    title: str
    at: datetime
    data: dict[str, Any] = field(default_factory=dict)
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    version: int = 0
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Portion:
    """What has changed since documents were last made: what is there or was before, what is gone and when, how far that goes."""

    there: list[Subject]
    gone: list[tuple[str, int, datetime]]
    until: int
    changes: int


def stale(connection: Connection, limit: int) -> Portion | None:
    """Return the pages and items that changed since, at most so many changes; None if there are none."""
    found = changes.after(connection, _cursor(connection), limit)
    if not found:
        return None
    meant = {(row["of"], row["item_id"] if row["of"] == "item" else row["page_id"]): row["at"] for row in found}
    of_items, of_pages = ({number for of, number in meant if of == wanted} for wanted in ("item", "page"))
    there = [*_items(connection, of_items), *_pages(connection, of_pages)]
    named = {(subject.of, subject.id) for subject in there}
    gone = [(*one, at) for one, at in meant.items() if one not in named]
    before = _earlier_items(connection, of_items), _earlier_pages(connection, of_pages)
    there += [*before[0], *before[1]]
    if max(map(len, before)) == VERSIONS_AT_ONCE:  # there may be more of these: the same changes again
        return Portion(there, gone, _cursor(connection), 0)
    return Portion(there, gone, found[-1]["id"], len(found))


def subjects(connection: Connection, of: str, ids: set[int]) -> list[Subject]:
    """Return those of these pages or items that are there."""
    return _items(connection, ids) if of == "item" else _pages(connection, ids)


def _items(connection: Connection, ids: set[int]) -> list[Subject]:
    made = []
    for row in _rows(connection, select(items).where(items.c.removed_at.is_(None)), items.c.id, ids):
        named = row.source, row.kind, row.url, str(called(row.data, row.key))
        made.append(Subject("item", row.id, *named, row.changed_at, data=row.data))
    return made


def _earlier_items(connection: Connection, ids: set[int]) -> list[Subject]:
    """What these items were before, so far as it is not among the documents."""
    was = item_versions.c
    columns = (was.id, was.item_id, was.at, was.until, was.data, items.c.source, items.c.kind, items.c.url, items.c.key)
    chosen = (
        select(*columns).join(items, items.c.id == was.item_id).where(_unknown("item", was)).limit(VERSIONS_AT_ONCE)
    )
    made = []
    for row in _rows(connection, chosen, was.item_id, ids):
        named = row.source, row.kind, row.url, str(called(row.data, row.key))
        made.append(Subject("item", row.item_id, *named, row.at, data=row.data, version=row.id, until=row.until))
    return made


def _earlier_pages(connection: Connection, ids: set[int]) -> list[Subject]:
    """What these pages were before, so far as it is not among the documents."""
    was = page_versions.c
    columns = (
        was.id,
        was.page_id,
        was.at,
        was.until,
        was.title,
        was.body,
        was.headers,
        pages.c.source,
        pages.c.final_url,
    )
    chosen = (
        select(*columns).join(pages, pages.c.id == was.page_id).where(_unknown("page", was)).limit(VERSIONS_AT_ONCE)
    )
    made = []
    for row in _rows(connection, chosen, was.page_id, ids):
        named = row.source, None, row.final_url, row.title or ""
        body, headers = stored(row.body)[:BODY_MOST], row.headers or {}
        made.append(
            Subject("page", row.page_id, *named, row.at, body=body, headers=headers, version=row.id, until=row.until)
        )
    return made


def _unknown(of: str, was: Any) -> Any:
    return ~exists().where(documents.c.version == was.id, documents.c.version > 0, documents.c.of == of)


def _pages(connection: Connection, ids: set[int]) -> list[Subject]:
    made = []
    for row in _rows(connection, select(pages).where(pages.c.gone_at.is_(None)), pages.c.id, ids):
        body = stored(row.body)[:BODY_MOST]
        named = row.source, None, row.final_url, row.title or "", row.changed_at
        made.append(Subject("page", row.id, *named, body=body, headers=row.headers or {}))
    return made


def _rows(connection: Connection, chosen: Any, number: Any, ids: set[int]) -> list[Any]:
    """The rows that a statement chooses, of those whose number is one of these."""
    wanted = sorted(ids)
    found: list[Any] = []
    for start in range(0, len(wanted), IN_MOST):
        found += connection.execute(chosen.where(number.in_(wanted[start : start + IN_MOST]))).all()
    return found


def _cursor(connection: Connection) -> int:
    return numbers.kept(connection, CURSOR)


def behind(connection: Connection) -> int:
    """Return how many changes documents do not know yet."""
    return max(0, changes.newest(connection) - _cursor(connection))


def put(connection: Connection, portion: Portion, made: Sequence[tuple[Subject, str]]) -> None:
    """Keep the texts of a portion, forget what is gone, and note how far that goes."""
    if _cursor(connection) > portion.until:
        return  # another process was faster
    rows = [
        {
            "of": subject.of,
            "subject_id": subject.id,
            "source": subject.source,
            "kind": subject.kind,
            "url": subject.url,
            "title": apart(subject.title[:TITLE_MOST]),
            "text": apart(words[:TEXT_MOST]),
            "at": subject.at,
            "version": subject.version,
            "until": subject.until,
        }
        for subject, words in made
    ]
    _PUT.run(connection, rows)
    for of, subject_id, at in portion.gone:
        mine = (documents.c.subject_id == subject_id) & (documents.c.of == of) & _NOW
        connection.execute(update(documents).where(mine).values(until=at))
    numbers.keep(connection, CURSOR, portion.until)


_NOW = (documents.c.version == 0) & documents.c.until.is_(None)


def _put(dialect: str) -> Any:
    made = upsert(dialect, documents)
    set_ = {name: made.excluded[name] for name in KEPT}
    return made.on_conflict_do_update(index_elements=["subject_id", "of", "version"], set_=set_)


_PUT = Bulk(_put)


def forget(connection: Connection, of: str, ids: Sequence[int]) -> None:
    """Have pages or items be found no more."""
    for start in range(0, len(ids), IN_MOST):
        mine = (documents.c.of == of) & documents.c.subject_id.in_(ids[start : start + IN_MOST])
        connection.execute(delete(documents).where(mine))


def forget_versions(connection: Connection, of: str, ids: Sequence[int]) -> None:
    """Have what pages or items were before be found no more. ids: of those versions."""
    for start in range(0, len(ids), IN_MOST):
        mine = (
            documents.c.version.in_(ids[start : start + IN_MOST]) & (documents.c.version > 0) & (documents.c.of == of)
        )
        connection.execute(delete(documents).where(mine))


@dataclass(frozen=True, slots=True)
class Asked:
    """What is searched for: an expression of the database's own, made by search/; and where. ever: also as it was before."""

    expression: str
    of: str | None = None
    source: str | None = None
    kind: str | None = None
    since: datetime | None = None
    ever: bool = False
    limit: int = 20


def find(connection: Connection, asked: Asked) -> list[dict[str, Any]]:
    """Return what is found, the best first, each with a snippet in which BEGIN and END are around the words that were meant."""
    sqlite = connection.dialect.name == "sqlite"
    named = f"d.id, d.of, d.subject_id, d.source, d.kind, d.url, d.title, d.at, d.version, d.until, substr(d.text, 1, {LEAD}) AS lead"
    if sqlite:
        rank = "bm25(documents_words, 4.0, 1.0)"
        shown = f"snippet(documents_words, 1, '{BEGIN}', '{END}', '…', {SNIPPET_WORDS})"
        source = "documents_words JOIN documents AS d ON d.id = documents_words.rowid"
        meant, order = "documents_words MATCH :words", f"{rank}, d.id"
        score = f"-{rank}"
    else:
        query = "to_tsquery('simple', :words)"
        score = f"ts_rank_cd(d.words, {query})"
        options = f"StartSel={BEGIN}, StopSel={END}, MaxWords={SNIPPET_WORDS}, MinWords=8, MaxFragments=1"
        shown = f"ts_headline('simple', left(d.text, 20000), {query}, '{options}')"
        source, meant, order = "documents AS d", f"d.words @@ {query}", "score DESC, d.id"
    parts, values = _where(asked)
    chosen = f"{named}, {score} AS score, " + (f"{shown} AS snippet" if sqlite else "d.text")
    wanted = " AND ".join([meant, *parts])
    sql = f"SELECT {chosen} FROM {source} WHERE {wanted} ORDER BY {order} LIMIT :most"
    if not sqlite:  # a snippet takes long: of those alone that are shown
        sql = f"SELECT d.*, {shown} AS snippet FROM ({sql}) AS d ORDER BY d.score DESC, d.id"
    instants = [bindparam(name, type_=documents.c.at.type) for name in values if name == "since"]
    statement = text(sql).bindparams(*instants).columns(at=documents.c.at.type, until=documents.c.until.type)
    rows = connection.execute(statement, values | {"words": asked.expression, "most": asked.limit})
    names = ("of", "subject_id", "source", "kind", "url", "title", "at", "version", "until", "score", "snippet", "lead")
    found = [{name: getattr(row, name) for name in names} for row in rows]
    for row in found:
        row["snippet"] = (row["snippet"] or "").replace(f"{END}{SEPARATOR}{BEGIN}", "")
        row |= {name: together(row[name]) for name in ("title", "snippet", "lead")}
    return found


def _where(asked: Asked) -> tuple[list[str], dict[str, Any]]:
    given = {"of": asked.of, "source": asked.source, "kind": asked.kind}
    values: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    parts = [f"d.{name} = :{name}" for name in values] + ([] if asked.ever else ["d.until IS NULL"])
    if asked.since is not None:
        values["since"] = asked.since
        parts.append("d.at >= :since")
    return parts, values


def text_of(connection: Connection, of: str, subject_id: int, version: int = 0) -> str:
    """Return the text by which a page or an item is found, or was when it was of that version; nothing if there is none."""
    mine = (documents.c.subject_id == subject_id) & (documents.c.of == of) & (documents.c.version == version)
    return together(connection.scalar(select(documents.c.text).where(mine)) or "")


def count(connection: Connection) -> int:
    """Return how many documents there are of what is there now."""
    return int(connection.scalar(select(func.count()).select_from(documents).where(_NOW)) or 0)
