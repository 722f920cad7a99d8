"""Search by meaning and by both, and passages: over vectors that other processes write and remove meanwhile."""

import math
import random
import struct
import subprocess
import sys
import textwrap
import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from scraper.config.settings import Database
from scraper.crawl.indexer import catch_up
from scraper.database import Db, changes, documents, pgvector, vectors
from scraper.database.bulk import upsert
from scraper.database.models import items, pages
from scraper.database.vectors import Passages
from scraper.search.find import Question, find, retrieve, words
from scraper.search.query import BadQuery
from scraper.search.semantic import Matrix, NoVectors
from tests.export import stock
from tests.support import until

pytestmark = pytest.mark.databases("sqlite", "pgbouncer", "pgvector")
NOW = datetime(2026, 6, 1, tzinfo=UTC)
WIDE = 8


def vector(*numbers: float) -> bytes:
    """A vector of length one that begins with these numbers."""
    padded = [*numbers, *[0.0] * (WIDE - len(numbers))]
    length = math.sqrt(sum(n * n for n in padded))
    return struct.pack(f"<{WIDE}f", *(n / length for n in padded))


def there(db: Db, of: str, *subjects: int) -> None:
    """Have pages, or items on them, of these numbers be there: passages of what is gone are not found."""
    page = {"source": "shop", "run_id": 1, "url": "u", "final_url": "u", "status": 200, "content_type": "", "depth": 0}
    page |= {"content_hash": "x", "bytes": 0, "headers": {}, "body": b"", "stored_bytes": 0}
    page |= {"fetched_at": NOW, "changed_at": NOW}
    item = {"source": "shop", "kind": "k", "url": "u", "run_id": 1, "data": {}}
    item |= {"first_seen": NOW, "last_seen": NOW, "changed_at": NOW}
    for n in subjects:
        rows = [(pages, {**page, "id": n, "fingerprint": n.to_bytes(16)})]
        rows += [(items, {**item, "id": n, "page_id": n, "key": str(n)})] if of == "item" else []
        for table, row in rows:
            made = upsert(db.dialect.name, table).values(**row).on_conflict_do_nothing()
            db.write(lambda c, made=made: c.execute(made))  # type: ignore[misc]


def keep(db: Db, subject: int, texts: Sequence[str], found: Sequence[bytes], model: str = "m", **more: Any) -> None:
    named = {
        "of": "page",
        "source": "shop",
        "kind": None,
        "url": f"http://s/{subject}",
        "title": f"T{subject}",
        "at": NOW,
    }
    there(db, str((named | more)["of"]), subject)
    passages = Passages(subject_id=subject, texts=texts, vectors=found, **(named | more))
    db.write(lambda c: vectors.put(c, model, passages))
    if not db.read(partial(pgvector.covers, model=model, size=len(found[0]))):
        list(pgvector.keep(db))


def near(db: Db, matrix: Matrix, text: str = "anything", by: bytes | None = None, **more: Any) -> list[tuple[str, int]]:
    asked = Question(text, "semantic", vector=by or vector(1), **more)
    return [(row["of"], row["id"]) for row in find(db, asked, NOW, matrix)]


def told(db: Db, matrix: Matrix, by: bytes | None = None, limit: int = 8) -> list[str]:
    asked = Question("anything", "semantic", vector=by or vector(1), limit=limit)
    return [row["text"] for row in retrieve(db, asked, NOW, matrix)]


@pytest.fixture
def matrix() -> Matrix:
    return Matrix("m")


def test_the_nearest_come_first(db: Db, matrix: Matrix) -> None:
    keep(db, 1, ["far"], [vector(0.1, 1)])
    keep(db, 2, ["near"], [vector(1, 0.1)])
    keep(db, 3, ["so so", "exactly"], [vector(1, 1), vector(1)])
    assert near(db, matrix) == [("page", 3), ("page", 2), ("page", 1)]
    assert told(db, matrix) == ["exactly", "near", "so so", "far"]
    (row, *_) = find(db, Question("x", "semantic", vector=vector(1)), NOW, matrix)
    assert row["snippet"] == [{"text": "exactly", "hit": False}]
    assert row["score"] == pytest.approx(1.0)


def test_what_is_new_is_found_and_what_is_gone_is_not(db: Db, database: Database, matrix: Matrix) -> None:
    keep(db, 1, ["one"], [vector(1, 0.5)])
    assert near(db, matrix) == [("page", 1)]
    with Db(database) as other:
        keep(other, 2, ["two"], [vector(1)])
        assert near(db, matrix) == [("page", 2), ("page", 1)]
        other.write(lambda c: vectors.forget(c, "page", [2]))
        assert near(db, matrix) == [("page", 1)]
        keep(other, 3, ["three"], [vector(1)])  # its number must not be that of the one that is gone
        assert near(db, matrix) == [("page", 3), ("page", 1)]
        other.write(lambda c: vectors.forget(c, "page", [1, 3]))
        with pytest.raises(NoVectors, match="kind embed"):
            near(db, matrix)
        keep(other, 4, ["four"], [vector(0, 1)])
        assert told(db, matrix) == ["four"]


