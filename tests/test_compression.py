"""Both ways to compress, that of Python and the quick one, do the same; what ends with a body ends with the right one."""

import contextlib
import gzip
import zlib
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st
from isal import isal_zlib

from scraper import compression
from scraper.compression import Damaged, TooLarge, deflate, inflate, stored

each_way = pytest.mark.parametrize("way", [zlib, isal_zlib])
MOST = 100_000
bodies = st.one_of(st.binary(max_size=3000), st.text("<a href=x> ", max_size=20_000).map(str.encode))


def formats(body: bytes) -> list[bytes]:
    """Return a body compressed in each format that there is."""
    made = [gzip.compress(body), zlib.compress(body), zlib.compress(body, 0), zlib.compress(body, wbits=-15)]
    return made if body else made[:-1]


def test_the_quick_way_is_taken_where_it_is_to_be_had() -> None:
    assert compression.quick is isal_zlib


@each_way
@given(bodies)
def test_what_was_compressed_comes_back_in_every_format(way: Any, body: bytes) -> None:
    with patch.object(compression, "quick", way):
        packed = deflate(body)
        assert zlib.decompress(packed) == body
        for whole in (packed, *formats(body)):
            assert inflate(whole, MOST) == body
        assert inflate(gzip.compress(body) + gzip.compress(b"more") + b"tail", MOST) == body + b"more"
        assert stored(packed) == body


@each_way
@given(bodies.filter(bool), st.data())
def test_a_damaged_body_is_an_error_or_whole(way: Any, body: bytes, data: st.DataObject) -> None:
    whole = bytearray(gzip.compress(body, mtime=0))
    cut = bytes(whole[: data.draw(st.integers(1, len(whole) - 1))])
    whole[data.draw(st.integers(2, len(whole) - 1))] ^= 1 << data.draw(
        st.integers(0, 7)
    )  # without its first two it is no gzip
    with patch.object(compression, "quick", way):
        with contextlib.suppress(Damaged, TooLarge):
            assert inflate(bytes(whole), MOST) == body
        with pytest.raises(Damaged):
            inflate(cut, MOST)
        assert stored(cut) == b""


@each_way
def test_no_more_comes_out_than_the_limit(way: Any) -> None:
    bomb = gzip.compress(b"\0" * 50_000_000)
    with patch.object(compression, "quick", way):
        for limit in (0, 1, 1000, 49_999_999):
            with pytest.raises(TooLarge):
                inflate(bomb, limit)
        assert len(inflate(bomb, 50_000_000)) == 50_000_000
        with pytest.raises(Damaged, match="members"):
            inflate(gzip.compress(b"x") * 101, MOST)
