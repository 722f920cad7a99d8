"""Items as Scrapy writes them: JSON lines (items.jl), or one JSON array (items.json)."""

import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from scraper.errors import VisitFailed
from scraper.extract.items import key_of, made
from scraper.records import Item
from scraper.urls import canonical, fingerprint, is_web

RECORD_MOST = 16 * 2**20
PIECE = 2**16


_OURS = {"source", "kind", "key", "url", "data", "first_seen"}


class Unfit(ValueError):
    """A record is no item; the text says why."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An item, and the URL that it says it is of."""

    url: str | None
    item: Item


def read(file: BinaryIO) -> Iterator[tuple[str, dict[str, Any] | Unfit]]:
    """Yield records, or what is wrong with them, each with its place: "line 3", in an array "item 3"."""
    start = file.tell()
    head = file.read(PIECE).removeprefix(b"\xef\xbb\xbf").lstrip()
    file.seek(start)
    yield from _array(file) if head.startswith(b"[") else _lines(file)


def _lines(file: BinaryIO) -> Iterator[tuple[str, dict[str, Any] | Unfit]]:
    number = 0
    while line := file.readline(RECORD_MOST):
        number += 1
        if len(line) == RECORD_MOST and not line.endswith(b"\n"):
            while (line := file.readline(RECORD_MOST)) and not line.endswith(b"\n"):
                pass
            yield f"line {number}", Unfit(f"is longer than {RECORD_MOST >> 20} MiB")
            continue
        text = line.decode("utf-8-sig", "replace").strip()
        if text:
            try:
                yield f"line {number}", _checked(json.loads(text))
            except (ValueError, RecursionError) as error:
                yield f"line {number}", Unfit(f"is no JSON: {error}")


def _array(file: BinaryIO) -> Iterator[tuple[str, dict[str, Any] | Unfit]]:
    """One member after the other, so that a long array takes no more room than a short one."""
    stream = io.TextIOWrapper(file, "utf-8-sig", "replace")
    decode = json.JSONDecoder().raw_decode
    text = stream.read(PIECE).lstrip()[1:]
    number = 0
    try:
        while True:
            text = text.lstrip(" \t\r\n,")
            if text.startswith("]"):
                return
            try:
                member, end = decode(text)
            except (json.JSONDecodeError, RecursionError) as error:
                more = stream.read(max(PIECE, len(text))) if len(text) < RECORD_MOST else ""
                if not more:
                    yield f"item {number + 1}", Unfit(f"is no JSON, and what follows is not read: {error}")
                    return
                text += more
                continue
            number += 1
            yield f"item {number}", _checked(member)
            text = text[end:]
    finally:
        stream.detach()


def _checked(record: Any) -> dict[str, Any] | Unfit:
    return record if isinstance(record, dict) and record else Unfit("is no item: an item is a table of fields")


class Entries:
    """Makes entries of records.

    An item is known by its key fields, without any by its URL, as the crawler knows those that it finds; without a URL by all
    that it says.
    """

    def __init__(self, kind: str, key: Sequence[str]) -> None:
        self._kind = kind
        self._key = tuple(key)
        self._seen: dict[bytes, int] = {}

    def entry(self, record: dict[str, Any]) -> Entry:
        """Return what is to be stored of a record. Raises Unfit."""
        told, kind, key = record.get("url"), self._kind, None
        if record.keys() >= _OURS and isinstance(record["data"], dict):  # a row of our own exports
            if record.get("removed_at"):
                raise Unfit("was gone from its site when it was exported")
            if not self._key:
                kind, key = str(record["kind"]), str(record["key"])
            record = record["data"]
        url = canonical(told) if isinstance(told, str) else None
        url = url if url is not None and is_web(url) else None
        try:
            return Entry(url, made(kind, self._named(record, url) if key is None else key, record))
        except VisitFailed as error:
            raise Unfit(error.message) from None

    def _named(self, record: dict[str, Any], url: str | None) -> str:
        if self._key:
            parts = [record.get(name) for name in self._key]
            if any(part in (None, "") for part in parts):
                raise Unfit(f"has no {' and '.join(self._key)}, by which it is to be known")
            return key_of(parts)
        if url is None:
            said = json.dumps(record, sort_keys=True, ensure_ascii=False, default=str)
            return hashlib.sha256(said.encode("utf-8", "replace")).hexdigest()
        mark = fingerprint(url)
        position = self._seen[mark] = self._seen.get(mark, -1) + 1
        return f"{url}#{position}" if position else url
