"""Made-up sites without end: what their pages answer, hold and lead to. Pure."""

import gzip
import hashlib
import random
from dataclasses import dataclass, field

from scraper.records import Fetched, Item, Link, Reading

NEW = 3  # links of a page that no other page has
ALWAYS = 10  # links to the first pages, which every page has
OLD = 7  # links to any earlier pages
SLIDE = 2_654_435_761  # scatters numbers
HEAD = 200


@dataclass(frozen=True)
class Answer:
    """What is known of a page before it is stored: the storing side is given it, and does not work it out."""

    fetched: Fetched
    reading: Reading
    digest: str


@dataclass(frozen=True)
class Sites:
    """So many hosts, shared out among so many sources. The page n of each leads to 3n + 1, 3n + 2 and 3n + 3, and back.

    body: bytes of a page. items: on each page.
    """

    hosts: int
    sources: int
    body: int
    items: int
    _filler: list[tuple[bytes, bytes]] = field(default_factory=list, compare=False, repr=False)

    def host(self, place: int) -> str:
        """Return the name of a host."""
        return f"www.shop-{place:03}.example"

    def source(self, place: int) -> str:
        """Return the name of the source that a host belongs to."""
        return f"source-{place % self.sources:03}"

    def start(self, source: int) -> list[str]:
        """Return where a source starts: the first page of each of its hosts."""
        return [self.url(place, 0) for place in range(source, self.hosts, self.sources)]

    def url(self, place: int, number: int) -> str:
        """Return the address of a page."""
        return f"https://www.shop-{place:03}.example/catalogue/shelf-{number % 97}/a-thing-for-the-house-{number}.html"

    def links(self, place: int, number: int) -> list[str]:
        """Return the addresses that a page leads to."""
        old = [(number * SLIDE + k * 40_503) % number for k in range(OLD)] if number else []
        new = range(NEW * number + 1, NEW * number + NEW + 1)
        return [self.url(place, n) for n in dict.fromkeys([*range(ALWAYS), *old, *new]) if n != number]

    def answer(self, place: int, number: int) -> Answer:
        """Return what a page answers, and what is read from it."""
        if not self._filler:
            text = _text(self.body - HEAD)
            self._filler.append((text, gzip.compress(text, 6)))
        text, small = self._filler[0]
        url, title = self.url(place, number), f"A thing for the house, number {number} of shop {place}"
        head = f"<!doctype html><title>{title}</title>".ljust(HEAD).encode()
        body = head + text
        packed = gzip.compress(head, 1) + small
        headers = {
            "content-type": "text/html; charset=utf-8",
            "content-encoding": "gzip",
            "etag": f'"{number:x}-{place:x}"',
            "last-modified": "Tue, 01 Jul 2025 10:00:00 GMT",
            "server": "nginx",
            "cache-control": "max-age=600",
        }
        fetched = Fetched(url, url, 200, headers, body, len(packed) + 300, 0.1, 0.05, packed)
        digest = hashlib.sha256(body).hexdigest()
        links = tuple([Link(link) for link in self.links(place, number)])
        reading = Reading(title, self._items(place, number), links, simhash=int(digest[:16], 16))
        return Answer(fetched, reading, digest)

    def _items(self, place: int, number: int) -> tuple[Item, ...]:
        return tuple(
            Item(
                "product",
                f"{place:03}-{number}-{n}",
                {
                    "title": f"A thing for the house, number {number}, size {n}",
                    "price": round(number % 1000 + n / 10, 2),
                    "sku": f"{place:03}-{number}-{n}",
                    "stock": number % 7,
                    "brand": f"brand {number % 50}",
                },
            )
            for n in range(self.items)
        )


def place_of(host: str) -> int:
    """Return which host a name is."""
    return int(host[9:12])


def number_of(url: str) -> int:
    """Return the number of a page, by its address."""
    return int(url.rpartition("-")[2].removesuffix(".html"))


def depth_of(number: int) -> int:
    """Return how far from the first page a page is, by the links that lead on."""
    depth = 0
    while number:
        number, depth = (number - 1) // NEW, depth + 1
    return depth


def _text(size: int) -> bytes:
    """HTML that gzip makes a quarter of, as it does of a page."""
    chance = random.Random(1)
    words = ["".join(chance.choices("aeinorstlmdu", k=chance.randint(3, 9))) for _ in range(450)]
    text = ""
    while len(text) < size:
        text += f'<div class="row"><p class="text">{" ".join(chance.choices(words, k=14))}</p></div>\n'
    return text[:size].encode()
