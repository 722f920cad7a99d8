"""One URL to one Fetched, within size, time and redirects. Nothing else asks the network for a page."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from importlib.metadata import metadata, version
from typing import TYPE_CHECKING, Any, Protocol

from scraper import transaction
from scraper.compression import Damaged, TooLarge, inflate
from scraper.config.settings import Http
from scraper.crawl.addresses import checked_parts, networks
from scraper.crawl.http1 import RATE_LEAST, Answer, HeadersSeen, PieceSeen, Pool, Stale
from scraper.errors import Failure, VisitFailed
from scraper.records import Fetched
from scraper.urls import canonical, parts
from scraper.value import value

if TYPE_CHECKING:
    from scraper.crawl.carrier import Carrier

MAX_REDIRECTS = 10
MAX_LAYERS = 2
# What says that nothing was done to a body; most of them are charsets that a server puts into the wrong header.
NO_CODING = frozenset(
    (
        *(
            "",
            "identity",
            "none",
            "binary",
            "8bit",
            "7bit",
            "chunked",
            "text/html",
            "utf-8",
            "utf8",
            "us-ascii",
            "ascii",
        ),
        *("iso-8859-1", "iso-8859-2", "iso-8859-15", "windows-1250", "windows-1251", "windows-1252", "koi8-r"),
    )
)
SECONDS_DIGITS = 16
_SECONDS = re.compile(r"[0-9]+(?:\.[0-9]*)?", re.ASCII)
_NOTHING_LEFT = re.compile(r"0+(?:\.0+)?")
_RESET = re.compile(r"[0-9]{1,11}(?:\.[0-9]{1,9})?")
SINCE_1970 = 1e9  # what is more is no span, but a time
# The values of a header that was sent more than once: a comma within a date parts none.
_EACH = re.compile(r"(?:[A-Za-z]{3,9},\s*)?[^,\s][^,]*")
REDIRECTS = {301, 302, 303, 307, 308}
FOR_GOOD = {301, 308}
STANDING = {
    "Accept": "text/html,application/xhtml+xml,application/json;q=0.9,application/xml;q=0.9,*/*;q=0.5",
    "Accept-Encoding": "gzip, deflate",
}

Admit = Callable[[str], Awaitable[None]]


@cache
def user_agent(template: str) -> str:
    """Return the User-Agent with {version} and {url} filled in."""
    home = next((u for u in metadata("bowerbird").get_all("Project-URL") or []), "").rpartition(" ")[2]
    filled = template.replace("{version}", version("bowerbird")).replace(
        "{url}", home or "https://pypi.org/p/bowerbird"
    )
    return "".join(c for c in filled if c.isprintable())


@value
class Request:
    """What is asked of one URL. headers: beside those that every request has. trickles: the answer may come word by word."""

    url: str
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    trickles: bool = False

    def after(self, status: int, target: str) -> "Request":
        """Return what is asked of the target of a redirect (RFC 9110 section 15.4, RFC 9111 for the conditions).

        Raises VisitFailed (bad_redirect) where what was sent to one origin would be sent to another.
        """
        here, there = parts(self.url), parts(target)
        same = here.origin == there.origin or (here.host == there.host and there.scheme == "https")
        if self.body and status in (307, 308) and not same:
            said = f"a {status} to another origin, {there.origin}, which does not get what was sent"
            raise VisitFailed(Failure.BAD_REDIRECT, said)
        headers = {name: value for name, value in self.headers.items() if not name.startswith("If-")}
        if status in (307, 308) or self.method in ("GET", "HEAD"):
            return replace(self, url=target, headers=headers)
        headers.pop("Content-Type", None)
        return Request(target, "GET", headers)


class Visitor(Protocol):
    """Who asks: what he brings along to an origin, and takes from it."""

    def headers_for(self, url: str) -> Mapping[str, str]:
        """Return the headers that are for this URL's origin and no other."""

    def took(self, url: str, set_cookies: Sequence[str]) -> bool:
        """Note the cookies that a response set. Returns whether they are kept."""