def test_what_is_made_again_is_found_once(db: Db, matrix: Matrix) -> None:
    for _ in range(3):
        keep(db, 1, ["one", "another"], [vector(1), vector(1, 0.9)])
        keep(db, 2, ["two"], [vector(1, 0.1)])
        assert told(db, matrix) == ["one", "two", "another"]
        assert told(db, matrix, limit=2) == ["one", "two"]
        (row, *_) = retrieve(db, Question("x", "semantic", vector=vector(1)), NOW, matrix)
        assert row["score"] == round(1 / 61, 5)  # it stands first once, and not second too


def test_a_changed_text_is_found_by_what_it_is_now(db: Db, matrix: Matrix) -> None:
    keep(db, 1, ["old"], [vector(1)])
    keep(db, 2, ["other"], [vector(1, 0.5)])
    assert told(db, matrix) == ["old", "other"]
    keep(db, 1, ["new"], [vector(0, 1)])
    assert told(db, matrix) == ["other", "new"]


def test_another_model_stands_beside_the_first(db: Db, matrix: Matrix) -> None:
    keep(db, 1, ["one"], [vector(1)])
    keep(db, 1, ["one"], [struct.pack("<2f", 0, 1)], model="wide")
    keep(db, 2, ["two"], [vector(1, 1)])
    assert near(db, matrix) == [("page", 1), ("page", 2)]
    assert near(db, Matrix("wide"), by=struct.pack("<2f", 0, 1)) == [("page", 1)]
    assert [db.read(lambda c, m=m: vectors.count(c, m)) for m in ("m", "wide")] == [2, 1]  # type: ignore[misc]
    with pytest.raises(NoVectors, match="kind embed"):
        near(db, Matrix("unknown"))
    keep(db, 1, ["changed"], [vector(1)])  # its vector by the other one is of words that are gone
    assert db.read(lambda c: vectors.count(c, "wide")) == 0
    with pytest.raises(NoVectors, match="run the task again"):
        near(db, matrix, by=struct.pack("<2f", 0, 1))


def test_fields_say_where_and_since_when(db: Db, matrix: Matrix) -> None:
    keep(db, 1, ["one"], [vector(1)])
    keep(db, 2, ["two"], [vector(1, 0.1)], source="other", at=NOW - timedelta(days=30))
    keep(db, 3, ["three"], [vector(1, 0.2)], of="item", kind="book")
    assert near(db, matrix, "x source:other") == near(db, matrix, source="other") == [("page", 2)]
    assert near(db, matrix, "x kind:book") == near(db, matrix, kind="book") == [("item", 3)]
    assert near(db, matrix, "x of:page") == [("page", 1), ("page", 2)]
    assert near(db, matrix, "x since:7d") == [("page", 1), ("item", 3)]
    assert near(db, matrix, "x source:nowhere") == []


def test_the_few_of_one_source_are_found_among_the_many_of_another(db: Db, matrix: Matrix) -> None:
    drawn = random.Random(1)
    for subject in range(1, 19):
        many = [vector(1, *(drawn.uniform(-0.1, 0.1) for _ in range(WIDE - 1))) for _ in range(500)]
        keep(db, subject, [f"{subject} {number}" for number in range(500)], many)
    keep(db, 99, ["mine"], [vector(-1)], source="small")
    assert near(db, matrix, "x source:small") == [("page", 99)]
    assert near(db, matrix, "x source:small", limit=1) == [("page", 99)]


def test_without_vectors_it_says_what_to_do(db: Db) -> None:
    for mode in ("semantic", "hybrid"):
        with pytest.raises(NoVectors, match="kind embed"):
            find(db, Question("x", mode), NOW)
    with pytest.raises(BadQuery):
        find(db, Question("-x", "semantic", vector=vector(1)), NOW, Matrix("m"))


@pytest.mark.parametrize("text", ["x -source:shop", "x -kind:book", "x source:a source:b"])
def test_what_a_query_cannot_ask_for_is_told(text: str) -> None:
    with pytest.raises(BadQuery, match="leave it out"):
        words(text, NOW)


def test_a_question_is_asked_by_its_words_alone() -> None:
    asked = 'night owl source:shop -day since:7d "two words" this OR that bird*'
    assert words(asked, NOW) == "night owl two words this that bird"


# -- with the words


