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
    "\ufe00-\ufe0f\U000e0100-\U000e01ef"  # which form of a character is meant
)
_BETWEEN = re.compile(rf"(?<=[{_WITHOUT_SPACES}])(?=\w)|(?<=\w)(?=\w)(?=[{_WITHOUT_SPACES}])")


# What is neither letter nor space, and not ASCII. In the locale C, PostgreSQL takes it for a letter; a mark (of a vowel of Thai, of Hindi)
# does belong to the letter before it.
_NO_LETTERS = re.compile(r"[^\w\s\x00-\x7f]+")


def apart(text: str) -> str:
    """Return a text with separators where its words may begin or end."""
    if text.isascii():
        return text
    return _BETWEEN.sub(SEPARATOR, _NO_LETTERS.sub(_alone, text))


def _alone(found: "re.Match[str]") -> str:
    return "".join(sign if category(sign)[0] == "M" else f"{SEPARATOR}{sign}{SEPARATOR}" for sign in found[0])


def together(text: str) -> str:
    """Return a text as it was before."""
    return text.replace(SEPARATOR, "")