class Nobody:
    """A visitor without cookies and credentials."""

    def headers_for(self, url: str) -> Mapping[str, str]:
        """Return none."""
        return {}

    def took(self, url: str, set_cookies: Sequence[str]) -> bool:
        """Take none."""
        return False


NOBODY = Nobody()


def take_all(status: int, headers: Mapping[str, str]) -> None:
    """Refuse nothing."""


@dataclass(slots=True)
class Taken:
    """What came over the network for one URL, redirects included."""

    wire_bytes: int = 0


class Fetcher:
    """Asks sites: over connections of our own, or over httpx's where a proxy or HTTP/2 is wanted."""

    def __init__(self) -> None:
        self._pool = Pool()
        self._carrier: Carrier | None = None

    async def fetch(
        self,
        request: Request,
        http: Http,
        *,
        admit: Admit,
        visitor: Visitor = NOBODY,
        may_take: HeadersSeen = take_all,
        piece_seen: PieceSeen | None = None,
        redirected: Callable[[Mapping[str, str]], None] = lambda headers: None,
        follows: bool = True,
    ) -> Fetched:
        """Return what a URL answers in the end, redirects followed, within one deadline for all of it.

        follows: redirects are followed; else one is an answer like any other.

        admit: called with the target of each redirect; waits for its turn, which does not count, or raises VisitFailed.
        may_take: called with the status and the headers; raises VisitFailed to refuse the body unread.
        piece_seen: given each piece of the body as it comes, as it is on the wire; a carried request has none.
        redirected: called with the headers of each redirect before it is followed; raises VisitFailed to follow it no further.
        Raises VisitFailed.
        """
        taken = Taken()
        try:
            return await self._fetch(
                request, http, taken, admit, visitor, may_take, piece_seen, redirected, follows=follows
            )
        except VisitFailed as failed:
            failed.wire_bytes += taken.wire_bytes
            raise

    async def _fetch(
        self,
        request: Request,
        http: Http,
        taken: "Taken",
        admit: Admit,
        visitor: Visitor,
        may_take: HeadersSeen,
        piece_seen: PieceSeen | None,
        redirected: Callable[[Mapping[str, str]], None],
        *,
        follows: bool,
    ) -> Fetched:
        transaction.forbid(f"{request.url} was asked for")
        first = request.url
        left_s = http.timeout
        elapsed_s, seen = 0.0, {first}
        statuses: set[int] = set()
        for _ in range(MAX_REDIRECTS + 1):
            began = time.monotonic()
            try:
                answer = await self._ask(request, http, visitor, (may_take, piece_seen), left_s)
            except Stale:  # it may have reached the server: ask again in turn, on a new connection
                await admit(request.url)
                began = time.monotonic()
                answer = await self._ask(request, http, visitor, (may_take, piece_seen), left_s, fresh=True)
            spent_s = time.monotonic() - began
            left_s -= spent_s
            elapsed_s += spent_s
            taken.wire_bytes += answer.wire_bytes
            gate = bool(answer.set_cookies)
            if gate and visitor.took(request.url, answer.set_cookies):
                gate = False
                seen.clear()  # who comes back with cookies may get another answer
            if answer.status not in REDIRECTS or not follows:
                done = _fetched(first, request.url, answer, http.max_body, taken.wire_bytes, elapsed_s)
                return replace(done, moved=True) if statuses and statuses <= FOR_GOOD else done
            target = _target(request.url, answer)
            redirected(answer.headers)
            if target in seen:
                wants = "; it sets a cookie, which http = { cookies = true } would keep" if gate else ""
                said = f"redirects in a circle, by {target.partition('?')[0]}{wants}"
                raise VisitFailed(Failure.TOO_MANY_REDIRECTS, said)
            seen.add(target)
            statuses.add(answer.status)
            request = request.after(answer.status, target)
            await admit(target)
        raise VisitFailed(Failure.TOO_MANY_REDIRECTS, f"more than {MAX_REDIRECTS} redirects")

    async def _ask(
        self,
        request: Request,
        http: Http,
        visitor: Visitor,
        seen: tuple[HeadersSeen, PieceSeen | None],
        left_s: float,
        *,
        fresh: bool = False,
    ) -> Answer:
        answered = False
        may_take, piece_seen = seen

        def screen(status: int, received: Mapping[str, str]) -> None:
            nonlocal answered
            answered = True
            if status in REDIRECTS:
                return
            length = received.get("content-length", "")
            if length.isdigit() and int(length) > http.max_body:
                raise VisitFailed(Failure.BODY_TOO_LARGE, f"announces {length} bytes; at most {http.max_body} are read")
            may_take(status, received)

        headers = {"User-Agent": user_agent(http.user_agent), **STANDING}
        headers = _merged(headers, request.headers, visitor.headers_for(request.url))
        try:
            async with asyncio.timeout(max(0.0, left_s)):
                if http.proxy or http.http2:
                    return await self._carried(request, http, headers, screen, fresh=fresh)
                return await self._pool.ask(
                    request.method,
                    request.url,
                    headers,
                    request.body,
                    http.max_body,
                    screen,
                    networks(http.allow_networks),
                    fresh=fresh,
                    least_rate=0 if request.trickles else RATE_LEAST,
                    piece_seen=piece_seen,
                )
        except TimeoutError:
            message = f"no complete answer within {http.timeout:g} s"
            raise VisitFailed(Failure.TIMEOUT, message, answered=answered) from None

    async def _carried(
        self, request: Request, http: Http, headers: Mapping[str, str], screen: HeadersSeen, *, fresh: bool
    ) -> Answer:
        from scraper.crawl.carrier import Carrier  # noqa: PLC0415  0.1 s that only those pay who ask for it

        if self._carrier is None:
            self._carrier = Carrier()
        way = (http.proxy, http.http2, networks(http.allow_networks))
        asked = (request.method, request.url, headers, request.body, http.max_body, screen)
        return await self._carrier.ask(way, *asked, fresh=fresh)

    def prune(self) -> None:
        """Close connections that have been idle for too long."""
        self._pool.prune()

    async def close(self) -> None:
        """Drop all connections."""
        self._pool.close()
        if self._carrier is not None:
            await self._carrier.close()
        await asyncio.sleep(0)  # lets closed connections leave the loop


