"""What other programs wrote, read into our own terms. Pure: bytes in, definitions and items out; nothing is stored here.

Files come from strangers: sizes are bounded, nothing that they refer to is looked at.
"""

import json
from collections.abc import Callable
from enum import StrEnum
from typing import BinaryIO

from scraper.intake import addresses, opml, watches
from scraper.intake.found import Found, Names, Unreadable, web_fault
from scraper.intake.records import Entries, Entry, Unfit
from scraper.intake.records import read as records

__all__ = ["SOURCES", "Entries", "Entry", "Form", "Found", "Names", "Unfit", "Unreadable", "guess", "records"]

FIRST_LINE_MOST = 2**20


class Form(StrEnum):
    """What a file may be."""

    URLS = "urls"
    OPML = "opml"
    SCRAPY = "scrapy"
    CHANGEDETECTION = "changedetection"


SOURCES: dict[Form, Callable[[BinaryIO, Names], Found]] = {
    Form.URLS: addresses.read,
    Form.OPML: opml.read,
    Form.CHANGEDETECTION: watches.read,
}


def _names_addresses(head: bytes) -> bool:
    """Whether any of the first lines is an address; an empty file has none that is wrong."""
    if b"\0" in head:
        return False
    lines = [line.strip() for line in head.decode("utf-8", "replace").splitlines()]
    named = [line.split()[0] for line in lines if line and not line.startswith("#")]
    return not named or any(web_fault(word) is None for word in named)


def guess(file: BinaryIO) -> Form:
    """Return what a file seems to be, by how it begins. It is left where it was. Raises Unreadable for anything else."""
    start = file.tell()
    head = file.read(FIRST_LINE_MOST).removeprefix(b"\xef\xbb\xbf").lstrip()
    file.seek(start)
    if head.startswith(b"PK\x03\x04"):
        return Form.CHANGEDETECTION
    if head.startswith(b"<"):
        return Form.OPML
    if head.startswith(b"["):
        return Form.SCRAPY
    if not head.startswith(b"{"):
        if not _names_addresses(head):
            raise Unreadable("is neither a list of URLs, nor OPML, a backup of changedetection.io, or items as JSON")
        return Form.URLS
    try:
        first = json.loads(head.partition(b"\n")[0])
    except (ValueError, RecursionError):  # a document over several lines, or a very long one
        return Form.CHANGEDETECTION
    return Form.CHANGEDETECTION if watches.looks_like(first) else Form.SCRAPY
