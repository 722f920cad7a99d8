"""A worker and its jobs: what is tried again, what is paid for, and what is kept, on each database."""

import contextlib
import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from scraper.config.settings import Budget, Enrich, Llm
from scraper.database import tasks
from scraper.database.jobs import CRASHES_MOST
from scraper.enrichment import runner
from scraper.enrichment.layout import Options
from scraper.enrichment.runner import Away
from scraper.enrichment.work import Work
from tests.enrichment.endpoint import Endpoint, cut, event, fails, response, says, stream
from tests.enrichment.shop import Shop
from tests.support import free_port

pytestmark = pytest.mark.usefixtures("impatient")
everywhere = pytest.mark.databases("sqlite", "pgbouncer")

TASK = Enrich(task="sum", over="items", prompt="Summarise {{ item.title }}", schema={"words": "str"})
GOOD = {"words": "fine"}


@pytest.fixture
def asking(shop: Shop, endpoint: Endpoint) -> Shop:
    """A shop whose model is the endpoint's."""
    shop.use(Llm(base_url=endpoint.url, model="m"))
    endpoint.answers(says(GOOD))
    return shop


@everywhere
def test_each_item_gets_its_record(asking: Shop, endpoint: Endpoint) -> None:
    asking.books(5)
    asking.do(TASK)
    assert asking.records("sum") == [(number, "sum", 0, GOOD) for number in range(1, 6)]
    assert sorted(endpoint.prompts()) == [f"Summarise Book {number}" for number in range(1, 6)]
    spent = asking.spent("sum")
    assert (spent.calls, spent.tokens_in, spent.tokens_out) == (5, 35, 15)
    assert asking.tries() == ["ok"] * 5


def test_what_exists_is_skipped_and_a_changed_item_is_due_again(asking: Shop, endpoint: Endpoint) -> None:
    asking.books(3)
    asking.do(TASK)
    asking.do(TASK)
    assert len(endpoint.log) == 3
    asking.change(2, {"title": "Another"})
    endpoint.answers(says({"words": "new"}))
    asking.do(TASK)
    assert endpoint.prompts()[3:] == ["Summarise Another"]
    assert [record[3]["words"] for record in asking.records("sum")] == ["fine", "new", "fine"]


def test_a_changed_prompt_is_due_again_and_more_workers_are_not(asking: Shop, endpoint: Endpoint) -> None:
    asking.books(2)
    asking.do(TASK)
    asking.do(replace(TASK, workers=3, batch=2, attempts=9, when="stored"))
    assert len(endpoint.log) == 2
    asking.do(replace(TASK, prompt="Shorten {{ item.title }}"))
    assert endpoint.prompts()[2:] == ["Shorten Book 1", "Shorten Book 2"]
    assert len(asking.records("sum")) == 2


def test_the_same_prompt_is_not_paid_for_twice(asking: Shop, endpoint: Endpoint) -> None:
    asking.sell({"title": "Same"})
    asking.do(TASK)
    asking.sell({"title": "Same"}, kind="copy")
    asking.do(TASK)
    assert len(endpoint.log) == 1
    assert [record[3] for record in asking.records("sum")] == [GOOD, GOOD]
    assert asking.spent("sum").calls == 1


def test_a_task_makes_many_records_of_several_kinds(asking: Shop, endpoint: Endpoint) -> None:
    def quiz(sent: dict[str, Any]) -> bytes:
        kind = sent["messages"][-1]["content"]
        return response(stream(json.dumps({"records": [{"words": f"{kind} {n}"} for n in (1, 2)]})))

    asking.sell({"title": "A"})
    endpoint.answers(quiz)
    task = replace(TASK, prompt="{{ kind }}", kinds=("choice", "open"), many=True)
    asking.do(task, Options(kind="open"))
    assert asking.records("sum") == [(1, "open", n, {"words": f"open {n + 1}"}) for n in (0, 1)]
    asking.do(task)
    assert [(kind, number) for _, kind, number, _ in asking.records("sum")] == [
        ("choice", 0), ("choice", 1), ("open", 0), ("open", 1),
    ]  # fmt: skip
    assert len(endpoint.log) == 2


