"""A person's templates over values of strangers: in a sandbox, and no longer than is wanted."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

_environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False)


class BadTemplate(ValueError):
    """A template cannot be filled in; the text says why."""


@lru_cache(maxsize=64)
def _compiled(template: str) -> Template:
    return _environment.from_string(template)


def fault(template: str) -> str | None:
    """Say what is wrong with a template, or None."""
    try:
        _compiled(template)
    except TemplateError as error:
        return f"is no Jinja template: {error}"
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
