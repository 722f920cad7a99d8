"""What a file holds for us: definitions of sources, and what of it cannot be carried over."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from scraper.config import rules
from scraper.config.shape import Refused
from scraper.errors import BowerbirdError
from scraper.urls import canonical, parts

WHOLE_MOST = 64 * 2**20  # of what is read at once; a list of sources is never that long
NAME_MOST = 80


class Unreadable(BowerbirdError):
    """A file is not what it is taken for."""


@dataclass(slots=True)
class Found:
    """Definitions of sources as in the configuration; what is not carried over, a line each; how many entries are unusable."""

    definitions: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    bad: int = 0

    def refuse(self, place: str, why: str) -> None:
        """Note that an entry cannot be used."""
        self.notes.append(f"{place}: {why}")
        self.bad += 1


class Names:
    """Gives names that nothing has yet, fit for commands, files and URLs."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(taken)

    def name(self, *wishes: str | None) -> str:
        """Return a name after the first wish that leaves anything to go by."""
        stem = next(filter(None, map(slug, wishes)), "source")
        name, count = stem, 1
        while name in self._taken:
            count += 1
            name = f"{stem}-{count}"
        self._taken.add(name)
        return name

    def of(self, url: str) -> str:
        """Return a name after the host and the path of a URL that can be asked."""
        found = parts(canonical(url) or url)
        return self.name(f"{found.host.removeprefix('www.')} {found.path}")


def slug(wish: str | None) -> str:
    """Return a text as a name, as far as anything of it can be part of one."""
    return re.sub(r"[^a-z0-9]+", "-", (wish or "").lower()).strip("-")[:NAME_MOST].strip("-")


def web_fault(url: Any) -> str | None:
    """Say what is wrong with an address, or None."""
    try:
        rules.web(url)
    except Refused as error:
        return str(error)
    return None


def whole(file: BinaryIO) -> bytes:
    """Return all of a file. Raises Unreadable if that is too much."""
    data = file.read(WHOLE_MOST + 1)
    if len(data) > WHOLE_MOST:
        raise Unreadable(f"is longer than {WHOLE_MOST >> 20} MiB, too long for a list of sources")
    return data


def decoded(data: bytes) -> Iterator[tuple[int, str]]:
    """Yield the lines of a text, each with its number."""
    yield from enumerate(data.decode("utf-8-sig", "replace").splitlines(), 1)
