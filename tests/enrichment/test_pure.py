"""What needs neither a database nor a network: passages, answers, shapes, prompts, cures, marks."""

import json
import time
import warnings
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scraper import jmes
from scraper.config.settings import Embed, Enrich, Llm
from scraper.crawl.robots import signals
from scraper.database.subjects import Brief
from scraper.enrichment import answer, prompt, shape
from scraper.enrichment.answer import Incomplete
from scraper.enrichment.chunks import passages
from scraper.enrichment.cure import CURES, WAIT_MOST_S, wait_s
from scraper.enrichment.layout import Options, due, mark
from scraper.enrichment.model import Trouble, bare
from scraper.errors import BadConfig
from scraper.search.ranks import by_subject, folded, fused
from scraper.template import BadTemplate
from scraper.template import fault as template_fault
from tests.enrichment.endpoint import event, stream

# -- passages

WORDS = st.text(st.sampled_from("abcdeX .!?…。\n\t-1)\"'\u3000é"), max_size=400)


def letters(text: str) -> str:
    return "".join(text.split())


@given(WORDS, st.integers(1, 60))
def test_passages_lose_nothing_but_white_space_and_are_never_too_long(text: str, size: int) -> None:
    made = passages(text, size)
    assert all(0 < len(one) <= size for one in made)
    assert letters("".join(made)) == letters(text)


@given(
    st.lists(st.sampled_from(["Abc.", "An owl sees.", "Why?", "So it is, here and there!", "X."]), max_size=20),
    st.integers(60, 200),
)
def test_sentences_stay_whole(sentences: list[str], size: int) -> None:
    made = passages(" ".join(sentences), size)
    assert " ".join(made) == " ".join(sentences)
    assert all(one[-1] in ".!?" for one in made)


def test_paragraphs_and_lists_begin_a_part() -> None:
    assert passages("One.\n\nTwo.\n- three\n- four", 100) == ["One.\n\nTwo.\n\n- three\n\n- four"]
    assert passages("", 100) == passages(" \n\n ", 100) == []
    assert passages("He said “no.” Then he left. See e.g. this.", 26) == [
        "He said “no.”",
        "Then he left.",
        "See e.g. this.",
    ]


@pytest.mark.parametrize("piece", [".", ".)", "!\"'", "\n", " \n", "- ", "\n- ", "a", "a ", "。", "1) "])
def test_no_text_takes_long_to_cut(piece: str) -> None:
    text = piece * (200_000 // len(piece))
    began = time.process_time()
    passages(text, 800)
    assert time.process_time() - began < 5.0  # what takes the square of it takes minutes


# -- answers

TEXT = 'Ein "Wört" \\ mit\nallem \U0001f600'


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_an_answer_cut_at_any_byte_is_none(end: str) -> None:
    body = stream(TEXT, end=end)
    assert answer.read(body, streamed=True).text == TEXT
    whole = body.removesuffix(b"\n")  # a lone CR ends a line too: of "\r\n\r\n" the last byte says nothing
    for length in range(len(whole) if end == "\r\n" else len(body)):
        with pytest.raises(Incomplete) as raised:
            answer.read(body[:length], streamed=True)
        assert raised.value.name == "transport"


def test_a_document_cut_at_any_byte_is_none() -> None:
    body = json.dumps({"choices": [{"message": {"content": TEXT}, "finish_reason": "stop"}]}).encode()
    assert answer.read(body, streamed=False).text == TEXT
    for length in range(len(body)):
        with pytest.raises(Incomplete):
            answer.read(body[:length], streamed=False)


@given(st.text(), st.sampled_from(["\n", "\r\n", "\r"]))
def test_what_was_said_is_read(text: str, end: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        return
    found = answer.read(stream(text, end=end), streamed=True)
    assert (found.text, found.tokens_in, found.tokens_out) == (text, 7, 3)


@given(st.binary(max_size=300), st.booleans())
def test_whatever_comes_is_an_answer_or_a_trouble_with_a_name(body: bytes, streamed: bool) -> None:
    for given_body in (body, b"data: " + body + b"\n\n", b"data: {}\n\n" + body + b"\n\ndata: [DONE]\n\n"):
        with pytest.raises(Incomplete):
            answer.read(given_body, streamed=streamed)


JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["stop", "length"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["choices", "delta", "content", "error", "message", "usage", "finish_reason"]), inner
        )
    ),
    max_leaves=12,
)


