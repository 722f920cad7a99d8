"""Values from strangers, made fit for JSON and for any database. Pure."""

import math
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

MAX_DEPTH = 64
MAX_BITS = 13_288  # of a whole number, 4000 digits: Python writes and reads no more than 4300


class TooDeep(ValueError):
    """A value is nested too deeply."""


def text(value: str) -> str:
    """Return a text without NUL and lone surrogates, which databases and UTF-8 refuse; one of BeautifulSoup's without its page."""
    if type(value) is not str:
        value = str.__str__(value)
    if "\x00" in value:
        value = value.replace("\x00", "")
    if not value.isascii():
        value = value.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    return value


def _plain(given: float | None) -> float | None:
    """A number as what it is and no more: not as one of NumPy's, nor as a member of an enumeration."""
    if given is None or isinstance(given, bool):
        return given
    if isinstance(given, float):
        return float(given) if math.isfinite(given) else None
    if given.bit_length() > MAX_BITS:
        raise ValueError("too long: a whole number of more than 4000 digits")
    return int(given)


def value(given: Any, depth: int = 0) -> Any:
    """Return a value as JSON can say it: keys are texts, what is not finite is None, and nothing but plain values.

    Raises TooDeep, ValueError.
    """
    if isinstance(given, str):
        return text(given)
    if given is None or isinstance(given, bool | int | float):
        return _plain(given)
    if depth >= MAX_DEPTH:
        raise TooDeep(f"nested more than {MAX_DEPTH} levels deep")
    if isinstance(given, dict):
        return {text(str(name)): value(member, depth + 1) for name, member in given.items()}
    if isinstance(given, list | tuple | set | frozenset):
        members = sorted(given, key=str) if isinstance(given, set | frozenset) else given
        return [value(member, depth + 1) for member in members]
    return _said(given, depth)


def _said(given: Any, depth: int) -> Any:
    """What is none of JSON's own kinds."""
    kind = type(given)
    if hasattr(kind, "isoformat"):  # a tag of BeautifulSoup's has whatever it is asked for
        return text(str(given.isoformat()))
    if kind.__name__ == "Decimal":
        return format(given, "f")
    if isinstance(given, bytes | bytearray):
        return text(given.decode("utf-8", "replace"))
    if is_dataclass(given) and not isinstance(given, type):
        return value({field.name: getattr(given, field.name) for field in fields(given)}, depth)
    if hasattr(kind, "model_dump"):
        return value(given.model_dump(mode="json"), depth)
    if kind.__name__ == "Selector":  # parsel's, without the .get() that was meant
        return value(given.get(), depth)
    says_nothing: Any = (kind.__str__, kind.__repr__)
    if isinstance(given, Iterator) or says_nothing == (object.__str__, object.__repr__):
        raise ValueError(f"of a kind that JSON has not: {kind.__name__}")
    return text(str(given))
