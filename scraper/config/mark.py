"""A mark of the rules by which the pages of a source are read: the same rules read the same page the same way. Pure."""

import hashlib
import json

from scraper.config.settings import Source, plain

# Raised when the same page and rules would be read differently than before.
EDITION = 2
KEPT = ("start", "sitemaps", "follow", "include", "exclude", "item", "render")


def rules_of(source: Source, *, polite: bool) -> str:
    """Return the mark; empty where a user's code decides, which may change. polite: what pages ask of robots counts."""
    if source.parser is not None:
        return ""
    shown = {name: value for name, value in plain(source).items() if name in KEPT}
    text = json.dumps([EDITION, polite, shown], sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
