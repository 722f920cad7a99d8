"""One URL to one Fetched, within size, time and redirects. Nothing else asks the network for a page."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from importlib.metadata import metadata, version
from typing import Any

from scraper.config.settings import Http
from scraper.crawl.addresses import checked_parts, networks
from scraper.crawl.http1 import Answer, HeadersSeen, Pool, Stale
from scraper.errors import Failure, VisitFailed
from scraper.inflate import Damaged, TooLarge, inflate
from scraper.records import Fetched
from scraper.urls import canonical

MAX_REDIRECTS = 10
MAX_LAYERS = 2
REDIRECTS = {301, 302, 303, 307, 308}
ACCEPT = "text/html,application/xhtml+xml,application/json;q=0.9,application/xml;q=0.9,*/*;q=0.5"

Admit = Callable[[str], Awaitable[None]]


@cache
def user_agent(template: str) -> str:
    """Return the User-Agent with {version} and {url} filled in."""
    home = next((u for u in metadata("bowerbird").get_all("Project-URL") or []), "").rpartition(" ")[2]
    filled = template.replace("{version}", version("bowerbird")).replace(
        "{url}", home or "https://pypi.org/p/bowerbird"
    )
    return "".join(c for c in filled if c.isprintable())


class Fetcher:
    """Asks sites, directly or through a proxy."""

    def __init__(self) -> None:
        self._pool = Pool()

    async def fetch(
        self,
        url: str,
        http: Http,
        *,
        admit: Admit,
        headers: Mapping[str, str] | None = None,
        may_take: HeadersSeen = lambda status, headers: None,
    ) -> Fetched:
        """Return what a URL answers in the end, redirects followed.

        admit: called with the target of each redirect; waits for its turn, or raises VisitFailed.
        may_take: called with the status and the headers; raises VisitFailed to refuse the body unread.
        Raises VisitFailed.
        """
        asked = {
            "User-Agent": user_agent(http.user_agent),
            "Accept": ACCEPT,
            "Accept-Encoding": "gzip, deflate",
            **(headers or {}),
        }
        began = time.monotonic()
        current, wire_bytes, seen = url, 0, {url}
        for _ in range(MAX_REDIRECTS + 1):
            try:
                answer = await self._ask(current, http, asked, may_take)
            except Stale:  # it may have reached the server: ask again in turn, on a new connection
                await admit(current)
                answer = await self._ask(current, http, asked, may_take, fresh=True)
            wire_bytes += answer.wire_bytes
            if answer.status not in REDIRECTS:
                body = decoded(bytes(answer.body), answer.headers.get("content-encoding", ""), http.max_body)
                elapsed = time.monotonic() - began
                return Fetched(url, current, answer.status, answer.headers, body, wire_bytes, elapsed)
            current = self._target(current, answer)
            if current in seen:
                raise VisitFailed(Failure.TOO_MANY_REDIRECTS, f"redirects in a circle, by {current}")
            seen.add(current)
            asked = {name: value for name, value in asked.items() if not name.startswith("If-")}
            await admit(current)
        raise VisitFailed(Failure.TOO_MANY_REDIRECTS, f"more than {MAX_REDIRECTS} redirects")

    @staticmethod
    def _target(url: str, answer: Answer) -> str:
        location = answer.headers.get("location", "")
        if all(ord(c) < 256 for c in location):  # header bytes, most likely UTF-8
            location = location.encode("latin-1").decode("utf-8", "replace")
        target = canonical(location, url) if location else None
        if target is None:
            raise VisitFailed(Failure.BAD_REDIRECT, f"a {answer.status} without a usable Location: {location[:200]!r}")
        checked_parts(target)
        return target

    async def _ask(
        self, url: str, http: Http, headers: Mapping[str, str], may_take: HeadersSeen, *, fresh: bool = False
    ) -> Answer:
        def screen(status: int, received: Mapping[str, str]) -> None:
            if status in REDIRECTS:
                return
            length = received.get("content-length", "")
            if length.isdigit() and int(length) > http.max_body:
                raise VisitFailed(Failure.BODY_TOO_LARGE, f"announces {length} bytes; at most {http.max_body} are read")
            may_take(status, received)

        try:
            async with asyncio.timeout(http.timeout):
                if http.proxy:
                    return await _through_proxy(url, http, headers, screen)
                allowed = networks(http.allow_networks)
                return await self._pool.get(url, headers, http.max_body, screen, allowed, fresh=fresh)
        except TimeoutError:
            raise VisitFailed(Failure.TIMEOUT, f"no complete answer within {http.timeout:g} s") from None

    def prune(self) -> None:
        """Close connections that have been idle for too long."""
        self._pool.prune()

    def close(self) -> None:
        """Drop all connections."""
        self._pool.close()


async def _through_proxy(url: str, http: Http, headers: Mapping[str, str], screen: HeadersSeen) -> Answer:
    import httpx  # noqa: PLC0415  0.1 s that only those who use a proxy pay

    checked_parts(url)
    answer = Answer()
    try:
        async with (
            httpx.AsyncClient(proxy=http.proxy, trust_env=False, timeout=http.timeout) as client,
            client.stream("GET", url, headers=dict(headers)) as response,
        ):
            answer.status = response.status_code
            answer.headers = {name.lower(): value for name, value in response.headers.items()}
            screen(answer.status, answer.headers)
            async for chunk in response.aiter_raw():
                answer.wire_bytes += len(chunk)
                if answer.wire_bytes > http.max_body:
                    raise VisitFailed(Failure.BODY_TOO_LARGE, f"the body is longer than {http.max_body} bytes")
                answer.body += chunk
    except httpx.TimeoutException:
        raise TimeoutError from None
    except (httpx.ProxyError, httpx.ConnectError) as error:
        raise VisitFailed(Failure.CONNECT, f"through the proxy: {error}") from None
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
        raise VisitFailed(Failure.PROTOCOL, f"through the proxy: {error}") from None
    return answer


def decoded(body: bytes, encoding: str, limit: int) -> bytes:
    """Return a body without its content encodings, never more than limit bytes.

    Raises VisitFailed: decode (unknown coding, damaged or cut data), decoded_too_large.
    """
    layers = [name.strip().lower() for name in encoding.split(",") if name.strip().lower() not in ("", "identity")]
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


def retry_after(headers: Mapping[str, Any], now: datetime) -> float | None:
    """Return the seconds that a Retry-After header asks for, as seconds or as a date (RFC 9110 section 10.2.3)."""
    value = str(headers.get("retry-after", "")).strip()
    if value.isascii() and value.isdigit():
        return float(value[:10])
    try:
        at = parsedate_to_datetime(value)
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
        return max(0.0, (at - now).total_seconds())
    except (ValueError, IndexError, TypeError, OverflowError):
        return None