@given(JSONS)
def test_no_event_of_any_kind_is_more_than_a_trouble(found: Any) -> None:
    body = event(found) + event("[DONE]")
    said = None
    try:
        said = answer.read(body, streamed=True).text
    except Incomplete as broken:
        said = Trouble(broken.name)
    assert isinstance(said, str)
    answer.piece(json.dumps(found))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(stream("a", reason="length"), "truncated", id="length"),
        pytest.param(stream("a", reason="content_filter"), "refused", id="a filter"),
        pytest.param(stream("a", reason=None), "transport", id="no reason"),
        pytest.param(stream("a", reason="function_call"), "transport", id="another reason"),
        pytest.param(stream("a", done=False), "transport", id="no mark"),
        pytest.param(event({"error": {"message": "overloaded"}}) + stream("a"), "transport", id="an error"),
        pytest.param(event({"error": "overloaded"}) + stream("a"), "transport", id="an error that is a text"),
        pytest.param(event("{") + stream("a"), "transport", id="no JSON"),
        pytest.param(event("[" * 100_000) + stream("a"), "transport", id="deep JSON"),
        pytest.param(event("[DONE]") + stream("a"), "transport", id="the mark alone"),
        pytest.param(b"", "transport", id="nothing"),
    ],
)
def test_what_is_not_whole_has_a_name(body: bytes, expected: str) -> None:
    with pytest.raises(Incomplete) as raised:
        answer.read(body, streamed=True)
    assert raised.value.name == expected


def test_comments_and_other_fields_of_a_stream_mean_nothing() -> None:
    body = b": ping\n\nevent: x\nid: 7\nretry: 9\n\n" + stream("all") + b"data: {broken"
    assert answer.read(body, streamed=True).text == "all"
    assert answer.read("\ufeff".encode() + stream("all"), streamed=True).text == "all"


def test_what_an_incomplete_answer_cost_is_known() -> None:
    usage = event({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 6}})
    with pytest.raises(Incomplete) as raised:
        answer.read(usage + stream("a", reason="length", usage=False), streamed=True)
    assert (raised.value.tokens_in, raised.value.tokens_out) == (5, 6)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("```json\n{}\n```", "{}"), ("```\n{}```", "{}"), (" {} ", "{}"), ("```", "```"), ("a ``` b", "a ``` b")],
)
def test_a_fence_is_taken_off_and_nothing_else(text: str, expected: str) -> None:
    assert bare(text) == expected


# -- shapes


def shaped(schema: Any, **more: Any) -> shape.Shape:
    return shape.of_task(Enrich(task="t", prompt="p", schema=schema, **more))


ALL = {
    "name": "str", "count": "int", "price": "float", "new": "bool", "day": "date", "tags": "list[str]",
    "size": ["S", "M"], "level": [1, 2], "maker": {"name": "str", "sold": "list[int]"},
}  # fmt: skip
FINE: dict[str, Any] = {
    "name": "a", "count": 1, "price": 1.5, "new": True, "day": "2026-01-31", "tags": ["x"], "size": "M", "level": 2,
    "maker": {"name": "b", "sold": [1]},
}  # fmt: skip


def test_a_record_of_every_type_is_read_as_it_is() -> None:
    assert shaped(ALL).read(json.dumps(FINE)) == FINE
    assert shaped(ALL).read(json.dumps(FINE | {"price": 2})) == FINE | {"price": 2.0}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", 1), ("name", None), ("count", "1"), ("count", 1.5), ("count", True), ("price", "1.5"), ("new", 1),
        ("new", "true"), ("day", "yesterday"), ("day", 7), ("tags", "x"), ("tags", [1]), ("size", "L"), ("level", "1"),
        ("level", 3), ("maker", {"name": "b"}), ("maker", {"name": "b", "sold": [1], "more": 1}), ("maker", []), ("more", 1),
        ("price", float("nan")), ("price", float("inf")),
    ],
)  # fmt: skip
def test_nothing_is_bent_to_fit(field: str, value: Any) -> None:
    with pytest.raises(shape.Invalid) as raised:
        shaped(ALL).read(json.dumps(FINE | {field: value}))
    assert field in str(raised.value)


@pytest.mark.parametrize("field", ALL)
def test_nothing_may_lack(field: str) -> None:
    with pytest.raises(shape.Invalid, match=field):
        shaped(ALL).read(json.dumps({name: value for name, value in FINE.items() if name != field}))


