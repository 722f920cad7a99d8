"""mcp: what was stored, for programs that speak the Model Context Protocol, on standard input and output."""

import inspect
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

from scraper import logs
from scraper.cli.options import ConfigFile
from scraper.config.load import Loaded
from scraper.config.secrets import environment
from scraper.crawl.indexer import catch_up
from scraper.database import Db, documents, items, listing, vectors
from scraper.database.connection import now
from scraper.errors import BowerbirdError, NotFound
from scraper.search import find
from scraper.search.find import Mode, Question
from scraper.search.query import BadQuery
from scraper.search.semantic import Matrices
from scraper.startup import preflight, settings_of

NEEDS_MCP = 'this needs the extra: pip install "bowerbird[mcp]"'
MOST = 50
TEXT_MOST = 50_000


def mcp(config: ConfigFile = None) -> None:
    """Serve search, passages and items over the Model Context Protocol, until standard input ends."""
    try:
        from mcp.server import MCPServer  # noqa: PLC0415  an extra, and a large one
        from mcp.server.mcpserver.exceptions import ToolError  # noqa: PLC0415
    except ImportError:
        raise BowerbirdError(NEEDS_MCP) from None
    loaded = settings_of(config)
    logs.set_up(production=loaded.settings.production, level=30)
    with preflight(loaded) as db:
        for _ in catch_up(db):
            pass
        stored = Stored(loaded, db)
        server = MCPServer("bowerbird", instructions="What Bowerbird has scraped: search it, then read what was found.")
        for tool in (stored.search, stored.retrieve, stored.read, stored.list_items):
            server.tool()(_told(tool, ToolError))
        print("Bowerbird speaks MCP on standard input and output.", file=sys.stderr)
        server.run("stdio")


def _told(tool: Callable[..., Any], error_class: type[Exception]) -> Callable[..., Any]:
    """A tool whose errors that a caller can mend are told to him, in one line."""

    @wraps(tool)
    async def told(*given: Any, **named: Any) -> Any:
        try:
            found = tool(*given, **named)
            return await found if inspect.isawaitable(found) else found
        except (BowerbirdError, BadQuery) as error:
            raise error_class(str(error)) from None

    return told


class Stored:
    """What was stored, as tools. The docstrings are what a model reads."""

    def __init__(self, loaded: Loaded, db: Db) -> None:
        from scraper.enrichment.question import Questions  # noqa: PLC0415  what other commands need not load

        self._db = db
        self._questions = Questions(loaded.settings, loaded.base, environment(loaded.base))
        self._matrices = Matrices()

    async def search(
        self, query: str, source: str | None = None, kind: str | None = None, limit: int = 10
    ) -> list[dict[str, Any]]:
        """Find pages and items by words and meaning. Words: "a phrase", bird*, -not, source:, kind:, since:7d, versions:all."""
        question = await self._question(query, source, kind, limit)
        rows = find.find(self._db, question, now(), self._matrix(question))
        return [_brief(row) for row in rows]

    async def retrieve(self, query: str, source: str | None = None, limit: int = 6) -> list[dict[str, Any]]:
        """Get the passages that answer a question best, each with the address it is from."""
        question = await self._question(query, source, None, limit)
        rows = find.retrieve(self._db, question, now(), self._matrix(question))
        return [{name: row[name] for name in ("of", "id", "source", "url", "title", "text")} for row in rows]

    def read(self, of: str, id: int) -> dict[str, Any]:
        """Read the whole text of a page or an item. of: "page" or "item"; id: as search gives it."""
        text = self._db.read(lambda c: documents.text_of(c, of, id)) if 0 <= id < 2**63 else ""
        if not text:
            raise NotFound(f"there is no {of} {id} with a text; search gives numbers that there are")
        data = self._db.read(lambda c: items.one(c, id))["data"] if of == "item" else None
        return {"of": of, "id": id, "text": text[:TEXT_MOST], "data": data}

    def list_items(self, source: str | None = None, kind: str | None = None, limit: int = 20) -> list[dict[str, Any]]:
        """List the newest items: records that were read from pages."""
        filters = {"source": source, "kind": kind, "removed": False}
        rows = self._db.read(lambda c: listing.rows(c, "items", filters, None, max(1, min(limit, MOST))))
        return [{name: row[name] for name in ("id", "source", "kind", "url", "data")} for row in rows]

    async def _question(self, query: str, source: str | None, kind: str | None, limit: int) -> Question:
        model = self._questions.model
        mode: Mode = "hybrid" if self._db.read(lambda c: vectors.newest(c, model)) else "text"
        vector = await self._questions.vector(find.words(query, now())) if mode == "hybrid" else None
        return Question(query, mode, source, kind, max(1, min(limit, MOST)), 0, vector)

    def _matrix(self, question: Question) -> Any:
        return None if question.mode == "text" else self._matrices.of(self._questions.model)


def _brief(row: dict[str, Any]) -> dict[str, Any]:
    named = {name: row[name] for name in ("of", "id", "source", "kind", "url", "title")}
    return {**named, "snippet": "".join(piece["text"] for piece in row["snippet"])}
