"""What is in the tables after a crawl: nothing lost, nothing twice, and the database whole."""

import hashlib
from collections import Counter
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select

from bench.storage.site import Sites, number_of, place_of
from scraper.compression import inflate
from scraper.config.settings import Database
from scraper.database import Db
from scraper.database.models import changes, failures, item_versions, items, pages, runs, urls
from scraper.urls import host_of

SAMPLE = 50  # one body in so many is read
MOST_BYTES = 2**24
_PG_INDEXES = (  # of the words' index there is no check
    "SELECT indexrelid::regclass, bt_index_check(indexrelid, true) FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid "
    "JOIN pg_am ON pg_am.oid = relam WHERE indrelid > 16383 AND amname = 'btree'"
)


@dataclass(frozen=True)
class Count:
    """What is wrong, as numbers. faults: what the database says of itself, and bodies that do not read as they were."""

    lost: int
    doubled: int
    faults: tuple[str, ...]

    @property
    def wrong(self) -> int:
        """How much is wrong in all."""
        return self.lost + self.doubled + len(self.faults)


def counted(url: str, sites: Sites, upto: int) -> Count:
    """Look at what was stored of crawls of so many pages of each source."""
    with Db(Database(url=url)) as db:
        faults = db.read(_sqlite_faults) if db.is_sqlite else db.write(_postgres_faults)
        return db.read(lambda connection: _count(connection, sites, upto, faults))


def _count(connection: Connection, sites: Sites, upto: int, faults: list[str]) -> Count:
    stored = Counter(
        (row.source, row.final_url) for row in connection.execute(select(pages.c.source, pages.c.final_url))
    )
    expected = {(sites.source(n % sites.sources), link) for n in range(sites.sources) for link in sites.start(n)}
    for source, url in stored:
        place = place_of(host_of(url))
        expected |= {(source, link) for link in sites.links(place, number_of(url))}
    known = Counter((row.source, row.url) for row in connection.execute(select(urls.c.source, urls.c.url)))
    visited = {
        (row.source, row.url)
        for row in connection.execute(select(urls.c.source, urls.c.url).where(urls.c.state == "done"))
    }
    wanted = upto * sites.sources
    had = {
        "pages": (len(stored), wanted),
        "items": (_number(connection, items), wanted * sites.items),
        "changes": (_number(connection, changes), wanted * (1 + sites.items)),
        "item versions": (_number(connection, item_versions), 0),
        "failures": (_number(connection, failures), 0),
        "known": (len(known), len(expected)),
        "done": (len(visited), wanted),
        "unclaimed": (int(connection.scalar(select(func.count()).where(urls.c.state == "claimed")) or 0), 0),
    }
    sums = connection.execute(select(func.sum(runs.c.pages), func.sum(runs.c["items"]), func.sum(runs.c.known))).one()
    for name, told, there in zip(
        ("pages", "items", "known"), sums, (wanted, wanted * sites.items, len(known)), strict=True
    ):
        if told != there:
            faults.append(f"the runs count {told} {name}, not {there}")
    if set(known) != expected or visited != set(stored):
        faults.append("the frontier is not what the pages lead to")
    lost = sum(max(0, want - have) for have, want in had.values())
    doubled = sum(max(0, have - want) for have, want in had.values())
    doubled += sum(number - 1 for counter in (stored, known) for number in counter.values())
    return Count(lost, doubled, tuple(faults + _bodies(connection)))


def _number(connection: Connection, table: Any) -> int:
    return int(connection.scalar(select(func.count()).select_from(table)) or 0)


def _bodies(connection: Connection) -> list[str]:
    rows = connection.execute(select(pages.c.url, pages.c.body, pages.c.content_hash).where(pages.c.id % SAMPLE == 0))
    return [
        f"{row.url}: its body is not as it was"
        for row in rows
        if hashlib.sha256(inflate(row.body, MOST_BYTES)).hexdigest() != row.content_hash
    ]


def _sqlite_faults(connection: Connection) -> list[str]:
    said = [str(row[0]) for row in connection.exec_driver_sql("PRAGMA integrity_check")]
    loose = [f"a row of {row[0]} refers to nothing" for row in connection.exec_driver_sql("PRAGMA foreign_key_check")]
    return [word for word in said if word != "ok"] + loose


def _postgres_faults(connection: Connection) -> list[str]:
    """Raises what the server says of an index that does not fit its table."""
    connection.exec_driver_sql("CREATE EXTENSION IF NOT EXISTS amcheck")
    connection.exec_driver_sql(_PG_INDEXES).all()
    return []