@given(st.text(max_size=60) | JSONS.map(json.dumps))
def test_a_text_that_is_no_record_is_invalid_and_not_repeated(text: str) -> None:
    with pytest.raises(shape.Invalid) as raised:
        shaped({"xyz": "int"}).read(text)
    assert "xyz" in str(raised.value) or "the answer" in str(raised.value)


def test_many_records_are_at_least_one() -> None:
    many = shaped({"q": "str"}, many=True)
    assert many.read('{"records": [{"q": "a"}, {"q": "b"}]}')["records"] == [{"q": "a"}, {"q": "b"}]
    for wrong in ('{"records": []}', "[]", '[{"q": "a"}]', '{"records": [{"q": 1}]}'):
        with pytest.raises(shape.Invalid):
            many.read(wrong)


def test_without_a_schema_a_record_is_a_text() -> None:
    assert shaped(None).read('{"text": "a"}') == {"text": "a"}


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        pytest.param({}, "empty", id="empty"),
        pytest.param({"a": {}}, "empty", id="an empty table"),
        pytest.param({"a": "string"}, "'string' is no type", id="an unknown type"),
        pytest.param({"a": "list[list[int]]"}, "no type", id="lists of lists"),
        pytest.param({"a": []}, "no type", id="no choices"),
        pytest.param({"a": [1.5]}, "no type", id="choices that are none"),
        pytest.param({"a": None}, "no type", id="nothing"),
        pytest.param({"a b": "str"}, "'a b' cannot be the name", id="a name with a space"),
        pytest.param({"_a": "str"}, "'_a' cannot be", id="a hidden name"),
        pytest.param({"model_config": "str"}, "cannot be", id="a name of the library's"),
        pytest.param({"a": {"b": {"c": {"d": {"e": {"f": {"g": "str"}}}}}}}, "deep", id="too deep"),
        pytest.param("no_such_module:Thing", "cannot be loaded", id="no such module"),
        pytest.param("json:nothing", "cannot be loaded", id="no such name"),
        pytest.param("json:JSONDecoder", "no pydantic model", id="no model"),
    ],
)
def test_a_bad_definition_is_one_clear_fault(schema: Any, said: str) -> None:
    with pytest.raises(BadConfig, match=said) as raised:
        shaped(schema)
    assert len(raised.value.problems) == 1
    assert "'t'" in str(raised.value)


@pytest.mark.parametrize("name", ["json", "copy", "schema", "dict", "class", "validate", "fields", "construct"])
def test_a_field_may_be_called_what_a_library_calls_its_own(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert shaped({name: "str"}).read(json.dumps({name: "a"})) == {name: "a"}


def test_a_schema_that_an_endpoint_is_held_to_refuses_what_we_refuse() -> None:
    found = shaped(ALL).json_schema
    assert found["additionalProperties"] is False
    assert sorted(found["required"]) == sorted(ALL)
    assert all(one["additionalProperties"] is False for one in found["$defs"].values())


# -- prompts


def test_a_prompt_is_filled_in() -> None:
    assert prompt.filled("{{ title }}: {{ item.price }} {{ text[:3] }}", {"title": "<A>", "item": {"price": 5}, "text": "abcd"}) == "<A>: 5 abc"  # fmt: skip


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ item.__class__ }}",
        "{{ self.__init__.__globals__ }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{{ (''|attr('__class__')).__mro__ }}",
        "{{ '{0.__class__}'.format(item) }}",
        "{{ lipsum.__globals__ }}",
        "{{ item.update({'a': 1}) }}",
        "{{ item.clear() }}",
        "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}",
    ],
)
def test_no_prompt_leaves_its_sandbox(template: str) -> None:
    item = {"title": "A"}
    with pytest.raises(BadTemplate):
        prompt.filled(template + "{{ ''.__class__.x }}", {"item": item})
    assert item == {"title": "A"}


@pytest.mark.parametrize("name", ["nothing", "item.nothing", "item['nothing']", "item.a.b"])
def test_what_is_not_there_is_named(name: str) -> None:
    with pytest.raises(BadTemplate, match="nothing|'b'"):
        prompt.filled(f"{{{{ {name} }}}}", {"item": {"a": {}}})


@pytest.mark.parametrize("template", ["{{ a", "{% for %}", "{{ a|nofilter }}", "{% endif %}"])
def test_what_is_no_template_is_said(template: str) -> None:
    assert "no Jinja template" in str(template_fault(template))
    assert template_fault("{{ a }}") is None


