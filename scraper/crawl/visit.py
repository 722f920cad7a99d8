"""One URL, top to bottom: admit, fetch, read. Gives a Visit."""

import hashlib
import logging
import random
import re
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from typing import TYPE_CHECKING

from scraper import clean
from scraper.config.settings import Http
from scraper.crawl.fetcher import NOBODY, Fetcher, Request, refuse_overloaded, retry_after, user_agent
from scraper.crawl.outcome import OUTCOMES, Cure, obeyed_s, verdict
from scraper.crawl.politeness import STRIKING, Place, Politeness
from scraper.crawl.robots import MAX_BYTES, Robots, decoded
from scraper.crawl.schedule import next_check
from scraper.crawl.short import is_short
from scraper.crawl.work import Work
from scraper.errors import BowerbirdError, Failure, PutOff, VisitFailed
from scraper.offload import NO_DOCUMENT, Browsers, Readers, Wish
from scraper.records import SITEMAP_MOST, Before, Claim, Fetched, Reading, Visit, unpacked
from scraper.traps import Watch
from scraper.urls import host_of

if TYPE_CHECKING:
    from scraper.extract.guard import Guard

NOT_THERE = (Failure.DNS, Failure.CONNECT, Failure.TLS, Failure.BLOCKED_ADDRESS, Failure.INVALID_URL)
PAGE_TYPES = re.compile(
    r"(text/html|application/xhtml\+xml|(application|text)/(json|xml)|application/\S+\+(json|xml))?$"
)

# What its mod_deflate puts into a tag on the way out, and does not know on the way in (its bug 45023).
_ADDED_BY_APACHE = re.compile(r'[-;](?:gzip|br|zstd|deflate)"$')
PROXY_ASKS = 407
INLINE_S = 1.0
REDIRECT_WAIT_S = 10.0  # what is to be followed later than that is asked for again
STALE_AFTER = timedelta(days=1)
SLOW_S = 0.1
SLOW_PAGES = 200  # of a source are read elsewhere after one that was slow

HTML = ("text/html", "application/xhtml+xml", "")
# What of a page's own requests is not sent: how a message is carried, and who asks, is ours to say.
OURS = frozenset(
    (
        *(
            "accept-encoding",
            "connection",
            "content-length",
            "expect",
            "host",
            "http2-settings",
            "keep-alive",
            "te",
            "trailer",
        ),
        *("priority", "transfer-encoding", "upgrade", "upgrade-insecure-requests", "user-agent", "via", "forwarded"),
        *("if-match", "if-modified-since", "if-none-match", "if-range", "if-unmodified-since"),
    )
)
OURS_BEGIN = ("sec-", "proxy-", "x-forwarded-")
Stored = Awaitable[tuple[bytes, dict[str, str]] | None]
StoredBody = Callable[[int], Stored]
StoredOther = Callable[[str, str, str], Stored]

log = logging.getLogger(__name__)


def unmarked(url_id: int, url: str) -> None:
    """Note nothing."""


def always(claim: Claim) -> bool:
    """Any URL may be asked for."""
    return True


async def fetch_robots(fetcher: Fetcher, origin: str, http: Http, place: Place) -> Robots:
    """Return what an origin answers to /robots.txt; status 0 where it cannot be read.

    Raises VisitFailed where the host itself cannot be reached or may not be asked.
    """
    url = origin + "/robots.txt"
    limited = replace(http, max_body=max(http.max_body, MAX_BYTES * 4))

    elsewhere = False

    async def admit(target: str) -> None:
        nonlocal elsewhere
        elsewhere = elsewhere or target != url
        await place.keep()
        await place.enter(target, http)

    def heed(headers: Mapping[str, str]) -> None:
        pause = obeyed_s(retry_after(headers, datetime.now(UTC)))
        if pause is not None and place.gate is not None:
            place.gate.pause(pause, "its robots.txt answered with Retry-After")

    try:
        await place.enter(url, http)
        fetched = await fetcher.fetch(Request(url), limited, admit=admit, redirected=heed)
    except PutOff:
        raise
    except VisitFailed as error:
        if error.failure in NOT_THERE and not elsewhere:  # what is true of its robots.txt is true of the page
            raise
        # RFC 9309 section 2.3.1.2: more than five redirects may count as unavailable.
        lost_way = error.failure in (Failure.TOO_MANY_REDIRECTS, Failure.BAD_REDIRECT)
        return Robots(404 if lost_way else 0, "")
    heed(fetched.headers)
    await place.keep()
    if fetched.status == PROXY_ASKS:  # that is the proxy's word, not the site's
        return Robots(0, "")
    return Robots(fetched.status, decoded(fetched.body))


