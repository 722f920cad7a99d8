"""Words to what is found: one question to the database, and snippets without anything that a page could make of them."""

from datetime import datetime
from typing import Any

from scraper.database import Connection, documents
from scraper.search.query import for_postgres, for_sqlite, parse

MOST = 100
PIECE_MOST = 400


def search(
    connection: Connection,
    text: str,
    now: datetime,
    *,
    source: str | None = None,
    kind: str | None = None,
    limit: int = 20,
) -> list[dict[str, Any]]:
    """Return the pages and items that a text asks for, the best first. source, kind: beside those that the text names.

    Each has `snippet`: pieces of its text, those that were meant with `hit`; and `lead`, how its text begins. What is so no
    more has `until`, and the number of that `version` if there was another after it. Raises BadQuery.
    """
    query = parse(text, now)
    expression = for_sqlite(query) if connection.dialect.name == "sqlite" else for_postgres(query)
    asked = documents.Asked(
        expression,
        of=query.fields.get("of"),
        source=source or query.fields.get("source"),
        kind=kind or query.fields.get("kind"),
        since=query.since,
        ever=query.ever,
        limit=min(limit, MOST + 1),
    )
    found = documents.find(connection, asked)
    return [
        {"of": row["of"], "id": row["subject_id"]}
        | {name: row[name] for name in ("source", "kind", "url", "title", "at", "until")}
        | {"version": row["version"] or None}
        | {"score": round(float(row["score"]), 4), "snippet": pieces(row["snippet"] or ""), "lead": row["lead"]}
        for row in found
    ]


def pieces(snippet: str) -> list[dict[str, Any]]:
    """Return a snippet as its pieces, in order: text, and whether it is what was looked for."""
    made = []
    for part in snippet.split(documents.BEGIN):
        hit, end, rest = part.partition(documents.END)
        if end:
            made.append({"text": _short(hit), "hit": True})
        if (rest if end else hit) != "":
            made.append({"text": _short(rest if end else hit), "hit": False})
    return made


def _short(words: str) -> str:
    """Words that are longer than a snippet are of no use in it."""
    return words if len(words) <= PIECE_MOST else words[: PIECE_MOST - 1] + "…"
