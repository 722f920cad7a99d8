"""Forms: which one has the fields that are to be filled in, and what else it sends along."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from scraper.extract.page import Page
from scraper.urls import canonical


@dataclass(frozen=True, slots=True)
class Form:
    """Where a form goes, how, and the fields that it has filled in already."""

    action: str
    method: str
    fields: dict[str, str]


def form_with(page: Page, names: Collection[str]) -> Form | None:
    """Return the first form of a page that has all these fields, or None."""
    if page.is_json or not names:
        return None
    forms: Any = page.root.iter("form")
    for form in forms:
        inputs = {
            name: element for element in form.iter("input", "select", "textarea") if (name := element.get("name"))
        }
        if not set(names) <= set(inputs):
            continue
        fields = {name: element.get("value") or "" for name, element in inputs.items() if _is_sent(element)}
        action = canonical(form.get("action") or page.url, page.base_url)
        if action is not None:
            return Form(action, (form.get("method") or "get").upper(), fields)
    return None


def _is_sent(element: Any) -> bool:
    kind = (element.get("type") or "").lower()
    if kind in ("submit", "button", "image", "reset", "file"):
        return False
    return kind not in ("checkbox", "radio") or element.get("checked") is not None
