"""What a person reads on a page, block by block; and what of it counts as news."""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from lxml import etree

from scraper import differ
from scraper.config.settings import Noise
from scraper.errors import VisitFailed
from scraper.extract.page import Page
from scraper.extract.select import compiled_css
from scraper.records import Before, Difference

MOST_BLOCKS = 5000
BLOCK_MOST = 10_000  # characters
TOLD_MOST = 2000  # characters of either side, as they are kept with a change
_HIDDEN = {"script", "style", "noscript", "template", "head", "svg", "iframe", "object"}
_INLINE = frozenset(
    (
        *(
            "a",
            "abbr",
            "acronym",
            "b",
            "bdi",
            "bdo",
            "big",
            "cite",
            "code",
            "data",
            "del",
            "dfn",
            "em",
            "font",
            "i",
            "ins",
        ),
        *(
            "kbd",
            "label",
            "mark",
            "meter",
            "nobr",
            "output",
            "q",
            "s",
            "samp",
            "small",
            "span",
            "strike",
            "strong",
            "sub",
        ),
        *("sup", "time", "tt", "u", "var", "wbr"),
    )
)
_NUMBER = re.compile(r"\d+(?:[.,:/ \u00a0-]\d+)*")


def blocks(page: Page, noise: Noise) -> list[str]:
    """Return the text that is seen on a page, a paragraph or a cell at a time, white space folded. Raises VisitFailed."""
    found = _of_json(page) if page.is_json else _of_tree(page, noise)
    return [block[:BLOCK_MOST] for _, block in zip(range(MOST_BLOCKS), found, strict=False)]


def _of_json(page: Page) -> Iterator[str]:
    yield from json.dumps(page.json(), indent=1, ensure_ascii=False, sort_keys=True).splitlines()


def _of_tree(page: Page, noise: Noise) -> Iterator[str]:
    hidden: set[Any] = {match for css in noise.select for match in _found(css, page)}
    walk: Any = etree.iterwalk(page.root, events=("start", "end", "comment", "pi"))
    parts: list[str] = []
    for event, element in walk:
        if event == "start" and (element.tag in _HIDDEN or element in hidden):
            walk.skip_subtree()
        elif event == "start":
            if element.tag not in _INLINE and (block := " ".join("".join(parts).split())):
                yield block
                parts.clear()
            elif element.tag not in _INLINE:
                parts.clear()
            parts.append(element.text or "")
        else:
            if event == "end" and element.tag not in _INLINE:
                if block := " ".join("".join(parts).split()):
                    yield block
                parts.clear()
            parts.append(element.tail or "")
    if block := " ".join("".join(parts).split()):
        yield block


def _found(css: str, page: Page) -> Any:
    return compiled_css(css)(page.root)


def sense(block: str, noise: Noise) -> str:
    """Return what of a block counts where texts are compared."""
    for pattern in noise.patterns:
        block = re.sub(pattern, "", block)
    if noise.numbers:
        block = _NUMBER.sub("0", block)
    return " ".join(block.split())


def changes(old: Sequence[str], new: Sequence[str], noise: Noise) -> list[tuple[list[str], list[str]]]:
    """Return the stretches of blocks that differ, as (what went, what came)."""
    return differ.stretches(old, new, key=lambda block: sense(block, noise))


def difference(before: Before, page: Page, noise: Noise) -> Difference | None:
    """Return what is new on a page for those who read it, or None if the earlier one cannot be read any more."""
    try:
        was = blocks(Page(page.url, 200, before.headers, before.body), noise)
    except VisitFailed:
        return None
    found = changes(was, blocks(page, noise), noise)
    went = "\n".join(block for old, _ in found for block in old)
    came = "\n".join(block for _, new in found for block in new)
    words = differ.word_count(went, came)
    if words <= noise.words:
        return Difference("", "", 0)
    return Difference(_told(went), _told(came), words)


def _told(text: str) -> str:
    return text if len(text) <= TOLD_MOST else text[: TOLD_MOST - 1] + "…"
