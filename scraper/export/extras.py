"""Libraries that come with an extra."""

import importlib
from types import ModuleType

from scraper.errors import BowerbirdError


class Lacking(BowerbirdError):
    """An extra is not installed."""


def needed(module: str, extra: str) -> ModuleType:
    """Return a library that an extra brings. Raises Lacking, which says how to get it."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise Lacking(f'this format needs the extra: pip install "bowerbird[{extra}]"') from None
