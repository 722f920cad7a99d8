"""One URL, top to bottom: admit, fetch, extract. Gives a Visit."""

import logging
import random
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from scraper.config.settings import Http, Source, http_of
from scraper.crawl.fetcher import Fetcher, retry_after
from scraper.crawl.outcome import OUTCOMES, RETRY_AFTER_MAX_S, Cure, verdict
from scraper.crawl.politeness import Place, Politeness
from scraper.crawl.robots import MAX_BYTES, Robots, decoded
from scraper.errors import Failure, VisitFailed
from scraper.records import Claim, Fetched, Link, Reading, Visit
from scraper.urls import Scope, host_of

NOT_THERE = (Failure.DNS, Failure.CONNECT, Failure.TLS, Failure.BLOCKED_ADDRESS, Failure.INVALID_URL)
PAGE_TYPES = re.compile(
    r"(text/html|application/xhtml\+xml|application/json|(application|text)/xml|application/\S+\+(json|xml))?$"
)

StoredBody = Callable[[str, str], Awaitable[tuple[bytes, dict[str, str]] | None]]


if TYPE_CHECKING:
    from scraper.extract.items import Parser

log = logging.getLogger(__name__)


def unmarked(url_id: int, url: str) -> None:
    """Note nothing."""


@dataclass(frozen=True, slots=True)
class Work:
    """A source, ready to be worked on."""

    source: Source
    http: Http
    scope: Scope

    @classmethod
    def of(cls, source: Source, base: Http) -> "Work":
        """Return a source with its expressions compiled and its hosts known."""
        hosts = set()
        for url in (*source.start, *source.sitemaps):
            host = host_of(url)
            hosts |= {host, host.removeprefix("www."), "www." + host.removeprefix("www.")}
        include = tuple(re.compile(pattern) for pattern in source.include)
        exclude = tuple(re.compile(pattern) for pattern in source.exclude)
        return cls(source, http_of(base, source), Scope(frozenset(hosts), include, exclude))


async def fetch_robots(fetcher: Fetcher, origin: str, http: Http, place: Place) -> Robots:
    """Return what an origin answers to /robots.txt; status 0 where it cannot be read.

    Raises VisitFailed where the host itself cannot be reached or may not be asked.
    """
    url = origin + "/robots.txt"
    limited = replace(http, max_body=max(http.max_body, MAX_BYTES * 4))

    async def admit(target: str) -> None:
        await place.enter(target, http)

    try:
        await place.enter(url, http)
        fetched = await fetcher.fetch(url, limited, admit=admit)
    except VisitFailed as error:
        if error.failure in NOT_THERE:  # what is true of its robots.txt is true of the page
            raise
        # RFC 9309 section 2.3.1.2: more than five redirects may count as unavailable.
        lost_way = error.failure in (Failure.TOO_MANY_REDIRECTS, Failure.BAD_REDIRECT)
        return Robots(404 if lost_way else 0, "")
    pause = retry_after(fetched.headers, datetime.now(UTC)) if fetched.status >= 429 else None
    if pause is not None and place.gate is not None:
        place.gate.pause(min(pause, RETRY_AFTER_MAX_S))
    return Robots(fetched.status, decoded(fetched.body))


def load_parsers() -> None:
    """Load what reads pages. It takes 0.07 s, and a scraper that was killed is back at work that much sooner without."""
    import scraper.extract.sitemaps  # noqa: PLC0415, F401


