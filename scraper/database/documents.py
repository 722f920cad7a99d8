"""documents: the text of each page and item as it is now, and how its words are found."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, select, text

from scraper.database import changes
from scraper.database.bulk import IN_MOST, Bulk, upsert
from scraper.database.models import documents, items, meta, pages
from scraper.inflate import stored

CURSOR = "documents_change_id"
TITLE_MOST, TEXT_MOST = 500, 200_000
BODY_MOST = 2 * 2**20
# Around words that were found; no text has these.
BEGIN, END = "\ue000", "\ue001"
SNIPPET_WORDS = 24
LEAD = 600  # characters of a text, by which two that say the same are known
KEPT = ("source", "kind", "url", "title", "text", "at")


@dataclass(frozen=True, slots=True)
class Subject:
    """A page or an item whose text is to be found anew. data: of an item; body, headers: of a page."""

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


@dataclass(frozen=True, slots=True)
class Portion:
    """What has changed since documents were last made: the pages and items that are there, those that are gone, how far that goes."""

    there: list[Subject]
    gone: list[tuple[str, int]]
    until: int
    changes: int


def stale(connection: Connection, limit: int) -> Portion | None:
    """Return the pages and items that changed since, at most so many changes; None if there are none."""
    found = changes.after(connection, _cursor(connection), limit)
    if not found:
        return None
    of_items = {row["item_id"] for row in found if row["of"] == "item"}
    of_pages = {row["page_id"] for row in found if row["of"] == "page"}
    there = [*_items(connection, of_items), *_pages(connection, of_pages)]
    named = {(subject.of, subject.id) for subject in there}
    meant = [*(("item", n) for n in of_items), *(("page", n) for n in of_pages)]
    return Portion(there, [one for one in meant if one not in named], found[-1]["id"], len(found))


def subjects(connection: Connection, of: str, ids: set[int]) -> list[Subject]:
    """Return those of these pages or items that are there."""
    return _items(connection, ids) if of == "item" else _pages(connection, ids)


def _items(connection: Connection, ids: set[int]) -> list[Subject]:
    made = []
    for row in _rows(connection, items, ids, items.c.removed_at.is_(None)):
        title = str(row.data.get("title") or row.data.get("name") or row.key)
        made.append(Subject("item", row.id, row.source, row.kind, row.url, title, row.changed_at, data=row.data))
    return made


def _pages(connection: Connection, ids: set[int]) -> list[Subject]:
    made = []
    for row in _rows(connection, pages, ids, pages.c.gone_at.is_(None)):
        body = stored(row.body)[:BODY_MOST]
        named = row.source, None, row.final_url, row.title or "", row.changed_at
        made.append(Subject("page", row.id, *named, body=body, headers=row.headers or {}))
    return made


def _rows(connection: Connection, table: Any, ids: set[int], there: Any) -> list[Any]:
    wanted = sorted(ids)
    found: list[Any] = []
    for start in range(0, len(wanted), IN_MOST):
        found += connection.execute(select(table).where(table.c.id.in_(wanted[start : start + IN_MOST]), there)).all()
    return found


def _cursor(connection: Connection) -> int:
    return int(connection.scalar(select(meta.c.value).where(meta.c.name == CURSOR)) or 0)


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
            "title": subject.title[:TITLE_MOST],
            "text": words[:TEXT_MOST],
            "at": subject.at,
        }
        for subject, words in made
    ]
    _PUT.run(connection, rows)
    for of, subject_id in portion.gone:
        forget(connection, of, [subject_id])
    value = str(portion.until)
    kept = upsert(connection.dialect.name, meta).values(name=CURSOR, value=value)
    connection.execute(kept.on_conflict_do_update(index_elements=["name"], set_={"value": value}))


def _put(dialect: str) -> Any:
    made = upsert(dialect, documents)
    set_ = {name: made.excluded[name] for name in KEPT}
    return made.on_conflict_do_update(index_elements=["subject_id", "of"], set_=set_)


_PUT = Bulk(_put)


def forget(connection: Connection, of: str, ids: Sequence[int]) -> None:
    """Have pages or items be found no more."""
    for start in range(0, len(ids), IN_MOST):
        mine = (documents.c.of == of) & documents.c.subject_id.in_(ids[start : start + IN_MOST])
        connection.execute(delete(documents).where(mine))


@dataclass(frozen=True, slots=True)
class Asked:
    """What is searched for: an expression of the database's own, made by search/; and where."""

    expression: str
    of: str | None = None
    source: str | None = None
    kind: str | None = None
    since: datetime | None = None
    limit: int = 20
    offset: int = 0


def find(connection: Connection, asked: Asked) -> list[dict[str, Any]]:
    """Return what is found, the best first, each with a snippet in which BEGIN and END are around the words that were meant."""
    sqlite = connection.dialect.name == "sqlite"
    named = f"d.id, d.of, d.subject_id, d.source, d.kind, d.url, d.title, d.at, substr(d.text, 1, {LEAD}) AS lead"
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
    sql = f"SELECT {chosen} FROM {source} WHERE {wanted} ORDER BY {order} LIMIT :most OFFSET :begin"
    if not sqlite:  # a snippet takes long: of those alone that are shown
        sql = f"SELECT d.*, {shown} AS snippet FROM ({sql}) AS d ORDER BY d.score DESC, d.id"
    instants = [bindparam(name, type_=documents.c.at.type) for name in values if name == "since"]
    statement = text(sql).bindparams(*instants).columns(at=documents.c.at.type)
    rows = connection.execute(
        statement, values | {"words": asked.expression, "most": asked.limit, "begin": asked.offset}
    )
    names = ("of", "subject_id", "source", "kind", "url", "title", "at", "score", "snippet", "lead")
    return [{name: getattr(row, name) for name in names} for row in rows]


def _where(asked: Asked) -> tuple[list[str], dict[str, Any]]:
    given = {"of": asked.of, "source": asked.source, "kind": asked.kind}
    values: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    parts = [f"d.{name} = :{name}" for name in values]
    if asked.since is not None:
        values["since"] = asked.since
        parts.append("d.at >= :since")
    return parts, values


def text_of(connection: Connection, of: str, subject_id: int) -> str:
    """Return the text by which a page or an item is found; nothing if there is none."""
    mine = (documents.c.subject_id == subject_id) & (documents.c.of == of)
    return connection.scalar(select(documents.c.text).where(mine)) or ""


def count(connection: Connection) -> int:
    """Return how many documents there are."""
    return int(connection.scalar(select(func.count()).select_from(documents)) or 0)
