"""The real small model behind its real server: what it answers is valid, and what its death costs."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from scraper.config.settings import Enrich, Llm
from scraper.enrichment import runner
from scraper.enrichment.model import Asked, Model
from tests.enrichment.model import Llama, running
from tests.enrichment.shop import Shop

PROMPT = "{{ item.title }} costs {{ item.price }} euros and is {{ item.stock }}. Say its name, its price and whether it is in stock."
SCHEMA: dict[str, object] = {"name": "str", "price": "float", "in_stock": "bool"}
TASK = Enrich(task="facts", over="items", prompt=PROMPT, schema=SCHEMA, batch=2)


@pytest.fixture(scope="module")
def llama() -> Iterator[Llama]:
    with running() as made:
        yield made


@pytest.fixture
def asking(shop: Shop, llama: Llama) -> Shop:
    shop.use(Llm(base_url=llama.url, model="smollm2", max_tokens=64))
    stock = ("in stock", "sold out")
    names = ("Green teapot", "Wooden owl", "Blue bottle", "Old lamp")
    shop.sell(*({"title": name, "price": 5 * n, "stock": stock[n % 2]} for n, name in enumerate(names, 1)))
    return shop


def check(records: list[tuple[int, str, int, dict[str, Any]]]) -> None:
    assert [record[0] for record in records] == [1, 2, 3, 4]
    for number, _, _, data in records:
        assert set(data) == set(SCHEMA)
        assert isinstance(data["name"], str)
        assert isinstance(data["in_stock"], bool)
        assert data["price"] == 5 * number


def test_its_answers_are_of_the_schema_and_its_tokens_are_counted(asking: Shop) -> None:
    asking.do(TASK)
    check(asking.records("facts"))
    assert set(asking.tries()) == {"ok"}
    spent = asking.spent("facts")
    assert spent.calls == 4
    assert spent.tokens_in > 4 * 20
    assert 4 * 10 < spent.tokens_out <= 4 * 64


def test_a_truncated_answer_gets_more_room_and_is_whole_then(asking: Shop, llama: Llama) -> None:
    asking.use(Llm(base_url=llama.url, model="smollm2", max_tokens=12))
    asking.do(replace(TASK, where="price == `5`"))
    assert asking.tries()[0] == "truncated"
    assert asking.tries()[-1] == "ok"
    assert asking.records("facts")[0][3]["price"] == 5


def test_a_server_that_is_killed_in_the_middle_of_an_answer_costs_no_record(
    asking: Shop, llama: Llama, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "AWAY_FIRST_S", 0.2)
    begun = threading.Event()
    killed = threading.Event()

    def strike() -> None:
        begun.wait(60)
        llama.kill()
        killed.set()
        llama.start()

    striking = threading.Thread(target=strike)
    striking.start()
    whole = Model.ask

    def seen(piece: bytes) -> None:
        if b'"content"' in piece and not begun.is_set():
            begun.set()
            killed.wait(60)  # the rest of it never comes

    async def ask(self: Model, asked: Asked, allow: Any) -> dict[str, Any]:
        return await whole(self, asked, allow, seen)

    monkeypatch.setattr(Model, "ask", ask)
    asking.do(TASK)
    striking.join()
    check(asking.records("facts"))
    assert killed.is_set()
    assert "transport" in asking.tries() or "away" in asking.tries()
    assert asking.counts("facts") == {"queued": 0, "done": 4, "failed": 0}
