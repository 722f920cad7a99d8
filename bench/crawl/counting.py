"""Whether a crawl is whole: what of the shop was lost, what is there twice, what is wrong. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from bench.crawl.shop import FIELDS, Shop, product
from bench.crawl.site import Asked


@dataclass(frozen=True)
class Count:
    """How many pages and products there should be, and what became of them."""

    pages: int  # that were fetched or, where pages are kept, kept
    lost: int
    doubled: int  # rows that are there twice
    refetched: int  # pages that were asked for again
    products: int
    products_lost: int
    products_doubled: int
    products_wrong: int


def counted(
    shop: Shop, hosts: Sequence[str], asked: Asked, urls: Iterable[str] | None, rows: Sequence[Mapping[str, str | None]]
) -> Count:
    """Hold what was asked of the site and what was kept against the shop.

    urls: of the pages that were kept; None: the crawler keeps products alone, and a page counts when it was fetched.
    """
    wanted = {(host, path) for host in hosts for path in shop.paths()}
    fetched = Counter({page: times for page, times in asked.pages.items() if page in wanted})
    found = fetched if urls is None else Counter(_place(url) for url in urls)
    times = Counter(row.get("sku") or "" for row in rows)
    return Count(
        pages=len(found.keys() & wanted),
        lost=len(wanted - found.keys()),
        doubled=0 if urls is None else found.total() - len(found),
        refetched=fetched.total() - len(fetched),
        products=times.total(),
        products_lost=sum(max(0, len(hosts) - times[product(number)["sku"]]) for number in range(shop.products)),
        products_doubled=sum(max(0, seen - len(hosts)) for seen in times.values()),
        products_wrong=sum(not right(row) for row in rows),
    )


def right(row: Mapping[str, str | None]) -> bool:
    """Say whether the fields of a product are what its page says."""
    number = (row.get("sku") or "").removeprefix("SKU-")
    if not number.isdigit():
        return False
    expected = product(int(number))
    return all((row.get(name) or "").strip() == expected[name] for name in FIELDS)


def _place(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.path