class Visitor:
    """Visits URLs. A failure is a value here, never an exception."""

    def __init__(
        self,
        fetcher: Fetcher,
        politeness: Politeness,
        works: Mapping[str, Work],
        stored_body: StoredBody,
        now: Callable[[], datetime],
        mark: Callable[[int, str], None] = unmarked,
    ) -> None:
        """mark: told the number and the text of the URL whose page is being read, and 0 as its number when that is done."""
        self._fetcher = fetcher
        self._politeness = politeness
        self._works = works
        self._stored_body = stored_body
        self._now = now
        self._mark = mark
        self._parsers: dict[str, Parser] = {}

    async def visit(self, claim: Claim) -> Visit:
        """Return how it went."""
        work = self._works[claim.source]
        fetched = None
        async with Place(self._politeness) as place:
            try:
                await place.admit(claim.url, work.http)
                fetched = await self._fetch(claim, work, place)
                self._calm(place, work.http, well=True)
                place.leave()
                load_parsers()
                self._mark(claim.url_id, claim.url)
                try:
                    reading = self._read(claim, work, fetched)
                finally:
                    self._mark(0, claim.url)
            except VisitFailed as error:
                return self._failed(claim, work, fetched, error, place)
            except Exception as error:
                log.exception("a page could not be read", extra={"url": claim.url})
                failed = VisitFailed(Failure.EXTRACT, f"{type(error).__name__}: {error}")
                return self._failed(claim, work, fetched, failed, place)
        return Visit(claim, self._now(), fetched, reading)

    async def _fetch(self, claim: Claim, work: Work, place: Place) -> Fetched:
        first = True

        async def admit(target: str) -> None:
            nonlocal first
            first = first and target == claim.url
            if claim.depth > 0 and not work.scope.admits(target):
                raise VisitFailed(Failure.BAD_REDIRECT, f"redirects to {target}, which the source does not include")
            await place.admit(target, work.http)

        stored = None
        conditional: dict[str, str] = {}
        if claim.kind == "page" and (claim.etag or claim.last_modified):
            stored = await self._stored_body(claim.source, claim.url)
            if stored is not None:
                conditional = _conditional(claim)
        fetched = await self._fetcher.fetch(
            claim.url,
            work.http,
            admit=admit,
            headers=conditional,
            may_take=lambda status, headers: self._screen(claim, status, headers, asked=bool(conditional) and first),
        )
        if fetched.not_modified and stored is not None:
            body, headers = stored  # RFC 9111 section 3.2: what the 304 says replaces, what it leaves out stays
            return replace(fetched, body=body, headers={**headers, **fetched.headers})
        if not fetched.body:
            raise VisitFailed(Failure.NO_CONTENT, "the body is empty")
        return fetched

    def _screen(self, claim: Claim, status: int, headers: Mapping[str, str], *, asked: bool) -> None:
        if status == 304 and asked:
            return
        if status == 429:
            raise self._refusal(Failure.RATE_LIMITED, "429 Too Many Requests", headers)
        if status == 408:
            raise VisitFailed(Failure.TIMEOUT, "408 Request Timeout")
        if status >= 500:
            raise self._refusal(Failure.HTTP_5XX, f"{status} from the server", headers)
        if status >= 400:
            raise VisitFailed(Failure.HTTP_4XX, f"{status} from the server")
        if status != 200 and status not in (201, 202, 203):
            raise VisitFailed(Failure.NO_CONTENT, f"{status} carries no page")
        if claim.kind == "page":
            kind = headers.get("content-type", "").partition(";")[0].strip().lower()
            named = claim.depth == 0 and kind.startswith("text/")
            if not named and not PAGE_TYPES.match(kind):
                raise VisitFailed(Failure.CONTENT_TYPE, f"{kind[:100]} is no page")

    def _refusal(self, failure: Failure, message: str, headers: Mapping[str, str]) -> VisitFailed:
        return VisitFailed(failure, message, retry_after_s=retry_after(headers, self._now()))

    def _read(self, claim: Claim, work: Work, fetched: Fetched) -> Reading:
        from scraper.extract import Page, items, sitemaps  # noqa: PLC0415  as in load_parsers()

        page = Page.of(fetched)
        if claim.kind == "sitemap":
            return Reading(links=tuple(link for link in sitemaps.links(page) if self._belongs(link, work)))
        path = work.source.parser
        if path is None:
            return items.read(page, work.source, work.scope, None)
        if path not in self._parsers:
            self._parsers[path] = items.load_parser(path)
        return items.read(page, work.source, work.scope, self._parsers[path])

    @staticmethod
    def _belongs(link: Link, work: Work) -> bool:
        if link.kind == "page":
            return work.scope.admits(link.url)
        try:
            return host_of(link.url) in work.scope.hosts
        except ValueError:
            return False

    def _failed(self, claim: Claim, work: Work, fetched: Fetched | None, error: VisitFailed, place: Place) -> Visit:
        self._calm(place, work.http, well=OUTCOMES[error.failure] is Cure.GIVE_UP)
        tried = claim.attempts + 1
        found = verdict(error.failure, tried, work.http.retries, error.retry_after_s, random.random())
        if place.gate is not None and found.host_pause_s:
            place.gate.pause(found.host_pause_s)
        now = self._now()
        return Visit(
            claim,
            now,
            fetched,
            failure=error.failure,
            message=error.message,
            retry_at=now + timedelta(seconds=found.retry_in_s) if found.retry_in_s is not None else None,
            gone=error.failure is Failure.HTTP_4XX and error.message[:3] in ("404", "410"),
        )

    @staticmethod
    def _calm(place: Place, http: Http, *, well: bool) -> None:
        if place.gate is not None and http.auto_throttle:
            place.gate.went(well=well)


def _conditional(claim: Claim) -> dict[str, str]:
    """RFC 9110 section 13.1."""
    headers = {}
    if claim.etag and claim.etag.isascii():
        headers["If-None-Match"] = claim.etag
    if claim.last_modified and claim.last_modified.isascii():
        headers["If-Modified-Since"] = claim.last_modified
    return headers
