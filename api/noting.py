"""The one who has notes made, beside the API: of texts that are kept in the database until they are made."""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from api.searching import Searching
from scraper.database import Db, notes
from scraper.enrichment.model import NoRecord
from scraper.errors import BowerbirdError
from scraper.steady import steadily

AT_ONCE = 4
LOOK_EACH_S = 60.0  # for what others left behind

log = logging.getLogger(__name__)


class Noter:
    """Asks the model what texts tell, and keeps it. All on the event loop; the database is asked in threads."""

    def __init__(self, db: Db, search: Searching) -> None:
        self._db = db
        self._search = search
        self._wake = asyncio.Event()
        self._taken_up = False

    async def want(self, about: str, text: str) -> None:
        """Have what a text tells be noted, by whichever service comes to it. Raises Unavailable, Unusable."""
        await self._in_thread(notes.want, about, text, self._db.now())
        self._wake.set()

    async def run(self) -> None:
        """Have notes made for ever."""
        await steadily("notes", self._turn, self._wake)

    async def _turn(self) -> float:
        """Have all notes made that are wanted now. Returns for how long to rest then, in seconds."""
        if not self._taken_up:
            await self._in_thread(notes.take_up)
            self._taken_up = True
        while found := await self._in_thread(notes.claim, self._db.now(), AT_ONCE):
            await asyncio.gather(*(self._one(wanted) for wanted in found))
        return await self._until_next()

    async def _until_next(self) -> float:
        due = await asyncio.to_thread(self._db.read, notes.next_wanted)
        return LOOK_EACH_S if due is None else min(LOOK_EACH_S, max(0.0, (due - self._db.now()).total_seconds()))

    async def _in_thread(self, verb: Callable[..., Any], *values: Any) -> Any:
        return await asyncio.to_thread(self._db.write, lambda c: verb(c, *values))

    async def _one(self, wanted: Any) -> None:
        facts = {"about": wanted.about}
        try:
            told = await self._search.asking.notes(wanted.text)
            done = partial(notes.made, wanted_id=wanted.id)
            added = await self._search.add_notes(self._db, wanted.about, told, done)
        except NoRecord as error:
            later = await self._in_thread(notes.again, wanted, self._db.now())
            said = "nothing was noted yet" if later else "nothing was noted"
            log.warning(said, extra=facts | {"reason": str(error), "attempts": wanted.attempts + 1})
            return
        except BowerbirdError as error:  # it comes again when its lease is over
            log.warning("notes could not be kept", extra=facts | {"reason": str(error)})
            return
        log.info("notes", extra=facts | {"added": len(added)})
