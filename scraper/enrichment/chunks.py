"""A text in passages of about one length, cut where sentences or paragraphs end. Pure."""

import re
from collections.abc import Iterator

_PARAGRAPH = re.compile(r"\n\s*\n|\n(?=\s*(?:[-*•]|\d+[.)])\s)")
# A sentence ends with its mark, and quotes or brackets after it, before a space and something that may begin one. Nothing
# of it is looked at twice: a page may be all dots.
_END = re.compile(r"(?<![.!?…])[.!?…]++[\"'”’)\]]*+\s++(?=[^a-z\s])|[。！？]++")


def passages(text: str, size: int) -> list[str]:
    """Return a text as passages of at most `size` characters each, every sentence whole if it is no longer than that.

    Nothing is lost but white space at the cuts.
    """
    made: list[str] = []
    held = ""
    for part, begins in _parts(text, size):
        joint = "\n\n" if begins and held else " " if held else ""
        if held and len(held) + len(joint) + len(part) > size:
            made.append(held)
            held = part
        else:
            held += joint + part
    return [*made, held] if held else made


def _parts(text: str, size: int) -> Iterator[tuple[str, bool]]:
    """Sentences, and pieces of those that are too long; and whether a paragraph begins with it."""
    for paragraph in _PARAGRAPH.split(text):
        begins = True
        for sentence in _sentences(" ".join(paragraph.split())):
            for piece in _pieces(sentence, size):
                yield piece, begins
                begins = False


def _sentences(text: str) -> Iterator[str]:
    begin = 0
    for match in _END.finditer(text):
        yield text[begin : match.end()].strip()
        begin = match.end()
    yield text[begin:].strip()


def _pieces(sentence: str, size: int) -> Iterator[str]:
    while len(sentence) > size:
        cut = sentence.rfind(" ", size // 2, size + 1)
        cut = cut if cut > 0 else size
        yield sentence[:cut]
        sentence = sentence[cut:].lstrip()
    if sentence:
        yield sentence