def _fetched(url: str, final: str, answer: Answer, max_body: int, wire_bytes: int, elapsed_s: float) -> Fetched:
    coding = answer.headers.get("content-encoding", "")
    raw = bytes(answer.body)
    body = decoded(raw, coding, max_body) if coding else raw
    packed = raw if coding == "gzip" and body and len(raw) < len(body) else b""
    return Fetched(
        url,
        final,
        answer.status,
        answer.headers,
        body,
        wire_bytes,
        elapsed_s,
        answer.latency_s,
        packed,
        tuple(answer.set_cookies),
    )


def _merged(ours: dict[str, str], *more: Mapping[str, str]) -> dict[str, str]:
    """Headers of several origins: the later ones in place of the earlier, in whatever case they are named; cookies beside each other."""
    if not any(more):
        return ours
    names = {name.lower(): name for name in ours}
    for headers in more:
        for name, said in headers.items():
            before = names.setdefault(name.lower(), name)
            beside = before in ours and name.lower() == "cookie"
            ours[before] = _cookies(ours[before], said) if beside else said
    return ours


def _cookies(before: str, after: str) -> str:
    """Two Cookie headers as one, each name once, with its later value."""
    found = {each.partition("=")[0].strip(): each.strip() for said in (before, after) for each in said.split(";")}
    return "; ".join(each for each in found.values() if each)


