"""Places without end: repeating paths, calendars, facets, sessions, endless numbers. Pure: the clock is an argument.

What a URL alone gives away is refused where its link is found. What only shows in the pages (many addresses of one
shape, nothing new on any of them) is watched while the run goes on, and bounded.
"""

import re
from collections import Counter, deque
from dataclasses import dataclass, field
from functools import lru_cache

MAX_SEGMENTS = 16
MAX_REPEATS = 3
MAX_NUMBER_REPEATS = 6
MAX_PARAMETERS = 12
YEARS_AHEAD = 2

LOOK_BACK = 200
STALE_SHARE = 0.95
NEAR_BITS = 3
RING = 64
COPIES_MOST = 200
FACETS_MOST = 500
ENDLESS_LEAST = 2000

# A year with a month, where the address says that it is one of a calendar: what else looks so is a number, of a thread or a ticket.
_MONTH, _DAY = r"[-/](?:0?[1-9]|1[0-2])", r"[-/](?:0?[1-9]|[12][0-9]|3[01])"
_DATE = re.compile(rf"/([2-9][0-9]{{3}}){_MONTH}(?:{_DAY})?(?![0-9])")
_YEAR = re.compile(r"[?&](?:year|yr|jahr|annee|ano|anno|y)=([0-9]{4})(?![0-9])", re.IGNORECASE)
_CALENDAR = re.compile(
    r"(?<![a-z])(?:cal|calend[a-z]*|kalend[a-z]*|events?|agenda|schedules?|diary|archives?|date|day|week|month|monat|mois|mes|"
    r"termine?|veranstaltung[a-z]*|evenements?|eventos?)(?![a-z])",
    re.IGNORECASE,
)
_VARIES = re.compile(r"[0-9a-f]{16,}|[0-9]+", re.IGNORECASE)


def fault(url: str, year: int) -> str | None:
    """Say why a canonical URL is taken for a trap by its looks alone, or None. year: the present one."""
    path, _, query = url.partition("?")
    segments = path.split("/")[3:]
    if len(segments) > MAX_SEGMENTS:
        return f"the path has more than {MAX_SEGMENTS} segments"
    if len(segments) > MAX_REPEATS and (repeated := _repeated(segments)):
        return repeated
    if query.count("&") >= MAX_PARAMETERS:
        return f"the query has more than {MAX_PARAMETERS} parameters"
    for match in (*_DATE.finditer(path), *(_YEAR.finditer(url) if "=" in url else ())):
        if (shown := int(match[1])) > year + YEARS_AHEAD and _CALENDAR.search(url, url.find("/", 8)):
            return f"a calendar page of the year {shown}"
    return None


def _repeated(segments: list[str]) -> str | None:
    for segment, times in Counter(segments).items():
        if segment and times > (MAX_NUMBER_REPEATS if segment.isdigit() else MAX_REPEATS):
            return f"{segment[:40]!r} is in the path {times} times"
    return None


@lru_cache(maxsize=512)  # a URL is looked at before its visit, and after it
def shape(url: str) -> str:
    """Return what a URL has in common with its like: numbers and long hexadecimal words count as one, so do values."""
    path, _, query = url.partition("?")
    found = _VARIES.sub("#", path)
    if query:
        found += "?" + "&".join(sorted({_VARIES.sub("#", part.partition("=")[0]) for part in query.split("&")}))
    return found


@dataclass(slots=True)
class Shape:
    """What was seen at the addresses of one shape."""

    visited: int = 0
    copies: deque[bool] = field(default_factory=lambda: deque(maxlen=LOOK_BACK))  # the same bytes as before
    stale: deque[bool] = field(default_factory=lambda: deque(maxlen=LOOK_BACK))  # nothing new, to speak of
    digests: deque[int] = field(default_factory=lambda: deque(maxlen=RING))
    hashes: deque[int] = field(default_factory=lambda: deque(maxlen=RING))


def _mostly(seen: deque[bool]) -> bool:
    return len(seen) == LOOK_BACK and sum(seen) >= STALE_SHARE * LOOK_BACK


class Watch:
    """Watches one run for shapes that go on for ever."""

    SHAPES_MOST = 300

    def __init__(self, max_pages: int) -> None:
        self._endless = max(ENDLESS_LEAST, max_pages // 2)
        self._shapes: dict[str, Shape] = {}

    def saw(self, url: str, digest: str, simhash: int | None, *, items: bool) -> None:
        """Note a page: the digest of its bytes, in hexadecimal, the simhash of its words, whether it held items."""
        name = shape(url)
        seen = self._shapes.get(name)
        if seen is None:
            if len(self._shapes) >= self.SHAPES_MOST:  # the oldest; a shape that goes on comes back
                del self._shapes[next(iter(self._shapes))]
            seen = self._shapes[name] = Shape()
        seen.visited += 1
        mark = int(digest[:15] or "0", 16)
        copy = mark in seen.digests
        near = simhash is not None and any((simhash ^ other).bit_count() <= NEAR_BITS for other in seen.hashes)
        seen.copies.append(copy)
        seen.stale.append(copy or (near and not items))
        if not copy:
            seen.digests.append(mark)
        if simhash is not None and not near:
            seen.hashes.append(simhash)

    def fault(self, url: str) -> str | None:
        """Say why no more addresses of this one's shape are visited, or None."""
        name = shape(url)
        seen = self._shapes.get(name)
        if seen is None or seen.visited < COPIES_MOST:
            return None
        if _mostly(seen.copies):
            return f"{seen.visited} pages like {name} were copies of each other"
        if seen.visited >= (FACETS_MOST if "?" in name else self._endless) and _mostly(seen.stale):
            return f"{seen.visited} pages like {name} held nothing new"
        return None
