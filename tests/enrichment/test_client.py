"""One question to an endpoint that misbehaves: what counts as an answer, and what becomes of what does not."""

import contextlib
import json
import socket
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import pytest

from scraper.config.settings import Enrich, Http, Llm
from scraper.crawl import http1
from scraper.crawl.fetcher import Fetcher
from scraper.enrichment import shape
from scraper.enrichment.model import GROWS_MOST, REASKS_MOST, Asked, Model, NoRecord, Trouble
from tests.enrichment.endpoint import PATH, Endpoint, cut, event, fails, quiet_end, response, says, stream
from tests.site import Request, Site, running
from tests.support import free_port

TASK = Enrich(task="t", prompt="Summarise {{ text }}", schema={"summary": "str", "level": "int"})
GOOD = {"summary": "fine", "level": 3}
KEY = "sk-nobody-may-see-this"

Make = Callable[..., Model]


async def free() -> None:
    """A budget without end."""


@pytest.fixture
def endpoint(site: Site) -> Endpoint:
    return Endpoint(site)


@pytest.fixture
async def make(endpoint: Endpoint) -> AsyncIterator[Make]:
    fetcher = Fetcher()
    yield lambda key="", base_url=endpoint.url, **llm: Model(
        fetcher, Llm(base_url=base_url, model="m", **llm), Http(), key
    )
    await fetcher.close()


@pytest.fixture
def model(make: Make) -> Model:
    return make()


def asked() -> Asked:
    return Asked("What is this?", "", shape.of_task(TASK))


async def trouble(model: Model, question: Asked | None = None) -> NoRecord:
    with pytest.raises(NoRecord) as raised:
        await model.ask(question or asked(), free)
    return raised.value


async def test_a_whole_and_valid_answer_is_the_record(model: Model, endpoint: Endpoint) -> None:
    endpoint.answers(says(GOOD))
    question = asked()
    assert await model.ask(question, free) == GOOD
    assert [(call.outcome, call.tokens_in, call.tokens_out) for call in question.calls] == [("ok", 7, 3)]
    sent = endpoint.log[0]
    assert sent["stream"] is True
    assert sent["response_format"]["json_schema"]["strict"] is True
    assert sent["response_format"]["json_schema"]["schema"]["additionalProperties"] is False


async def test_an_answer_as_one_document_counts_too(model: Model, endpoint: Endpoint) -> None:
    message = {"message": {"role": "assistant", "content": json.dumps(GOOD)}, "finish_reason": "stop"}
    body = json.dumps({"choices": [message], "usage": {"prompt_tokens": 1, "completion_tokens": 2}}).encode()
    endpoint.answers(lambda _: response(body, kind="application/json"))
    assert await model.ask(asked(), free) == GOOD


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(cut(json.dumps(GOOD)), id="cut in the middle"),
        pytest.param(quiet_end(stream(json.dumps(GOOD), done=False)), id="a quiet end, all but the mark there"),
        pytest.param(quiet_end(stream(json.dumps(GOOD))[:-1]), id="a quiet end, one byte before the mark is whole"),
        pytest.param(says(GOOD, reason=None), id="no reason to stop"),
        pytest.param(says(GOOD, reason="tool_calls"), id="another reason to stop"),
        pytest.param(
            lambda _: response(event({"error": {"message": "overloaded"}}) + stream(json.dumps(GOOD))),
            id="an error in it",
        ),
        pytest.param(lambda _: response(b"<html>Bad gateway</html>", kind="text/html"), id="no JSON at all"),
        pytest.param(fails("500 Internal Server Error", "oh"), id="a fault of the endpoint's"),
        pytest.param(lambda _: b"", id="closed at once"),
    ],
)
async def test_what_does_not_end_well_is_no_answer(reply: Any, model: Model, endpoint: Endpoint) -> None:
    endpoint.answers(reply)
    question = asked()
    assert (await trouble(model, question)).trouble is Trouble.TRANSPORT
    assert [call.outcome for call in question.calls] == [Trouble.TRANSPORT]


async def test_a_truncated_answer_is_asked_for_again_with_more_room(model: Model, endpoint: Endpoint) -> None:
    endpoint.answers(says('{"summary": "fi', reason="length"), says(GOOD))
    question = asked()
    assert await model.ask(question, free) == GOOD
    assert [sent["max_tokens"] for sent in endpoint.log] == [1024, 2048]
    assert endpoint.prompts()[0] == endpoint.prompts()[1]
    assert [(call.outcome, call.tokens_out) for call in question.calls] == [("truncated", 3), ("ok", 3)]


async def test_an_answer_without_an_end_is_truncated_and_not_paid_for_for_ever(
    model: Model, endpoint: Endpoint
) -> None:
    endpoint.answers(says('{"summary": "' + "x" * 50, reason="length"))
    assert (await trouble(model)).trouble is Trouble.TRUNCATED
    assert len(endpoint.log) == 1 + GROWS_MOST