def _target(url: str, answer: Answer) -> str:
    location = answer.headers.get("location", "")
    if not location.isascii() and all(ord(c) < 256 for c in location):  # header bytes, most likely UTF-8
        octets = location.encode("latin-1")
        try:
            location = octets.decode()
        except UnicodeDecodeError:
            location = "".join(chr(octet) if octet < 128 else f"%{octet:02X}" for octet in octets)
    target = canonical(location, url) if location else None
    if target is None:
        raise VisitFailed(Failure.BAD_REDIRECT, f"a {answer.status} without a usable Location: {location[:200]!r}")
    checked_parts(target)
    return target


def decoded(body: bytes, encoding: str, limit: int) -> bytes:
    """Return a body without its content encodings, never more than limit bytes.

    Raises VisitFailed: decode (unknown coding, damaged or cut data), decoded_too_large.
    """
    layers = [name for part in encoding.split(",") if (name := part.strip().lower()) not in NO_CODING]
    if len(layers) > MAX_LAYERS:
        raise VisitFailed(Failure.DECODE, f"{len(layers)} content encodings on top of each other")
    for name in reversed(layers):
        if name not in ("gzip", "x-gzip", "deflate"):
            raise VisitFailed(Failure.DECODE, f"the content encoding {name[:40]!r} was not asked for")
        try:
            body = inflate(body, limit) if body else body
        except TooLarge as error:
            raise VisitFailed(Failure.DECODED_TOO_LARGE, str(error)) from None
        except Damaged as error:
            raise VisitFailed(Failure.DECODE, str(error)) from None
    return body


def refuse_overloaded(status: int, headers: Mapping[str, str], now: datetime) -> None:
    """Refuse an answer that says that its server has too much to do, or is broken. Raises VisitFailed, with what it asks for."""
    used_up_s = _used_up_s(headers, now) if status in (403, 429) else None
    if status == 429 or used_up_s is not None:
        said = "429 Too Many Requests" if status == 429 else f"{status}, and all requests of this while are used up"
        asked_s = retry_after(headers, now)
        raise VisitFailed(Failure.RATE_LIMITED, said, retry_after_s=used_up_s if asked_s is None else asked_s)
    if status >= 500:
        raise VisitFailed(Failure.HTTP_5XX, f"{status} from the server", retry_after_s=retry_after(headers, now))


def retry_after(headers: Mapping[str, Any], now: datetime) -> float | None:
    """Return the seconds that a Retry-After header asks for, as seconds or as a date (RFC 9110 section 10.2.3)."""
    value = str(headers.get("retry-after", "")).strip()
    if not value:
        return None
    found = [_wait_s(said, now) for said in _EACH.findall(value)]  # a proxy and the site may both say it
    return max((seconds for seconds in found if seconds is not None), default=None)


def _used_up_s(headers: Mapping[str, Any], now: datetime) -> float | None:
    """Return after how many seconds an API that counts requests allows some again, None if it does not say so.

    By X-RateLimit-Remaining and -Reset, the latter seconds from now or since 1970, as GitHub, Reddit and others have them.
    """
    left, reset = (str(headers.get(f"x-ratelimit-{name}", "")).strip() for name in ("remaining", "reset"))
    if not _NOTHING_LEFT.fullmatch(left) or not _RESET.fullmatch(reset):
        return None
    seconds = float(reset)
    return max(0.0, seconds - now.timestamp()) if seconds >= SINCE_1970 else seconds


def _wait_s(said: str, now: datetime) -> float | None:
    if _SECONDS.fullmatch(said):
        return float("0" + said.lstrip("0")[:SECONDS_DIGITS])
    try:
        at = parsedate_to_datetime(said)
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
        return max(0.0, (at - now).total_seconds())
    except (ValueError, IndexError, TypeError, OverflowError):
        return None
