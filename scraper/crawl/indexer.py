"""Makes what was stored be found, beside the crawl and a little after it.

By its words: it follows the changes, as all do. By its meaning: it fills the index of vectors, where there can be one.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from scraper import clean
from scraper.config.settings import Noise
from scraper.crawl.short import is_short
from scraper.crawl.store import Store
from scraper.database import Db, documents, pgvector
from scraper.database.connection import UNSTORABLE
from scraper.errors import BowerbirdError, Unusable, VisitFailed

AT_ONCE = 20  # the storing of what was scraped waits for no more than these
LOOK_EACH_S = 1.0
LOOK_FOR_VECTORS_EACH_S = 60.0
SHARE = 0.15  # of the time, while something is being crawled
LONG_MOST = 128 * 1024

log = logging.getLogger(__name__)


def catch_up(db: Db) -> Iterator[int]:
    """Make documents the same as pages and items, portion by portion; yields of how many changes. Raises Unavailable, Unusable."""
    while (portion := db.read(partial(documents.stale, limit=AT_ONCE))) is not None:
        _store(db, portion, [(subject, words_of(subject)) for subject in portion.there])
        yield portion.changes


def _store(db: Db, portion: documents.Portion, made: list[tuple[documents.Subject, str]]) -> None:
    """Keep the texts of a portion; one that cannot be kept does not keep the others, nor this process, from going on."""
    try:
        db.write(partial(documents.put, portion=portion, made=made))
    except UNSTORABLE as error:
        if not made:
            raise
        log.warning("a text cannot be stored, and is not found", extra={"url": made[0][0].url}, exc_info=error)
        for one in made if len(made) > 1 else ():
            _store(db, portion, [one])
        if len(made) == 1:
            db.write(partial(documents.put, portion=portion, made=[]))


class Indexer:
    """Keeps documents the same as pages and items, and an index of vectors the same as these; one process of all does it."""

    def __init__(self, store: Store, idle: Callable[[], bool]) -> None:
        """idle: whether nothing is being crawled."""
        self._store = store
        self._idle = idle
        self._look_for_vectors_at = 0.0

    def _portions(self) -> Iterator[int]:
        db = self._store.db
        yield from catch_up(db)
        if time.monotonic() < self._look_for_vectors_at:
            return
        self._look_for_vectors_at = time.monotonic() + LOOK_FOR_VECTORS_EACH_S
        try:
            yield from pgvector.keep(db)
        except Unusable as error:
            log.warning("vectors are found without an index, until the next start", extra={"reason": str(error)})
            self._look_for_vectors_at = math.inf

    async def run(self) -> None:
        """Follow for ever."""
        portions = self._portions()
        while True:
            began = time.monotonic()
            more = None
            try:
                more = await self._store.step(portions)
            except BowerbirdError as error:  # the crawl meets the same, and says so
                log.debug("nothing is indexed now", extra={"reason": str(error)})
            if more is None:
                portions = self._portions()
            rest_s = 0.0 if self._idle() else (time.monotonic() - began) / SHARE
            await asyncio.sleep(rest_s if more else max(rest_s, LOOK_EACH_S))


def words_of(subject: documents.Subject) -> str:
    """Return the text by which a page or an item is found."""
    if subject.of == "item":
        return clean.text("\n".join(f"{name}: {_said(value)}" for name, value in subject.data.items()))
    from scraper.extract.page import Page  # noqa: PLC0415  as in visit.load_parsers()
    from scraper.extract.visible import blocks  # noqa: PLC0415

    body = subject.body if is_short(subject.body) else subject.body[:LONG_MOST]
    try:
        return clean.text("\n".join(blocks(Page(subject.url, 200, subject.headers, body), Noise())))
    except VisitFailed:
        return ""
    except Exception as error:
        log.warning("a page cannot be read again, and is not found", extra={"url": subject.url}, exc_info=error)
        return ""


def _said(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
