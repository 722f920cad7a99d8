"""Questions answered word by word, and notes: made meanwhile, once each, and whatever becomes of the service."""

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select

from api.searching import Searching
from scraper.config.settings import Settings
from scraper.database import Db, hosts, notes
from scraper.database.connection import now
from scraper.database.models import notes_wanted
from tests.enrichment.endpoint import Endpoint, Reply, cut, fails, response, says, stream
from tests.enrichment.factory import Factory, task
from tests.export.stock import AT
from tests.support import Running, gone, until

Serve = Callable[..., Running]


def told_apart(answer: Reply, noted: Reply) -> Reply:
    """One model for both: what is asked of it is told by what it is told to be."""
    return lambda asked: (noted if asked["messages"][0]["content"].startswith("Write down") else answer)(asked)


def saying(words: str) -> Reply:
    return lambda _: response(stream(words))


@pytest.fixture
def asked(factory: Factory, endpoint: Endpoint) -> Factory:
    factory.books(3)
    llm = f'[llm]\nbase_url = "{endpoint.url}"\nmodel = "m"\n'
    factory.configure(task("square"), text=llm)
    return factory


def ask(http: httpx.Client, question: str, key: str = "", **more: Any) -> list[tuple[str, Any]]:
    """Return the events of an answer."""
    headers = {"Idempotency-Key": key} if key else {}
    response = http.post("/api/ask", json={"question": question, "mode": "text"} | more, headers=headers, timeout=60)
    assert response.status_code == 200, response.text
    events = [
        dict(line.partition(": ")[::2] for line in one.splitlines()) for one in response.text.split("\n\n") if one
    ]
    return [(one["event"], json.loads(one["data"])) for one in events]


def texts(http: httpx.Client, about: str) -> set[str]:
    found = [row["text"] for row in http.get(f"/api/notes/{about}").json()["items"]]
    assert len(found) == len(set(found))
    return set(found)


def test_an_answer_comes_word_by_word_while_notes_are_made(asked: Factory, serve: Serve, endpoint: Endpoint) -> None:
    endpoint.answers(told_apart(saying("It is [1]."), says({"notes": ["Likes books.", "likes  books"]})))
    http = serve().http
    events = ask(http, "What is a book?", note_for="ann")
    assert events[0][0] == "passages"
    assert "".join(said for name, said in events if name == "words") == "It is [1]."
    assert events[-1] == ("done", {})
    until(lambda: texts(http, "ann") == {"Likes books."}, "noted", 60)
    endpoint.answers(told_apart(cut("It is"), says({"notes": []})))
    name, said = ask(http, "What is a book?")[-1]
    assert name == "failed"
    assert said["reason"] == "transport"


def test_an_answer_is_whole_with_a_key_too_and_the_same_when_it_is_asked_for_again(
    asked: Factory, serve: Serve, endpoint: Endpoint
) -> None:
    endpoint.answers(saying("It is [1]."))
    http = serve().http
    events = ask(http, "What is a book?", key="once")
    assert events[-1] == ("done", {})
    body = {"question": "What is a book?", "mode": "text"}
    again = {"json": body, "headers": {"Idempotency-Key": "once"}, "timeout": 60}
    until(lambda: http.post("/api/ask", **again).status_code == 200, "the answer is kept")  # type: ignore[arg-type]
    assert ask(http, "What is a book?", key="once") == events


def test_the_same_note_of_many_at_once_is_there_once(asked: Factory, serve: Serve, endpoint: Endpoint) -> None:
    endpoint.answers(told_apart(saying("Yes."), says({"notes": ["Wants a kettle.", "Lives in Oslo."]})))
    http = serve().http
    with ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(lambda n: ask(http, f"A kettle, {n}?", note_for="ben"), range(5)))
    assert all(events[-1] == ("done", {}) for events in answers)
    until(
        lambda: asked.db.read(lambda c: c.scalar(select(func.count()).select_from(notes_wanted))) == 0,
        "all are made",
        60,
    )
    assert texts(http, "ben") == {"Wants a kettle.", "Lives in Oslo."}


