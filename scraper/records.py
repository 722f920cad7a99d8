"""The values that flow from the frontier through a visit into the database. All frozen."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from scraper.errors import Failure

Kind = Literal["page", "sitemap"]


@dataclass(frozen=True, slots=True)
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
    etag: str | None = None
    last_modified: str | None = None


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a site answered, decoded. Sizes in bytes, times in seconds."""

    url: str
    final_url: str
    status: int
    headers: Mapping[str, str]
    body: bytes
    wire_bytes: int
    elapsed_s: float

    @property
    def not_modified(self) -> bool:
        return self.status == 304

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


@dataclass(frozen=True, slots=True)
class Link:
    """A URL to visit, in canonical form."""

    url: str
    kind: Kind = "page"


@dataclass(frozen=True, slots=True)
class Item:
    """One extracted record; its key identifies it across pages and time."""

    kind: str
    key: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Reading:
    """What extraction made of one page."""

    title: str | None = None
    items: tuple[Item, ...] = ()
    links: tuple[Link, ...] = ()


@dataclass(frozen=True, slots=True)
class Visit:
    """How one try at one URL went. Without a failure, fetched and reading are there."""

    claim: Claim
    at: datetime
    fetched: Fetched | None = None
    reading: Reading = field(default_factory=Reading)
    failure: Failure | None = None
    message: str = ""
    retry_at: datetime | None = None
    gone: bool = False


@dataclass(frozen=True, slots=True)
class HostTimes:
    """What is kept of a host between requests and over restarts: when it may be asked next, and its delay."""

    host: str
    next_at: datetime | None
    delay_s: float


@dataclass(frozen=True, slots=True)
class RunTally:
    """The counts of one run, as they stand."""

    id: int
    source: str
    state: str
    pages: int
    known: int
    items: int
    bytes: int
    failures: int


Level = Literal["info", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to the machinery, for people to follow. kind: process, service, shared_state or run."""

    at: datetime
    kind: str
    name: str  # of whom or what: a process, a source
    event: str
    level: Level = "info"
    facts: Mapping[str, Any] = field(default_factory=dict)