@cache
def load_parsers() -> None:
    """Load what reads pages. It takes 0.07 s, and a scraper that was killed is back at work that much sooner without."""
    import scraper.extract.reading  # noqa: PLC0415, F401


class Visitor:
    """Visits URLs. A failure is a value here, never an exception."""

    def __init__(
        self,
        fetcher: Fetcher,
        politeness: Politeness,
        works: Mapping[str, Work],
        stored_body: StoredBody,
        stored_other: StoredOther,
        now: Callable[[], datetime],
        readers: Readers,
        browsers: Browsers,
        mark: Callable[[int, str], None] = unmarked,
        may: Callable[[Claim], bool] = always,
    ) -> None:
        """mark: told the number and the text of the URL whose page is being read, and 0 as its number when that is done.

        may: asked before each request whether a URL is still to be asked for.
        """
        self._fetcher = fetcher
        self._politeness = politeness
        self._works = works
        self._stored_body = stored_body
        self._stored_other = stored_other
        self._now = now
        self._readers = readers
        self._browsers = browsers
        self._mark = mark
        self._may = may
        self._watches: dict[int, Watch] = {}
        self._guard: Guard | None = None

    def forget(self, open_runs: Collection[int]) -> None:
        """Drop what was watched of runs that are over."""
        for run_id in [run_id for run_id in self._watches if run_id not in open_runs]:
            del self._watches[run_id]

    async def visit(self, claim: Claim) -> Visit:
        """Return how it went."""
        visit = await self._visit(claim)
        return _last_look(visit) if claim.is_last_look else visit

    async def _visit(self, claim: Claim) -> Visit:
        work = self._works[claim.source]
        fetched = None
        async with Place(self._politeness, work.places, claim.host, partial(self._may, claim)) as place:
            try:
                if (visit := self._without_asking(claim, work)) is not None:
                    return visit
                watch = self._watched(claim, work)
                fetched = await self._as_user(claim, work, place)
                await self._heed(place, work.http, fetched)
                place.leave()
                if claim.is_last_look:
                    return Visit(claim, self._now(), fetched)
                if self._is_as_stored(claim, work, fetched):
                    return self._unchanged(claim, work, fetched)
                fetched = await self._whole(claim, fetched)
                fetched = await self._rendered(claim, work, fetched)
                digest = hashlib.sha256(fetched.body).hexdigest()
                reading = await self._read(claim, work, fetched, await self._before(claim, fetched, digest))
            except VisitFailed as error:
                failed = self._failed(claim, work, fetched, error, place)
                if place.gate is not None:
                    await self._politeness.keep_pause(place.gate)
                return failed
            except BowerbirdError:  # the database's, not the page's
                raise
            except Exception as error:
                log.exception("a page could not be read", extra={"url": claim.url})
                unforeseen = VisitFailed(Failure.EXTRACT, f"{type(error).__name__}: {error}")
                return self._failed(claim, work, fetched, unforeseen, place)
        if reading.noindex is not None or reading.fault is not None:
            return self._unwanted(claim, work, fetched, reading, place)
        if claim.kind == "page":
            watch.saw(claim.url, digest, reading.simhash, items=bool(reading.items))
        every_s = self._check_every_s(claim, work, changed=_has_changed(claim, digest, reading))
        return Visit(claim, self._now(), fetched, reading, rules=work.rules, digest=digest, check_every_s=every_s)

    async def _heed(self, place: Place, http: Http, fetched: Fetched) -> None:
        """Have the host's gate know how quickly it answered, and what it asks for."""
        if place.gate is None:
            return
        place.gate.answered(fetched.latency_s, adapt=http.auto_throttle)
        if asked_s := obeyed_s(retry_after(fetched.headers, self._now())):
            place.gate.pause(asked_s, f"it answered {fetched.status}, with Retry-After")
            await self._politeness.keep_pause(place.gate)

    def _without_asking(self, claim: Claim, work: Work) -> Visit | None:
        """The visit of a URL that is not to be asked for: its source includes it no more, or it is too early. Raises VisitFailed."""
        if claim.kind == "page" and claim.url not in work.starts and not self._admits(work, claim.url):
            return Visit(claim, self._now(), dropped=True)
        if not self._is_early(claim, work):
            return None
        links = Reading(links=unpacked(claim.known.links if claim.known is not None else b""))
        return Visit(claim, self._now(), None, links, unchanged=True, rules=work.rules, skipped=True)

    @staticmethod
    def _is_as_stored(claim: Claim, work: Work, fetched: Fetched) -> bool:
        """Whether a page is as it is stored, and was read by the rules of now; a 304 too may say how it is to be read (RFC 9111 section 3.2)."""
        known, said = claim.known, "x-robots-tag" in fetched.headers
        return fetched.not_modified and not said and known is not None and known.rules == work.rules != ""

    def _unchanged(self, claim: Claim, work: Work, fetched: Fetched) -> Visit:
        assert claim.known is not None
        links = Reading(links=unpacked(claim.known.links))
        every_s = self._check_every_s(claim, work, changed=False)
        return Visit(claim, self._now(), fetched, links, unchanged=True, rules=work.rules, check_every_s=every_s)

    def _is_early(self, claim: Claim, work: Work) -> bool:
        """Whether it is too early to look at a page again: it seldom changes, and its sitemap says nothing else."""
        known = claim.known
        if work.source.recheck is None or known is None or claim.is_last_look:
            return False
        if claim.depth == 0 and claim.modified_at is None:
            return False
        if known.fetched_at is None or known.check_after is None or not known.rules == work.rules != "":
            return False
        if claim.modified_at is not None and claim.modified_at > known.fetched_at:
            return False
        now = self._now()
        latest = known.fetched_at + timedelta(seconds=work.source.recheck.latest)  # which may be another one by now
        return known.fetched_at <= now < min(known.check_after, latest)

    @staticmethod
    def _check_every_s(claim: Claim, work: Work, *, changed: bool) -> float | None:
        recheck = work.source.recheck
        if recheck is None or claim.kind != "page":
            return None
        before = claim.known.check_every_s if claim.known is not None else None
        return next_check(before, recheck.soonest, recheck.latest, changed=changed)

    async def _before(self, claim: Claim, fetched: Fetched, digest: str) -> Before | None:
        """What is stored of a page, if this is another, to be compared."""
        known = claim.known
        if claim.kind != "page":
            return None
        if claim.url != fetched.final_url:  # what is known is not where this page lives
            found = await self._stored_other(claim.source, fetched.final_url, digest)
            return Before(*found) if found is not None else None
        if known is None or known.digest in ("", digest) or not known.has_body:
            return None
        stored = await self._stored_body(known.page_id)
        return Before(*stored) if stored is not None else None

    def _watched(self, claim: Claim, work: Work) -> Watch:
        """The watch over a URL's run. Raises VisitFailed: crawl_limit."""
        watch = self._watches.get(claim.run_id)
        if watch is None:
            watch = self._watches[claim.run_id] = Watch(work.source.max_pages)
        if claim.kind == "page" and claim.depth > 0 and (fault := watch.fault(claim.url)) is not None:
            raise VisitFailed(Failure.CRAWL_LIMIT, fault)
        return watch

    async def _as_user(self, claim: Claim, work: Work, place: Place) -> Fetched:
        """Ask for the URL, logged in if the source has a login; once more if that did not hold."""
        if work.session.plain:
            await place.admit(claim.url, work.http)
            return await self._fetch(claim, work, place)

        refusal: VisitFailed | None = None
        asked_at: float | None = None
        for again in (False, True):
            place.leave()  # who logs in for all of us may need it
            await self._log_in(work, place, asked_at)
            await place.admit(claim.url, work.http)
            asked_at = time.monotonic()
            try:
                fetched = await self._fetch(claim, work, place)
            except VisitFailed as error:
                refusal = error
                refused = work.session.is_refusal(error)
                if refused:
                    work.session.showed(again=again, refused=True)
                if again or not refused:
                    raise
            else:
                refusal = await work.session.refusal(claim.url, fetched, again=again)
                work.session.showed(again=again, refused=refusal is not None)
                if refusal is None:
                    return fetched
        raise refusal or AssertionError("unreachable")

    async def _log_in(self, work: Work, place: Place, refused_at: float | None) -> None:
        async def enter(target: str) -> None:
            await place.keep()
            await place.admit(target, work.http, named=True)

        def heed(headers: Mapping[str, str]) -> None:
            asked_s = obeyed_s(retry_after(headers, self._now()))
            if asked_s and place.gate is not None:
                place.gate.pause(asked_s, "its login was answered with Retry-After")

        try:
            await work.session.log_in(self._fetcher, work.http, enter, heed, refused_at=refused_at)
        finally:
            await place.keep()

    async def _fetch(self, claim: Claim, work: Work, place: Place) -> Fetched:
        first = True

        async def admit(target: str) -> None:
            nonlocal first
            first = first and target == claim.url
            is_there = host_of(target) == claim.host if claim.kind == "sitemap" else target == claim.url
            if claim.depth > 0 and not is_there and not self._admits(work, target):
                raise VisitFailed(Failure.BAD_REDIRECT, f"redirects to {target}, which the source does not include")
            await place.keep()
            await place.admit(target, work.http)

        def redirected(headers: Mapping[str, str]) -> None:
            asked_s = obeyed_s(retry_after(headers, self._now()))  # RFC 9110 section 10.2.3
            if asked_s is not None and asked_s > REDIRECT_WAIT_S:
                said = f"a redirect that is to be followed in {asked_s:.0f} s"
                raise VisitFailed(Failure.RATE_LIMITED, said, retry_after_s=asked_s)
            if asked_s and place.gate is not None:
                place.gate.pause(asked_s, "its redirect came with Retry-After")

        conditional = _conditional(claim, work.rules) if claim.kind == "page" and not work.source.render else {}
        fetched = await self._fetcher.fetch(
            Request(claim.url, headers=conditional),
            work.http if claim.kind == "page" else replace(work.http, max_body=max(work.http.max_body, SITEMAP_MOST)),
            admit=admit,
            visitor=work.session,
            may_take=lambda status, headers: self._screen(claim, status, headers, asked=bool(conditional) and first),
            redirected=redirected,
        )
        if not fetched.body and not fetched.not_modified:
            raise VisitFailed(Failure.NO_CONTENT, "the body is empty")
        return fetched

    async def _whole(self, claim: Claim, fetched: Fetched) -> Fetched:
        """A 304 with the body that is stored; what it says of the headers replaces, what it leaves out stays.

        RFC 9111 section 3.2.
        """
        if not fetched.not_modified or claim.known is None:
            return fetched
        stored = await self._stored_body(claim.known.page_id)
        if stored is None:
            raise VisitFailed(Failure.NO_CONTENT, "304, and the page is not stored any more")
        body, headers = stored
        return replace(fetched, body=body, headers={**headers, **fetched.headers})

    async def _rendered(self, claim: Claim, work: Work, fetched: Fetched) -> Fetched:
        """The page as it is after its scripts, if its source wants that; all that they ask for goes the same way as all else."""
        if not work.source.render or claim.kind != "page" or fetched.content_type not in HTML:
            return fetched
        wire_bytes = fetched.wire_bytes

        async def ask(wish: Wish) -> Fetched:
            nonlocal wire_bytes
            if wish.main and claim.depth > 0 and not self._admits(work, wish.url):
                raise VisitFailed(Failure.BAD_REDIRECT, f"goes on to {wish.url}, which the source does not include")
            async with Place(self._politeness, work.places, host_of(fetched.final_url)) as place:

                async def admit(target: str) -> None:
                    await place.admit(target, work.http)

                await admit(wish.url)
                kept = {name: value for name, value in wish.headers.items() if not _is_ours(name.lower())}
                request = Request(wish.url, wish.method, kept, wish.body)
                who = work.session if wish.top else NOBODY  # what a frame asks for, it asks for without our credentials
                answer = await self._fetcher.fetch(request, work.http, admit=admit, visitor=who, follows=False)
                asked_s = obeyed_s(retry_after(answer.headers, self._now()))
                if asked_s and place.gate is not None:
                    place.gate.pause(asked_s, f"it answered {answer.status} to a page's request, with Retry-After")
                    await self._politeness.keep_pause(place.gate)
            wire_bytes += answer.wire_bytes
            if wish.main and answer.status not in NO_DOCUMENT:
                self._screen(claim, answer.status, answer.headers, asked=False)
            return answer

        agent = user_agent(work.http.user_agent)
        # What is stored of a page is better than half of a new one, as long as it is not old.
        at = claim.known.fetched_at if claim.known is not None else None
        is_recent = at is not None and self._now() - at < STALE_AFTER
        strict = is_recent or claim.attempts < work.http.retries
        plain, most = work.session.plain, work.http.max_body
        gate = self._politeness.gate(host_of(fetched.final_url))
        paced = work.http.delay > 0 or (gate is not None and gate.crawl_delay_s > 0)
        done = await self._browsers.render(fetched, agent, most, ask, keeps=plain, strict=strict, paced=paced)
        return replace(done, wire_bytes=wire_bytes)

    async def _read(self, claim: Claim, work: Work, fetched: Fetched, before: Before | None) -> Reading:
        long = not is_short(fetched.body) or (before is not None and not is_short(before.body))
        if work.source.parser is not None or work.elsewhere or long:
            work.elsewhere = max(0, work.elsewhere - 1)
            return await self._readers.read(work.source, work.manners(), fetched, claim.kind, before)
        load_parsers()
        from scraper.extract.guard import TookTooLong  # noqa: PLC0415  as in load_parsers()

        guard = self._guarding()
        if not guard.works:  # a thread of the API's: what takes long here takes all of it
            return await self._readers.read(work.source, work.manners(), fetched, claim.kind, before)
        reader = work.reader()
        self._mark(claim.url_id, claim.url)
        began = time.thread_time()  # not what others made us wait
        try:
            with guard:
                return reader.read(fetched, claim.kind, before)
        except TookTooLong:
            return await self._readers.read(work.source, work.manners(), fetched, claim.kind, before)
        finally:
            self._mark(0, claim.url)
            if time.thread_time() - began > SLOW_S:
                work.elsewhere = SLOW_PAGES

    def _guarding(self) -> "Guard":
        if self._guard is None:
            from scraper.extract.guard import Guard  # noqa: PLC0415  as in load_parsers()

            self._guard = Guard(INLINE_S)
        return self._guard

    def _admits(self, work: Work, url: str) -> bool:
        """Whether a source includes a URL. Its expressions are the user's, and may take for ever. Raises VisitFailed: extract."""
        if not work.scope.include and not work.scope.exclude:
            return work.scope.admits(url)
        from scraper.extract.guard import TookTooLong  # noqa: PLC0415  as in load_parsers()

        try:
            with self._guarding():
                return work.scope.admits(url)
        except TookTooLong:
            said = f"include and exclude took longer than {INLINE_S:g} s over {url}"
            raise VisitFailed(Failure.EXTRACT, said) from None

    def _screen(self, claim: Claim, status: int, headers: Mapping[str, str], *, asked: bool) -> None:
        if status == 304 and asked:
            return
        refuse_overloaded(status, headers, self._now())
        if status == 408:
            raise self._refusal(Failure.TIMEOUT, "408 Request Timeout", headers)
        if status >= 400:
            raise self._refusal(Failure.HTTP_4XX, f"{status} from the server", headers)
        if status != 200 and status not in (201, 202, 203):
            raise self._refusal(Failure.NO_CONTENT, f"{status} carries no page", headers)
        if claim.kind == "page":
            kind = headers.get("content-type", "").partition(";")[0].strip().lower()
            named = claim.depth == 0 and kind.startswith("text/")
            if not named and not PAGE_TYPES.match(kind):
                raise self._refusal(Failure.CONTENT_TYPE, f"{kind[:100]} is no page", headers)

    def _refusal(self, failure: Failure, message: str, headers: Mapping[str, str]) -> VisitFailed:
        return VisitFailed(failure, message, retry_after_s=retry_after(headers, self._now()))

    def _unwanted(self, claim: Claim, work: Work, fetched: Fetched, reading: Reading, place: Place) -> Visit:
        """A page that asks not to be kept, or that is not all there: its links are followed all the same, if it does not forbid that."""
        if reading.fault is not None:
            failed = self._failed(claim, work, fetched, VisitFailed(Failure.INCOMPLETE_BODY, reading.fault), place)
            return replace(failed, reading=reading)
        failure, message = Failure.NOINDEX, reading.noindex or ""
        return Visit(claim, self._now(), fetched, reading, failure, message, gone=True)

    def _failed(self, claim: Claim, work: Work, fetched: Fetched | None, error: VisitFailed, place: Place) -> Visit:
        if isinstance(error, PutOff):
            later = self._now() + timedelta(seconds=error.wait_s)
            message = clean.text(error.message)
            taken = error.wire_bytes  # by what led there
            return Visit(
                claim, self._now(), None, Reading(), error.failure, message, later, taken_bytes=taken, put_off=True
            )
        self._tell(place, work.http, error)
        tried = claim.attempts + 1
        found = verdict(error.failure, tried, work.http.retries, error.retry_after_s, random.random())
        if place.gate is not None and found.host_pause_s:
            place.gate.pause(found.host_pause_s, _why(error))
        now = self._now()
        return Visit(
            claim,
            now,
            fetched,
            failure=error.failure,
            message=clean.text(error.message),
            retry_at=now + timedelta(seconds=found.retry_in_s) if found.retry_in_s is not None else None,
            taken_bytes=error.wire_bytes,
            gone=error.failure is Failure.HTTP_4XX and error.message[:3] in ("404", "410"),
        )

    @staticmethod
    def _tell(place: Place, http: Http, error: VisitFailed) -> None:
        """Have the host's gate know how it went."""
        if place.gate is None:
            return
        down = error.failure in STRIKING and not error.answered
        if down or error.failure is Failure.RATE_LIMITED:
            place.gate.failed(error.failure, adapt=http.auto_throttle)
        else:
            place.gate.answered(None, adapt=http.auto_throttle)


