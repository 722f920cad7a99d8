"""What is kept of the past: exactly what was asked for goes, and never what is there now."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Table, delete, insert, select, update

from scraper.config.settings import Database, FieldRule, ItemRule, Retention, Source
from scraper.crawl.store import Store
from scraper.crawl.upkeep import Upkeep
from scraper.database import Db, pages, retention, schema, sources
from scraper.database.connection import now
from scraper.database.models import changes, failures, item_versions, items, metadata, run_fields, runs
from scraper.database.models import pages as pages_table
from scraper.database.models import usage as usage_rows
from scraper.errors import NotFound
from scraper.states import RunState
from tests.crawl.test_engine import Crawler, source
from tests.site import Site, html

T = TypeVar("T")
pytestmark = pytest.mark.databases("sqlite", "postgresql", "pgbouncer")
DAY = timedelta(days=1)
DAYS = st.integers(0, 20)  # ago
CUT = 10


@dataclass(frozen=True)
class Past:
    """What a source has: pages (bytes, days since it was fetched, days since it went), and so on."""

    pages: Sequence[tuple[int, int, int | None]]
    items: Sequence[tuple[int | None, Sequence[int]]]  # days since it was removed; days since each version ended
    changes: Sequence[int]
    failures: Sequence[int | None]
    runs: Sequence[tuple[RunState, int]]


def downwards(values: Sequence[int]) -> list[int]:
    return sorted(values, reverse=True)


pasts = st.builds(
    Past,
    pages=st.lists(st.tuples(st.integers(0, 50), DAYS, st.none() | DAYS), min_size=1, max_size=9),
    items=st.lists(st.tuples(st.none() | DAYS, st.lists(DAYS, max_size=6).map(downwards)), max_size=6),
    changes=st.lists(DAYS, max_size=8).map(downwards),
    failures=st.lists(st.none() | DAYS, max_size=8),
    runs=st.lists(st.tuples(st.sampled_from(RunState), DAYS), max_size=8),
)


def enter(connection: Connection, name: str, past: Past, at: datetime) -> None:
    """Make the rows; the items are on the pages, in turn."""

    def put(table: Table, **values: Any) -> int:
        key = connection.execute(insert(table).values(source=name, **values)).inserted_primary_key
        assert key is not None
        return int(key[0])

    def ago(days: int | None) -> datetime | None:
        return at - days * DAY if days is not None else None

    on = [
        put(pages_table, fingerprint=f"{name}{n}".encode(), run_id=1, url=f"{n}", final_url=f"{n}", status=200,
            content_type="t", depth=0, content_hash="h", bytes=size, headers={}, body=bytes(size), stored_bytes=size,
            fetched_at=ago(fetched), changed_at=ago(fetched), gone_at=ago(gone))
        for n, (size, fetched, gone) in enumerate(past.pages)
    ]  # fmt: skip
    made = [
        put(items, kind="k", key=f"{n}", url="u", page_id=on[n % len(on)], run_id=1, data={}, first_seen=ago(30),
            last_seen=ago(removed or 0), changed_at=ago(0), removed_at=ago(removed))
        for n, (removed, _) in enumerate(past.items)
    ]  # fmt: skip
    versions = sorted(((days, n) for n, (_, ended) in enumerate(past.items) for days in ended), reverse=True)
    for days, n in versions:
        put(item_versions, item_id=made[n], at=ago(30), until=ago(days), data={"days": days})
    for days in past.changes:
        put(changes, at=ago(days), of="item", change="changed", fields={"days": days})
    for n, resolved in enumerate(past.failures):
        put(failures, url_id=hash((name, n)) % 2**31, url="u", reason="timeout", message="", attempts=1,
            first_at=ago(30), last_at=ago(30), resolved_at=ago(resolved))  # fmt: skip
    for state, days in past.runs:
        put(runs, state=state, queued_at=ago(30), finished_at=ago(days), message=f"{days}")


def left(connection: Connection, name: str) -> dict[str, list[Any]]:
    """What there is of a source."""

    def of(table: Table, *columns: Any) -> list[Any]:
        return [
            tuple(row)
            for row in connection.execute(select(*columns).where(table.c.source == name).order_by(table.c.id))
        ]

    joined = select(items.c.key, item_versions.c.data).join(items, items.c.id == item_versions.c.item_id)
    versions = connection.execute(joined.where(items.c.source == name).order_by(item_versions.c.id))
    return {
        "pages": of(pages_table, pages_table.c.url),
        "bodies": of(pages_table, pages_table.c.url, pages_table.c.stored_bytes, pages_table.c.body),
        "items": of(items, items.c.key),
        "versions": [(key, data["days"]) for key, data in versions],
        "changes": of(changes, changes.c.fields),
        "failures": of(failures, failures.c.resolved_at),
        "runs": of(runs, runs.c.state, runs.c.message),
    }


def foreseen(past: Past, keep: Retention, before: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """What has to be left, thought out anew."""
    after = dict(before)
    if keep.versions:
        after["versions"] = []
        for place, (key, days) in enumerate(before["versions"]):
            later = [entry for entry in before["versions"][place + 1 :] if entry[0] == key]
            if len(later) < keep.versions:
                after["versions"].append((key, days))
    if keep.age:
        there = {f"{n}" for n, (removed, _) in enumerate(past.items) if removed is None or removed <= CUT}
        after["items"] = [row for row in before["items"] if row[0] in there]
        after["versions"] = [row for row in after["versions"] if row[0] in there and row[1] <= CUT]
        after["changes"] = [row for row in before["changes"] if row[0]["days"] <= CUT]
        used = {int(key) % len(past.pages) for key in there}
        kept = {f"{n}" for n, page in enumerate(past.pages) if page[2] is None or page[2] <= CUT or n in used}
        after["pages"] = [row for row in before["pages"] if row[0] in kept]
        after["bodies"] = [row for row in before["bodies"] if row[0] in kept]
        after["failures"] = [
            row for row, days in zip(before["failures"], past.failures, strict=True) if days is None or days <= CUT
        ]
        over = (RunState.DONE, RunState.FAILED, RunState.STOPPED)
        after["runs"] = [
            row
            for n, row in enumerate(before["runs"])
            if n == len(past.runs) - 1 or row[0] not in over or int(row[1]) <= CUT
        ]
    if keep.size:
        order = sorted(
            after["bodies"],
            key=lambda row: (past.pages[int(row[0])][2] is None, -past.pages[int(row[0])][1], int(row[0])),
        )
        excess = sum(row[1] for row in order) - keep.size
        gone = set()
        for url, size, _ in order:
            if excess > 0 and size:
                gone.add(url)
                excess -= size
        after["bodies"] = [(url, 0, b"") if url in gone else (url, size, body) for url, size, body in after["bodies"]]
    return after


def cleared(connection: Connection) -> None:
    for table in reversed(metadata.sorted_tables):
        connection.execute(delete(table))


def pruned(db: Db, past: Past, keep: Retention) -> None:
    """Prune one source; what goes is what should, and another source is not touched."""
    at = now()
    db.write(cleared)
    for name in ("mine", "other"):
        db.write(lambda c, name=name: enter(c, name, past, at))  # type: ignore[misc]
    mine, other = db.read(lambda c: left(c, "mine")), db.read(lambda c: left(c, "other"))
    told: dict[str, int] = {}
    for what, count in retention.prune(db, "mine", keep, at):
        told[what] = told.get(what, 0) + count
    after = db.read(lambda c: left(c, "mine"))
    assert after == foreseen(past, keep, mine)
    assert db.read(lambda c: left(c, "other")) == other
    for what in ("items", "pages", "changes", "failures", "runs"):
        assert told.get(what, 0) == len(mine[what]) - len(after[what])
    assert list(retention.prune(db, "mine", keep, at)) == []  # once is enough


# The instants are those of entering: half a day more keeps them off the cut.
keeps = st.builds(
    Retention,
    versions=st.integers(0, 4),
    age=st.sampled_from([0.0, (CUT * DAY + DAY / 2).total_seconds()]),
    size=st.sampled_from([0, 1, 20, 60, 1000]),
)


@pytest.mark.databases("sqlite")
@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(past=pasts, keep=keeps, at_once=st.sampled_from([1, 2, 500]))
def test_exactly_what_was_asked_for_goes(db: Db, past: Past, keep: Retention, at_once: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retention, "AT_ONCE", at_once)
        pruned(db, past, keep)


def test_the_same_goes_on_every_database(db: Db) -> None:
    past = Past(
        pages=[(50, 1, None), (20, 9, None), (30, 0, 3), (40, 0, 15), (0, 2, None), (10, 20, 20)],
        items=[(None, (20, 15, 9, 4, 1)), (15, (19, 3)), (3, (20, 8)), (20, ()), (None, ())],
        changes=(20, 15, 11, 10, 2),
        failures=(None, 20, 3),
        runs=((RunState.DONE, 20), (RunState.RUNNING, 20), (RunState.FAILED, 5), (RunState.STOPPED, 20)),
    )
    old = (CUT * DAY + DAY / 2).total_seconds()
    for keep in (
        Retention(versions=2),
        Retention(age=old),
        Retention(size=100),
        Retention(size=1),
        Retention(versions=1, age=old, size=60),
    ):
        pruned(db, past, keep)


# -- while it is scraped


class Meddled(Db):
    """A database in which something happens just before something is dropped."""

    between: Callable[[], object] | None = None

    def write(self, unit: Callable[[Connection], T], *, deadline: bool = True) -> T:
        between, self.between = self.between, None
        if between is not None:
            between()
        return super().write(unit, deadline=deadline)


@pytest.fixture
def crawler(database: Database) -> Iterator[Crawler]:
    """Runs sources to their end."""
    made = Crawler(database)
    yield made
    made.db.close()


@pytest.fixture
def meddled(database: Database) -> Iterator[Meddled]:
    with Meddled(database) as made:
        schema.upgrade(made)
        yield made


def test_what_comes_back_in_between_stays(db: Db, meddled: Meddled) -> None:
    """It is looked for, and then dropped: in two transactions, so that nobody has to wait for long."""
    past = Past(pages=[(10, 20, 20), (10, 20, 20)], items=[(20, (20,)), (20, (20,))], changes=(), failures=(), runs=())
    db.write(lambda c: enter(c, "mine", past, now()))
    db.write(lambda c: enter(c, "newer", past, now()))  # the last rows of all are never dropped

    def back(connection: Connection) -> None:
        connection.execute(update(items).where(items.c.key == "0").values(removed_at=None))
        connection.execute(update(pages_table).where(pages_table.c.url == "0").values(gone_at=None))

    def page_back(connection: Connection) -> None:
        connection.execute(update(pages_table).where(pages_table.c.url == "1").values(gone_at=None))

    for what, _ in retention.prune(meddled, "mine", Retention(age=15 * DAY.total_seconds()), now()):
        if what == "versions":
            meddled.between = lambda: db.write(back)
        if what == "items":
            meddled.between = lambda: db.write(page_back)
    after = db.read(lambda c: left(c, "mine"))
    assert after["items"] == [("0",)]
    assert after["pages"] == [("0",), ("1",)]


ITEM = ItemRule(kind="page", key=("n",), fields={"n": FieldRule(css="h1::text")})


async def prune(crawler: Crawler, keep: Retention) -> None:
    store = Store(crawler.db, "test")
    try:
        await Upkeep(store, keep, lambda: True).prune()
    finally:
        store.close()


async def test_a_body_that_was_dropped_comes_back_when_it_is_needed(crawler: Crawler, site: Site) -> None:
    site.page("/", "<h1>1</h1>", ETag='"1"')
    asked = source(site, item=(ITEM,), retention={"size": 1})
    await crawler.run(asked)
    before = crawler.rows("pages")[0]
    await prune(crawler, Retention())  # the source says otherwise
    with pytest.raises(NotFound, match="is kept no more"):
        crawler.db.read(lambda c: pages.content(c, before["id"]))

    await crawler.run(asked)  # by the same rules: it need not be read
    assert site.log[-1].headers.get("if-none-match") == '"1"'
    assert crawler.rows("pages")[0]["fetched_at"] > before["fetched_at"]
    with pytest.raises(NotFound):
        crawler.db.read(lambda c: pages.content(c, before["id"]))

    other = replace(ITEM, fields={**ITEM.fields, "more": FieldRule(css="h1::text")})
    run = await crawler.run(source(site, item=(other,)))
    assert "if-none-match" not in site.log[-1].headers
    assert (run["state"], run["failures"]) == ("done", 0)
    after = crawler.rows("pages")[0]
    assert crawler.db.read(lambda c: pages.content(c, before["id"]))[1] == b"<h1>1</h1>"
    assert [item["data"] for item in crawler.rows("items")] == [{"n": "1", "more": "1"}]
    for name in ("id", "content_hash", "changed_at", "duplicate_of"):  # it is what it was
        assert after[name] == before[name]


async def test_a_page_that_changed_after_its_body_was_dropped_is_told_to_have_changed(
    crawler: Crawler, site: Site
) -> None:
    site.page("/", "<h1>1</h1>", ETag='"1"')
    await crawler.run(source(site))
    await prune(crawler, Retention(size=1))
    site.page("/", "<h1>2</h1>", ETag='"2"')
    await crawler.run(source(site))
    page = crawler.rows("pages")[0]["id"]
    assert crawler.db.read(lambda c: pages.content(c, page))[1] == b"<h1>2</h1>"
    assert [change["change"] for change in crawler.rows("changes")] == ["created", "changed"]


async def test_a_service_drops_what_its_sources_need_not_keep(
    crawler: Crawler, site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    """The general settings, and those of a source on top of them."""
    named = [
        Source(name=name, start=(site.url + f"/{name}",), item=(ITEM,), retention=own)
        for name, own in (("usual", {}), ("all", {"versions": 0}), ("more", {"versions": 3}))
    ]
    for number in range(6):
        for one in named:
            site.raw(f"/{one.name}", html(f"<h1>{one.name}</h1><h2>{number}</h2>"), close=False)
            rule = replace(ITEM, fields={**ITEM.fields, "m": FieldRule(css="h2::text")})
            await crawler.run(replace(one, item=(rule,)))
    crawler.db.write(lambda c: sources.sync(c, named, lambda source, last: None))
    with caplog.at_level(logging.INFO, "scraper.crawl.upkeep"):
        await prune(crawler, Retention(versions=1))

    def versions(connection: Connection) -> dict[str, list[Any]]:
        rows = connection.execute(select(item_versions.c.source, item_versions.c.data).order_by(item_versions.c.id))
        found: dict[str, list[Any]] = {}
        for row in rows:
            found.setdefault(row.source, []).append(row.data["m"])
        return found

    assert crawler.db.read(versions) == {"usual": ["4"], "all": ["0", "1", "2", "3", "4"], "more": ["2", "3", "4"]}
    told = {vars(record)["source"]: vars(record)["versions"] for record in caplog.records}
    assert told == {"usual": 8, "more": 4}  # of the page as well as of its item


async def test_the_past_of_a_source_that_is_gone_is_dropped_too(crawler: Crawler, site: Site) -> None:
    site.raw("/", html("x"), close=False)
    for _ in range(3):
        await crawler.run(source(site))
    ago = now() - timedelta(days=500)

    def age(c: Connection) -> None:
        c.execute(update(runs).values(finished_at=ago))
        c.execute(insert(run_fields), [{"run_id": n, "kind": "k", "field": "f", "filled": 1} for n in (1, 2, 3)])
        c.execute(update(usage_rows).values(day=ago.date().isoformat()))
        sources.sync(c, [], lambda s, last: None)

    crawler.db.write(age)
    await prune(crawler, Retention(age=86400.0))
    assert [row["id"] for row in crawler.rows("runs")] == [3]
    assert crawler.db.read(lambda c: [row.run_id for row in c.execute(select(run_fields))]) == [3]
    assert crawler.db.read(lambda c: c.execute(select(usage_rows)).all()) == []
