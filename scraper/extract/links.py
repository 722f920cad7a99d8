"""Which links of a page are followed."""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from lxml import etree

from scraper.extract.page import Page
from scraper.extract.select import compiled_css, compiled_xpath
from scraper.records import Link
from scraper.urls import Scope, canonical, is_web

MAX_LINKS = 10_000
_HREFS = "descendant-or-self::*[self::a or self::area][@href]/@href"
# Files that hold no page; asking for them costs the site more than us.
_FILES = re.compile(
    r"\.(?:7z|aac|ai|apk|avi|avif|bin|bmp|bz2|cab|css|deb|dmg|docx?|eot|epub|exe|flac|flv|gif|gz|ico|iso|jar|jpe?g|js|"
    r"m4[av]|mid|mkv|mov|mp3|mp4|mpe?g|msi|odp|ods|odt|og[gv]|otf|pdf|png|pptx?|ps|psd|rar|rpm|rtf|svgz?|swf|tar|tgz|"
    r"tiff?|ttf|wav|web[mp]|wm[av]|woff2?|xlsx?|xz|zip|zst)(?:\?|$)",
    re.IGNORECASE,
)


def followed(page: Page, follow: tuple[str, ...] | bool, scope: Scope) -> tuple[Link, ...]:
    """Return the links of a page that its source follows, canonical, each once, in the order of the page."""
    if not follow or page.is_json:
        return ()
    hrefs = _hrefs(page.root, follow if isinstance(follow, tuple) else (":root",))
    return tuple(Link(url) for url in _in_scope(hrefs, page.base_url, scope))


def in_scope(urls: Iterable[str], page: Page, scope: Scope) -> tuple[Link, ...]:
    """Return the URLs that a parser asked to follow, as far as they belong to its source."""
    return tuple(Link(url) for url in _in_scope(urls, page.base_url, scope))


def _hrefs(root: "etree._Element", selectors: tuple[str, ...]) -> Iterator[str]:
    inner: Any = compiled_xpath(_HREFS)
    for selector in selectors:
        found: Any = compiled_css(selector)(root)
        for match in found:
            if isinstance(match, str):
                yield match
            else:
                yield from inner(match)


def _in_scope(hrefs: Iterable[str], base: str, scope: Scope) -> list[str]:
    found: dict[str, bool] = {}
    seen: set[str] = set()
    for href in hrefs:
        reference = href.partition("#")[0]  # most links of a page differ in their fragment alone
        if not reference.strip() or reference in seen:
            continue
        seen.add(reference)
        url = canonical(reference, base)
        if url is None or url in found or not is_web(url):
            continue
        found[url] = _FILES.search(url.partition("?")[0]) is None and scope.admits(url)
        if len(found) >= MAX_LINKS:
            break
    return [url for url, wanted in found.items() if wanted]