def _last_look(visit: Visit) -> Visit:
    """What a look at a page says to which nothing leads any more: that it is gone, or nothing. One that fails for now is had again."""
    fetched = visit.fetched
    moved = fetched is not None and fetched.moved and fetched.final_url != visit.claim.url
    said = visit.failure is None or OUTCOMES[visit.failure] is Cure.GIVE_UP
    return Visit(visit.claim, visit.at, fetched, gone=moved or visit.gone, dropped=True, looked=said)


def _has_changed(claim: Claim, digest: str, reading: Reading) -> bool:
    if claim.known is None or claim.known.digest in ("", digest):
        return False
    return reading.difference is None or reading.difference.words > 0


def _is_ours(name: str) -> bool:
    return name in OURS or name.startswith(OURS_BEGIN)


def _why(error: VisitFailed) -> str:
    return f"it answered {error.message}" + (", with Retry-After" if error.retry_after_s is not None else "")


def _conditional(claim: Claim, rules: str) -> dict[str, str]:
    """RFC 9110 section 13.1. Not where an unchanged page would have to be read anew, and its body is kept no more."""
    known = claim.known
    headers: dict[str, str] = {}
    if known is None or known.final_url != claim.url or not (known.has_body or known.rules == rules != ""):
        return headers
    if known.etag and known.etag.isascii():
        plain = _ADDED_BY_APACHE.sub('"', known.etag)
        headers["If-None-Match"] = known.etag if plain == known.etag else f"{known.etag}, {plain}"
    if known.last_modified and known.last_modified.isascii():
        headers["If-Modified-Since"] = known.last_modified
    return headers