@pytest.mark.databases("sqlite", "postgresql")
def test_what_is_to_be_noted_survives_the_service(asked: Factory, serve: Serve, endpoint: Endpoint) -> None:
    reached, go = threading.Event(), threading.Event()

    def waits(given: Any) -> bytes:
        reached.set()
        go.wait(60)
        return says({"notes": ["Too late."]})(given)

    endpoint.answers(told_apart(saying("Yes."), waits))
    service = serve()
    assert ask(service.http, "A kettle?", note_for="cem")[-1] == ("done", {})
    assert reached.wait(60)
    family = service.family()
    service.process.kill()
    until(lambda: gone(family), "nothing is left", 30)
    go.set()
    endpoint.answers(told_apart(saying("Yes."), says({"notes": ["Wants a kettle."]})))
    http = serve().http
    until(lambda: texts(http, "cem") == {"Wants a kettle."}, "noted all the same", 60)


def test_a_model_that_fails_costs_nobody_the_answer(asked: Factory, serve: Serve, endpoint: Endpoint) -> None:
    endpoint.answers(told_apart(saying("Yes."), fails("400 Bad Request")))
    service = serve()
    assert ask(service.http, "A kettle?", note_for="dee")[-1] == ("done", {})
    until(lambda: "nothing was noted yet" in asked.project.output(), "it says so", 60)
    until(lambda: asked.db.read(notes.next_wanted), "it waits to be tried again")


@pytest.mark.databases("sqlite", "postgresql", "pgbouncer")
def test_a_text_is_tried_later_each_time_and_given_up_in_the_end(db: Db) -> None:
    db.write(lambda c: notes.want(c, "eve", "text", AT))
    at, waits = AT, []
    for _ in range(notes.TRIES_MOST):
        (wanted,) = db.write(lambda c, at=at: notes.claim(c, at, 4))  # type: ignore[misc]
        assert db.write(lambda c, at=at: notes.claim(c, at, 4)) == []  # type: ignore[misc]
        db.write(lambda c, at=at, wanted=wanted: notes.again(c, wanted, at))  # type: ignore[misc]
        db.write(notes.take_up)  # a start: what waits goes on waiting
        assert db.write(lambda c, at=at: notes.claim(c, at, 4)) == []  # type: ignore[misc]
        due = db.read(notes.next_wanted)
        waits.append((due - at).total_seconds() if due else None)
        at = due or at
    assert waits == [20, 80, 320, 1280, 5120, None]


@pytest.mark.databases("sqlite", "postgresql")
def test_what_nobody_is_heard_of_comes_again(db: Db) -> None:
    db.write(lambda c: notes.want(c, "eve", "text", AT))
    assert len(db.write(lambda c: notes.claim(c, AT, 4))) == 1
    assert db.write(lambda c: notes.claim(c, AT + timedelta(seconds=notes.LEASE_S - 1), 4)) == []
    assert len(db.write(lambda c: notes.claim(c, AT + timedelta(seconds=notes.LEASE_S), 4))) == 1
    db.write(lambda c: notes.take_up(c))  # a start
    (wanted,) = db.write(lambda c: notes.claim(c, AT, 4))
    db.write(lambda c: notes.made(c, wanted.id))
    assert db.read(notes.next_wanted) is None


def test_an_answer_that_comes_as_one_document_is_told_too(asked: Factory, serve: Serve, endpoint: Endpoint) -> None:
    message = {"message": {"role": "assistant", "content": "As one 😀."}, "finish_reason": "stop"}
    endpoint.answers(lambda _: response(json.dumps({"choices": [message]}).encode(), kind="application/json"))
    http = serve().http
    assert ask(http, "What is a book?")[1:] == [("words", "As one 😀."), ("done", {})]
    assert ask(http, "book " * 190)[-1] == ("done", {})  # more words than a query may have
    endpoint.answers(lambda _: response(stream("a \ud83d b")))
    told = ask(http, "What is a book?")
    assert ("".join(said for name, said in told if name == "words"), told[-1][0]) == ("a \ufffd b", "done")


def test_what_a_site_does_not_want_given_to_a_model_answers_no_question(db: Db, tmp_path: Path) -> None:
    search = Searching(Settings(), tmp_path, {})
    found = [{"url": "http://shop.test/1"}, {"url": "http://other.test/"}]
    assert search.for_models(db, found) == found
    said = hosts.StoredRobots(200, "User-agent: *\nContent-Signal: ai-input=no\nAllow: /\n", now())
    db.write(lambda c: hosts.keep_robots(c, {"http://shop.test": said}))
    assert search.for_models(db, found) == found[1:]
