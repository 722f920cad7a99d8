"""A few bytes that outlive the process, however it dies: which URL it is at, and whether it reads its page.

A memory-mapped file: writing costs no system call, and the kernel keeps what was written.
"""

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path

HEAD = struct.Struct("<qH")  # the URL's number in the frontier, and how many bytes of text follow
SIZE = 2048


@dataclass(frozen=True, slots=True)
class Mark:
    """The number of the URL whose page is being read, 0 for none; the URL that is being visited, if need be cut."""

    number: int = 0
    url: str = ""


class Marker:
    """The mark of one worker, to be written."""

    def __init__(self, path: Path) -> None:
        """Raises OSError if the file cannot be made."""
        if not path.exists() or path.stat().st_size != SIZE:
            path.write_bytes(bytes(SIZE))  # whole, so that a full disk is an error now and no signal later
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), SIZE)

    def write(self, number: int, url: str) -> None:
        """Write what is being visited; number 0: its page is not being read."""
        text = url.encode(errors="replace")[: SIZE - HEAD.size]
        self._map[: HEAD.size + len(text)] = HEAD.pack(number, len(text)) + text


def last_mark(path: Path) -> Mark:
    """Return what was written last; an empty mark if that cannot be read."""
    try:
        kept = path.read_bytes()
        number, length = HEAD.unpack_from(kept)
    except (OSError, struct.error):
        return Mark()
    return Mark(number, kept[HEAD.size : HEAD.size + length].decode(errors="replace"))
