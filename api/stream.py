"""Live events: one look at the database for all streams of this process, however many follow.

What happens to the machinery and what changes on the sites are two lists, so a place in a stream is a place in each.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Callable, Collection, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from anyio import to_thread
from fastapi.sse import format_sse_event

from scraper import export
from scraper.database import Connection, Db, changes, events, runs
from scraper.errors import BowerbirdError, Unavailable

LOOK_EACH_S = 0.2
PULSE_EACH_LOOKS = 5
AWAY_S = 2.0
AT_ONCE = 500
KEPT = 1000
BEHIND_MOST = 20_000  # changes: who is further behind looks at the whole again
MAX_STREAMS = 100
NOWHERE = -1
CHANGES_MOST = 10**12  # one number for both places, which grows with either
ID_DIGITS = 31
QUIET_S = 15.0  # proxies close what says nothing
CHANGE, PULSE, RESYNC = "change", "pulse", "resync"

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Place:
    """How far somebody has read: the last event, the last change."""

    event: int
    change: int

    def __str__(self) -> str:
        return str(self.event * CHANGES_MOST + self.change)


def place_of(text: str | None) -> Place | None:
    """Return the place that an id of ours names; None for anything else."""
    if not text or not text.isascii() or not text.isdigit() or len(text) > ID_DIGITS:
        return None
    event, change = divmod(int(text), CHANGES_MOST)
    return Place(event, change) if event < 2**63 else None


@dataclass(slots=True)
class Said:
    """One row, as it is told to all who want its kind."""

    number: int
    kind: str
    level: str
    text: bytes

    @classmethod
    def of(cls, row: Row, kind: str) -> "Said":
        """Return a row, written out once."""
        told = format_sse_event(event=kind, data_str=export.as_json(row)).rstrip(b"\n") + b"\n"
        return cls(row["id"], kind, row.get("level", "info"), told)


@dataclass(slots=True)
class Feed:
    """One of the two lists: what came lately, and how to read on from a number."""

    after: Callable[[Connection, int], list[Row]]
    kind_of: Callable[[Row], str]
    recent: deque[Said] = field(default_factory=lambda: deque(maxlen=KEPT))
    start: int = NOWHERE  # the recent ones are all that came after the one number, up to the other
    last: int = NOWHERE

    def reset(self) -> None:
        """Know nothing."""
        self.recent.clear()
        self.start = self.last = NOWHERE

    def take(self, rows: list[Row]) -> None:
        """Take what came."""
        said = [Said.of(row, self.kind_of(row)) for row in rows]
        if said and said[0].kind == RESYNC:  # another database: what was seen of the old one counts no more
            self.recent.clear()
            self.start = said[0].number - 1
        for one in said:
            if len(self.recent) == KEPT:
                self.start = self.recent[0].number
            self.recent.append(one)
        if said:
            self.last = said[-1].number

    def since(self, number: int) -> list[Said] | None:
        """Return what came after a number, None if that is too long ago to be known here."""
        if not self.start <= number <= self.last:
            return None
        return [one for one in self.recent if one.number > number]


def _events_after(connection: Connection, last: int) -> list[Row]:
    return events.after(last, AT_ONCE, connection)


def _changes_after(connection: Connection, last: int) -> list[Row]:
    newest = changes.newest(connection)
    if last > newest or newest - last > BEHIND_MOST or last < changes.horizon(connection):
        return [{"id": newest, "kind": RESYNC, "level": "warning"}]
    return changes.after(connection, last, AT_ONCE)


class Streams:
    """The streams of this process. All on the event loop."""

    def __init__(self, db: Db) -> None:
        self._db = db
        self._events = Feed(_events_after, lambda row: str(row["kind"]))
        self._changes = Feed(_changes_after, lambda row: RESYNC if row["kind"] == RESYNC else CHANGE)
        self._pulse: tuple[Any, bytes] = (None, b"")
        self._news = asyncio.Event()
        self._following: dict[object, Collection[str] | None] = {}
        self._places = 0  # that are taken, by those too who do not follow yet
        self._looking: asyncio.Task[None] | None = None
        self._closed = asyncio.Event()

    def close(self) -> None:
        """End all streams: the server waits for them before it ends."""
        self._closed.set()
        self._announce()

    async def newest(self) -> Place:
        """Return where the lists end now. Raises Unavailable."""
        return await to_thread.run_sync(self._db.read, lambda c: Place(events.newest(c), changes.newest(c)))

    @contextlib.contextmanager
    def seat(self) -> Iterator[None]:
        """Take one of the places that there are, for as long as a stream lasts. Raises Unavailable."""
        if self._places >= MAX_STREAMS:
            raise Unavailable(f"there are {MAX_STREAMS} streams already; try again in a while, or ask for a list")
        self._places += 1
        try:
            yield
        finally:
            self._places -= 1

    async def follow(
        self, place: Place, kinds: Collection[str] | None
    ) -> AsyncGenerator[list[tuple[Place, Said]], None]:
        """Yield what comes after a place, in order and without a loss; an empty list when nothing came for a while.

        kinds: those that are wanted; None: all but the pulse. Where something is there no more, a "resync" stands for it.
        """
        me = object()
        self._following[me] = kinds
        told: Any = None
        try:
            while not self._closed.is_set():
                self._look_on()
                news = self._news
                found: list[tuple[Place, Said]] = []
                if kinds is None or set(kinds) - {CHANGE, PULSE}:
                    for said in await self._after(self._events, place.event):
                        place = Place(said.number, place.change)
                        found.append((place, said))
                if _wants_changes(kinds):
                    for said in await self._after(self._changes, place.change):
                        place = Place(place.event, said.number)
                        found.append((place, said))
                if kinds is not None and PULSE in kinds and self._pulse[0] not in (None, told):
                    told = self._pulse[0]
                    found.append((place, Said(0, PULSE, "info", self._pulse[1])))
                if found:
                    yield found
                    continue
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(news.wait(), QUIET_S)
                    continue
                yield []
        finally:
            del self._following[me]
            if not self._following and self._looking is not None:
                self._looking.cancel()
                self._looking = None
                self._events.reset()
                self._changes.reset()

    def _look_on(self) -> None:
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look(), name="events")

    async def _after(self, feed: Feed, number: int) -> list[Said]:
        known = feed.since(number)
        if known is not None:
            return known
        try:
            rows = await to_thread.run_sync(self._db.read, lambda c: feed.after(c, number))
        except BowerbirdError:
            return []
        return [Said.of(row, feed.kind_of(row)) for row in rows]

    async def _look(self) -> None:
        turn = 0
        while True:
            wanted = list(self._following.values())
            feeds = [self._events] + ([self._changes] if any(map(_wants_changes, wanted)) else [])
            pulse = turn % PULSE_EACH_LOOKS == 0 and any(kinds is not None and PULSE in kinds for kinds in wanted)
            turn += 1
            try:
                found, beat = await to_thread.run_sync(self._db.read, partial(_seen, feeds=feeds, pulse=pulse))
            except BowerbirdError:
                await asyncio.sleep(AWAY_S)
                continue
            new = False
            for feed, (last, rows) in zip(feeds, found, strict=True):
                if feed.last == NOWHERE:
                    feed.start = feed.last = last
                    new = True
                feed.take(rows)
                new = new or bool(rows)
            if beat is not None and beat != self._pulse[0]:
                self._pulse = beat, format_sse_event(event=PULSE, data_str=export.as_json(beat)).rstrip(b"\n") + b"\n"
                new = True
            if new:
                self._announce()
            if all(len(rows) < AT_ONCE for _, rows in found):
                await asyncio.sleep(LOOK_EACH_S)

    def _announce(self) -> None:
        told, self._news = self._news, asyncio.Event()
        told.set()


def _wants_changes(kinds: Collection[str] | None) -> bool:
    return kinds is None or CHANGE in kinds


def _seen(connection: Connection, feeds: list[Feed], pulse: bool) -> tuple[list[tuple[int, list[Row]]], Row | None]:
    """What came on each feed, and its end where nothing is known of it yet; and how far everything is."""
    found: list[tuple[int, list[Row]]] = []
    for feed in feeds:
        if feed.last == NOWHERE:
            newest = changes.newest if feed.after is _changes_after else events.newest
            found.append((newest(connection), []))
        else:
            found.append((feed.last, feed.after(connection, feed.last)))
    beat = None
    if pulse:
        beat = {"changes": changes.newest(connection), "events": events.newest(connection)} | runs.pulse(connection)
    return found, beat
