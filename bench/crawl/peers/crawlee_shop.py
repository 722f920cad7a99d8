"""The shop by Crawlee's Parsel crawler, 32 requests at a time. Keeps products as JSON lines."""

import asyncio
import json
import sys
from pathlib import Path

from crawlee import ConcurrencySettings
from crawlee.crawlers import ParselCrawler, ParselCrawlingContext
from crawlee.storage_clients import MemoryStorageClient


async def crawl(start: str, folder: Path) -> None:
    """Crawl the shop."""
    crawler = ParselCrawler(
        concurrency_settings=ConcurrencySettings(min_concurrency=32, desired_concurrency=32, max_concurrency=32),
        storage_client=MemoryStorageClient(),
        configure_logging=False,
    )

    @crawler.router.default_handler
    async def handle(context: ParselCrawlingContext) -> None:
        for found in context.selector.css("article.product"):
            await context.push_data(
                {
                    "title": found.css("h1::text").get(),
                    "price": found.css(".amount::text").get(),
                    "sku": found.css(".sku::text").get(),
                    "stock": found.css(".product__stock::text").get(),
                    "brand": found.css(".brand::text").get(),
                }
            )
        await context.enqueue_links()

    await crawler.run([start])
    kept = await crawler.get_data()
    lines = [json.dumps(row) + "\n" for row in kept.items]
    (folder / "products.jsonl").write_text("".join(lines))


if __name__ == "__main__":
    asyncio.run(crawl(sys.argv[1], Path(sys.argv[2])))
