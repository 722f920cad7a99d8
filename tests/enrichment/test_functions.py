"""Functions of the user's own, each in a process that may do whatever it likes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scraper.config.settings import Enrich, Limits
from tests.enrichment.shop import Shop

pytestmark = pytest.mark.usefixtures("impatient")

FUNCTIONS = """
import os, sys, time
from pydantic import BaseModel
class Made(BaseModel):
    title: str
class Odd:
    def __reduce__(self):
        raise TypeError("cannot be pickled")
def title(subject): return {"title": subject.title, "of": subject.of, "kind": subject.kind, "url": subject.url}
def model(subject): return [Made(title=subject.title), {"title": "b"}]
def nothing(subject): return None
def generator(subject): yield {"a": 1}; yield {"a": 2}
def raises(subject): raise ValueError("no such \\ud800 thing")
def stays(subject):
    here = True
    while here: time.sleep(0.01)
def leaks(subject):
    kept = []
    while True: kept.append(bytearray(2 ** 24))
def leaves(subject): os._exit(3)
def exits(subject): sys.exit(4)
def dies(subject): os.kill(os.getpid(), 9)
def a_number(subject): return 5
def not_records(subject): return [5]
def unpicklable(subject): return [{"a": Odd()}]
def cannot(subject): return Odd()
def recursive(subject):
    made = {}
    made["a"] = made
    return made
def lacks(subject): import no_such_module_at_all
def words(subject): return {"text": "a\\x00b\\ud800", "number": float("nan"), "set": {2, 1}}
def reading(subject): return {"title": subject.reading["title"], "text": subject.text}
"""


@pytest.fixture
def books(shop: Shop, tmp_path: Path) -> Shop:
    (tmp_path / "functions_of_users.py").write_text(FUNCTIONS)
    shop.settings = replace(shop.settings, limits=Limits(memory=192 * 2**20))
    shop.sell({"title": "A"})
    return shop


def task(name: str, **more: Any) -> Enrich:
    given: dict[str, Any] = {"over": "items", "attempts": 1, "timeout": 20.0} | more
    return Enrich(task=name, kind="python", function=f"functions_of_users:{name}", **given)


def made(shop: Shop, name: str) -> list[dict[str, Any]]:
    return [record[3] for record in shop.records(name)]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("title", [{"title": "A", "of": "item", "kind": "title", "url": "http://shop.test/1"}]),
        ("model", [{"title": "A"}, {"title": "b"}]),
        ("nothing", []),
        ("generator", [{"a": 1}, {"a": 2}]),
        ("words", [{"text": "ab�", "number": None, "set": [1, 2]}]),
    ],
)
def test_what_a_function_returns_is_what_is_kept(name: str, expected: list[dict[str, Any]], books: Shop) -> None:
    books.do(task(name))
    found = made(books, name)
    for record in found:
        if "text" in record:
            record["text"] = record["text"][:2] + "�"  # as many of them as it had bytes
    assert found == expected
    assert books.counts(name) == {"queued": 0, "done": 1, "failed": 0}


@pytest.mark.parametrize(
    ("name", "reason", "said"),
    [
        ("raises", "function", "ValueError: no such"),
        ("stays", "timeout", "functions_of_users:stays had not returned after 2 s\nCurrent thread"),
        ("leaks", "function", "MemoryError"),
        ("leaves", "function", "exit code 3"),
        ("exits", "function", "exit code 4"),
        ("dies", "function", "signal 9"),
        ("a_number", "function", "TypeError"),
        ("not_records", "function", "a record is a dict"),
        ("unpicklable", "function", "of a kind that JSON has not: Odd"),
        ("cannot", "function", "TypeError"),
        ("recursive", "function", "nested more than"),
    ],
)
def test_what_a_function_does_wrong_is_met_and_named(name: str, reason: str, said: str, books: Shop) -> None:
    books.do(task(name, timeout=2.0 if name == "stays" else 20.0))
    job = books.jobs(name)[0]
    assert (job["state"], job["reason"]) == ("failed", reason)
    assert said in job["message"]
    assert books.records(name) == []


def test_a_module_that_lacks_is_told_at_once_and_costs_no_job(books: Shop) -> None:
    with pytest.raises(Exception, match="no_such_module_at_all"):
        books.do(task("lacks"))
    assert books.counts("lacks") == {"queued": 1, "done": 0, "failed": 0}


def test_one_that_never_returns_costs_the_others_nothing(books: Shop) -> None:
    books.sell({"title": "B"}, {"title": "C"}, first=2)
    books.do(task("stays", timeout=0.5, where="title == 'B'"))
    books.do(task("title"))
    assert [record["title"] for record in made(books, "title")] == ["A", "B", "C"]


def test_a_functions_records_are_held_to_a_schema(books: Shop) -> None:
    books.do(task("title", schema={"title": "str", "of": "str", "kind": "str", "url": "str"}))
    assert len(made(books, "title")) == 1
    books.do(task("model", schema={"title": "int"}))
    job = books.jobs("model")[0]
    assert (job["state"], job["reason"]) == ("failed", "invalid")
    assert "title" in job["message"]


def test_a_page_is_read_before_a_function_gets_it(books: Shop) -> None:
    books.page("<title>Owls</title><article><p>Owls fly at night.</p></article>")
    books.do(task("reading", over="pages", where="url == 'http://shop.test/'"))
    (record,) = made(books, "reading")
    assert record["title"] == "Owls"
    assert "Owls fly at night." in record["text"]
