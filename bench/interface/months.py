"""What is in the tables after some months: made-up rows, the same each time but for the day on which they end."""

import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from scraper.config.settings import Source, plain
from scraper.database import documents
from scraper.states import RunState, UrlState
from scraper.urls import fingerprint

Row = tuple[Any, ...]
DAYS, WEEK = 30, 7
A_DAY = 24 * 60
LARGE = 5  # each so many-th page is of the first source
RARE = 1000  # items of a kind that is there only among the oldest
UNREAD = 3000
NEWS = ("changed",) * 16 + ("removed", "removed", "returned", "moved")
REASONS = ("http_4xx", "timeout", "http_5xx", "connect", "extract", "robots_denied")
LEVELS = ("info", "warning", "error")
BODY = zlib.compress("".join(f"<p>Paragraph {n} of a page, {n * n} words.</p>" for n in range(80)).encode())

_json = json.JSONEncoder(ensure_ascii=False).encode


@dataclass(frozen=True)
class Months:
    """How much there is, and when it ends. moment: an instant as the driver wants it.

    The first source has a fifth of everything, the others share the rest evenly.
    """

    moment: Callable[[datetime], Any]
    ends: datetime
    sources: int = 1000
    runs: int = 50
    pages: int = 300_000
    items: int = 1_000_000
    created_pages: int = 200_000
    news: int = 100_000
    failing: int = 20_000
    mended: int = 30_000
    events: int = 5000
    hosts: int = 1000
    _minutes: list[Any] = field(default_factory=list, init=False, compare=False, repr=False)

    def tables(self) -> dict[str, tuple[str, Callable[[], Iterator[Row]]]]:
        """Return of each table the columns that are filled, and its rows in the order of their ids."""
        return {
            "sources": (
                "name definition origin enabled last_run_at checked_at next_at paused_at run_id tags",
                self._sources,
            ),
            "hosts": ("host next_at delay_s crawl_delay_s penalty_s latency_s why", self._hosts),
            "usage": ("source day pages bytes changes", self._usage),
            "activity": ("minute worker pages failures latency depth", self._activity),
            "counters": ("name source label value", self._counters),
            "runs": (
                "id source state kind queued_at started_at finished_at max_pages known pages items bytes failures changes message",
                self._runs,
            ),
            "alarms": ("id source kind name at last_at message accepted_at resolved_at", self._alarms),
            "urls": ("id source fingerprint url host kind rank depth run_id state attempts crashes", self._urls),
            "pages": (
                "id source fingerprint run_id url final_url status content_type title depth content_hash bytes headers "
                + "body stored_bytes item_count simhash fetched_at changed_at gone_at elapsed_s",
                self._pages,
            ),
            "items": (
                "id source kind key url page_id run_id data first_seen last_seen changed_at removed_at",
                self._items,
            ),
            "item_versions": ("id item_id source at until data", self._versions),
            "changes": ("id at source of kind change item_id page_id fields read_at", self._changes),
            "failures": (
                "id url_id source url reason message attempts first_at last_at resolved_at",
                self._failures,
            ),
            "events": ("id at kind name event level facts", self._events),
            "meta": ("name value", self._meta),
        }

    def _meta(self) -> Iterator[Row]:
        """The search has caught up long ago."""
        yield documents.CURSOR, str(self.items + self.created_pages + self.news)

    def name(self, number: int) -> str:
        """Return the name of a source."""
        return f"shop-{number:04}"

    def source_of(self, page: int) -> int:
        """Return which source a page is of."""
        return 0 if page % LARGE == 0 else 1 + page * 7919 % (self.sources - 1)

    def url(self, page: int) -> str:
        """Return the address of a page."""
        return f"https://www.shop-{self.source_of(page):04}.example/catalogue/a-thing-for-the-house-{page}.html"

    def _at(self, done: float) -> Any:
        """The instant at which so large a share of all was done, to the minute."""
        if not self._minutes:
            begin = self.ends - timedelta(days=DAYS)
            self._minutes.extend(self.moment(begin + timedelta(minutes=n)) for n in range(DAYS * A_DAY))
        return self._minutes[min(int(done * len(self._minutes)), len(self._minutes) - 1)]

    def _run_of(self, number: int) -> int:
        """The last run of a source: they take turns."""
        return (self.runs - 1) * self.sources + number + 1

    def _sources(self) -> Iterator[Row]:
        for n in range(self.sources):
            tags = ("house", "garden", "books")[n % 3], f"team-{n % 20}"
            start = (f"https://www.shop-{n:04}.example/",)
            made = Source(name=self.name(n), start=start, every=3600.0, follow=True, tags=tags, enabled=n % 100 != 7)
            later = self.moment(self.ends + timedelta(hours=24 + n % 20))  # none of them is due while it is measured
            paused = self._at(0.9) if n % 50 == 3 else None
            last = self._at(1 - n % 60 / DAYS / A_DAY)
            tagged = f" {' '.join(tags)} "
            yield (
                *(made.name, _json(plain(made)), "database", made.enabled, last, last),
                *(later, paused, self._run_of(n), tagged),
            )

    def _hosts(self) -> Iterator[Row]:
        for n in range(self.hosts):
            why = "it answered 429" if n % 40 == 0 else None
            yield f"www.shop-{n:04}.example", self._at(1), 0.5, float(n % 10 == 0), n % 7 / 10, 0.2, why

    def _usage(self) -> Iterator[Row]:
        for n in range(self.sources):
            for day in range(WEEK):
                yield self.name(n), (self.ends - timedelta(days=day)).date().isoformat(), 900 + n, 10**7, 12

    def _activity(self) -> Iterator[Row]:
        last = int(self.ends.timestamp() // 60)
        for n in range(WEEK * A_DAY):
            took = {"0.05": 90 + n % 30, "0.1": 200, "0.25": 40, "1": n % 7, "+Inf": n % 3}
            yield (
                last - n,
                "scraper-0",
                300 + n % 90,
                _json({"timeout": n % 4, "http_4xx": 2}),
                _json(took),
                5000 + n % 700,
            )

    def _counters(self) -> Iterator[Row]:
        for n in range(self.sources):
            for label in ("stored", "timeout", "http_4xx"):
                yield "visits", self.name(n), label, 1000.0 + n
        for label in ("0.05", "0.1", "0.25", "1", "+Inf", "sum"):
            yield "fetch_seconds", "", label, 10_000.0

    def _runs(self) -> Iterator[Row]:
        count = self.runs * self.sources
        for n in range(count):
            of, turn = n % self.sources, n // self.sources
            failed = of % 20 == 5 if turn == self.runs - 1 else (of + turn) % 30 == 0
            state, said = (RunState.FAILED, "timeout: no answer within 30 s") if failed else (RunState.DONE, None)
            began, ended = self._at(n / count), self._at((n + 20) / count)
            got = (0, 0, 0, 3) if failed else (300, 1000, 3 * 10**6, n % 5)
            yield n + 1, self.name(of), state, "crawl", began, began, ended, 10_000, 303, *got, n % 9, said

    def _alarms(self) -> Iterator[Row]:
        for n in range(200):
            open_ = n % 5 == 0
            said = "price of product was filled in 100% of the items, and is in 0% of 300 now"
            yield (
                *(n + 1, self.name(n * 4), "field", "product.price", self._at(0.8), self._at(0.9), said, None),
                None if open_ else self._at(0.95),
            )

    def _urls(self) -> Iterator[Row]:
        for n in range(self.pages + self.failing + self.mended):
            failed = self.pages <= n < self.pages + self.failing
            url, of = self.url(n), self.source_of(n)
            state = UrlState.FAILED if failed else UrlState.DONE
            host = f"www.shop-{of:04}.example"
            yield n + 1, self.name(of), fingerprint(url), url, host, "page", 0, 3, self._run_of(of), state, 1, 0

    def _pages(self) -> Iterator[Row]:
        heads = _json(
            {
                "content-type": "text/html; charset=utf-8",
                "etag": '"5f3a"',
                "server": "nginx",
                "content-encoding": "gzip",
            }
        )
        for n in range(self.pages):
            url, at, last = self.url(n), self._at(n / self.pages), self._at(0.99)
            of, status = self.source_of(n), 404 if n % 100 == 9 else 200
            mark = fingerprint(url)
            yield (
                *(
                    n + 1,
                    self.name(of),
                    mark,
                    self._run_of(of),
                    url,
                    url,
                    status,
                    "text/html",
                    f"A thing, number {n}",
                    3,
                ),
                *(mark.hex() * 2, 20_000, heads, BODY, len(BODY), 3, n * 7919, last, at),
                *(last if n % 50 == 9 else None, 0.12),
            )

    def _item(self, n: int) -> tuple[str, str, int]:
        """Name of the source, kind, and page of an item."""
        page = n * self.pages // self.items
        kind = "job" if n < 20 * RARE and n % 20 == 0 else "article" if n % 5 == 1 else "product"
        return self.name(self.source_of(page)), kind, page

    def _data(self, n: int, price: float) -> str:
        named = f"A thing for the house, number {n}"
        return (
            f'{{"title":"{named}","price":{price},"sku":"{n:08}","stock":{n % 7},"brand":"brand {n % 50}",'
            f'"text":"It is light, firm and simple, made, tested and packed by hand in the workshop of {n % 900}."}}'
        )

    def _items(self) -> Iterator[Row]:
        for n in range(self.items):
            source, kind, page = self._item(n)
            first, last, gone = self._at(n / self.items), self._at(0.99), self._at(0.97) if n % 50 == 11 else None
            run = self._run_of(self.source_of(page))
            data = self._data(n, n % 1000 + 0.5)
            yield n + 1, source, kind, f"{n:08}", self.url(page), page + 1, run, data, first, last, first, gone

    def _versions(self) -> Iterator[Row]:
        for n in range(self.news):
            of = self._changed(n)
            at = self._at(n / self.news)
            yield n + 1, of + 1, self._item(of)[0], self._at(0), at, self._data(of, n % 1000 + 1.5)

    def _changed(self, n: int) -> int:
        """Which item a piece of news is of."""
        return n * 104_729 % self.items

    def _changes(self) -> Iterator[Row]:
        """Of every item and most pages that they were created, and evenly among these the news."""
        told = self.items + self.created_pages + self.news
        each = told // self.news
        item = page = news = 0
        for n in range(told):
            at = self._at(n / told)
            if n % each == 0 and news < self.news:
                yield n + 1, at, *self._piece(news), self._at(0.99) if news < self.news - UNREAD else None
                news += 1
            elif n % each == 1 + page % 5 and page < self.created_pages or item >= self.items:
                yield n + 1, at, self.name(self.source_of(page)), "page", None, "created", None, page + 1, "{}", None
                page += 1
            else:
                source, kind, on = self._item(item)
                fields = f'{{"title":[null,"A thing for the house, number {item}"],"price":[null,{item % 1000 + 0.5}]}}'
                yield n + 1, at, source, "item", kind, "created", item + 1, on + 1, fields, None
                item += 1

    def _piece(self, n: int) -> Row:
        of = self._changed(n)
        source, kind, page = self._item(of)
        fields = f'{{"price":[{n % 1000 + 1.5},{n % 1000 + 0.5}],"stock":[{n % 5},{n % 7}]}}'
        if n % 10 == 9:
            return source, "page", None, "changed", None, page + 1, '{"title":["A thing","A thing, number"]}'
        return source, "item", kind, NEWS[n % len(NEWS)], of + 1, page + 1, fields

    def _failures(self) -> Iterator[Row]:
        """What fails at present came before most of what has passed."""
        count = self.failing + self.mended
        for n in range(count):
            url = self.pages + n
            at = self._at(n / count)
            said = "no answer within 30 s" if n % 2 else "the server answered 404 Not Found"
            yield (
                *(n + 1, url + 1, self.name(self.source_of(url)), self.url(url), REASONS[n % len(REASONS)], said, 3),
                *(at, at, at if n >= self.failing else None),
            )

    def _events(self) -> Iterator[Row]:
        count = self.events * len(LEVELS)
        for n in range(count):
            at = self._at(1 - WEEK / DAYS * (1 - n / count))
            kind, name, event, facts = (
                ("run", self.name(n % self.sources), "finished", {"run": n, "state": "done", "pages": 300})
                if n % 4
                else ("process", "scraper-0", "moved", {"was": "idle", "is": "scraping"})
                if n % 3
                else (
                    "process",
                    "scraper-0",
                    "ended",
                    {"pid": n, "exit_code": -9, "signal": "SIGKILL", "cause": "killed"},
                )
            )
            yield n + 1, at, kind, name, event, LEVELS[n % len(LEVELS)], _json(facts)


def today() -> datetime:
    """When the months end: they are made anew on another day."""
    return datetime.now(UTC).replace(second=0, microsecond=0)
