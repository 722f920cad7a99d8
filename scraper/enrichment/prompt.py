"""Prompts: templates over a page or an item, in a sandbox, and how long a text in them may be."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

NAMES = ("url", "title", "text", "markdown", "item", "source", "kind")
PROMPT_MOST = 400_000  # characters

_environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False)


class BadPrompt(ValueError):
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


def filled(template: str, values: Mapping[str, Any]) -> str:
    """Return a template with its values. Raises BadPrompt."""
    made: list[str] = []
    length = 0
    try:
        for piece in _compiled(template).generate(**values):
            made.append(piece)
            length += len(piece)
            if length > PROMPT_MOST:  # a loop may have no end worth waiting for
                break
    except Exception as error:  # noqa: BLE001  a template may raise whatever its values make it raise
        raise BadPrompt(f"the template cannot be filled in: {type(error).__name__}: {error}") from None
    if length > PROMPT_MOST:
        raise BadPrompt(f"the prompt has more than {PROMPT_MOST} characters; cut it: {{{{ text[:20000] }}}}")
    return "".join(made)