@pytest.mark.parametrize(
    "template",
    [
        pytest.param("{{ text }}", id="the text itself"),
        pytest.param("{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}", id="loops"),
    ],
)
def test_a_huge_prompt_is_refused_before_it_is_whole(template: str) -> None:
    began = time.process_time()
    with pytest.raises(BadTemplate, match="characters"):
        prompt.filled(template, {"text": "x" * 500_000})
    assert time.process_time() - began < 20


# -- cures


def test_every_trouble_has_a_cure() -> None:
    assert set(CURES) == set(Trouble)
    for cure in CURES.values():
        assert cure.again or not (cure.free or cure.away)


@given(st.sampled_from(Trouble), st.integers(0, 50), st.integers(1, 20), st.none() | st.floats(0, 1e6), st.floats(0, 1))
def test_waits_are_bounded_and_no_shorter_than_asked(
    trouble: Trouble, attempts: int, most: int, asked: float | None, jitter: float
) -> None:
    wait = wait_s(trouble, attempts, most, asked, jitter)
    cure = CURES[trouble]
    assert (wait is None) == (not cure.again or (not cure.free and attempts >= most))
    if wait is not None:
        assert (asked or 0) <= wait <= max(asked or 0, 1.5 * WAIT_MOST_S)
        assert wait > 0


# -- ranks


def row(number: int, of: str = "page", **more: Any) -> dict[str, Any]:
    return {"of": of, "id": number, "version": None, "until": None, "source": "s", "kind": None, "url": f"u{number}", "title": "", "snippet": [], "lead": "", "score": 1.0} | more  # fmt: skip


ROWS = st.lists(st.lists(st.integers(1, 15), max_size=15, unique=True), max_size=3)


@given(ROWS)
def test_fused_lists_hold_each_result_once_and_what_both_have_stands_higher(lists: list[list[int]]) -> None:
    found = fused([[row(number) for number in one] for one in lists])
    numbers = [one["id"] for one in found]
    assert sorted(numbers) == sorted({number for one in lists for number in one})
    assert [one["score"] for one in found] == sorted((one["score"] for one in found), reverse=True)
    for one in lists[:1]:
        if len(lists) == 1:
            assert numbers == one


def test_the_snippet_of_whoever_has_one_is_shown() -> None:
    found = fused([[row(1)], [row(1, snippet=[{"text": "a", "hit": True}]), row(2)]])
    assert [(one["id"], len(one["snippet"])) for one in found] == [(1, 1), (2, 0)]
    assert [one["id"] for one in fused([[row(1), row(2)], [row(2), row(3)]])] == [2, 1, 3]


@given(st.lists(st.tuples(st.sampled_from(["page", "item"]), st.sampled_from(["", "a", "A ", "b"])), max_size=40))
def test_what_says_the_same_is_shown_once(given_rows: list[tuple[str, str]]) -> None:
    rows = [row(number, of, lead=lead) for number, (of, lead) in enumerate(given_rows)]
    found = folded(rows)
    shown = [one["id"] for one in found] + [same["id"] for one in found for same in one["same"]]
    assert len(shown) == len(set(shown))
    assert set(shown) <= {one["id"] for one in rows}
    leads = [(of, lead.strip().casefold()) for of, lead in given_rows]
    assert len(found) == leads.count(("page", "")) + leads.count(("item", "")) + len({one for one in leads if one[1]})
    assert all("lead" not in one for one in found)
    assert [one["id"] for one in found] == sorted(one["id"] for one in found)


def test_a_page_is_shown_by_its_best_passage() -> None:
    passages_found = [
        row(7) | {"subject_id": 1, "number": 3, "text": "best", "at": None, "score": 0.9},
        row(8) | {"subject_id": 1, "number": 0, "text": "lead", "at": None, "score": 0.5},
        row(9) | {"subject_id": 2, "number": 0, "text": "other", "at": None, "score": 0.4},
    ]
    found = by_subject(passages_found)
    assert [(one["id"], one["snippet"][0]["text"], one["lead"]) for one in found] == [
        (1, "best", ""),
        (2, "other", "other"),
    ]


