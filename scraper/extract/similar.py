"""Simhash: 64 bits of a page's words that differ in few where the words do. Pure.

Charikar, "Similarity estimation techniques from rounding algorithms" (2002); three bits of difference for near
duplicates: Manku et al., "Detecting near-duplicates for web crawling" (2007). Only long words without digits count: a
clock, a counter or a calendar makes no new page, and short words are in every one.
"""

import hashlib
from functools import lru_cache

SAMPLED_LETTERS = 7
SAMPLED_LEAST = 48
LEAST_WORDS = 16
MOST_WORDS = 20_000
_LANE_BITS = 16
_LANES = 64
# Bit n of a byte, moved to the lowest bit of lane n: a word's 64 bits become 64 counters in one big number.
_SPREAD = [sum(((byte >> bit) & 1) << (bit * _LANE_BITS) for bit in range(8)) for byte in range(256)]
_ONES = sum(1 << (lane * _LANE_BITS) for lane in range(_LANES))
_HIGH = bytes(ord("1") if byte >= 0x80 else ord("0") for byte in range(256))


@lru_cache(maxsize=16_384)
def _lanes(word: str) -> int:
    if not word.isalpha():
        return 0
    digest = hashlib.blake2b(word.encode("utf-8", "replace"), digest_size=8).digest()
    lanes = 0
    for byte in digest:
        lanes = lanes << (8 * _LANE_BITS) | _SPREAD[byte]
    return lanes


def simhash(text: str) -> int | None:
    """Return the simhash of the different words of a text, or None if there are too few of them to tell."""
    words = text.split()
    sample = {word for word in words if len(word) == SAMPLED_LETTERS}
    if len(sample) < SAMPLED_LEAST:
        sample = {word for word in words if len(word) > 2}
    chosen = [lanes for lanes in map(_lanes, sorted(sample)[:MOST_WORDS]) if lanes]
    if len(chosen) < LEAST_WORDS:
        return None
    # A bias lifts the counters above the half over their highest bit; the high bytes of all lanes are the answer.
    bias = (1 << (_LANE_BITS - 1)) - 1 - len(chosen) // 2
    lifted = (sum(chosen) + bias * _ONES).to_bytes(_LANES * _LANE_BITS // 8, "little")
    return int(lifted[::-2].translate(_HIGH), 2)