def test_a_limit_is_that_of_new_jobs(asking: Shop) -> None:
    asking.books(5)
    asking.do(TASK, Options(limit=2))
    assert len(asking.records("sum")) == 2
    asking.do(TASK, Options(limit=2))
    assert len(asking.records("sum")) == 4


def test_a_condition_says_which_items(asking: Shop) -> None:
    asking.books(5)
    asking.do(replace(TASK, where="number > `3`"))
    assert [record[0] for record in asking.records("sum")] == [4, 5]


@everywhere
def test_a_broken_answer_is_asked_for_again(asking: Shop, endpoint: Endpoint) -> None:
    asking.books(1)
    endpoint.answers(cut(json.dumps(GOOD)), fails("500 Oh"), says(GOOD))
    asking.do(TASK)
    assert asking.records("sum") == [(1, "sum", 0, GOOD)]
    assert asking.tries() == ["transport", "transport", "ok"]
    assert asking.jobs("sum")[0]["attempts"] == 3


def test_as_often_as_the_task_allows_and_no_more(asking: Shop, endpoint: Endpoint) -> None:
    asking.books(1)
    endpoint.answers(fails("500 Oh", "broken"))
    asking.do(replace(TASK, attempts=2))
    assert len(endpoint.log) == 2
    job = asking.jobs("sum")[0]
    assert (job["state"], job["reason"], job["attempts"]) == ("failed", "transport", 2)
    assert "broken" in job["message"]


def test_what_is_never_of_the_right_shape_fails_and_the_others_do_not(asking: Shop, endpoint: Endpoint) -> None:
    def reply(sent: dict[str, Any]) -> bytes:
        return response(stream("no" if "Book 2" in str(sent) else json.dumps(GOOD)))

    asking.books(3)
    endpoint.answers(reply)
    asking.do(TASK)
    assert [(job["state"], job["reason"]) for job in asking.jobs("sum")] == [
        ("done", None), ("failed", "invalid"), ("done", None),
    ]  # fmt: skip
    assert len(endpoint.log) == 5


def test_too_many_requests_wait_as_long_as_the_endpoint_asks_and_cost_no_attempt(
    asking: Shop, endpoint: Endpoint
) -> None:
    asking.books(4)
    endpoint.answers(says(GOOD), fails("429 Too Many", Retry_After="1"), says(GOOD))
    asking.do(replace(TASK, attempts=1))
    assert asking.counts("sum") == {"queued": 0, "done": 4, "failed": 0}
    assert all(job["attempts"] == 1 for job in asking.jobs("sum"))
    assert asking.tries().count("rate") == 1
    assert endpoint.times[2] - endpoint.times[1] > 0.98  # nothing else of this worker's goes there meanwhile


def test_half_as_much_is_asked_at_once_after_too_many_requests(asking: Shop, endpoint: Endpoint) -> None:
    asking.books(24)
    together, half = threading.Barrier(8), threading.Barrier(4)

    def reply(_: dict[str, Any]) -> bytes:
        number = len(endpoint.log)
        if number > 8:
            half.wait(10)  # a fifth at this moment would be seen
            return response(stream(json.dumps(GOOD)))
        together.wait(10)  # all eight of the first are there at once: one refusal of many is one
        endpoint.most = 0
        return response(b"", "429 Too Many", Retry_After="0")

    endpoint.answers(reply)
    asking.do(replace(TASK, batch=8, attempts=1))
    assert asking.counts("sum")["done"] == 24
    assert asking.tries().count("rate") == 8
    assert endpoint.at_once == 0
    assert endpoint.most == 4


@everywhere
@pytest.mark.parametrize("batch", [1, 4])
def test_a_budget_of_calls_is_kept_to_the_call(batch: int, asking: Shop, endpoint: Endpoint) -> None:
    asking.books(10)
    asking.do(replace(TASK, batch=batch, budget=Budget(calls=3)))
    assert len(endpoint.log) == 3
    assert asking.spent("sum").calls == 3
    assert asking.counts("sum") == {"queued": 7, "done": 3, "failed": 0}
    assert {job["reason"] for job in asking.jobs("sum") if job["state"] == "queued"} <= {"budget", None}
    asking.do(replace(TASK, batch=batch, budget=Budget(calls=100)))
    assert len(endpoint.log) == 10
    assert asking.counts("sum")["done"] == 10


