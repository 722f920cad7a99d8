"""A source, ready to be worked on."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from scraper.config.mark import rules_of
from scraper.config.secrets import filled
from scraper.config.settings import Http, Source, http_of
from scraper.crawl.robots import agent_token
from scraper.crawl.session import Session
from scraper.records import Manners
from scraper.urls import Scope, canonical

if TYPE_CHECKING:
    from scraper.extract.reading import Reader


@dataclass(slots=True)
class Work:
    """A source, ready to be worked on.

    places: those for what it has in flight, where that is less than what the process may have. elsewhere: how many of its
    next pages are read in another process. explains: who reads them says why they yield so little.
    """

    source: Source
    http: Http
    scope: Scope
    rules: str
    session: Session
    starts: frozenset[str | None] = frozenset()
    places: asyncio.Semaphore | None = None
    elsewhere: int = 0
    explains: bool = False
    _reader: "Reader | None" = field(default=None, repr=False)
    _read_by: Manners | None = None

    @classmethod
    def of(cls, source: Source, base: Http, variables: Mapping[str, str]) -> "Work":
        """Return a source, ready. variables: where the names of secrets are looked up. Raises KeyError for one that is not set."""
        http = http_of(base, source)
        if "proxy" in source.http:  # that of [http] has its password since it was read
            http = replace(http, proxy=filled(http.proxy, variables))
        scope = Scope.around((*source.start, *source.sitemaps), source.include, source.exclude)
        session = Session(source, http, variables)
        starts = frozenset(map(canonical, source.start))
        places = asyncio.Semaphore(http.concurrency) if http.concurrency < base.concurrency else None
        return cls(source, http, scope, rules_of(source, polite=http.obey_robots), session, starts, places)

    def manners(self) -> Manners:
        """Return what its pages may ask of us."""
        agent = agent_token(self.http.user_agent).lower() if self.http.obey_robots else None
        return Manners(agent, datetime.now(UTC).date(), self.explains)

    def reader(self) -> "Reader":
        """Return what reads its pages in this process; another one each day, for it knows the date."""
        manners = self.manners()
        if self._reader is None or self._read_by != manners:
            from scraper.extract.reading import Reader  # noqa: PLC0415  lxml, which a start need not wait for

            self._reader, self._read_by = Reader(self.source, manners), manners
        return self._reader
