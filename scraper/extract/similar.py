"""Simhash: 64 bits of a page's words that differ in few where the words do. Pure.

Charikar, "Similarity estimation techniques from rounding algorithms" (2002); three bits of difference for near
duplicates: Manku et al., "Detecting near-duplicates for web crawling" (2007). Short words do not count, for they are in every
page; nor do a few numbers: a clock, a counter or a calendar makes no new page. Where words are not set apart, pairs of
letters stand for them.
"""

import hashlib
import re
from functools import lru_cache

SAMPLED_LETTERS = 7
SAMPLED_LEAST = 48
LEAST_WORDS = 16
MOST_WORDS = 20_000
NUMBERS_LEAST = 48  # from so many on they are what the page is about: no month has so many days
PAIRS_SAMPLED = 8  # one pair of letters in so many, where there are enough
# Thai to Lao, Burmese, Khmer, kana, and what China, Japan and Korea have in common.
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]{2,}")
_LANE_BITS = 16
_LANES = 64
# Bit n of a byte, moved to the lowest bit of lane n: a word's 64 bits become 64 counters in one big number.
_SPREAD = [sum(((byte >> bit) & 1) << (bit * _LANE_BITS) for bit in range(8)) for byte in range(256)]
_ONES = sum(1 << (lane * _LANE_BITS) for lane in range(_LANES))
_HIGH = bytes(ord("1") if byte >= 0x80 else ord("0") for byte in range(256))


@lru_cache(maxsize=16_384)
def _lanes(word: str) -> int:
    digest = hashlib.blake2b(word.encode("utf-8", "replace"), digest_size=8).digest()
    lanes = 0
    for byte in digest:
        lanes = lanes << (8 * _LANE_BITS) | _SPREAD[byte]
    return lanes


def simhash(text: str) -> int | None:
    """Return the simhash of the different words of a text, or None if there are too few of them to tell."""
    words = set(text.split())
    sample = {word for word in words if len(word) == SAMPLED_LETTERS and word.isalpha()}
    if len(sample) < SAMPLED_LEAST:
        sample = {word for word in words if len(word) > 2 and word.isalpha()}
    numbers = {word for word in words if word[-1].isdigit()}
    if len(numbers) >= NUMBERS_LEAST:
        sample |= numbers
    if not text.isascii():
        sample |= _pairs(text)
    chosen = [_lanes(word) for word in sorted(sample)[:MOST_WORDS]]
    if len(chosen) < LEAST_WORDS:
        return None
    # A bias lifts the counters above the half over their highest bit; the high bytes of all lanes are the answer.
    bias = (1 << (_LANE_BITS - 1)) - 1 - len(chosen) // 2
    lifted = (sum(chosen) + bias * _ONES).to_bytes(_LANES * _LANE_BITS // 8, "little")
    return int(lifted[::-2].translate(_HIGH), 2)


def _pairs(text: str) -> set[str]:
    """The pairs of letters where words are not set apart by blanks; some of them, where there are many."""
    runs = _UNSPACED.findall(text)
    pairs = {run[place : place + 2] for run in runs for place in range(len(run) - 1)}
    some = {pair for pair in pairs if (ord(pair[0]) + 31 * ord(pair[1])) % PAIRS_SAMPLED == 0}
    return some if len(some) >= SAMPLED_LEAST else pairs
