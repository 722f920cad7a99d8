"""Who has which job in hand, on each database: what is lost with a worker goes on elsewhere, and is stored once."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import update

from scraper.config.settings import Enrich, Llm
from scraper.database import Db, jobs
from scraper.database import models as tables
from scraper.database.jobs import CRASHES_MOST, LEASE_S, Due, Verdict
from scraper.enrichment import runner
from tests.enrichment.endpoint import Endpoint, response, stream
from tests.enrichment.shop import Shop

pytestmark = pytest.mark.databases("sqlite", "pgbouncer")


@pytest.fixture
def at(db: Db) -> datetime:
    return db.now()


def lay_out(db: Db, count: int, mark: str = "1", **how: Any) -> int:
    due = [Due("item", number, "shop", "k", mark) for number in range(1, count + 1)]
    return db.write(lambda c: jobs.lay_out(c, "t", due, db.now(), **how))


def claim(db: Db, owner: str, at: datetime, limit: int = 10, **how: Any) -> list[Any]:
    return db.write(lambda c: jobs.claim(c, "t", owner, at, limit, **how))


def state(db: Db) -> list[tuple[int, str, int, int]]:
    rows = db.read(lambda c: c.execute(tables.jobs.select().order_by(tables.jobs.c.id)).all())
    return [(row.subject_id, row.state, row.attempts, row.crashes) for row in rows]


def test_what_is_laid_out_again_is_there_once(db: Db) -> None:
    assert lay_out(db, 3) == 3
    assert lay_out(db, 4) == 1
    assert lay_out(db, 4, "2", most=3) == 3
    assert len(state(db)) == 4


def test_a_job_is_one_workers_at_a_time(db: Db, database: Any, at: datetime) -> None:
    lay_out(db, 60)

    def work(owner: str) -> list[int]:
        with Db(database) as mine:
            found: list[int] = []
            while claimed := claim(mine, owner, at, 4):
                found += [job.subject_id for job in claimed]
            return found

    with ThreadPoolExecutor(4) as pool:
        taken = [number for found in pool.map(work, "abcd") for number in found]
    assert sorted(taken) == list(range(1, 61))


def test_a_lease_that_ended_is_anybodys_and_a_living_one_is_not(db: Db, at: datetime) -> None:
    lay_out(db, 2)
    (first,) = claim(db, "a", at, 1)
    claim(db, "b", at, 1)
    later = at + timedelta(seconds=LEASE_S - 1)
    db.write(lambda c: jobs.renew(c, "b", later))
    assert claim(db, "c", later) == []
    last = at + timedelta(seconds=LEASE_S + 1)
    db.write(lambda c: jobs.renew(c, "c", last))
    assert [job.id for job in claim(db, "c", last)] == [first.id]


def test_who_lost_a_job_cannot_say_what_becomes_of_it(db: Db, at: datetime) -> None:
    lay_out(db, 1)
    (mine,) = claim(db, "a", at)
    db.write(lambda c: jobs.renew(c, "b", at + timedelta(seconds=LEASE_S + 1)))
    assert not db.write(lambda c: jobs.settle(c, "a", Verdict(mine), at))
    (theirs,) = claim(db, "b", at)
    assert not db.write(lambda c: jobs.settle(c, "a", Verdict(mine), at))
    assert db.write(lambda c: jobs.settle(c, "b", Verdict(theirs), at))
    assert not db.write(lambda c: jobs.settle(c, "b", Verdict(theirs), at))
    assert [one[1] for one in state(db)] == ["done"]


def test_who_made_it_of_another_input_cannot_either(db: Db, at: datetime) -> None:
    lay_out(db, 1)
    (mine,) = claim(db, "a", at)
    lay_out(db, 1, "2")
    assert not db.write(lambda c: jobs.settle(c, "a", Verdict(mine), at))
    assert [one[1] for one in state(db)] == ["queued"]
    (again,) = claim(db, "a", at)  # of the same name, and of the new input
    assert not db.write(lambda c: jobs.settle(c, "a", Verdict(mine), at))
    assert db.write(lambda c: jobs.settle(c, "a", Verdict(again), at))


def test_what_a_worker_gives_back_cost_no_attempt(db: Db, at: datetime) -> None:
    lay_out(db, 2)
    claim(db, "a", at)
    assert state(db) == [(1, "claimed", 1, 0), (2, "claimed", 1, 0)]
    assert db.write(lambda c: jobs.release(c, "a")) == 2
    assert state(db) == [(1, "queued", 0, 0), (2, "queued", 0, 0)]


def test_a_suspect_is_taken_alone_by_who_is_idle_and_set_aside_in_the_end(db: Db, at: datetime) -> None:
    lay_out(db, 4)
    claim(db, "a", at, 2)
    db.write(lambda c: jobs.release(c, "a", blamed=True))
    assert [job.subject_id for job in claim(db, "b", at, idle=False)] == [3, 4]
    (one,) = claim(db, "a", at)
    assert one.subject_id == 1
    db.write(lambda c: jobs.settle(c, "a", Verdict(one), at))
    for _ in range(CRASHES_MOST - 1):
        assert [job.subject_id for job in claim(db, "a", at)] == [2]
        db.write(lambda c: jobs.release(c, "a", blamed=True))
    assert claim(db, "a", at) == []
    assert [one[1] for one in state(db)] == ["done", "failed", "claimed", "claimed"]
    assert db.write(lambda c: jobs.retry(c, "t", at, reason="poison")) == 1
    assert state(db)[1] == (2, "queued", 0, 0)


def test_what_is_done_or_failed_is_done_anew_when_asked(db: Db, at: datetime) -> None:
    lay_out(db, 3)
    first, second, _ = claim(db, "a", at)
    db.write(lambda c: jobs.settle(c, "a", Verdict(first), at))
    db.write(lambda c: jobs.settle(c, "a", Verdict(second, reason="invalid", message="m"), at))
    assert lay_out(db, 3) == 0
    assert lay_out(db, 3, redo=True) == 2
    assert [one[1] for one in state(db)] == ["queued", "queued", "claimed"]


TASK = Enrich(task="sum", over="items", prompt="{{ item.title }}", schema={"words": "str"})


@pytest.fixture
def asking(shop: Shop, endpoint: Endpoint, impatient: None) -> Shop:
    shop.use(Llm(base_url=endpoint.url, model="m"))
    return shop


def taken_by(shop: Shop, owner: str, until: datetime) -> None:
    held = {"state": "claimed", "claimed_by": owner, "lease_until": until}
    shop.db.write(lambda c: c.execute(update(tables.jobs).values(**held)))


def test_a_worker_that_lost_its_lease_while_it_waited_stores_nothing_and_what_it_paid_is_known(
    asking: Shop, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "RENEW_EACH_S", 0.1)
    asking.books(1)

    def reply(_: dict[str, Any]) -> bytes:
        number = len(endpoint.log)
        if number == 1:  # another one has it meanwhile, and vanishes
            taken_by(asking, "another@elsewhere", asking.db.now() + timedelta(seconds=0.5))
        return response(stream(json.dumps({"words": f"answer {number}"})))

    endpoint.answers(reply)
    asking.do(TASK)
    kept = asking.records("sum")
    assert len(kept) == 1
    assert asking.jobs("sum")[0]["state"] == "done"
    assert asking.spent("sum").tokens_in == 7 * len(endpoint.log)


def test_the_jobs_of_a_worker_that_vanished_are_taken_over(
    asking: Shop, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "RENEW_EACH_S", 0.1)
    asking.books(2)
    asking.know(TASK)
    asking.lay_out(TASK)
    taken_by(asking, "vanished@elsewhere", asking.db.now() + timedelta(seconds=0.5))
    endpoint.answers(lambda _: response(stream('{"words": "a"}')))
    asking.do(TASK)
    assert asking.counts("sum") == {"queued": 0, "done": 2, "failed": 0}
