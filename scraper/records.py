"""The values that flow from the frontier through a visit into the database. All frozen."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import field
from datetime import date, datetime
from typing import Any, Literal

from scraper.compression import deflate
from scraper.errors import Failure
from scraper.value import value

Kind = Literal["page", "sitemap"]
SITEMAP_MOST = 50 * 2**20  # bytes (https://www.sitemaps.org/protocol.html)


@value
class Claim:
    """A URL that this worker has taken from the frontier."""

    url_id: int
    run_id: int
    source: str
    url: str
    host: str
    depth: int
    kind: Kind
    attempts: int
    known: "Known | None" = None
    modified_at: datetime | None = None  # as a sitemap says
    is_last_look: bool = False  # nothing leads to it any more: only its end is to be noticed


@value
class Known:
    """What is stored of a URL already: its validators, and what was read from it by which rules."""

    page_id: int
    final_url: str
    etag: str | None
    last_modified: str | None
    rules: str
    links: bytes
    items: int
    has_body: bool = True
    digest: str = ""  # SHA-256 of the body
    fetched_at: datetime | None = None
    check_every_s: float | None = None
    check_after: datetime | None = None


@value
class Fetched:
    """What a site answered, decoded. Sizes in bytes, times in seconds."""

    url: str
    final_url: str
    status: int
    headers: Mapping[str, str]
    body: bytes
    wire_bytes: int
    elapsed_s: float
    latency_s: float = 0.0  # until the answer began
    packed: bytes = b""  # the body as it came, if that was gzip: it is stored so
    set_cookies: tuple[str, ...] = ()
    moved: bool = False  # there were redirects, all of them for good

    @property
    def not_modified(self) -> bool:
        return self.status == 304

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


@value
class Link:
    """A URL to visit, in canonical form. Those of a higher priority are visited first."""

    url: str
    kind: Kind = "page"
    priority: int = 0
    modified_at: datetime | None = None


@value
class Item:
    """One extracted record; its key identifies it across pages and time."""

    kind: str
    key: str
    data: Mapping[str, Any]
    quiet: tuple[str, ...] = ()  # fields whose change alone is none


def packed(links: Sequence[Link]) -> bytes:
    """Return links as they are stored with their page."""
    return deflate("\n".join([link.url for link in links]).encode()) if links else b""


def unpacked(stored: bytes) -> tuple[Link, ...]:
    """Return the links that were stored with a page."""
    return tuple([Link(url) for url in zlib.decompress(stored).decode().split("\n")]) if stored else ()


@value
class Manners:
    """What pages may ask of us, and we of who reads them.

    agent: our product token, lower case; None: what pages ask of robots does not count. explains: says too why a page yields
    less than the rules ask for.
    """

    agent: str | None
    today: date
    explains: bool = False


@value
class Before:
    """What is stored of a page that has changed since."""

    body: bytes
    headers: Mapping[str, str]


@value
class Difference:
    """What is new on a page for those who read it: the text that went, the text that came, in how many words. 0: nothing.

    slight: there are other words, too few to be news; many such changes may add up to one.
    """

    old: str
    new: str
    words: int
    slight: bool = False


@value
class Reading:
    """What extraction made of one page.

    simhash: 64 bits that differ in few where the words do, None where there are too few of them, or items, which are news
    whatever the words. canonical: the address that the page gives as its own. noindex: why it is not to be stored.
    fault: why this is not all that there is. refused: links that are taken for a trap, each with the reason, one of each
    shape. notes: why it is not more, if asked for.
    """

    title: str | None = None
    items: tuple[Item, ...] = ()
    links: tuple[Link, ...] = ()
    simhash: int | None = None
    canonical: str | None = None
    noindex: str | None = None
    fault: str | None = None
    refused: tuple[tuple[str, str], ...] = ()
    difference: Difference | None = None  # from what was stored; None: not compared
    notes: tuple[str, ...] = ()


@value
class Visit:
    """How one try at one URL went. Without a failure, fetched and reading are there.

    unchanged: the page is as it is stored, items too; reading has its stored links. rules: those that it was read by.
    """

    claim: Claim
    at: datetime
    fetched: Fetched | None = None
    reading: Reading = field(default_factory=Reading)
    failure: Failure | None = None
    message: str = ""
    retry_at: datetime | None = None
    gone: bool = False
    unchanged: bool = False
    rules: str = ""
    digest: str = ""  # SHA-256 of the body
    skipped: bool = False  # not asked for: it is too early to look again
    dropped: bool = False  # nothing is to be stored of it
    looked: bool = False  # it was a last look, and the site said what is to be known
    check_every_s: float | None = None  # how often it is worth to look from now on
    taken_bytes: int = 0  # what came over the network though it failed
    put_off: bool = False  # it could not be asked for just now: that was no try


@value
class HostTimes:
    """What is kept of a host between requests and over restarts: when it may be asked next, and its delay."""

    host: str
    next_at: datetime | None
    delay_s: float
    crawl_delay_s: float = 0.0  # what its robots.txt asks for
    penalty_s: float = 0.0  # what its errors and slowness add
    latency_s: float = 0.0  # how long it takes to begin an answer
    strikes: int = 0  # failures of the host in a row
    trips: int = 0  # how often in a row it was left alone for them
    why: str | None = None  # why next_at is what it is


@value
class RunTally:
    """The counts of one run, as they stand, and what it says of itself."""

    id: int
    source: str
    state: str
    pages: int
    known: int
    items: int
    bytes: int
    failures: int
    message: str | None = None


@value
class RunCount:
    """How far an open run is."""

    id: int
    source: str
    max_pages: int
    pages: int


Level = Literal["info", "warning", "error"]


@value
class Event:
    """Something that happened to the machinery, for people to follow. kind: process, service, shared_state or run."""

    at: datetime
    kind: str
    name: str  # of whom or what: a process, a source
    event: str
    level: Level = "info"
    facts: Mapping[str, Any] = field(default_factory=dict)


def called(data: Mapping[str, Any] | None, *otherwise: Any) -> Any:
    """Return what a person calls an item: its title or name; the first of the rest that is something, if it has none."""
    named = [data.get(name) for name in ("title", "name", "headline")] if data else []
    plain = [found for found in named if isinstance(found, str | int | float) and not isinstance(found, bool)]
    return next((found for found in (*plain, *otherwise) if str(found or "").strip()), "")
