"""Scripts that put no spaces between words: each of their characters is found as a word of its own, and a word as a phrase of these.

So Lucene's StandardTokenizer does it (for Han and Hiragana): no dictionary, nothing is missed, and what is typed is found in the
middle of a sentence. Pure.
"""

import re
from unicodedata import category

# Every database takes it for the end of a word; a text that has it itself loses it.
SEPARATOR = "\x1f"
# Thai and Lao, Myanmar, Khmer, Hiragana and Katakana, Han. Hangul has spaces.
_WITHOUT_SPACES = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
# A sign that belongs to the letter before it (a vowel of Thai) stays with that.
_BETWEEN = re.compile(rf"(?<=[{_WITHOUT_SPACES}])(?=\w)|(?<=\w)(?=\w)(?=[{_WITHOUT_SPACES}])")


# What is neither letter nor space, and not ASCII: in the locale C, PostgreSQL takes it for a letter.
_NO_LETTERS = re.compile(r"[^\w\s\x00-\x7f]+")


def apart(text: str) -> str:
    """Return a text with separators where its words may begin or end."""
    if text.isascii():
        return text
    return _BETWEEN.sub(SEPARATOR, _NO_LETTERS.sub(_alone, text))


def _alone(found: "re.Match[str]") -> str:
    signs = found[0]
    belongs = any(category(sign)[0] == "M" for sign in signs)  # to the letter before it
    return signs if belongs else f"{SEPARATOR}{signs}{SEPARATOR}"


def together(text: str) -> str:
    """Return a text as it was before."""
    return text.replace(SEPARATOR, "")
