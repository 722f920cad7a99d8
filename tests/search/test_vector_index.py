"""The index of vectors in a PostgreSQL that has pgvector: it is used, it is whole or not asked, and what it lacks is no end."""

import asyncio
import random
import struct
import threading
from collections.abc import Sequence
from functools import partial
from itertools import islice

import pytest
from sqlalchemy import text

from scraper.config.settings import Database
from scraper.crawl.indexer import Indexer
from scraper.crawl.store import Store
from scraper.database import Connection, Db, pgvector, vectors
from scraper.database.vectors import Passages
from scraper.errors import Unusable
from scraper.search.semantic import Matrix
from tests.postgres import Address
from tests.search.test_meaning import NOW, WIDE, keep, near, vector
from tests.support import Project, until

pytestmark = pytest.mark.databases("pgvector")
SIZE = WIDE * 4


def put(db: Db, subject: int, found: Sequence[bytes], model: str = "m") -> None:
    """Write vectors, and have nobody fill an index."""
    texts = [f"{subject} {number}" for number in range(len(found))]
    passages = Passages("page", subject, "shop", None, f"http://s/{subject}", "T", NOW, texts, found)
    db.write(lambda c: vectors.put(c, model, passages))


def drawn(count: int, seed: int = 1, numbers: int = WIDE) -> list[bytes]:
    dice = random.Random(seed)
    made = []
    for _ in range(count):
        rows = [dice.gauss(0, 1) for _ in range(numbers)]
        length = sum(n * n for n in rows) ** 0.5
        made.append(struct.pack(f"<{numbers}f", *(n / length for n in rows)))
    return made


def covers(db: Db, model: str = "m", size: int = SIZE) -> bool:
    return db.read(partial(pgvector.covers, model=model, size=size))


def indexed(db: Db, by: bytes, count: int, model: str = "m") -> list[int]:
    found = db.read(partial(pgvector.nearest, model=model, vector=by, count=count))
    return [number for number, _ in found]


def exact(db: Db, by: bytes, count: int) -> list[int]:
    matrix = Matrix("m")
    matrix.refresh(db, len(by))
    return [number for number, _ in matrix.nearest(count, None, vector=by)]


def statement(db: Db, query: str) -> list[str]:
    return [str(row[0]) for row in db.read(lambda c: c.execute(text(query)).all())]


def tables(db: Db) -> list[str]:
    return statement(db, "SELECT relname FROM pg_class WHERE relname LIKE 'vectors_near_%' AND relkind = 'r'")


