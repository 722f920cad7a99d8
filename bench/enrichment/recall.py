"""Does a search find what a person means? Questions and answers are those of the Python documentation's own index.

An entry of the index names a thing in words and leads to the page that tells of it. The words are the question; that page has to be among the
first ten pages that are found.
"""

import asyncio
import random
import re
from pathlib import Path
from typing import Any

from lxml import html

from bench.enrichment.place import Place, fill_pages
from scraper.config.settings import Settings
from scraper.crawl.indexer import catch_up
from scraper.database import Db, subjects
from scraper.database.changes import newest
from scraper.enrichment.question import Questions
from scraper.search import find
from scraper.search.find import Question
from scraper.search.semantic import Matrix

DOCS = Path("/usr/share/doc/python3-doc/html")
EMBED = '[[enrich]]\ntask = "passages"\nkind = "embed"\nbatch = 4\nworkers = 2\n'
TEN = 10
_WORDS = re.compile(r"[a-z][a-z -]{6,60}")


def questions(pages: set[str], most: int) -> list[tuple[str, set[str]]]:
    """Return entries of the index that are words, each with the pages that it leads to; those in doubt are left out."""
    found: dict[str, set[str]] = {}
    tree = html.parse(str(DOCS / "genindex-all.html"))
    for link in tree.xpath("//table[contains(@class, 'genindextable')]//a[@href]"):
        text = " ".join((link.text_content() or "").lower().split())
        page = str(link.get("href")).partition("#")[0]
        if _WORDS.fullmatch(text) and " " in text and page in pages:
            found.setdefault(text, set()).add(page)
    kept = sorted((text, where) for text, where in found.items() if len(where) <= 2)
    random.Random(11).shuffle(kept)
    return kept[:most]


def measured(place: Place, pages_most: int, questions_most: int) -> dict[str, Any]:
    """Return the share of questions whose page is among the first ten, by words, by meaning, and by both."""
    files = sorted(
        path for folder in ("reference", "tutorial", "howto", "faq") for path in (DOCS / folder).glob("*.html")
    )
    files = (files + sorted((DOCS / "library").glob("*.html")))[:pages_most]
    names = {str(path.relative_to(DOCS)) for path in files}
    asked = questions(names, questions_most)
    place.write(EMBED)
    with Db(place.settings) as db:
        fill_pages(db, [(f"http://docs.test/{path.relative_to(DOCS)}", path.read_bytes()) for path in files])
        _tell(db)
        for _ in catch_up(db):
            pass
        place.run("enrich", "passages")
        shares = asyncio.run(_shares(db, asked))
    return {"pages": len(files), "questions": len(asked)} | shares


def _tell(db: Db) -> None:
    """Have all pages be news: the search follows the changes."""
    from sqlalchemy import insert

    from scraper.database.connection import now
    from scraper.database.models import changes

    briefs = db.read(lambda c: subjects.after(c, "page", 0, None))
    first = db.read(newest) + 1
    rows = [
        {"id": first + n, "at": now(), "source": b.source, "of": "page", "kind": None, "change": "created"}
        | {"item_id": None, "page_id": b.id, "fields": {}}
        for n, b in enumerate(briefs)
    ]
    db.write(lambda c: c.execute(insert(changes), rows))


async def _shares(db: Db, asked: list[tuple[str, set[str]]]) -> dict[str, float]:
    maker = Questions(Settings(), Path(), {})
    matrix = Matrix(maker.model)
    hits = dict.fromkeys(("text", "semantic", "hybrid"), 0)
    try:
        for text, where in asked:
            vector = await maker.vector(text)
            for mode in hits:
                # Any of the words will do: a question is no list of words that all have to be there.
                words = " OR ".join(text.split())
                question = Question(words, mode, None, None, TEN, 0, vector)  # type: ignore[arg-type]
                urls = {
                    row["url"].removeprefix("http://docs.test/") for row in find.find(db, question, db.now(), matrix)
                }
                hits[mode] += bool(urls & where)
    finally:
        await maker.close()
    return {mode: count / max(1, len(asked)) for mode, count in hits.items()}
