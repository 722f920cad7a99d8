"""Pages whose words are nearly the same have hashes that are nearly the same; all others do not."""

import random
import string
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scraper.extract.similar import LEAST_WORDS, MOST_WORDS, NUMBERS_LEAST, simhash
from scraper.traps import NEAR_BITS

WORDS = st.lists(
    st.text(string.ascii_lowercase, min_size=3, max_size=9), min_size=LEAST_WORDS, max_size=200, unique=True
)


def text(seed: int, words: int = 300) -> list[str]:
    """Return different words of different lengths, the same for the same seed."""
    rng = random.Random(seed)
    found: dict[str, None] = {}
    while len(found) < words:
        found["".join(rng.choices(string.ascii_lowercase, k=rng.choice((3, 5, 7, 7, 8, 11))))] = None
    return list(found)


def distance(one: list[str], other: list[str]) -> int:
    """Return in how many bits the hashes of two texts differ."""
    first, second = simhash(" ".join(one)), simhash(" ".join(other))
    assert first is not None
    assert second is not None
    return (first ^ second).bit_count()


@given(WORDS, st.randoms(use_true_random=False))
def test_the_order_of_words_and_how_often_they_come_do_not_count(words: list[str], rng: random.Random) -> None:
    mixed = words + rng.choices(words, k=5)
    rng.shuffle(mixed)
    assert simhash("\n\t ".join(mixed)) == simhash(" ".join(words))


@pytest.mark.parametrize("seed", range(10))
def test_one_changed_word_in_three_hundred_changes_few_bits(seed: int) -> None:
    words = text(seed)
    changed = [distance(words, [*words[:place], "another", *words[place + 1 :]]) for place in range(0, 300, 10)]
    assert max(changed) <= 12
    assert sorted(changed)[len(changed) // 2] <= 5


def test_different_texts_differ_in_many_bits() -> None:
    hashes = [simhash(" ".join(text(seed))) for seed in range(50)]
    found = [(a ^ b).bit_count() for n, a in enumerate(hashes) for b in hashes[:n] if a is not None and b is not None]
    assert len(found) == 50 * 49 // 2
    assert min(found) > 3 * NEAR_BITS
    assert 28 < sum(found) / len(found) < 36


def test_the_more_words_change_the_more_bits_do() -> None:
    steps = []
    for share in (0, 30, 100, 200, 300):
        changed = [distance(text(seed), text(seed)[share:] + text(seed + 99)[:share]) for seed in range(20)]
        steps.append(sum(changed) / len(changed))
    assert steps[0] == 0
    assert steps == sorted(steps)


@given(WORDS, st.lists(st.from_regex(r"[a-z]{0,5}[0-9]{1,6}[a-z:.]{0,5}", fullmatch=True), max_size=NUMBERS_LEAST - 1))
def test_words_with_digits_do_not_count(words: list[str], numbers: list[str]) -> None:
    longer = [word if len(word) != 7 else word + "x" for word in words]  # nothing that would be sampled
    assert simhash(" ".join([*longer, *(n for n in numbers if len(n) != 7)])) == simhash(" ".join(longer))


@pytest.mark.parametrize(
    "clock", ["12:30:05", "2026-03-01", "page 17 of 300", "#7f3a", "1,234 visitors".partition(" ")[0]]
)
def test_a_clock_or_a_counter_makes_no_new_page(clock: str) -> None:
    words = text(1)
    assert distance(words, [*words, *(word for word in clock.split() if word not in ("page", "of"))]) == 0


@pytest.mark.parametrize(
    "few",
    [
        "",
        " \n",
        "too few words",
        "a b c d e f g h i j k l m n o p q r s t u v w x y z",
        "same " * 1000,
        " ".join(str(number) for number in range(NUMBERS_LEAST - 1)),
        " ".join(text(3, LEAST_WORDS - 1)),
        "x" * 100_000,
    ],
)
def test_too_few_words_tell_nothing(few: str) -> None:
    assert simhash(few) is None


def test_sixteen_words_are_enough() -> None:
    assert simhash(" ".join(text(3, LEAST_WORDS))) is not None


@given(st.text(max_size=3000))
def test_any_text_ends_as_sixty_four_bits_or_nothing(any_text: str) -> None:
    found = simhash(any_text)
    assert found is None or 0 <= found < 2**64
    assert simhash(any_text) == found


@given(st.lists(st.text(min_size=1, max_size=12), max_size=100))
def test_words_of_any_script_end_too(words: list[str]) -> None:
    found = simhash(" ".join(words) + "\ud800\udfff\x00")
    assert found is None or 0 <= found < 2**64


@pytest.mark.parametrize("letters", [(0x4E00, 0x9FA5), (0x3041, 0x3096), (0x0E01, 0x0E2E)], ids=["zh", "ja", "th"])
def test_where_words_are_not_set_apart_another_text_is_another_page(letters: tuple[int, int]) -> None:
    menu = " ".join(text(7, 40))

    def page(seed: int) -> str:
        rng = random.Random(seed)
        clauses = ["".join(chr(rng.randrange(*letters)) for _ in range(12)) for _ in range(60)]
        return menu + " " + "\uff0c".join(clauses)

    hashes = [simhash(page(seed)) or 0 for seed in range(10)]
    assert min((a ^ b).bit_count() for a in hashes for b in hashes if a != b) > NEAR_BITS
    assert len(set(hashes)) == 10


def test_a_table_of_numbers_is_what_the_page_is_about() -> None:
    menu = text(8, 60)

    def page(seed: int) -> str:
        rng = random.Random(seed)
        return " ".join([*menu, *(f"{rng.uniform(-20, 40):.1f}" for _ in range(72))])

    hashes = [simhash(page(seed)) or 0 for seed in range(10)]
    assert min((a ^ b).bit_count() for a in hashes for b in hashes if a != b) > NEAR_BITS
    assert len(set(hashes)) == 10


def test_words_of_other_scripts_are_words() -> None:
    rng = random.Random(5)
    words = ["".join(chr(rng.randrange(0x430, 0x450)) for _ in range(rng.randrange(3, 9))) for _ in range(300)]
    assert distance(words, words[::-1]) == 0


def test_a_text_of_endless_words_ends_in_time() -> None:
    began = time.process_time()
    words = text(9, 5 * MOST_WORDS)
    made = time.process_time() - began
    assert simhash(" ".join(words)) is not None
    assert time.process_time() - began < made + 1.0
