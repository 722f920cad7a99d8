"""Values from strangers, made fit for JSON and for any database. Pure."""

import math
from typing import Any

MAX_DEPTH = 64


class TooDeep(ValueError):
    """A value is nested too deeply."""


def text(value: str) -> str:
    """Return a text without NUL and lone surrogates, which databases and UTF-8 refuse."""
    if "\x00" in value:
        value = value.replace("\x00", "")
    if not value.isascii():
        value = value.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    return value


def value(given: Any, depth: int = 0) -> Any:
    """Return a value as JSON can say it: keys are texts, what is not finite is None. Raises TooDeep, TypeError."""
    if isinstance(given, str):
        return text(given)
    if isinstance(given, float):
        return given if math.isfinite(given) else None
    if given is None or isinstance(given, int):
        return given
    if depth >= MAX_DEPTH:
        raise TooDeep(f"nested more than {MAX_DEPTH} levels deep")
    if isinstance(given, dict):
        return {text(str(name)): value(member, depth + 1) for name, member in given.items()}
    if isinstance(given, list | tuple | set | frozenset):
        members = sorted(given, key=str) if isinstance(given, set | frozenset) else given
        return [value(member, depth + 1) for member in members]
    if hasattr(given, "isoformat"):
        return text(str(given.isoformat()))
    if type(given).__name__ == "Decimal":
        return format(given, "f")
    return text(str(given))
