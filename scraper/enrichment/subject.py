"""What a prompt or a function gets: one page or item, its text, and what was read of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from scraper import clean
from scraper.database import documents

READER = "scraper.enrichment.maintext:read"


@dataclass(frozen=True, slots=True)
class Subject:
    """A page or an item. item: its data. reading: of a page, what maintext.read() returns. kind: of record that is wanted."""

    of: str
    id: int
    source: str
    url: str
    title: str
    text: str
    markdown: str
    kind: str
    item: Mapping[str, Any] = field(default_factory=dict)
    reading: Mapping[str, Any] = field(default_factory=dict)

    @property
    def values(self) -> dict[str, Any]:
        """The names that a prompt may use."""
        names = ("url", "title", "text", "markdown", "item", "source", "kind")
        return {name: getattr(self, name) for name in names}


def of_item(row: documents.Subject, kind: str) -> Subject:
    """Return an item as a subject; its text names its fields."""
    text = clean.text("\n".join(f"{name}: {said(value)}" for name, value in row.data.items()))
    return Subject("item", row.id, row.source, row.url, row.title, text, text, kind, item=row.data)


def of_page(row: documents.Subject, kind: str, reading: Mapping[str, Any]) -> Subject:
    """Return a page as a subject."""
    title = str(reading["title"] or row.title or "")
    texts = str(reading["text"]), str(reading["markdown"])
    return Subject("page", row.id, row.source, row.url, title, *texts, kind, reading=reading)


def said(value: Any) -> str:
    """Return a value of an item as a person would write it."""
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
