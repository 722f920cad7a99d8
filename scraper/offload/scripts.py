"""Scripts of rendered pages, kept for a while."""

import re
import time
from collections import OrderedDict

from scraper.offload.browser import Wish
from scraper.records import Fetched
from scraper.urls import host_of

KEPT_BYTES = 32 * 2**20
KEPT_S = 600.0

# An age of two digits: less than two minutes.
_NOT_KEPT = re.compile(r"no-store|no-cache|private|max-age\s*=\s*\"?0*[0-9]{1,2}(?![0-9])")


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
        if found is None or wish.kind != "Script" or wish.method != "GET" or time.monotonic() - found[0] > KEPT_S:
            return None
        return found[1]

    def put(self, page: str, wish: Wish, fetched: Fetched) -> None:
        """Keep a script, as far as there is room and its site does not forbid it."""
        said = fetched.headers.get("cache-control", "").lower()
        varies = fetched.headers.get("vary", "accept-encoding").lower() != "accept-encoding"
        if wish.kind != "Script" or wish.method != "GET" or fetched.status != 200:
            return
        if varies or fetched.set_cookies or _NOT_KEPT.search(said):
            return
        name = host_of(page), wish.url
        self._bytes += len(fetched.body)
        before = self._kept.pop(name, None)
        self._bytes -= len(before[1].body) if before else 0
        self._kept[name] = (time.monotonic(), fetched)
        while self._bytes > KEPT_BYTES:
            _, (_, dropped) = self._kept.popitem(last=False)
            self._bytes -= len(dropped.body)
