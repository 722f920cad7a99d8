"""What a person reads on a page, block by block; and what of it counts as news."""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from lxml import etree

from scraper import clean, differ
from scraper.config.settings import Noise
from scraper.errors import VisitFailed
from scraper.extract.page import Page
from scraper.extract.select import compiled_css
from scraper.records import Before, Difference

MOST_BLOCKS = 50_000  # what is beyond is compared as one
BLOCK_MOST = 10_000  # characters; a longer one is several
TOLD_MOST = 2000  # characters of either side, as they are kept with a change
_HIDDEN = {"script", "style", "noscript", "template", "svg", "iframe", "object"}
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
    found = _parts(_seen(page, noise))
    kept = list(islice(found, MOST_BLOCKS))
    rest, count = hashlib.blake2b(digest_size=16), 0
    for block in found:
        if counted := sense(block, noise):
            rest.update(f"{counted}\n".encode("utf-8", "surrogatepass"))
            count += 1
    return [*kept, f"… and {count} more: {rest.hexdigest()}"] if count else kept


def _seen(page: Page, noise: Noise) -> Iterator[str]:
    if page.is_json:
        return _of_json(page)
    if page.is_text:
        return (block for line in page.text.splitlines() if (block := " ".join(line.split())))
    return _of_xml(page, noise) if page.is_xml else _of_tree(page, noise)


def _parts(found: Iterable[str]) -> Iterator[str]:
    for block in found:
        for start in range(0, len(block), BLOCK_MOST):
            yield block[start : start + BLOCK_MOST]


def _of_json(page: Page) -> Iterator[str]:
    document = page.json()
    try:
        yield from json.dumps(document, indent=1, ensure_ascii=False, sort_keys=True).splitlines()
    except RecursionError:
        yield from _parts([page.text])


def _places(page: Page, noise: Noise) -> list[Any]:
    """What of a page counts: all of it, or parts, none of which is inside another."""
    if not noise.only:
        return [page.root]
    found = {match for css in noise.only for match in _found(css, page) if etree.iselement(match)}
    return [place for place in page.root.iter() if place in found and found.isdisjoint(place.iterancestors())]


def _of_tree(page: Page, noise: Noise) -> Iterator[str]:
    hidden: set[Any] = {match for css in noise.select for match in _found(css, page)}
    for place in _places(page, noise):
        yield from _of_place(place, hidden)


def _of_place(place: Any, hidden: set[Any]) -> Iterator[str]:
    walk: Any = etree.iterwalk(place, events=("start", "end", "comment", "pi"))
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
            if element is not place:
                parts.append(element.tail or "")
    if block := " ".join("".join(parts).split()):
        yield block


def _of_xml(page: Page, noise: Noise) -> Iterator[str]:
    """Texts and attributes: which of them a reader sees, nobody knows."""
    hidden: set[Any] = {match for css in noise.select for match in _found(css, page)}
    for place in _places(page, noise):
        walk: Any = etree.iterwalk(place, events=("start", "end"))
        for event, element in walk:
            if event == "start" and element in hidden:
                walk.skip_subtree()
                continue
            told = (*(f"{name}={value}" for name, value in element.attrib.items()), element.text)
            for said in told if event == "start" else (element.tail if element is not place else None,):
                if block := " ".join((said or "").split()):
                    yield block


def _found(css: str, page: Page) -> Any:
    return compiled_css(css, page.is_xml)(page.root)


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
    """Return what is new on a page for those who read it, or None if one of the two cannot be read."""
    try:
        was = blocks(Page(page.url, 200, before.headers, before.body), noise)
        now = blocks(page, noise)
    except VisitFailed:
        return None
    found = changes(was, now, noise)
    went = [block for old, _ in found for block in old]
    came = [block for _, new in found for block in new]
    words = differ.word_count(*("\n".join(sense(block, noise) for block in side) for side in (went, came)))
    words = max(words, 1) if found else 0  # what only stands elsewhere now
    if words <= noise.words:
        return Difference("", "", 0, slight=words > 0)
    return Difference(_told("\n".join(went)), _told("\n".join(came)), words)


def _told(text: str) -> str:
    text = clean.text(text)
    return text if len(text) <= TOLD_MOST else text[: TOLD_MOST - 1] + "…"