async def test_a_truncated_answer_that_is_valid_by_chance_is_none(make: Make, endpoint: Endpoint) -> None:
    endpoint.answers(says(GOOD, reason="length"))
    assert (await trouble(make(max_tokens=32_768))).trouble is Trouble.TRUNCATED


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param('{"summary": "BROKEN-WORDS"', id="no JSON"),
        pytest.param('{"summary": "BROKEN-WORDS", "level": "3"}', id="a text that is no number"),
        pytest.param('{"summary": "BROKEN-WORDS", "level": 3, "extra": 1}', id="more than was asked for"),
        pytest.param('{"summary": "BROKEN-WORDS"}', id="less than was asked for"),
        pytest.param('Here you are: {"summary": "BROKEN-WORDS", "level": 3}', id="chatter around it"),
    ],
)
async def test_an_invalid_answer_is_asked_for_again_by_its_faults_alone(
    broken: str, model: Model, endpoint: Endpoint
) -> None:
    endpoint.answers(says(broken), says(GOOD))
    question = asked()
    assert await model.ask(question, free) == GOOD
    again = json.dumps(endpoint.log[1])
    assert "BROKEN-WORDS" not in again
    assert "not accepted" in again
    assert [call.outcome for call in question.calls] == [Trouble.INVALID, "ok"]
    assert question.calls[0].said is not None
    assert question.calls[0].said in endpoint.prompts()[1]
    assert "BROKEN-WORDS" not in question.calls[0].said


async def test_what_is_never_of_the_right_shape_is_invalid(model: Model, endpoint: Endpoint) -> None:
    endpoint.answers(says({"summary": 1}))
    question = asked()
    failed = await trouble(model, question)
    assert failed.trouble is Trouble.INVALID
    assert "summary" in failed.said
    assert "level" in failed.said
    assert len(endpoint.log) == len(question.calls) == 1 + REASKS_MOST


async def test_a_fence_around_json_is_taken_off(model: Model, endpoint: Endpoint) -> None:
    endpoint.answers(says(f"```json\n{json.dumps(GOOD)}\n```"))
    assert await model.ask(asked(), free) == GOOD


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        pytest.param(says(GOOD, reason="content_filter"), Trouble.REFUSED, id="held back by a filter"),
        pytest.param(
            lambda _: response(event({"choices": [{"delta": {"refusal": "I will not"}}]}) + stream("", reason="stop")),
            Trouble.REFUSED,
            id="refused",
        ),
        pytest.param(fails("401 Unauthorized"), Trouble.KEY, id="who are you"),
        pytest.param(fails("403 Forbidden"), Trouble.KEY, id="not for you"),
        pytest.param(fails("404 Not Found", '{"error": "no such model"}'), Trouble.KEY, id="no such model"),
        pytest.param(fails("400 Bad Request", '{"error": "context too long"}'), Trouble.REFUSED, id="cannot be asked"),
        pytest.param(fails("429 Too Many Requests"), Trouble.RATE, id="too much"),
        pytest.param(fails("503 Service Unavailable"), Trouble.TRANSPORT, id="busy"),
    ],
)
async def test_each_trouble_has_its_name(reply: Any, expected: Trouble, model: Model, endpoint: Endpoint) -> None:
    endpoint.answers(reply)
    question = asked()
    failed = await trouble(model, question)
    assert failed.trouble is expected
    assert len(endpoint.log) == 1
    assert [call.outcome for call in question.calls] == [expected]


@pytest.mark.parametrize(
    ("header", "least", "most"), [("7", 7, 7), ("", 5, 5), ("999999", 3600, 3600), ("nonsense", 5, 5)]
)
async def test_the_time_that_an_endpoint_asks_for_is_kept(
    header: str, least: float, most: float, model: Model, endpoint: Endpoint
) -> None:
    endpoint.answers(fails("429 Too Many Requests", Retry_After=header))
    failed = await trouble(model)
    assert failed.wait_s is not None
    assert least <= failed.wait_s <= most


async def test_nobody_there_is_away(make: Make) -> None:
    failed = await trouble(make(base_url=f"http://127.0.0.1:{free_port()}/v1"))
    assert failed.trouble is Trouble.AWAY
    assert "connect" in failed.said


async def test_a_silent_endpoint_is_given_up(make: Make, endpoint: Endpoint) -> None:
    endpoint.answers(says(GOOD))
    endpoint.takes_s = 1.0
    failed = await trouble(make(timeout=0.3))
    assert failed.trouble is Trouble.TRANSPORT
    assert "timeout" in failed.said


async def test_an_answer_that_comes_word_by_word_is_waited_for(
    make: Make, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http1, "RATE_OVER_S", 0.1)  # so that a page would be given up long before its end
    body = stream(json.dumps(GOOD))

    def slowly(end: socket.socket, request: Request) -> bool:
        head = response(body)[: -len(body)]
        end.sendall(head)
        for start in range(0, len(body), 40):
            end.sendall(body[start : start + 40])
            time.sleep(0.06)  # a third less than a page may come at
        return False

    site.routes[PATH] = slowly
    pieces: list[bytes] = []
    assert await make().ask(asked(), free, pieces.append) == GOOD
    assert len(pieces) > 3
    assert b"".join(pieces) == body


