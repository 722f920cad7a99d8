"""What is different between two texts: by blocks, then by words. Pure, and bounded on whatever it is given."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Literal

# Blocks times blocks, or words times words, that are compared in order; beyond that only what is there and what is not.
WORK_MOST = 1_000_000
_WORD = re.compile(r"\s+|[\w’'-]+|[^\w\s]")

Kind = Literal["same", "went", "came"]


@dataclass(frozen=True, slots=True)
class Piece:
    """Some text, and whether both have it, only the old one or only the new one."""

    kind: Kind
    text: str


def stretches(
    old: Sequence[str], new: Sequence[str], key: Callable[[str], str] = lambda block: block
) -> list[tuple[list[str], list[str]]]:
    """Return where two lists of blocks differ, as (what went, what came). key: what of a block counts; nothing: it does not."""
    old = [block for block in old if key(block)]
    new = [block for block in new if key(block)]
    was, now = [key(block) for block in old], [key(block) for block in new]
    if was == now:
        return []
    found = [(list(old[a:b]), list(new[c:d])) for tag, a, b, c, d in _opcodes(was, now) if tag != "equal"]
    return [pair for pair in found if pair[0] or pair[1]]


def _opcodes(was: Sequence[str], now: Sequence[str]) -> list[tuple[str, int, int, int, int]]:
    """How to get from one to the other; what both begin and end with is not looked at twice."""
    head = 0
    least = min(len(was), len(now))
    while head < least and was[head] == now[head]:
        head += 1
    tail = 0
    while tail < least - head and was[-1 - tail] == now[-1 - tail]:
        tail += 1
    a, b = was[head : len(was) - tail], now[head : len(now) - tail]
    middle: list[tuple[str, int, int, int, int]]
    if len(a) * len(b) > WORK_MOST:
        middle = _unordered(a, b)
    else:
        middle = list(SequenceMatcher(None, a, b, autojunk=False).get_opcodes())
    done = [("equal", 0, head, 0, head)] if head else []
    done += [(tag, i + head, j + head, k + head, m + head) for tag, i, j, k, m in middle]
    if tail:
        done.append(("equal", len(was) - tail, len(was), len(now) - tail, len(now)))
    return done


def _unordered(a: Sequence[str], b: Sequence[str]) -> list[tuple[str, int, int, int, int]]:
    """Too much to be put in order: each that only one of them has, by itself."""
    left, right = Counter(b), Counter(a)
    found = []
    for place, word in enumerate(a):
        if left[word] > 0:
            left[word] -= 1
        else:
            found.append(("delete", place, place + 1, 0, 0))
    for place, word in enumerate(b):
        if right[word] > 0:
            right[word] -= 1
        else:
            found.append(("insert", len(a), len(a), place, place + 1))
    return found


def words(old: str, new: str) -> list[Piece]:
    """Return a text and its successor as one, word by word."""
    was, now = _WORD.findall(old), _WORD.findall(new)
    if len(was) * len(now) > WORK_MOST:
        return [piece for piece in (Piece("went", old), Piece("came", new)) if piece.text]
    pieces: list[Piece] = []
    for tag, a, b, c, d in _opcodes(was, now):
        if tag == "equal":
            pieces.append(Piece("same", "".join(was[a:b])))
            continue
        if b > a:
            pieces.append(Piece("went", "".join(was[a:b])))
        if d > c:
            pieces.append(Piece("came", "".join(now[c:d])))
    return pieces


def word_count(old: str, new: str) -> int:
    """Return how many words only one of two texts has."""
    was, now = Counter(_words(old)), Counter(_words(new))
    count = (was - now).total() + (now - was).total()
    return count or int(old != new)


def _words(text: str) -> list[str]:
    return [word for word in _WORD.findall(text) if not word.isspace()]