def test_a_command_ends_when_its_budget_is_spent_whatever_comes_in_afterwards(
    asking: Shop, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "AWAY_MOST_S", 60.0)
    endpoint.takes_s = 0.3  # an answer, after the other job was told that there is no more
    asking.books(4)
    began = time.monotonic()
    asking.do(replace(TASK, batch=2, budget=Budget(calls=1)))
    assert asking.counts("sum") == {"queued": 3, "done": 1, "failed": 0}
    assert time.monotonic() - began < 30


def test_no_call_is_begun_when_the_tokens_are_spent(asking: Shop, endpoint: Endpoint) -> None:
    asking.books(10)
    asking.do(replace(TASK, budget=Budget(tokens=15)))  # each takes ten
    assert len(endpoint.log) == 2
    assert asking.counts("sum")["done"] == 2


def test_money_is_counted_by_the_prices(asking: Shop, endpoint: Endpoint) -> None:
    asking.use(Llm(base_url=endpoint.url, model="m", price_in=1_000_000, price_out=2_000_000))
    asking.books(10)
    asking.do(replace(TASK, budget=Budget(money=20)))
    assert asking.spent("sum").cost == pytest.approx(26)  # two of thirteen
    assert len(endpoint.log) == 2


def test_a_wrong_key_ends_a_command_at_once_and_the_jobs_stay(asking: Shop, endpoint: Endpoint) -> None:
    asking.books(3)
    endpoint.answers(fails("401 Unauthorized", "bad key"))
    with pytest.raises(Away, match="401") as raised:
        asking.do(TASK)
    assert "\n" not in str(raised.value)
    assert asking.counts("sum") == {"queued": 3, "done": 0, "failed": 0}
    endpoint.answers(says(GOOD))
    asking.do(TASK)
    assert asking.counts("sum")["done"] == 3


def test_a_command_waits_a_while_for_an_endpoint_and_then_says_that_it_is_away(asking: Shop) -> None:
    asking.use(Llm(base_url=f"http://127.0.0.1:{free_port()}/v1", model="m"))
    asking.books(2)
    began = time.monotonic()
    with pytest.raises(Away, match="connect"):
        asking.do(TASK)
    assert time.monotonic() - began > 0.5
    assert asking.counts("sum") == {"queued": 2, "done": 0, "failed": 0}
    assert all(job["attempts"] == 0 for job in asking.jobs("sum"))


@everywhere
@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(fails("500 Oh", "\x00 and \ud800".encode("utf-8", "surrogatepass").decode("latin-1")), id="500"),
        pytest.param(lambda _: response(event({"error": {"message": "\x00\ud800"}})), id="an error"),
        pytest.param(lambda _: response(event("{\x00")), id="no JSON"),
        pytest.param(
            lambda _: response(
                event({"choices": [{"delta": {"refusal": "\x00\udc00"}, "finish_reason": "stop"}]}) + event("[DONE]")
            ),
            id="refused",
        ),
        pytest.param(says("\x00\x01"), id="an answer"),
    ],
)
def test_whatever_an_endpoint_says_can_be_stored(reply: Any, asking: Shop, endpoint: Endpoint) -> None:
    asking.books(1)
    endpoint.answers(reply)
    asking.do(replace(TASK, attempts=1))
    assert asking.counts("sum") == {"queued": 0, "done": 0, "failed": 1}


@everywhere
def test_whatever_words_a_model_uses_can_be_stored(asking: Shop, endpoint: Endpoint) -> None:
    asking.books(1)
    endpoint.answers(says('{"words": "a\\u0000b"}'))
    asking.do(TASK)
    assert asking.records("sum") == [(1, "sum", 0, {"words": "ab"})]


def test_a_prompt_that_cannot_be_filled_in_costs_its_job_alone(asking: Shop, endpoint: Endpoint) -> None:
    asking.sell({"title": "A", "extra": "x"}, {"title": "B"})
    asking.do(replace(TASK, prompt="{{ item.extra }} {{ item.title }}"))
    assert [(job["state"], job["reason"]) for job in asking.jobs("sum")] == [("done", None), ("failed", "prompt")]
    assert "extra" in asking.jobs("sum")[1]["message"]


