"""Changes: their numbers grow with the commits, so who follows them by number misses none; and nothing of them gets lost on the way."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Connection, insert, select

from api.stream import _changes_after
from scraper.config.settings import Database, Retention
from scraper.database import Db, alarms, changes, frontier, pages, retention, runs, schema
from scraper.database.connection import made_id, now
from scraper.database.models import page_versions
from scraper.database.models import pages as page_table
from scraper.errors import NotFound
from scraper.records import Link
from scraper.states import UrlState
from tests.crawl.test_engine import Crawler
from tests.crawl.test_history import many, shop
from tests.postgres import Address
from tests.site import Site
from tests.support import Project, until

everywhere = pytest.mark.databases("sqlite", "postgresql", "pgbouncer")
servers = pytest.mark.databases("postgresql", "pgbouncer")
WRITERS, EACH = 6, 25


def told(*words: str, of: str = "item", change: str = "changed", **more: Any) -> list[dict[str, Any]]:
    return [changes.row(now(), "s", of, change, **{"fields": {"word": word}, **more}) for word in words]


def words(found: list[dict[str, Any]]) -> list[str]:
    return [change["fields"]["word"] for change in found]


def tell(db: Db, *rows: dict[str, Any]) -> None:
    db.write(lambda c: changes.tell(c, rows))


@servers
def test_what_is_told_later_has_a_higher_number_though_it_began_first(db: Db, address: Address) -> None:
    """Who would tell while another has told and not committed waits, and has the higher number then."""
    waits = f"SELECT 1 FROM pg_stat_activity WHERE datname = '{address.name}' AND wait_event_type = 'Lock'"
    with Db(db.settings) as other, ThreadPoolExecutor(1) as pool:
        with db.engine.connect() as connection, connection.begin():
            changes.tell(connection, told("first"))
            second = pool.submit(tell, other, *told("second"))
            until(lambda: second.done() or address.rows(waits), "the second waits for its turn")
            assert not second.done()
            assert db.read(lambda c: changes.after(c, 0, 10)) == []
        second.result()
    assert words(db.read(lambda c: changes.after(c, 0, 10))) == ["first", "second"]


@everywhere
def test_who_follows_by_number_misses_nothing(database: Database) -> None:
    """Many tell at once, in transactions that do other work before and last unevenly long; one reads along."""
    with Db(database) as db:
        schema.upgrade(db)
        seen: list[str] = []
        done = threading.Event()

        def follow() -> None:
            last = 0
            while True:
                over = done.is_set()
                found = db.read(partial(changes.after, last=last, limit=7))
                assert [change["id"] for change in found] == sorted({change["id"] for change in found})
                seen.extend(words(found))
                last = found[-1]["id"] if found else last
                if over and not found:
                    return

        def write(writer: int) -> None:
            with Db(database) as own:
                for number in range(EACH):

                    def unit(connection: Connection, number: int = number) -> None:
                        alarms.add(connection, {(writer * 1000 + number, "k", ""): 1})
                        rows = told(*(f"{writer}-{number}-{place}" for place in range((writer * number) % 4 + 1)))
                        changes.tell(connection, rows)
                        if not own.is_sqlite:  # others may come in between, before this is committed
                            connection.exec_driver_sql(f"SELECT pg_sleep({(number * 7 + writer) % 5 / 1000})")

                    own.write(unit)

        with ThreadPoolExecutor(WRITERS + 1) as pool:
            follower = pool.submit(follow)
            writers: list[Future[None]] = [pool.submit(write, writer) for writer in range(WRITERS)]
            for writer in writers:
                writer.result()
            done.set()
            follower.result()
        stored = words(db.read(lambda c: changes.after(c, 0, 10_000)))
    assert len(stored) == len(set(stored)) == sum((w * n) % 4 + 1 for w in range(WRITERS) for n in range(EACH))
    assert seen == stored


@everywhere
def test_a_transaction_that_fails_tells_nothing(db: Db) -> None:
    def fail(connection: Connection) -> None:
        changes.tell(connection, told("lost"))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        db.write(fail)
    tell(db, *told("kept"))
    assert words(db.read(lambda c: changes.after(c, 0, 10))) == ["kept"]


@everywhere
def test_numbers_go_on_after_the_last_changes_were_dropped(db: Db) -> None:
    """Who follows by number would miss what took an old one."""
    tell(db, *told("a", "b"))
    last = db.read(changes.newest)
    list(retention.prune(db, "s", Retention(age=1.0), now() + timedelta(days=1)))
    tell(db, *told("c"))
    assert words(db.read(lambda c: changes.after(c, last, 10))) == ["c"]


@everywhere
def test_of_what_is_unread_only_the_last_is_counted(db: Db, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "COUNTED_MOST", 3)
    assert db.read(changes.unread) == 0
    tell(db, *told("a", "b"))
    assert db.read(changes.unread) == 2
    tell(db, *told("c", "d"), *told("new", change="created"))
    assert db.read(changes.unread) == 3
    db.write(lambda c: changes.mark_read(c, now(), [changes.newest(c) - 1]))
    assert db.read(changes.unread) == 2


@everywhere
def test_what_was_read_and_what_stands_beside_it(db: Db) -> None:
    tell(db, *told("a", "b", "c", item_id=1), *told("new", change="created"), *told("page", of="page", page_id=1))
    ids = [change["id"] for change in db.read(lambda c: changes.after(c, 0, 10))]
    a, b, c, new, page = ids
    assert db.read(changes.unread) == 4
    assert db.read(lambda x: changes.neighbours(x, c, None)) == (b, page)
    assert db.read(lambda x: changes.neighbours(x, a, "s")) == (None, b)
    assert db.read(lambda x: changes.neighbours(x, a, "other")) == (None, None)
    assert db.write(lambda x: changes.mark_read(x, now(), [a, 10**9])) == 1
    assert db.write(lambda x: changes.mark_read(x, now(), up_to=b)) == 1
    assert (db.read(changes.unread), db.read(lambda x: changes.one(x, b))["read"]) == (2, True)
    of = db.read(lambda x: changes.of_subject(x, changes.one(x, b)))
    assert words(of) == ["c", "b", "a"]
    assert words(db.read(lambda x: changes.of_subject(x, changes.one(x, page)))) == ["page"]
    with pytest.raises(NotFound):
        db.read(lambda x: changes.one(x, page + 1))
    assert new not in {change["id"] for change in of}


@everywhere
def test_a_run_is_stopped_once(db: Db) -> None:
    run = db.write(lambda c: runs.request(c, "s", now()))
    row = frontier.row_of(run, "s", Link("http://a.org/"), 0)
    assert row is not None
    db.write(lambda c: frontier.add(c, [row], {run: frontier.Room(1)}))
    db.write(lambda c: runs.start(c, run, 10, 1, now()))
    assert db.read(runs.waiting) == 1
    assert db.write(lambda c: runs.stop(c, run, now()))
    assert not db.write(lambda c: runs.stop(c, run, now()))
    assert db.read(runs.waiting) == db.read(lambda c: frontier.count(c, run, UrlState.QUEUED)) == 0
    assert db.write(lambda c: runs.request(c, "s", now())) != run
    with pytest.raises(NotFound):
        db.write(lambda c: runs.stop(c, 99, now()))
    with pytest.raises(NotFound):
        db.write(lambda c: alarms.accept(c, 99, now()))


# -- how long versions of pages are kept

DAY = timedelta(days=1)


def page_with_versions(connection: Connection, source: str, at: datetime, ages: list[int], *, is_gone: bool) -> None:
    """A page of ten bytes, with versions of ten bytes that ended so many days ago; and a younger page."""
    common = {"source": source, "status": 200, "content_hash": "h", "bytes": 10, "headers": {}, "stored_bytes": 10}
    there = common | {
        "run_id": 1,
        "final_url": "u",
        "content_type": "t",
        "depth": 0,
        "fetched_at": at,
        "changed_at": at,
    }
    for name in ("old", "young"):
        gone_at = at - 20 * DAY if is_gone and name == "old" else None
        mark = f"{source}{name}".encode()
        values = there | {"fingerprint": mark, "url": name, "body": bytes(10), "gone_at": gone_at}
        page_id = made_id(connection.execute(insert(page_table).values(**values)))
        for age in ages if name == "old" else []:
            kept = common | {"page_id": page_id, "at": at - 30 * DAY, "until": at - age * DAY, "body": bytes(10)}
            connection.execute(insert(page_versions).values(**kept))


@pytest.mark.parametrize(
    ("keep", "is_gone", "left", "bodies"),
    [
        pytest.param(Retention(), False, [20, 9, 5, 1], 20, id="all"),
        pytest.param(Retention(versions=2), False, [5, 1], 20, id="so many"),
        pytest.param(Retention(age=7 * 86400.0), False, [5, 1], 20, id="so long"),
        pytest.param(Retention(age=7 * 86400.0), True, [], 10, id="with its page"),
        pytest.param(Retention(size=45), False, [5, 1], 20, id="so much: the oldest versions first"),
        pytest.param(Retention(size=15), False, [], 10, id="so much: then what is there now"),
    ],
)
@everywhere
def test_versions_of_pages_are_kept_as_long_as_asked_for(
    db: Db, keep: Retention, is_gone: bool, left: list[int], bodies: int
) -> None:
    at = now()
    for name in ("s", "other"):
        db.write(lambda c, name=name: page_with_versions(c, name, at, [20, 9, 5, 1], is_gone=is_gone))  # type: ignore[misc]
    list(retention.prune(db, "s", keep, at))

    def kept(connection: Connection, name: str) -> tuple[list[int], int]:
        mine = page_versions.c.source == name
        untils = connection.scalars(select(page_versions.c.until).where(mine).order_by(page_versions.c.id))
        sizes = connection.scalars(select(page_table.c.stored_bytes).where(page_table.c.source == name))
        return [(at - until).days for until in untils], sum(sizes)

    assert db.read(lambda c: kept(c, "s")) == (left, bodies)
    assert db.read(lambda c: kept(c, "other")) == ([20, 9, 5, 1], 20)


# -- from one database to another


@pytest.mark.databases("postgresql")
async def test_history_goes_along_to_another_database(project: Project, database: Database, site: Site) -> None:
    """With its alarms, versions and counts; and what happens there goes on from it."""
    project.configure("")
    here = Crawler(Database(url=f"sqlite:///{project.path / 'bowerbird.db'}"))
    for body in (many(12), many(12, price="2"), "rebuilt"):
        site.page("/", body)
        await here.run(shop(site))
    read: list[Callable[[Connection], Any]] = [
        lambda c: changes.after(c, 0, 100),
        alarms.standing,
        lambda c: pages.versions(c, 1),
        lambda c: pages.version_body(c, 1, 1),
    ]
    before = [here.db.read(one) for one in read]
    last = here.db.read(changes.newest)
    here.db.close()
    ended = project.run("db", "copy", database.url)
    assert ended.returncode == 0, ended.stderr
    there = Crawler(database)
    try:
        assert [there.db.read(one) for one in read] == before
        site.page("/", many(12, price="3"))
        await there.run(shop(site))
        assert there.db.read(alarms.standing) == []
        found = there.db.read(lambda c: changes.after(c, last, 100))
        assert [change["change"] for change in found] == ["changed"] * 13
        assert len(there.db.read(lambda c: pages.versions(c, 1))) == 4
    finally:
        there.db.close()


@everywhere
def test_who_missed_what_was_dropped_looks_at_the_whole_again(database: Database) -> None:
    with Db(database) as db:
        schema.upgrade(db)
        db.write(lambda c: changes.tell(c, [changes.row(now(), "s", "page", "created", page_id=n) for n in range(6)]))
        ids = [row["id"] for row in db.read(lambda c: changes.after(c, 0, 10))]
        db.write(lambda c: changes.forget(c, [ids[1], ids[3]]))

        def seen(last: int) -> list[int | str]:
            return [row.get("kind") or row["id"] for row in db.read(lambda c: _changes_after(c, last))]

        assert seen(ids[2]) == ["resync"]
        assert seen(ids[3]) == ids[4:]
