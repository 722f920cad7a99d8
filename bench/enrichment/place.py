"""A project with items or pages in its database, and commands run in it."""

import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import insert

from scraper.config.settings import Database
from scraper.database import Db, schema
from scraper.database.models import items, pages

AT_ONCE = 2000


@dataclass(frozen=True)
class Place:
    """A folder with a bowerbird.toml, and its database."""

    folder: Path
    url: str
    pooled: bool = False

    @property
    def settings(self) -> Database:
        """How its database is reached."""
        return Database(url=self.url, transaction_pooler=self.pooled)

    def write(self, tasks: str) -> None:
        """Write the configuration."""
        pooled = "transaction_pooler = true\n" if self.pooled else ""
        (self.folder / "bowerbird.toml").write_text(f'[database]\nurl = "{self.url}"\n{pooled}{tasks}')

    def command(self, *words: str) -> subprocess.Popen[bytes]:
        """Start a command of ours."""
        return subprocess.Popen(
            [sys.executable, "-m", "scraper", *words], cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def run(self, *words: str) -> tuple[float, str, str]:
        """Run a command of ours to its end. Returns seconds, and what it said on either way."""
        began = time.perf_counter()
        out, said = self.command(*words).communicate()
        return time.perf_counter() - began, out.decode(), said.decode()


def fill_items(db: Db, count: int, source: str = "shop") -> None:
    """Have so many items, all on one page."""
    schema.upgrade(db)
    at = datetime.now(UTC)
    page = _page(source, "http://shop.test/", at, b"")
    made = [
        {"source": source, "kind": "product", "key": str(n), "url": f"http://shop.test/{n}", "page_id": 1, "run_id": 1}
        | {
            "data": {"title": f"Product {n}", "price": f"{n % 97}.50"},
            "first_seen": at,
            "last_seen": at,
            "changed_at": at,
        }
        for n in range(count)
    ]
    db.write(lambda c: c.execute(insert(pages), [page]))
    fill(db, items, made)


def fill(db: Db, table: Any, rows: Sequence[dict[str, Any]]) -> None:
    """Have rows."""
    for start in range(0, len(rows), AT_ONCE):
        some = rows[start : start + AT_ONCE]
        db.write(lambda c, some=some: c.execute(insert(table), list(some)))  # type: ignore[misc]


def fill_pages(db: Db, found: Sequence[tuple[str, bytes]], source: str = "docs") -> None:
    """Have pages with these addresses and bodies."""
    schema.upgrade(db)
    at = datetime.now(UTC)
    fill(db, pages, [_page(source, url, at, body) for url, body in found])


def _page(source: str, url: str, at: datetime, body: bytes) -> dict[str, Any]:
    import hashlib
    import zlib

    digest = hashlib.sha256(body or url.encode()).hexdigest()
    packed = zlib.compress(body) if body else b""
    return {"source": source, "fingerprint": hashlib.blake2b(url.encode(), digest_size=16).digest(), "run_id": 1, "url": url} | {
        "final_url": url, "status": 200, "content_type": "text/html", "title": None, "depth": 0, "content_hash": digest,
        "bytes": len(body), "headers": {"content-type": "text/html; charset=utf-8"}, "body": packed,
        "stored_bytes": len(packed), "fetched_at": at, "changed_at": at,
    }  # fmt: skip
