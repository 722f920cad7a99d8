"""Examples of answers, for the OpenAPI description."""

from typing import Any

AT = "2026-01-06T10:30:00Z"
ROWS: dict[str, dict[str, Any]] = {
    "run": {
        "id": 7, "source": "books", "kind": "crawl", "state": "done", "queued_at": AT, "started_at": AT, "finished_at": AT,
        "pages": 1050, "known": 1050, "items": 1000, "bytes": 9437184, "failures": 0, "changes": 3, "pages_per_s": 2.0,
        "message": None,
    },
    "page": {
        "id": 12, "source": "books", "url": "https://books.toscrape.com/", "final_url": "https://books.toscrape.com/",
        "status": 200, "content_type": "text/html", "title": "All products", "depth": 0, "content_hash": "5d41402a…",
        "bytes": 51294, "fetched_at": AT, "changed_at": AT, "gone_at": None, "headers": {"content-type": "text/html"},
    },
    "item": {
        "id": 3, "source": "books", "kind": "book", "key": "a897fe39b1053632", "url": "https://books.toscrape.com/a/",
        "data": {"title": "A Light in the Attic", "price": "51.77"}, "first_seen": AT, "last_seen": AT, "changed_at": AT,
        "removed_at": None, "page_id": 12,
    },
    "change": {
        "id": 41, "at": AT, "source": "books", "of": "item", "kind": "book", "change": "changed", "item_id": 3, "page_id": 12,
        "fields": {"price": ["51.77", "45.00"]}, "read": False, "key": "a897fe39b1053632", "title": None,
        "url": "https://books.toscrape.com/catalogue/a-light-in-the-attic_1000/index.html",
        "data": {"title": "A Light in the Attic", "price": "45.00"},
    },
    "failure": {
        "id": 5, "source": "books", "url": "https://books.toscrape.com/x", "reason": "http_4xx",
        "message": "404 from the server", "attempts": 1, "first_at": AT, "last_at": AT, "resolved_at": None,
    },
    "task": {
        "task": "digest", "origin": "file", "definition": {"task": "digest", "over": "pages", "kind": "llm", "when": "asked"},
        "kinds": ["digest"], "counts": {"queued": 12, "done": 380, "failed": 1}, "reasons": {"invalid": 1}, "calls": 384,
        "tokens_in": 204800, "tokens_out": 15320, "cost": 0.041, "busy_s": 190.2, "next_at": None, "asked": None,
    },
    "enrichment": {
        "id": 9, "task": "digest", "kind": "digest", "source": "books", "page_id": 12, "item_id": None, "number": 0,
        "data": {"summary": "A book of poems.", "level": 2}, "model": "small", "attempts": 1, "created_at": AT,
    },
}  # fmt: skip


def example(name: str, *, listed: bool = False) -> dict[int | str, dict[str, Any]]:
    """Return what FastAPI shows as the answer of a route: one row of that name, or a list of such."""
    shown: Any = {"items": [ROWS[name]], "next": "NDE="} if listed else ROWS[name]
    return {200: {"content": {"application/json": {"example": shown}}}}
