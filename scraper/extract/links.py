"""Which links of a page are followed."""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from scraper import traps
from scraper.errors import VisitFailed
from scraper.extract.page import LINKING, Page
from scraper.extract.select import compiled_css
from scraper.records import Link
from scraper.urls import BLANKS, Scope, canonical, is_web

MAX_LINKS = 10_000
MAX_REFUSED = 5
REMEMBERED = 10_000
# Files that hold no page; asking for them costs the site more than us.
_FILES = re.compile(
    r"7z|aac|ai|apk|avi|avif|bin|bmp|bz2|cab|css|deb|dmg|docx?|eot|epub|exe|flac|flv|gif|gz|ico|iso|jar|jpe?g|js|"
    r"m4[av]|mid|mkv|mov|mp3|mp4|mpe?g|msi|odp|ods|odt|og[gv]|otf|pdf|png|pptx?|ps|psd|rar|rpm|rtf|svgz?|swf|tar|tgz|"
    r"tiff?|ttf|wav|web[amp]|wm[av]|woff2?|xlsx?|xz|zip|zst",
    re.IGNORECASE,
)

UNKNOWN = object()
Found = Any  # Link; why it is taken for a trap; None: it is not the source's

Refused = tuple[tuple[str, str], ...]


class Linker:
    """From the references of a source's pages to the links that are followed.

    The same references come again on page after page: what each one leads to is remembered, up to a bound.
    """

    def __init__(self, scope: Scope, year: int, *, polite: bool, chosen: bool = False) -> None:
        """year: the present one. polite: rel=nofollow is obeyed. chosen: by a person, so one that looks like a file's is followed too."""
        self._scope = scope
        self._year = year
        self._polite = polite
        self._chosen = chosen
        self._known: dict[str, dict[str, Found]] = {}
        self._count = 0

    def followed(self, page: Page, follow: tuple[str, ...] | bool) -> tuple[tuple[Link, ...], Refused]:
        """Return the links of a page that its source follows, canonical, each once, in the order of the page.

        And those that are taken for a trap, with the reason, some of them.
        """
        if page.is_json:
            return self.resolve(_urls_in(page), page) if follow is True else ((), ())
        if not follow:
            return (), ()
        return self.resolve(self._references(page, follow), page)

    def resolve(self, references: Iterable[str], page: Page) -> tuple[tuple[Link, ...], Refused]:
        """Return what references lead to, as far as it belongs to the source."""
        base = page.base_url
        path = base.partition("?")[0]
        of_origin = self._table("/".join(path.split("/", 3)[:3]))
        of_folder = self._table(path.rpartition("/")[0] + "/")
        absolute = self._table("")
        links: dict[str, Link] = {}
        refused: dict[str, str] = {}
        for found_there in references:
            reference = found_there.strip(BLANKS)
            if not reference.isascii():
                reference = page.encoded(reference)
            first = reference[:1]
            if first == "/":
                table = of_origin
            elif first in ("?", "#", "") or reference.startswith(("http:", "https:")) and "//" not in reference[5:8]:
                table = {}
            else:
                table = absolute if reference.startswith(("http://", "https://")) else of_folder
            found = table.get(reference, UNKNOWN)
            if found is UNKNOWN:
                found = table[reference] = self._judge(reference.partition("#")[0], base)
                self._count += 1
            if isinstance(found, Link):
                if len(links) >= MAX_LINKS and found.url not in links:
                    refused[f"more than {MAX_LINKS} links on one page"] = found.url
                    break
                links[found.url] = found
            elif isinstance(found, str) and len(refused) < MAX_REFUSED:
                refused.setdefault(found, canonical(reference, base) or "")
        return tuple(links.values()), tuple((url, reason) for reason, url in refused.items())

    def _table(self, where: str) -> dict[str, Found]:
        """What references lead to from one place, as far as it is remembered."""
        if self._count >= REMEMBERED:
            self._known.clear()
            self._count = 0
        return self._known.setdefault(where, {})

    def _judge(self, reference: str, base: str) -> Link | str | None:
        """The link, or why it is taken for a trap, or None if it is not the source's."""
        if not reference.strip():
            return None
        url = canonical(reference, base)
        if url is None or not is_web(url) or not self._scope.admits(url):
            return None
        if not self._chosen and _FILES.fullmatch(_ending(url)):
            return None
        return traps.fault(url, self._year) or Link(url)

    def _references(self, page: Page, follow: tuple[str, ...] | bool) -> Iterator[str]:
        if follow is True:
            yield from self._hrefs(page.linking())
            return
        for selector in follow if isinstance(follow, tuple) else ():
            found: Any = compiled_css(selector, page.is_xml)(page.root)
            for match in found:
                if isinstance(match, str):
                    yield match
                elif match.tag not in LINKING and (href := match.get("href")) is not None:
                    yield href
                else:
                    yield from self._hrefs(match.iter(*LINKING))

    def _hrefs(self, elements: Iterable[Any]) -> Iterator[str]:
        """What these elements refer to, save those that ask not to be followed."""
        for element in elements:
            href = element.get("href")
            if href is None and element.tag == "frame":
                href = element.get("src")
            if href is None or self._polite and (rel := element.get("rel")) and "nofollow" in rel.lower().split():
                continue
            yield href


def _ending(url: str) -> str:
    """What stands after the last dot of a path."""
    path = url.partition("?")[0]
    return path[path.rfind(".") + 1 :]


def _urls_in(page: Page) -> Iterator[str]:
    """The addresses that a page of JSON names in full, in order."""
    try:
        waiting = [page.json()]
    except VisitFailed:  # a page may be stored all the same
        return
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            if one.startswith(("http://", "https://")):
                yield one
        else:
            waiting.extend(
                reversed(list(one.values()) if isinstance(one, dict) else one if isinstance(one, list) else [])
            )
