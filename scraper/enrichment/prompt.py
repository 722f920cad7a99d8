"""Prompts: templates over a page or an item, and how long they may be."""

from collections.abc import Mapping
from typing import Any

from scraper import template
from scraper.template import BadTemplate

PROMPT_MOST = 400_000  # characters


def filled(text: str, values: Mapping[str, Any]) -> str:
    """Return a template with its values: url, title, text, markdown, item, source and kind. Raises BadTemplate."""
    made = template.filled(text, values, PROMPT_MOST)
    if len(made) > PROMPT_MOST:
        raise BadTemplate(f"the prompt has more than {PROMPT_MOST} characters; cut it: {{{{ text[:20000] }}}}")
    return made
