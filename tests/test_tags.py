"""What is certainly free of long tags is known without reading it whole."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scraper.tags import LONG, may_be_long

_LONG_TAG = re.compile(rb"<[^>]{%d}" % LONG)


@given(st.lists(st.integers(0, 2 * LONG), max_size=6))
def test_no_long_tag_is_overlooked(lengths: list[int]) -> None:
    body = b">".join([b"<" + b"x" * length for length in lengths])
    assert may_be_long(body) or not _LONG_TAG.search(body)


@pytest.mark.parametrize("before", [0, 1, LONG // 2 - 1, LONG // 2, LONG // 2 + 1, LONG])
def test_a_long_tag_is_seen_wherever_it_begins(before: int) -> None:
    assert may_be_long(b">" * before + b"<" + b"x" * LONG)


def test_a_common_page_has_none() -> None:
    assert not may_be_long(b"<p class='some'>Some words, as they are on any page.</p>\n" * 2000)
    assert not may_be_long(b"short, and no tag at all")
