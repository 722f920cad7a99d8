"""Scripts of rendered pages, kept for a while."""

import re
import time
from collections import OrderedDict
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from scraper.offload.browser import Wish
from scraper.records import Fetched
from scraper.urls import host_of

KEPT_BYTES = 32 * 2**20
KEPT_S = 600.0

_NOT_KEPT = re.compile(r"no-store|no-cache|private|must-understand")
_MAX_AGE = re.compile(r"(?<![a-z-])max-age\s*=\s*\"?([0-9]{1,9})")


def fresh_s(headers: Mapping[str, str]) -> float:
    """Return for how many seconds an answer holds (RFC 9111 section 4.2); where it does not say, for some minutes if it is a file. Pure."""
    said = headers.get("cache-control", "").lower()
    if _NOT_KEPT.search(said) or (not said and "no-cache" in headers.get("pragma", "").lower()):
        return 0.0
    age = headers.get("age", "")
    aged_s = float(age) if age.isascii() and age.isdigit() else 0.0
    if found := _MAX_AGE.search(said):
        return float(found[1]) - aged_s
    if "expires" in headers:
        try:
            began = parsedate_to_datetime(headers["date"]) if "date" in headers else datetime.now(UTC)
            return (parsedate_to_datetime(headers["expires"]) - began).total_seconds() - aged_s
        except (ValueError, TypeError, IndexError, OverflowError):
            return 0.0
    return KEPT_S if "last-modified" in headers or "etag" in headers else 0.0


class Scripts:
    """Scripts that were fetched lately: the same on page after page of a host, and asked of their site once.

    What depends on who asks is not kept (RFC 9111 sections 3.5, 4.1).
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, str], tuple[float, Fetched]] = OrderedDict()
        self._bytes = 0

    def get(self, page: str, wish: Wish) -> Fetched | None:
        """Return what is kept, if it is fresh. page: the address of the page that asks."""
        found = self._kept.get((host_of(page), wish.url))
        if found is None or wish.kind != "Script" or wish.method != "GET" or time.monotonic() > found[0]:
            return None
        return found[1]

    def put(self, page: str, wish: Wish, fetched: Fetched) -> None:
        """Keep a script, as far as there is room and its site does not forbid it."""
        holds_s = min(fresh_s(fetched.headers), KEPT_S)
        varies = fetched.headers.get("vary", "accept-encoding").lower() != "accept-encoding"
        if wish.kind != "Script" or wish.method != "GET" or fetched.status != 200:
            return
        if varies or fetched.set_cookies or holds_s <= 0:
            return
        name = host_of(page), wish.url
        self._bytes += len(fetched.body)
        before = self._kept.pop(name, None)
        self._bytes -= len(before[1].body) if before else 0
        self._kept[name] = (time.monotonic() + holds_s, fetched)
        while self._bytes > KEPT_BYTES:
            _, (_, dropped) = self._kept.popitem(last=False)
            self._bytes -= len(dropped.body)
