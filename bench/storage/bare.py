"""The bare loop: what Bowerbird stores of a first crawl, put into the same tables by a driver alone.

It knows that all pages are new and that nobody else writes: it asks the database nothing, keeps in memory what it has seen, and
gives out ids itself. It has no claims, no leases, and no place to go on from.
"""

import json
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from bench.storage.places import plain
from bench.storage.site import Answer, Sites, place_of
from scraper.config.settings import Database
from scraper.crawl.recorder import BATCH
from scraper.database import Db
from scraper.records import Item
from scraper.urls import fingerprint

Rows = list[tuple[Any, ...]]
Batch = dict[str, Rows]  # rows by statement

_INSERTED = {
    "pages": "id source fingerprint run_id url final_url status content_type title depth content_hash bytes headers body stored_bytes rules "
    "links item_count simhash fetched_at changed_at",
    "items": "id source kind key url page_id run_id data first_seen last_seen changed_at",
    "changes": "at source of kind change item_id page_id fields",
    "urls": "id source fingerprint url host kind rank depth run_id state attempts crashes",
}
STATEMENTS = {
    "done": "UPDATE urls SET state = 'done', attempts = 1 WHERE id = ?",
    **{
        table: f"INSERT INTO {table} ({', '.join(columns.split())}) VALUES ({', '.join('?' for _ in columns.split())})"
        for table, columns in _INSERTED.items()
    },
    "runs": "UPDATE runs SET known = known + ?, pages = pages + ?, items = items + ?, bytes = bytes + ? WHERE id = ?",
    "usage": "INSERT INTO usage (source, day, pages, bytes) VALUES (?, ?, ?, ?) ON CONFLICT (source, day) "
    "DO UPDATE SET pages = usage.pages + excluded.pages, bytes = usage.bytes + excluded.bytes",
    "hosts": "INSERT INTO hosts (host, next_at, delay_s) VALUES (?, ?, 0) ON CONFLICT (host) "
    "DO UPDATE SET next_at = excluded.next_at",
    "sources": "UPDATE sources SET checked_at = ? WHERE name = ?",
}
_JSON = json.JSONEncoder(ensure_ascii=False).encode

Found = tuple[int, int, int, int]  # a URL: its id, host, number and depth


@dataclass
class Loop:
    """A crawl of all hosts, breadth first, batch after batch. answers: those that are ready. moment: as the driver wants it."""

    sites: Sites
    runs: Mapping[str, int]
    upto: int
    answers: dict[tuple[int, int], Answer]
    moment: Callable[[datetime], Any]
    _queue: deque[Found] = field(default_factory=deque)
    _seen: set[str] = field(default_factory=set)
    _next_url: int = 1
    _next_page: int = 1
    _next_item: int = 1

    def begin(self, starts: Iterable[tuple[int, str, int]]) -> None:
        """Begin with what is in the frontier: id, address and host of each."""
        for url_id, url, place in starts:
            self._queue.append((url_id, place, 0, 0))
            self._seen.add(url)
            self._next_url = max(self._next_url, url_id + 1)

    def batches(self) -> Iterator[Batch]:
        """Make the rows of one batch after the other."""
        left = dict.fromkeys(self.runs, self.upto)
        while any(left.values()):
            chosen: list[Found] = []
            while self._queue and len(chosen) < BATCH:
                found = self._queue.popleft()
                name = self.sites.source(found[1])
                if left[name]:
                    left[name] -= 1
                    chosen.append(found)
            yield self._rows(chosen)

    def _rows(self, chosen: Sequence[Found]) -> Batch:
        at = datetime.now(UTC)
        moment = self.moment(at)
        batch: Batch = {name: [] for name in STATEMENTS}
        counts: dict[str, list[int]] = {}
        for found in chosen:
            source = self.sites.source(found[1])
            answer = self.answers[found[1], found[2]]
            known = self._enter(batch, found, answer, source)
            self._keep(batch, found, answer, source, moment)
            taken = counts.setdefault(source, [0, 0, 0, 0])
            for n, more in enumerate((known, 1, len(answer.reading.items), answer.fetched.wire_bytes)):
                taken[n] += more
        batch["done"] = [(found[0],) for found in chosen]
        batch["runs"] = [(*taken, self.runs[source]) for source, taken in counts.items()]
        day = at.date().isoformat()
        batch["usage"] = [(source, day, taken[1], taken[3]) for source, taken in counts.items()]
        batch["hosts"] = [(self.sites.host(place), moment) for place in {found[1] for found in chosen}]
        batch["sources"] = [(moment, source) for source in counts]
        return batch

    def _enter(self, batch: Batch, found: Found, answer: Answer, source: str) -> int:
        _, place, _, depth = found
        host, run_id = self.sites.host(place), self.runs[source]
        new = [link.url for link in answer.reading.links if link.url not in self._seen]
        for url in new:
            self._seen.add(url)
            batch["urls"].append(
                (self._next_url, source, fingerprint(url), url, host, "page", 0, depth + 1, run_id, "queued", 0, 0)
            )
            number = int(url[url.rindex("-") + 1 : -5])
            self._queue.append((self._next_url, place, number, depth + 1))
            self._next_url += 1
        return len(new)

    def _keep(self, batch: Batch, found: Found, answer: Answer, source: str, moment: Any) -> None:
        fetched, reading, run_id, page_id = answer.fetched, answer.reading, self.runs[source], self._next_page
        self._next_page += 1
        links = zlib.compress("\n".join([link.url for link in reading.links]).encode(), 1)
        url = fetched.final_url
        batch["pages"].append(
            (page_id, source, fingerprint(url), run_id, url, url, fetched.status, fetched.content_type)
            + (
                reading.title,
                found[3],
                answer.digest,
                len(fetched.body),
                _JSON(dict(fetched.headers)),
                fetched.packed,
                len(fetched.packed),
            )
            + ("0" * 16, links, len(reading.items), (reading.simhash or 0) - 2**63, moment, moment)
        )
        batch["changes"].append((moment, source, "page", None, "created", None, page_id, "{}"))
        for item in reading.items:
            batch["items"].append(self._item(item, source, url, page_id, run_id, moment))
            fields = _JSON({name: [None, value] for name, value in item.data.items()})
            batch["changes"].append((moment, source, "item", item.kind, "created", self._next_item, page_id, fields))
            self._next_item += 1

    def _item(self, item: Item, source: str, url: str, page_id: int, run_id: int, moment: Any) -> tuple[Any, ...]:
        named = (self._next_item, source, item.kind, item.key, url, page_id, run_id)
        return (*named, _JSON(dict(item.data)), moment, moment, moment)


