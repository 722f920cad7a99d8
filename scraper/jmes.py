"""JMESPath (https://jmespath.org): paths into JSON, and conditions on it. Pure."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jmespath
from jmespath.functions import Functions

Misfit = jmespath.exceptions.JMESPathError  # a path that is right as such, and wrong for these values


class BadPath(ValueError):
    """A path that could never find anything; the text says why."""


@lru_cache(maxsize=1024)
def compiled(path: str) -> Callable[[Any], Any]:
    """Return what looks a path up in a value, and raises Misfit for one that it does not fit. Raises BadPath."""
    try:
        made = jmespath.compile(path)
        _check_calls(made.parsed)
    except (jmespath.exceptions.JMESPathError, ValueError, RecursionError) as error:
        raise BadPath(" ".join(str(error).split())) from None
    search: Callable[[Any], Any] = made.search
    return search


def _check_calls(node: Any) -> None:
    """Look at what a path calls, which JMESPath does only where it comes to it. Raises ValueError."""
    for part in node["children"]:
        if isinstance(part, dict):
            _check_calls(part)
    if node["type"] != "function_expression":
        return
    name, given = node["value"], len(node["children"])
    known = Functions.FUNCTION_TABLE.get(name)
    if known is None:
        raise ValueError(f"there is no function {name}()")
    wanted = known["signature"]
    if given < len(wanted) or (given > len(wanted) and not any(one.get("variadic") for one in wanted)):
        raise ValueError(f"{name}() takes {len(wanted)} arguments, not {given}")


def holds(where: str, value: Any) -> bool:
    """Say whether a condition holds of a value; one that was written for another kind of value does not. Raises BadPath."""
    search = compiled(where)
    try:
        return bool(search(value))
    except (Misfit, TypeError, ValueError):
        return False


def fault(where: str | None) -> str | None:
    """Say what is wrong with a condition, or None; nothing is none."""
    try:
        compiled(where) if where else None
    except BadPath as error:
        return f"{where!r} is no JMESPath: {error}"
    return None