def forbid_tables(address: Address) -> None:
    address.command("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    address.command(f"ALTER DATABASE {address.name} OWNER TO postgres")


def test_the_index_is_used_and_finds_what_is_nearest(db: Db) -> None:
    put(db, 1, drawn(3000, numbers=32))
    list(pgvector.keep(db))
    (table,) = tables(db)
    db.write(lambda c: c.execute(text(f"ANALYZE {table}")))
    plan = "\n".join(
        statement(
            db,
            f"EXPLAIN SELECT vector_id FROM {table} ORDER BY CAST(vector AS halfvec(32))"
            f" <-> CAST('{[1.0] * 32}' AS halfvec(32)) LIMIT 10",
        )
    )
    assert f"{table}_hnsw" in plan
    hits = 0
    for by in drawn(20, seed=2, numbers=32):
        hits += len({*indexed(db, by, 10)} & {*exact(db, by, 10)})
    assert hits > 190


def test_more_are_found_than_are_looked_at_in_one_go(db: Db) -> None:
    put(db, 1, drawn(2500))
    list(pgvector.keep(db))
    assert len(indexed(db, vector(1), 2000)) == 2000


def test_scores_are_those_of_whole_numbers(db: Db) -> None:
    put(db, 1, drawn(50))
    list(pgvector.keep(db))
    by = vector(1, 2, 3)
    matrix = Matrix("m")
    matrix.refresh(db, len(by))
    found = db.read(partial(pgvector.nearest, model="m", vector=by, count=50))
    for (number, score), (right, expected) in zip(found, matrix.nearest(50, None, vector=by), strict=True):
        assert number == right
        assert score == pytest.approx(expected, abs=1e-6)


def test_vectors_from_before_come_portion_by_portion_and_are_found_at_every_moment(db: Db) -> None:
    put(db, 1, drawn(250))
    steps = pgvector.keep(db)
    assert not covers(db)
    seen = []
    for count in islice(steps, 2):
        seen.append(count)
        assert not covers(db)
        assert indexed(db, vector(1), 500) != exact(db, vector(1), 500)
    put(db, 2, drawn(1, seed=2))  # while the older ones come
    seen += steps
    assert seen == [25] * 10
    assert covers(db)
    assert len({*indexed(db, vector(1), 500)} & {*exact(db, vector(1), 500)}) > 245
    assert list(pgvector.keep(db)) == []


def test_few_are_looked_at_one_by_one(db: Db, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pgvector, "WORTH_IT", 100)
    put(db, 1, drawn(99))
    assert list(pgvector.keep(db)) == []
    assert tables(db) == []
    put(db, 2, drawn(1))
    assert sum(pgvector.keep(db)) == 100
    db.write(lambda c: vectors.forget(c, "page", [1, 2]))
    keep(db, 3, ["one"], drawn(1))
    assert not covers(db)  # an index that is not whole is not asked
    assert near(db, Matrix("m"), by=drawn(1)[0]) == [("page", 3)]


def test_what_is_written_is_in_the_index_with_it_or_not_at_all(db: Db) -> None:
    keep(db, 1, ["one"], [vector(1, 1)])
    put(db, 2, [vector(1)])
    assert covers(db)
    assert len(indexed(db, vector(1), 9)) == 2

    def fails(connection: Connection) -> None:
        passages = Passages("page", 3, "shop", None, "u", "T", NOW, ["three"], [vector(1)])
        vectors.put(connection, "m", passages)
        raise LookupError

    with pytest.raises(LookupError):
        db.write(fails)
    assert len(indexed(db, vector(1), 9)) == 2
    db.write(lambda c: vectors.forget(c, "page", [1]))
    assert indexed(db, vector(1), 9) == exact(db, vector(1), 9)
    db.write(lambda c: vectors.forget(c, "page", [2]))
    assert not covers(db)  # there is nothing, which is said by who looks at all
    put(db, 4, [vector(1)])
    assert not covers(db)
    assert len(exact(db, vector(1), 9)) == 1
    assert list(pgvector.keep(db)) == [1]
    assert covers(db)


def test_writers_and_who_fills_go_on_beside_each_other(db: Db, database: Database) -> None:
    put(db, 1, drawn(1000))

    def write(first: int) -> None:
        with Db(database) as mine:
            for number in range(first, first + 30):
                put(mine, number, drawn(3, seed=number))
                if number % 5 == 0:
                    mine.write(lambda c, n=number: vectors.forget(c, "page", [n]))  # type: ignore[misc]

    writers = [threading.Thread(target=write, args=(first,)) for first in (101, 201)]
    for writer in writers:
        writer.start()
    with Db(database) as patient:  # they wait for each other
        list(pgvector.keep(patient))
        patient.write(lambda c: vectors.forget(c, "page", [1]))
        for writer in writers:
            writer.join()
        list(pgvector.keep(patient))
    assert covers(db)
    (table,) = tables(db)
    assert statement(db, f"SELECT vector_id FROM {table} ORDER BY 1") == statement(
        db, "SELECT id FROM vectors ORDER BY 1"
    )


def test_each_model_and_each_length_has_its_own(db: Db) -> None:
    keep(db, 1, ["one"], [vector(1)])
    keep(db, 2, ["two"], drawn(1, numbers=3), model="other")
    put(db, 3, drawn(1, numbers=3))  # an endpoint that changed what it answers under the same name
    list(pgvector.keep(db))
    assert len(tables(db)) == 3
    assert covers(db)
    assert covers(db, size=12)
    assert covers(db, "other", size=12)


def test_vectors_that_are_too_long_for_it_are_looked_at_one_by_one(db: Db) -> None:
    long = drawn(1, numbers=4096)
    keep(db, 1, ["one"], long)
    assert tables(db) == []
    assert near(db, Matrix("m"), by=long[0]) == [("page", 1)]


def test_without_the_extension_all_goes_on_and_with_it_again_too(db: Db, address_with_vectors: Address) -> None:
    keep(db, 1, ["one"], [vector(1)])
    matrix = Matrix("m")
    assert near(db, matrix) == [("page", 1)]
    assert not matrix.filled  # nothing was looked at one by one
    address_with_vectors.command("DROP EXTENSION vector CASCADE")
    put(db, 2, [vector(1, 1)])
    assert list(pgvector.keep(db)) == []
    assert near(db, matrix) == [("page", 1)]
    assert matrix.filled
    address_with_vectors.command("CREATE EXTENSION vector")
    assert sum(pgvector.keep(db)) == 2
    assert covers(db)
    assert near(db, matrix) == [("page", 1)]
    assert not matrix.filled


def test_without_the_right_to_make_tables_it_says_so(db: Db, address_with_vectors: Address) -> None:
    put(db, 1, [vector(1)])
    forbid_tables(address_with_vectors)
    with pytest.raises(Unusable, match="permission denied for schema"):
        list(pgvector.keep(db))
    assert exact(db, vector(1), 1)


async def test_the_process_that_makes_texts_be_found_fills_it_too(db: Db) -> None:
    put(db, 1, drawn(150))
    store = Store(db, "scraper-0@here")
    work = asyncio.create_task(Indexer(store, lambda: True).run())
    try:
        await asyncio.to_thread(until, lambda: covers(db), "the index is whole")
        assert not work.done()
    finally:
        work.cancel()
        store.close()


async def test_that_process_lives_where_it_cannot_be_filled(
    db: Db, address_with_vectors: Address, caplog: pytest.LogCaptureFixture
) -> None:
    put(db, 1, [vector(1)])
    forbid_tables(address_with_vectors)
    store = Store(db, "scraper-0@here")
    work = asyncio.create_task(Indexer(store, lambda: True).run())
    try:
        await asyncio.to_thread(until, lambda: "vectors are found without an index" in caplog.text, "it is said")
        assert not work.done()
    finally:
        work.cancel()
        store.close()


def test_the_doctor_says_how_vectors_are_found(project: Project, db: Db, database: Database) -> None:
    told = project.run("doctor", BOWERBIRD_DATABASE__URL=database.url, BOWERBIRD_DATABASE__TRANSACTION_POOLER="true")
    assert "pgvector: 0.8" in told.stdout
    assert "its index finds vectors" in told.stdout


@pytest.mark.parametrize(
    ("found", "good"), [("0.8.6", True), ("0.8", True), ("1.0", True), ("0.7.4", False), ("0.10.0", True)]
)
def test_old_versions_are_not_used(found: str, good: bool) -> None:
    assert pgvector.is_new_enough(found) is good