def test_a_key_is_sent_and_told_nobody(
    asking: Shop, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-of-the-test")
    caplog.set_level("DEBUG")
    asking.books(2)
    endpoint.answers(fails("401 Unauthorized"))
    with pytest.raises(Away) as raised:
        asking.do(TASK)
    endpoint.answers(fails("500 Oh"), says(GOOD))
    asking.do(TASK)
    assert endpoint.headers[0]["authorization"] == "Bearer sk-secret-of-the-test"
    told = [caplog.text, str(raised.value), str(asking.jobs("sum")), str(asking.db.read(tasks.every))]
    assert not any("sk-secret" in said for said in told)


def test_a_transaction_is_never_open_while_a_model_is_asked(asking: Shop, endpoint: Endpoint) -> None:
    asking.books(3)
    written: list[float] = []

    def reply(_: dict[str, Any]) -> bytes:
        began = time.monotonic()
        asking.db.write(lambda c: tasks.charge(c, "sum", tasks.Spent()))
        written.append(time.monotonic() - began)
        return response(stream(json.dumps(GOOD)))

    endpoint.answers(reply)
    asking.do(TASK)
    assert len(written) == 3


Reply = Callable[[dict[str, Any]], bytes]


def test_waits_grow(asking: Shop, endpoint: Endpoint) -> None:
    asking.books(1)
    endpoint.answers(fails("500 Oh"))
    asking.do(replace(TASK, attempts=5))
    gaps = [b - a for a, b in pairwise(endpoint.times)]
    assert len(gaps) == 4
    assert gaps[-1] > gaps[0]


def halves(text: str) -> bytes:
    """A stream whose every piece is half of a character outside the first plane, as such models and proxies send it."""
    units = text.encode("utf-16-be")
    pieces = [units[at : at + 2].decode("utf-16-be", "surrogatepass") for at in range(0, len(units), 2)]
    made = [event({"choices": [{"delta": {"content": piece}}]}) for piece in pieces]
    return b"".join([*made, event({"choices": [{"delta": {}, "finish_reason": "stop"}]}), event("[DONE]")])


def test_characters_that_come_in_halves_are_whole_and_a_half_alone_costs_nobody(
    asking: Shop, endpoint: Endpoint
) -> None:
    asking.books(2)
    lone = stream('{"text": "a \ud83d b"}', usage=False)
    endpoint.answers(lambda _: response(halves('{"text": "fine 😀"}')), lambda _: response(lone))
    asking.do(replace(TASK, schema={"text": "str"}))
    assert [record[3]["text"] for record in asking.records("sum")] == ["fine 😀", "a \ufffd b"]


def test_a_number_without_end_is_invalid(asking: Shop, endpoint: Endpoint) -> None:
    asking.books(1)
    endpoint.answers(says('{"n": ' + "9" * 4200 + "}"))
    asking.do(replace(TASK, schema={"n": "int"}, attempts=1))
    assert [(job["state"], job["reason"]) for job in asking.jobs("sum")] == [("failed", "invalid")]


@pytest.mark.parametrize("unanswered", [fails("429 Too Many", Retry_After="0"), fails("401 No")], ids=["429", "401"])
def test_what_nobody_answered_is_not_taken_out_of_a_budget(asking: Shop, endpoint: Endpoint, unanswered: Reply) -> None:
    asking.books(2)
    endpoint.answers(unanswered, unanswered, says(GOOD))
    task = replace(TASK, budget=Budget(calls=2))
    for _ in range(3):
        with contextlib.suppress(Away):
            asking.do(task)
    assert asking.counts("sum")["done"] == 2
    assert asking.spent("sum").calls == 2


def test_a_job_that_no_worker_survives_is_set_aside_and_the_others_are_not(
    asking: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = Work.make

    async def unforeseen(self: Work, task: Enrich, kind: str, row: Any, *more: Any, **named: Any) -> Any:
        if row.id == 1:
            raise RuntimeError("nobody thought of this")
        return await make(self, task, kind, row, *more, **named)

    monkeypatch.setattr(Work, "make", unforeseen)
    asking.books(2)
    for _ in range(CRASHES_MOST + 1):
        with contextlib.suppress(RuntimeError):
            asking.do(TASK)
    assert [(job["state"], job["reason"]) for job in asking.jobs("sum")] == [("failed", "poison"), ("done", None)]
