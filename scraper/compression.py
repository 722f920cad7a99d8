"""Compression; and decompression that ends: never more bytes than the limit, however small the input. Pure."""

import zlib
from typing import Any

try:  # Intel's ISA-L takes a third of the time. There is no wheel of it for some platforms.
    from isal import isal_zlib
except ImportError:
    quick: Any = zlib
else:
    quick = isal_zlib

MAX_MEMBERS = 100
RESERVED = 0xE0  # bits of a gzip header's flags that must be zero (RFC 1952 section 2.3.1.2); ISA-L does not look
QUICKLY = 1  # a level that both know; what a higher one saves is not worth its time on every page


class TooLarge(ValueError):
    """There is more than the limit."""


class Damaged(ValueError):
    """The data is damaged or cut short; the text says which."""


STORED_MOST = 2**31  # nothing larger was ever stored


def deflate(data: bytes) -> bytes:
    """Return data in the zlib format (RFC 1950)."""
    return bytes(quick.compress(data, QUICKLY))


def stored(body: bytes) -> bytes:
    """Return a body as it was read, from what a database keeps of it; nothing, if that is damaged: it is as if it were kept no more."""
    try:
        return inflate(body, STORED_MOST) if body else b""
    except (Damaged, TooLarge):
        return b""


def inflate(body: bytes, limit: int) -> bytes:
    """Return what a gzip, zlib or raw deflate body holds. Raises TooLarge, Damaged.

    Several gzip members count as one body, what follows the last one does not (RFC 1952 section 2.2).
    """
    zlib_header = len(body) > 1 and body[0] & 0x0F == 8 and (body[0] * 256 + body[1]) % 31 == 0
    raw = not (body[:2] == b"\x1f\x8b" or zlib_header)
    parts: list[bytes] = []
    size = 0
    for _ in range(MAX_MEMBERS):
        if not raw and not zlib_header and len(body) > 3 and body[3] & RESERVED:
            raise Damaged("the compressed data is damaged: its header has flags that there are not")
        inflater = quick.decompressobj(-zlib.MAX_WBITS if raw else zlib.MAX_WBITS | 32)
        try:
            part = inflater.decompress(body, limit - size + 1)
        except quick.error as error:
            raise Damaged(f"the compressed data is damaged: {error}") from None
        size += len(part)
        if size > limit:
            raise TooLarge(f"more than {limit} bytes after decompression")
        if not inflater.eof:
            raise Damaged("the compressed data is cut short")
        parts.append(part)
        body = inflater.unused_data
        if not body.startswith(b"\x1f\x8b"):
            return b"".join(parts)
    raise Damaged(f"more than {MAX_MEMBERS} gzip members")