# -- Content-Signal


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("User-agent: *\nContent-Signal: search=yes, ai-input=no", {"search": True, "ai-input": False}),
        ("user-agent: *\ncontent-signal: AI-INPUT = NO ,ai-train=no", {"ai-input": False, "ai-train": False}),
        ("User-agent: *\nContent-Signal: ai-input=yes\nContent-Signal: ai-input=no", {"ai-input": False}),
        ("User-agent: *\nContent-Signal: ai-input=no\nContent-Signal: ai-input=yes", {"ai-input": False}),
        ("User-agent: other\nContent-Signal: ai-input=no", {}),
        ("User-agent: *\nContent-Signal: ai-input=no\nAllow: /\n\nUser-agent: bird\nDisallow: /x", {}),
        ("User-agent: *\nDisallow:\n\nUser-agent: Bird/2\nContent-Signal: ai-input=no\nAllow: /", {"ai-input": False}),
        ("Content-Signal: ai-input=no", {}),
        ("User-agent: *\nContent-Signal: ai-input=maybe, =no, ai-train", {}),
        ("User-agent: *\nContent-Signal: ai-input=no # because", {"ai-input": False}),
        ("User-agent: *\r\nContent-Signal: ai-input=no\r\n", {"ai-input": False}),
    ],
)
def test_content_signals_are_read(text: str, expected: dict[str, bool]) -> None:
    assert signals(text, "bird") == expected


@given(st.text(max_size=300))
def test_no_robots_txt_breaks_it(text: str) -> None:
    assert all(isinstance(value, bool) for value in signals(f"User-agent: *\nContent-Signal: {text}", "bird").values())


# -- what is due

TASK = Enrich(task="t", over="items", prompt="{{ text }}", kinds=("a", "b"), source="shop")
BRIEF = Brief("item", 1, "shop", "book", "http://s/", "T", "mark", {"price": 5, "of": "x"})


def test_a_mark_is_another_one_when_the_task_would_make_something_else() -> None:
    llm, embed = Llm(model="m"), Embed()
    same = mark(TASK, llm, embed)
    for other in (
        replace(TASK, prompt="x"), replace(TASK, system="x"), replace(TASK, schema={"a": "str"}), replace(TASK, many=True),
    ):  # fmt: skip
        assert mark(other, llm, embed) != same
    assert mark(TASK, Llm(model="n"), embed) != same
    assert mark(TASK, Llm(model="m", temperature=1.0), embed) != same
    for other in (
        replace(TASK, workers=9), replace(TASK, batch=9), replace(TASK, when="stored"), replace(TASK, attempts=9),
        replace(TASK, timeout=9.0), replace(TASK, where="price"), replace(TASK, source=None),
    ):  # fmt: skip
        assert mark(other, Llm(model="m", max_tokens=9, timeout=9.0), Embed(chunk=500)) == same
    vectors = Enrich(task="v", kind="embed")
    assert mark(vectors, llm, embed) != mark(vectors, llm, Embed(chunk=500)) != mark(vectors, llm, Embed(path="/m"))
    assert mark(vectors, llm, embed) == mark(vectors, Llm(model="n"), embed)


def test_a_job_is_due_for_each_kind_and_another_one_for_another_input() -> None:
    first = list(due(TASK, "m", [BRIEF], Options()))
    assert [one.kind for one in first] == ["a", "b"]
    assert len({one.input_hash for one in first}) == 2
    assert list(due(TASK, "m", [BRIEF], Options(kind="b"))) == first[1:]
    for other in (replace(BRIEF, mark="n"), replace(BRIEF, url="http://t/")):
        assert not {one.input_hash for one in due(TASK, "m", [other], Options())} & {one.input_hash for one in first}
    assert list(due(TASK, "m", [replace(BRIEF, title="U")], Options())) == first
    assert not list(due(TASK, "m", [replace(BRIEF, source="other")], Options()))
    assert not list(due(replace(TASK, source=None), "m", [BRIEF], Options(source="other")))


@pytest.mark.parametrize(
    ("where", "over"),
    [
        ("price > `3`", True), ("price > `9`", False), ("item.price == `5`", True), ("kind == 'book'", True),
        ("contains(url, 's')", True), ("of == 'x'", True), ("nothing.at.all", False), ("length(price) > `1`", False),
    ],
)  # fmt: skip
def test_a_condition_chooses(where: str, over: bool) -> None:
    assert bool(list(due(replace(TASK, where=where), "m", [BRIEF], Options()))) is over
    assert jmes.fault(where) is None


@pytest.mark.parametrize(
    "where", ["price >", "[", "nofunction(", "a b", "nofunction(price)", "contains(url)", "[].length(a, b)"]
)
def test_what_is_no_condition_is_said(where: str) -> None:
    assert "no JMESPath" in str(jmes.fault(where))
