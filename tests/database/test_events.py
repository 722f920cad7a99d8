"""Events: kept in order, bounded, and told live without a loss."""

import asyncio
import contextlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest

from api.stream import Place, Streams
from scraper import journal
from scraper.database import Db, events
from scraper.journal import Journal
from scraper.records import Event
from tests.support import until

pytestmark = pytest.mark.databases("sqlite", "postgresql", "pgbouncer")


def told(event: str, level: Any = "info", **facts: Any) -> Event:
    return Event(datetime.now(UTC), "process", "scraper-0", event, level, facts)


def put(db: Db, *batch: Event) -> None:
    db.write(partial(events.add, batch=batch))


@contextlib.contextmanager
def held(db: Db) -> Iterator[None]:
    """Keep all others from writing events."""
    with Db(db.settings) as other, other.engine.connect() as connection, connection.begin():
        if not db.is_sqlite:
            connection.exec_driver_sql("LOCK TABLE events IN ACCESS EXCLUSIVE MODE")
        yield


def kept(db: Db, last: int = 0) -> list[dict[str, Any]]:
    return db.read(partial(events.after, last, 10_000))


def test_routine_does_not_push_out_what_matters(db: Db, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "KEPT", 200)
    put(db, told("ended", "error"))
    for _ in range(30):
        put(db, *[told("moved") for _ in range(50)])
    query = "SELECT level, count(*) FROM events GROUP BY 1"
    counts = {row[0]: row[1] for row in db.read(lambda c: c.exec_driver_sql(query).all())}
    assert counts["error"] == 1
    assert 200 <= counts["info"] <= 300
    assert len(kept(db, 1400)) == 101
    assert kept(db, 3) == [{"id": 1501, "kind": "resync", "level": "warning"}]
    assert kept(db, 10**9)[0]["kind"] == "resync"  # another database's


def test_the_journal_waits_for_the_database_and_loses_nothing_that_fits(
    db: Db, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "QUEUE", 300)
    with held(db):
        keeper = Journal(db.settings)
        keeper.start()
        for number in range(400):
            keeper.add(told("moved", number=number))
    rows = until(lambda: found if len(found := kept(db)) > 300 else None, "they are kept")
    assert [e["facts"]["number"] for e in rows if e["event"] == "moved"][:300] == list(range(300))
    assert [e["facts"]["count"] for e in rows if e["event"] == "lost events"] == [100]
    keeper.stop()


def test_one_event_that_cannot_be_stored_does_not_keep_the_others(db: Db) -> None:
    keeper = Journal(db.settings)
    keeper.add(told("moved", text="a lone \udc80 surrogate and a \0"))
    keeper.add(told("moved", thing=object()))  # no JSON has a word for it
    keeper.add(told("moved", number=3))
    keeper.start()
    rows = until(lambda: found if len(found := kept(db)) == 3 else None, "they are kept")
    assert [e["event"] for e in rows] == ["moved", "moved", "lost events"]
    assert rows[0]["facts"] == {"text": "a lone ? surrogate and a \ufffd"}
    keeper.stop()


async def test_streams_tell_everything_in_order_to_the_quick_and_the_slow(db: Db) -> None:
    streams = Streams(db)
    put(db, *[told("moved", number=n) for n in range(10)])

    quick, slow = asyncio.Event(), asyncio.Event()
    quick.set()

    async def follow(last: int, may_go_on: asyncio.Event) -> list[int]:
        seen = []
        async for told_now in streams.follow(Place(last, 0), None):
            seen += [json.loads(said.text.partition(b"data: ")[2])["facts"]["number"] for _, said in told_now]
            await may_go_on.wait()
            if seen and seen[-1] == 1509:
                return seen
        return seen

    followers = [asyncio.create_task(follow(last, event)) for last, event in ((0, quick), (5, quick), (9, slow))]
    for start in range(10, 1510, 100):
        await asyncio.to_thread(put, db, *[told("moved", number=n) for n in range(start, start + 100)])
    async with asyncio.timeout(20):
        await followers[0]
        assert streams._events.since(10) is None  # who is slow is further behind than is remembered here
        slow.set()
        assert await followers[0] == list(range(1510))
        assert await followers[1] == list(range(5, 1510))
        assert await followers[2] == list(range(9, 1510))


async def test_a_closed_stream_ends_and_a_resync_stands_for_what_is_gone(db: Db) -> None:
    streams = Streams(db)
    put(db, told("moved"))
    follower = streams.follow(Place(77, 0), None)
    assert [said.kind for _, said in await anext(follower)] == ["resync"]
    waiting = asyncio.ensure_future(anext(follower))
    await asyncio.to_thread(until, lambda: streams._following, "somebody follows")
    streams.close()
    with pytest.raises(StopAsyncIteration):
        await waiting
    assert not streams._following
