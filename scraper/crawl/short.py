"""Which pages are read in the scraper's own process, between two answers. Pure."""

import re

from scraper.tags import LONG, may_be_long

# What is read in this process, in between: pages that cannot take long. All others are read in a process of their own.
INLINE_BYTES = 256 * 1024
INLINE_TAGS = 4000  # of a few thousand levels, each within all before it, a selector takes seconds already
INLINE_VALUES = 10_000
TAG_LEAST, VALUE_LEAST = 3, 3  # bytes that each takes: "<a>", "a=b"
_LONG_TAG = re.compile(rb"<[^>]{%d}" % LONG)
QUOTED_BYTES = 64 * 1024  # what fewer hold of one tag's attributes takes about a second at the worst
_QUOTING_TAG = re.compile(rb"<[A-Za-z](?:[^>\"']+|\"[^\"]*\"|'[^']*')*")


def is_short(body: bytes) -> bool:
    """Say whether reading a body cannot take long: it is small, and has not many tags nor attributes."""
    return (
        len(body) <= INLINE_BYTES
        and (len(body) <= TAG_LEAST * INLINE_TAGS or body.count(b"<") <= INLINE_TAGS)
        and (len(body) <= VALUE_LEAST * INLINE_VALUES or body.count(b"=") <= INLINE_VALUES)
        and not (may_be_long(body) and _LONG_TAG.search(body))
        and not (len(body) > QUOTED_BYTES and any(len(tag[0]) > LONG for tag in _QUOTING_TAG.finditer(body)))
    )
