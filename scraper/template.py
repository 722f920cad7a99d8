"""A person's templates over values of strangers: in a sandbox, and no longer than is wanted."""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateError
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

LONGEST = 100_000  # characters
MADE_MOST = 1_000_000  # characters, or bits of a number, that one operator may make


class _Environment(ImmutableSandboxedEnvironment):
    """A sandbox in which no operator makes what fills the memory, or takes for ever. Nothing is worked out before it is needed."""

    intercepted_binops = frozenset(("*", "**", "%"))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Work out an operator. Raises SecurityError."""
        if _size(left, right, operator) > MADE_MOST:
            raise SecurityError(f"{operator} would make too much")
        return super().call_binop(context, operator, left, right)


def _size(left: Any, right: Any, operator: str) -> int:
    """How much an operator makes, at the most, of what grows without bound."""
    if operator == "%":
        widths = re.findall(r"[0-9]{1,9}", left) if isinstance(left, str) else []
        return max(map(int, widths), default=0) + (MADE_MOST + 1 if isinstance(left, str) and "*" in left else 0)
    if isinstance(left, int) and isinstance(right, int):
        return left.bit_length() * abs(right) if operator == "**" else left.bit_length() + right.bit_length()
    lengths = [len(value) for value in (left, right) if isinstance(value, str | list | tuple)]
    times = [abs(value) for value in (left, right) if isinstance(value, int)]
    return lengths[0] * times[0] if lengths and times else 0


_environment = _Environment(undefined=StrictUndefined, autoescape=False, optimized=False)


class BadTemplate(ValueError):
    """A template cannot be filled in; the text says why."""


@lru_cache(maxsize=64)
def _compiled(template: str) -> Template:
    return _environment.from_string(template)


def fault(template: str) -> str | None:
    """Say what is wrong with a template, or None."""
    if len(template) > LONGEST:
        return f"is longer than {LONGEST} characters"
    try:
        _compiled(template)
    except TemplateError as error:
        return f"is no Jinja template: {error}"
    except RecursionError:
        return "is no Jinja template: it is nested too deeply"
    return None


def filled(template: str, values: Mapping[str, Any], most: int) -> str:
    """Return a template with its values, of which no more is made than just over so many characters. Raises BadTemplate."""
    made: list[str] = []
    length = 0
    try:
        for piece in _compiled(template).generate(**values):
            made.append(piece)
            length += len(piece)
            if length > most:  # a loop may have no end worth waiting for
                break
    except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RuntimeError) as error:
        raise BadTemplate(f"the template cannot be filled in: {type(error).__name__}: {error}") from None
    return "".join(made)
