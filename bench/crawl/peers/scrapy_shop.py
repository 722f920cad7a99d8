"""The shop by Scrapy, told to be quick: no delay, 32 requests at a time. Keeps products as JSON lines.

careful: the spider remembers itself which links it has asked for, instead of leaving that to Scrapy's filter.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from scrapy import Request, Spider
from scrapy.crawler import CrawlerProcess
from scrapy.http import TextResponse
from scrapy.linkextractors import LinkExtractor


def product(response: TextResponse) -> Iterator[dict[str, Any]]:
    """Yield the product of a page, if it has one."""
    for found in response.css("article.product"):
        yield {
            "title": found.css("h1::text").get(),
            "price": found.css(".amount::text").get(),
            "sku": found.css(".sku::text").get(),
            "stock": found.css(".product__stock::text").get(),
            "brand": found.css(".brand::text").get(),
        }


class Shop(Spider):
    """Follows every link, as its guide has it."""

    name = "shop"

    def __init__(self, start: str, **given: Any) -> None:
        super().__init__(**given)
        self.start_urls = [start]
        self.links = LinkExtractor()

    def parse(self, response: TextResponse) -> Iterator[Any]:
        """Yield the product and what to follow."""
        yield from product(response)
        yield from (Request(link.url) for link in self.links.extract_links(response))


class Careful(Spider):
    """Follows every link that it has not followed yet."""

    name = "careful"

    def __init__(self, start: str, **given: Any) -> None:
        super().__init__(**given)
        self.start_urls = [start]
        self.seen = {start}

    def parse(self, response: TextResponse) -> Iterator[Any]:
        """Yield the product and what to follow."""
        yield from product(response)
        for href in set(response.css("a::attr(href)").getall()):
            url = urljoin(response.url, href).partition("#")[0]
            if url not in self.seen and url.startswith("http"):
                self.seen.add(url)
                yield Request(url, dont_filter=True)


def main() -> None:
    """Crawl the shop."""
    parser = argparse.ArgumentParser()
    parser.add_argument("start")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--jobdir", action="store_true")
    parser.add_argument("--careful", action="store_true")
    given = parser.parse_args()
    settings: dict[str, Any] = {
        "CONCURRENT_REQUESTS": 32,
        "CONCURRENT_REQUESTS_PER_DOMAIN": 32,
        "DOWNLOAD_DELAY": 0,
        "LOG_LEVEL": "ERROR",
        "TELNETCONSOLE_ENABLED": False,
        "FEEDS": {str(given.folder / "products.jsonl"): {"format": "jsonlines"}},
    }
    if given.jobdir:
        settings["JOBDIR"] = str(given.folder / "job")
    process = CrawlerProcess(settings)
    process.crawl(Careful if given.careful else Shop, start=given.start)
    process.start()


if __name__ == "__main__":
    main()