def choosy(*unknown: str) -> Callable[[dict[str, Any]], bytes]:
    """An endpoint that refuses means that it does not know, by name."""

    def reply(sent: dict[str, Any]) -> bytes:
        kind = sent.get("response_format", {}).get("type")
        if kind in unknown:
            said = json.dumps({"error": {"message": f"response_format {kind} is not supported"}})
            return response(said.encode(), "400 Bad Request", "application/json")
        if "stream_options" in unknown and "stream_options" in sent:
            return response(b'{"error": "unknown field stream_options"}', "422 Unprocessable", "application/json")
        return response(stream(json.dumps(GOOD)))

    return reply


@pytest.mark.parametrize(
    ("unknown", "expected"),
    [
        pytest.param((), "json_schema", id="everything"),
        pytest.param(("json_schema",), "json_object", id="JSON, of whatever shape"),
        pytest.param(("json_schema", "json_object"), None, id="words alone"),
    ],
)
async def test_an_endpoint_is_held_to_the_schema_by_the_strongest_means_that_it_has(
    unknown: tuple[str, ...], expected: str | None, model: Model, endpoint: Endpoint
) -> None:
    endpoint.answers(choosy(*unknown))
    assert await model.ask(asked(), free) == GOOD
    assert await model.ask(asked(), free) == GOOD
    kinds = [sent.get("response_format", {}).get("type") for sent in endpoint.log]
    assert kinds == [*unknown, expected, expected]  # learnt once
    if expected != "json_schema":
        assert "additionalProperties" in endpoint.log[-1]["messages"][0]["content"]


async def test_an_endpoint_that_counts_no_tokens_in_a_stream_is_asked_without(model: Model, endpoint: Endpoint) -> None:
    endpoint.answers(choosy("stream_options"))
    assert await model.ask(asked(), free) == GOOD
    assert "stream_options" not in endpoint.log[-1]
    assert endpoint.log[-1]["response_format"]["type"] == "json_schema"


async def test_many_at_once_learn_no_more_than_one_alone(model: Model, endpoint: Endpoint) -> None:
    endpoint.answers(choosy("json_schema"))
    endpoint.takes_s = 0.05
    async with anyio.create_task_group() as group:
        for _ in range(6):
            group.start_soon(model.ask, asked(), free)
    await model.ask(asked(), free)
    assert endpoint.log[-1]["response_format"]["type"] == "json_object"


async def test_tokens_that_nobody_counts_are_guessed(model: Model, endpoint: Endpoint) -> None:
    endpoint.answers(says(GOOD, usage=False))
    question = asked()
    await model.ask(question, free)
    assert question.calls[0].tokens_in > 0
    assert question.calls[0].tokens_out > 0


@pytest.mark.parametrize("count", [2**70, -5, True, 1.5, "7", None])
async def test_a_count_of_tokens_that_is_none_is_guessed_too(count: object, model: Model, endpoint: Endpoint) -> None:
    usage = event({"choices": [], "usage": {"prompt_tokens": count, "completion_tokens": count}})
    endpoint.answers(lambda _: response(usage + stream(json.dumps(GOOD), usage=False)))
    question = asked()
    assert await model.ask(question, free) == GOOD
    assert 0 < question.calls[0].tokens_in < 1000
    assert 0 < question.calls[0].tokens_out < 1000


@pytest.mark.parametrize("status", ["302 Found", "307 Temporary Redirect", "308 Permanent Redirect"])
async def test_a_redirect_takes_the_key_to_no_other_origin(status: str, make: Make, endpoint: Endpoint) -> None:
    with running("127.0.0.2") as other:
        target = other.raw("/elsewhere", response(stream(json.dumps(GOOD))))
        endpoint.answers(fails(status, Location=target))
        with contextlib.suppress(NoRecord):
            await make(KEY).ask(asked(), free)
        assert endpoint.headers[0]["authorization"] == f"Bearer {KEY}"
        assert other.paths() == (["/elsewhere"] if status.startswith("302") else [])  # the text stays here too
        assert KEY not in str(other.log)


async def test_the_key_goes_along_within_its_origin(make: Make, endpoint: Endpoint, site: Site) -> None:
    site.routes["/v2/chat/completions"] = site.routes[PATH]
    endpoint.answers(fails("307 Temporary Redirect", Location="/v2/chat/completions"), says(GOOD))
    assert await make(KEY).ask(asked(), free) == GOOD
    assert [headers["authorization"] for headers in endpoint.headers] == [f"Bearer {KEY}"] * 2


async def test_without_a_key_no_header_is_sent(model: Model, endpoint: Endpoint) -> None:
    endpoint.answers(says(GOOD))
    await model.ask(asked(), free)
    assert "authorization" not in endpoint.headers[0]
