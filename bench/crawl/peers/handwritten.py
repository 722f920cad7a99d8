"""What a good engineer writes in an afternoon: aiohttp, lexbor, and SQLite for pages, products and what is still to do.

It goes on where it was, stores in batches, and never asks for a page twice. It keeps no history, and bodies (as they
came, compressed) only with --bodies; it knows no robots.txt and no retries, and nothing watches it: it is the floor of what
such a crawl costs, not a replacement.
"""

import argparse
import asyncio
import gzip
import sqlite3
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urljoin

import aiohttp
from selectolax.lexbor import LexborHTMLParser, LexborNode

WORKERS = 32
BATCH = 50
TABLES = """
PRAGMA journal_mode = wal;
PRAGMA synchronous = normal;
CREATE TABLE IF NOT EXISTS urls (url TEXT PRIMARY KEY, done INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS pages (url TEXT PRIMARY KEY, status INTEGER, title TEXT, etag TEXT, fetched_at REAL, body BLOB);
CREATE TABLE IF NOT EXISTS products (sku TEXT PRIMARY KEY, url TEXT, title TEXT, price TEXT, stock TEXT, brand TEXT);
"""


def text(node: LexborNode | None) -> str | None:
    """Return the text of what was found, if it was."""
    return node.text(strip=True) if node is not None else None


@dataclass
class Store:
    """The database, and what is to go into it with the next commit."""

    file: Path
    urls: list[tuple[str]] = field(default_factory=list)
    done: list[tuple[str]] = field(default_factory=list)
    pages: list[tuple[str, int, str | None, str | None, float, bytes | None]] = field(default_factory=list)
    products: list[tuple[str | None, ...]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.connection = sqlite3.connect(self.file)
        self.connection.executescript(TABLES)

    def flush(self) -> None:
        """Commit what has come together."""
        with self.connection as to:
            to.executemany("INSERT OR IGNORE INTO urls (url) VALUES (?)", self.urls)
            to.executemany("UPDATE urls SET done = 1 WHERE url = ?", self.done)
            to.executemany("INSERT OR REPLACE INTO pages VALUES (?, ?, ?, ?, ?, ?)", self.pages)
            to.executemany("INSERT OR REPLACE INTO products VALUES (?, ?, ?, ?, ?, ?)", self.products)
        for rows in (self.urls, self.done, self.pages, self.products):
            rows.clear()


class Crawl:
    """A queue, a set of what is known, and workers."""

    def __init__(self, start: str, store: Store, bodies: bool) -> None:
        self.host = start.split("/")[2]
        self.store = store
        self.bodies = bodies
        self.known: set[str] = set()
        self.queue: asyncio.Queue[str] = asyncio.Queue()
        waiting: deque[str] = deque()
        for url, done in store.connection.execute("SELECT url, done FROM urls"):
            self.known.add(url)
            if not done:
                waiting.append(url)
        for url in waiting:
            self.queue.put_nowait(url)
        self.add(start)

    def add(self, url: str) -> None:
        """Remember a URL to visit, unless it is known."""
        if url not in self.known:
            self.known.add(url)
            self.store.urls.append((url,))
            self.queue.put_nowait(url)

    async def work(self, session: aiohttp.ClientSession) -> None:
        """Visit one URL after the other."""
        while True:
            url = await self.queue.get()
            try:
                async with session.get(url) as response:
                    body = await response.read()
                if response.status == 200 and response.content_type == "text/html":
                    self.read(url, body, response)
            except (aiohttp.ClientError, TimeoutError) as error:
                print(url, error, file=sys.stderr)
            finally:
                self.store.done.append((url,))
                if len(self.store.done) >= BATCH:
                    self.store.flush()
                self.queue.task_done()

    def read(self, url: str, body: bytes, response: aiohttp.ClientResponse) -> None:
        """Take page, product and links."""
        packed = response.headers.get("Content-Encoding") == "gzip"
        page = LexborHTMLParser(gzip.decompress(body) if packed and self.bodies else body)
        title, etag = text(page.css_first("title")), response.headers.get("ETag")
        self.store.pages.append((url, 200, title, etag, time.time(), body if self.bodies else None))
        product = page.css_first("article.product")
        if product is not None:
            found = {name: text(product.css_first(css)) for name, css in FIELDS.items()}
            self.store.products.append((found["sku"], url, *(found[n] for n in ("title", "price", "stock", "brand"))))
        for href in {node.attributes.get("href") for node in page.css("a[href]")}:
            link = urljoin(url, href or "").partition("#")[0]
            if link.startswith("http") and link.split("/")[2] == self.host:
                self.add(link)


FIELDS = {"title": "h1", "price": ".amount", "sku": ".sku", "stock": ".product__stock", "brand": ".brand"}


async def crawl(start: str, folder: Path, bodies: bool) -> None:
    """Crawl the shop."""
    store = Store(folder / "shop.db")
    crawling = Crawl(start, store, bodies)
    connector = aiohttp.TCPConnector(limit=WORKERS)
    async with aiohttp.ClientSession(connector=connector, auto_decompress=not bodies) as session:
        workers = [asyncio.create_task(crawling.work(session)) for _ in range(WORKERS)]
        await crawling.queue.join()
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
    store.flush()
    store.connection.close()


def main() -> None:
    """Crawl what was asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("start")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--bodies", action="store_true")
    given = parser.parse_args()
    asyncio.run(crawl(given.start, given.folder, given.bodies))


if __name__ == "__main__":
    main()
