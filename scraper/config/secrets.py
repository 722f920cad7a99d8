"""Values that name a variable of the environment, "${NAME}": secrets are in no file of ours, and in no database."""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from scraper.config import dotenv

PREFIX = "BOWERBIRD_SECRET_"  # of variables that sources of the API may name
_NAMED = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def environment(base: Path) -> dict[str, str]:
    """Return the variables in force for a configuration in a directory: those of its .env, those of the process on top.

    What has come to be wrong with it since the start is left out: the service goes on.
    """
    return dotenv.read(base)[0] | dict(os.environ)


def filled(text: str, variables: Mapping[str, str]) -> str:
    """Return a text with its variables filled in. Raises KeyError for one that is not set."""
    return _NAMED.sub(lambda match: variables[match[1]].rstrip("\r\n"), text)


def named(text: str) -> list[str]:
    """Return the variables that a text names."""
    return _NAMED.findall(text)


def says(text: str) -> bool:
    """Whether there is anything in a text but names of variables."""
    return bool(_NAMED.sub("", text).strip())


def missing(text: str, variables: Mapping[str, str]) -> Iterator[str]:
    """Yield the variables that a text names and that are not set."""
    yield from (name for name in _NAMED.findall(text) if not variables.get(name))
