"""What is different between two texts: nothing is lost, nothing is invented, and it never takes long."""

import time
from collections.abc import Callable, Sequence
from itertools import cycle, islice

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from scraper import differ
from scraper.config.settings import Noise
from scraper.extract import visible
from scraper.extract.page import Page
from scraper.records import Before, Difference

LONG = 5000
TEXTS = st.text() | st.lists(st.sampled_from(["a", "b", " ", "\n", "it's", "é", "12", ".", "-"])).map("".join)
BLOCKS = st.lists(st.sampled_from(["a", "b", "c", "A", "B", "", "x y"]), max_size=12)
KEYS: list[Callable[[str], str]] = [str, str.lower, lambda block: "", lambda block: block.strip("ab")]


@given(TEXTS, TEXTS)
def test_pieces_are_both_texts(old: str, new: str) -> None:
    pieces = differ.words(old, new)
    assert "".join(piece.text for piece in pieces if piece.kind != "came") == old
    assert "".join(piece.text for piece in pieces if piece.kind != "went") == new
    assert all(piece.text for piece in pieces)
    assert (not any(piece.kind != "same" for piece in pieces)) == (old == new)


def test_a_long_text_is_told_in_pieces_too() -> None:
    common = "word " * LONG
    old, new = f"{common}old {common}", f"{common}new {common}"
    assert [piece.text for piece in differ.words(old, new) if piece.kind != "same"] == ["old", "new"]
    pieces = differ.words(" ".join(map(str, range(LONG))), " ".join(map(str, range(LONG, 0, -1))))
    assert {piece.kind for piece in pieces} >= {"went", "came"}
    assert "".join(piece.text for piece in pieces if piece.kind != "came") == " ".join(map(str, range(LONG)))


@given(BLOCKS, BLOCKS, st.sampled_from(KEYS))
def test_stretches_are_empty_where_nothing_differs(old: list[str], new: list[str], key: Callable[[str], str]) -> None:
    was, now = [key(block) for block in old if key(block)], [key(block) for block in new if key(block)]
    found = differ.stretches(old, new, key)
    assert (found == []) == (was == now)
    assert all(went or came for went, came in found)


@given(BLOCKS, BLOCKS)
def test_stretches_are_all_that_differs(old: list[str], new: list[str]) -> None:
    """What is left of either side without its stretches is the same."""
    found = differ.stretches(old, new)
    went, came = (sorted(block for pair in found for block in pair[side]) for side in (0, 1))
    assert sorted([*filter(None, old), *came]) == sorted([*filter(None, new), *went])


def test_many_blocks_in_another_order_differ() -> None:
    old = [str(number) for number in range(LONG)]
    assert differ.stretches(old, old[::-1]) != []
    assert differ.stretches(old, [*old, "one more"]) == [([], ["one more"])]
    assert differ.stretches(old, ["first", *old[::-1]]) == [([], ["first"])]


def pattern(*words: str) -> Callable[[int], list[str]]:
    return lambda count: list(islice(cycle(words), count))


SIDES: dict[str, tuple[Callable[[int], list[str]], Callable[[int], list[str]]]] = {
    "periods": (pattern("a", "b"), pattern("b", "a", "a")),
    "reversed": (lambda n: [str(i) for i in range(n)], lambda n: [str(i) for i in range(n, 0, -1)]),
    "separated": (
        lambda n: ["c" if i % 2 else f"a{i}" for i in range(n)],
        lambda n: ["c" if i % 2 else f"b{i}" for i in range(n)],
    ),
    "chaos": (lambda n: [str(i * i % 7) for i in range(n)], lambda n: [str(i * i * i % 11) for i in range(n)]),
}


@pytest.mark.parametrize("sides", SIDES.values(), ids=SIDES)
@pytest.mark.parametrize("count", [500, 501, 1000, 50_000])
def test_it_never_takes_long(
    sides: tuple[Callable[[int], Sequence[str]], Callable[[int], Sequence[str]]], count: int
) -> None:
    old, new = sides[0](count), sides[1](count)
    began = time.thread_time()
    differ.stretches(old, new)
    differ.words(" ".join(old), " ".join(new))
    assert time.thread_time() - began < 4.0


@given(TEXTS, TEXTS)
@example("a b", "b a")
def test_words_are_counted_on_both_sides(old: str, new: str) -> None:
    assert differ.word_count(old, new) == differ.word_count(new, old)
    assert (differ.word_count(old, new) == 0) == (old == new)


# -- what is seen on a page


def page(body: str | bytes, kind: str = "text/html; charset=utf-8") -> Page:
    return Page("http://a.org/", 200, {"content-type": kind}, body.encode() if isinstance(body, str) else body)


def difference(old: Page, new: Page, noise: Noise | None = None) -> Difference | None:
    return visible.difference(Before(old.body, old.headers), new, noise or Noise())


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param("<h1>A</h1><p>b <b>c</b>d<p>e<br>f", ["A", "b cd", "e", "f"], id="blocks and what runs on"),
        pytest.param("<title>t</title><p>a<!-- no -->b<?no?>c<script>no</script>d", ["t", "abc", "d"], id="not seen"),
        pytest.param("a<div>b</div>c<table><tr><td>1<td>2</table>", ["a", "b", "c", "1", "2"], id="cells and tails"),
        pytest.param("<p> a \n\t b\u00a0c </p><p> </p>", ["a b c"], id="white space"),
        pytest.param("", [], id="nothing"),
    ],
)
def test_blocks(body: str, expected: list[str]) -> None:
    assert visible.blocks(page(body), Noise()) == expected


@given(st.lists(st.text("ab<>&;/p ", max_size=8)).map("".join), st.sampled_from([Noise(), Noise(numbers=True)]))
def test_a_page_does_not_differ_from_itself(body: str, noise: Noise) -> None:
    assert difference(page(body), page(body), noise) == Difference("", "", 0)


def test_json_is_compared_as_what_it_says() -> None:
    kind = "application/json"
    assert difference(page('{"a":1,"b":[]}', kind), page('{ "b": [], "a": 1 }', kind)) == Difference("", "", 0)
    found = difference(page('{"a": 1}', kind), page('{"a": 2}', kind))
    assert found is not None
    assert (found.old.strip(), found.new.strip(), found.words) == ('"a": 1', '"a": 2', 2)


def test_what_cannot_be_read_is_not_compared() -> None:
    broken, sound = page("{", "application/json"), page("{}", "application/json")
    assert difference(broken, sound) is difference(sound, broken) is None


def test_what_is_told_is_bounded_and_fit_for_a_database() -> None:
    odd = page('["\\ud800' + "x" * 5000 + '"]', "application/json")
    found = difference(page("[]", "application/json"), odd)
    assert found is not None
    assert len(found.new) == visible.TOLD_MOST
    found.new.encode()
    assert "\ufffd" in found.new


@pytest.mark.parametrize("end", ["a", "b"])
def test_what_is_beyond_the_most_blocks_counts(end: str) -> None:
    long = "<p>x" * (visible.MOST_BLOCKS + 5)
    found = difference(page(long + "a"), page(long + end))
    assert found is not None
    assert (found.words > 0) == (end != "a")
    noise = Noise(patterns=("[ab]$",))
    assert difference(page(long + "a"), page(long + end), noise) == Difference("", "", 0)