def store(url: str, loop: Loop, made_ready: bool) -> tuple[float, float]:
    """Store a crawl. made_ready: its rows are made beforehand. Returns seconds, of the clock and of the processor."""
    return (_by_sqlite3 if url.startswith("sqlite") else _by_psycopg)(url, loop, made_ready)


_STARTS = "SELECT id, url, host FROM urls ORDER BY id"


def _by_sqlite3(url: str, loop: Loop, made_ready: bool) -> tuple[float, float]:
    with Db(Database(url=url)) as db:
        lent = db.engine.raw_connection()  # with the same settings
        connection: Any = lent.driver_connection
        connection.set_progress_handler(None, 0)
        loop.begin(_placed(connection.execute(_STARTS)))
        batches: Iterable[Batch] = list(loop.batches()) if made_ready else loop.batches()
        began, cpu = time.monotonic(), time.process_time()
        for batch in batches:
            connection.execute("BEGIN IMMEDIATE")
            for name, rows in batch.items():
                connection.executemany(STATEMENTS[name], rows)
            connection.execute("COMMIT")
        spent = time.monotonic() - began, time.process_time() - cpu
        lent.close()
    return spent


def _by_psycopg(url: str, loop: Loop, made_ready: bool) -> tuple[float, float]:
    import psycopg

    statements = {name: text.replace("?", "%s") for name, text in STATEMENTS.items()}
    with psycopg.connect(plain(url)) as connection, connection.cursor() as cursor:
        loop.begin(_placed(cursor.execute(_STARTS)))
        connection.commit()
        batches: Iterable[Batch] = list(loop.batches()) if made_ready else loop.batches()
        began, cpu = time.monotonic(), time.process_time()
        for batch in batches:
            with connection.transaction(), connection.pipeline():
                for name, rows in batch.items():
                    cursor.executemany(statements[name], rows)
        return time.monotonic() - began, time.process_time() - cpu


def _placed(rows: Iterable[Any]) -> list[tuple[int, str, int]]:
    return [(url_id, url, place_of(host)) for url_id, url, host in rows]


def moment_of(url: str) -> Callable[[datetime], Any]:
    """Return how an instant is given to the driver of a database."""
    if not url.startswith("sqlite"):
        return lambda at: at
    return lambda at: at.replace(tzinfo=None).isoformat(" ", "microseconds")
