"""Forms: which one has the fields that are to be filled in, and what else it sends along."""

from collections.abc import Collection
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from scraper.extract.page import Page
from scraper.urls import canonical

TYPED = ("", "text", "password", "email", "tel")  # inputs that people fill in


@dataclass(frozen=True, slots=True)
class Form:
    """Where a form goes, how, and the fields that it has filled in already."""

    action: str
    method: str
    fields: dict[str, str]


def form_with(page: Page, names: Collection[str]) -> Form | None:
    """Return the form of a page that has all these fields, or None. Of several the one that asks for the least beside them: others are to register."""
    if page.is_json or not names:
        return None
    tied: dict[str, list[Any]] = {}
    for element in page.root.iter("input", "select", "textarea", "button"):
        if (owner := element.get("form")) is not None:
            tied.setdefault(owner, []).append(element)
    found: list[tuple[int, Form]] = []
    for form in page.root.iter("form"):
        within = [e for e in form.iter("input", "select", "textarea", "button") if e.get("form") is None]
        inputs = [e for e in (*within, *tied.get(form.get("id") or "", [])) if e.get("name")]
        if not set(names) <= {element.get("name") for element in inputs}:
            continue
        # Who logs in presses the first button there is, and some sites look which one it was.
        pressed = next((element for element in inputs if _kind(element) == "submit"), None)
        fields = {e.get("name"): _value(e) for e in inputs if e is pressed or _is_sent(e)}
        action = canonical(form.get("action") or page.url, page.base_url)
        if action is not None:
            others = sum(_kind(e) in TYPED and e.tag == "input" and e.get("name") not in names for e in inputs)
            found.append((others, Form(action, (form.get("method") or "get").upper(), fields)))
    return min(found, key=itemgetter(0))[1] if found else None


def _kind(element: Any) -> str:
    return (element.get("type") or ("submit" if element.tag == "button" else "")).strip().lower()


def _is_sent(element: Any) -> bool:
    """Whether a form sends an element though nobody touched it (https://html.spec.whatwg.org/#constructing-the-form-data-set)."""
    kind = _kind(element)
    if element.tag == "button" or kind in ("submit", "button", "image", "reset", "file"):
        return False
    if element.get("disabled") is not None:
        return False
    return kind not in ("checkbox", "radio") or element.get("checked") is not None


def _value(element: Any) -> str:
    if element.tag == "textarea":
        return "".join(element.itertext())
    if element.tag == "select":
        options = list(element.iter("option"))
        chosen = next((each for each in options if each.get("selected") is not None), options[0] if options else None)
        return _value(chosen) if chosen is not None else ""
    if element.tag == "option":
        told = element.get("value")
        return str(told if told is not None else "".join(element.itertext()).strip())
    return element.get("value") or ("on" if _kind(element) in ("checkbox", "radio") else "")
