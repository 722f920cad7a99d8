"""Lists of URLs, one a line; # begins a comment, at the start of a line or after a space."""

import re
from typing import BinaryIO

from scraper.intake.found import Found, Names, decoded, web_fault, whole


def read(file: BinaryIO, names: Names) -> Found:
    """Return a source for each URL; what is there twice counts once. Raises Unreadable."""
    found = Found()
    seen: set[str] = set()
    for number, line in decoded(whole(file)):
        url = re.split(r"(?:^|\s)#", line, maxsplit=1)[0].strip()
        if not url or url in seen:
            continue
        seen.add(url)
        if fault := web_fault(url):
            found.refuse(f"line {number}", fault)
        else:
            found.definitions.append({"name": names.of(url), "start": [url]})
    return found