@pytest.fixture
def shop(db: Db) -> Db:
    """Three pages with their words and vectors: what words say and what vectors say differs."""
    stock.source(db)
    for number, text in (
        (1, "Owls fly at night"),
        (2, "Cats sleep by day"),
        (3, "Cats sleep by day"),
        (4, "Bats and owls"),
    ):
        stock.page(db, f"http://s/{number}", f"<title>T</title><p>{text}</p>".encode(), title="T")
    told_rows = [changes.row(stock.AT, "shop", "page", "created", page_id=number) for number in (1, 2, 3, 4)]
    db.write(lambda c: changes.tell(c, told_rows))
    list(catch_up(db))
    for number, found in ((1, vector(0, 1)), (2, vector(1, 0.1)), (3, vector(1, 0.2)), (4, vector(1))):
        text = db.read(lambda c, n=number: documents.text_of(c, "page", n))  # type: ignore[misc]
        keep(db, number, [text], [found], url=f"http://s/{number}")
    return db


def test_both_lists_count(shop: Db, matrix: Matrix) -> None:
    def ids(mode: Any, **more: Any) -> list[int]:
        return [row["id"] for row in find(shop, Question("owls", mode, vector=vector(1), **more), NOW, matrix)]

    assert sorted(ids("text")) == [1, 4]
    assert ids("semantic") == [4, 2, 1]
    assert ids("hybrid")[0] == 4  # the only one that stands high in both
    assert set(ids("hybrid")) == {1, 2, 3, 4} or set(ids("hybrid")) == {
        1,
        2,
        4,
    }  # 3 is folded where its text is the same
    assert ids("hybrid", limit=1) + ids("hybrid", limit=9, offset=1) == ids("hybrid")


def test_what_says_the_same_is_folded(shop: Db) -> None:
    (row,) = find(shop, Question("cats sleep"), NOW)
    assert [same["id"] for same in row["same"]] == [5 - row["id"]]


def test_passages_say_where_they_are_from(shop: Db, matrix: Matrix) -> None:
    found = retrieve(shop, Question("owls", "hybrid", vector=vector(1)), NOW, matrix)
    assert found[0]["id"] == 4
    assert {"of", "id", "source", "kind", "url", "title", "at", "version", "until", "text", "score"} == set(found[0])
    assert all("lead" not in row for row in found)
    texts = [(row["id"], row["text"]) for row in found]
    assert len(texts) == len(set(texts))
    by_words = retrieve(shop, Question("owls", "text"), NOW)
    assert {row["id"] for row in by_words} == {1, 4}
    assert all("wls" in row["text"] for row in by_words)


# -- another process


ASKER = """
import sys, time
from datetime import UTC, datetime
from scraper.config.settings import Database
from scraper.database import Db
from scraper.search.find import Question, find
from scraper.search.semantic import Matrix
db, matrix = Db(Database(url=sys.argv[1], transaction_pooler=sys.argv[2] == "1")), Matrix("m")
by = bytes.fromhex(sys.argv[3])
for line in sys.stdin:
    rows = find(db, Question("x", "semantic", vector=by), datetime.now(UTC), matrix)
    print(",".join(str(row["id"]) for row in rows), flush=True)
"""


def test_another_process_finds_a_new_vector_within_a_second(db: Db, database: Database, tmp_path: Path) -> None:
    keep(db, 1, ["one"], [vector(1, 1)])
    command = [sys.executable, "-c", textwrap.dedent(ASKER), database.url, str(int(database.transaction_pooler)), vector(1).hex()]  # fmt: skip
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as asker:
        assert asker.stdin is not None
        assert asker.stdout is not None

        def asks() -> str:
            assert asker.stdin is not None
            assert asker.stdout is not None
            asker.stdin.write("\n")
            asker.stdin.flush()
            return asker.stdout.readline().strip()

        assert asks() == "1"
        keep(db, 2, ["two"], [vector(1)])
        assert asks() == "2,1"  # no polling: the very next question
        db.write(lambda c: vectors.forget(c, "page", [1]))
        assert asks() == "2"
        asker.stdin.close()


def test_many_writers_at_once_leave_nothing_unseen(db: Db, database: Database, matrix: Matrix) -> None:
    def write(first: int) -> None:
        with Db(database) as mine:
            for number in range(first, first + 40):
                keep(mine, number, [f"n{number}"], [vector(1, number / 1000)])

    writers = [threading.Thread(target=write, args=(first,)) for first in (1, 101, 201)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        matrix.refresh(db, len(vector(1)))
    for writer in writers:
        writer.join()
    until(lambda: len(near(db, matrix, limit=200)) == 120, "all are there", 5)


def test_vectors_of_another_length_under_the_same_name_harm_nobody(db: Db, matrix: Matrix) -> None:
    keep(db, 1, ["one"], [vector(1)])
    assert near(db, matrix) == [("page", 1)]
    keep(db, 2, ["two"], [struct.pack("<2f", 0, 1)])
    keep(db, 3, ["three"], [vector(1, 1)])
    assert near(db, matrix) == [("page", 1), ("page", 3)]
    assert near(db, matrix, by=struct.pack("<2f", 0, 1)) == [("page", 2)]
    assert near(db, matrix) == [("page", 1), ("page", 3)]
