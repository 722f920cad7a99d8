"""Forms: which one has the fields that are to be filled in, and what else it sends along."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Any
from urllib.parse import quote_plus

from scraper.extract.charset import encoded
from scraper.extract.page import Page
from scraper.urls import canonical

TYPED = ("", "text", "password", "email", "tel")  # inputs that people fill in
PARTS = ("input", "select", "textarea", "button")
INPUTS_MOST = 1000  # of one form; and so many forms of a page are looked at
BUTTONS = ("submit", "image")


@dataclass(frozen=True, slots=True)
class Form:
    """Where a form goes, how, the fields that it has filled in already, and in which encoding they are sent."""

    action: str
    method: str
    fields: tuple[tuple[str, str], ...]
    encoding: str

    def filled(self, given: Mapping[str, str]) -> str:
        """Return what is sent, with these fields filled in."""
        sent = [(name, given.get(name, value)) for name, value in self.fields]
        return "&".join(f"{self._quoted(name)}={self._quoted(value)}" for name, value in sent)

    def _quoted(self, text: str) -> str:
        return quote_plus(encoded(text, self.encoding))


def form_with(page: Page, names: Collection[str]) -> Form | None:
    """Return the form of a page that has all these fields, or None. Of several the one that asks for the least beside them: others are to register."""
    if page.is_json or not names:
        return None
    tied: dict[str, list[Any]] = {}
    for element in page.root.iter(*PARTS):
        if (owner := element.get("form")) is not None:
            tied.setdefault(owner, []).append(element)
    found: list[tuple[int, Form]] = []
    for _, form in zip(range(INPUTS_MOST), page.root.iter("form"), strict=False):
        within = (e for e in form.iter(*PARTS) if e.get("form") is None)
        elsewhere = tied.pop(form.get("id") or "", [])  # of two with the same id the first has them
        inputs = [e for _, e in zip(range(INPUTS_MOST), (*within, *elsewhere), strict=False) if not _is_off(e)]
        if not set(names) <= {element.get("name") for element in inputs}:
            continue
        # Who logs in presses the first button there is, and some sites look which one it was.
        pressed = next((element for element in inputs if _kind(element) in BUTTONS), None)
        said = pressed.attrib if pressed is not None else {}
        action = canonical(said.get("formaction") or form.get("action") or page.url, page.base_url)
        method = (said.get("formmethod") or form.get("method") or "get").strip().upper()
        if action is not None and method in ("GET", "POST"):
            others = sum(_kind(e) in TYPED and e.tag == "input" and e.get("name") not in names for e in inputs)
            encoding = "utf-8" if page.encoding.startswith("utf-16") else page.encoding  # "get an output encoding"
            found.append((others, Form(action, method, tuple(_sent(inputs, pressed)), encoding)))
    return min(found, key=itemgetter(0))[1] if found else None


def _kind(element: Any) -> str:
    said = (element.get("type") or "").strip().lower()
    if element.tag == "button":
        return said if said in ("reset", "button") else "submit"
    return said


def _is_off(element: Any) -> bool:
    """Whether an element counts for nothing: it is disabled, itself or with what it stands in, or a part of a template."""
    if element.get("disabled") is not None:
        return True
    return any(
        outer.tag == "template" or (outer.tag == "fieldset" and outer.get("disabled") is not None)
        for outer in element.iterancestors("template", "fieldset")
    )


def _sent(inputs: Iterable[Any], pressed: Any) -> Iterable[tuple[str, str]]:
    """What a form sends though nobody touched it (https://html.spec.whatwg.org/#constructing-the-form-data-set)."""
    for element in inputs:
        name, kind = element.get("name"), _kind(element)
        if element is pressed and kind == "image":
            prefix = f"{name}." if name else ""
            yield from ((f"{prefix}x", "0"), (f"{prefix}y", "0"))
        elif not name or (element is not pressed and kind in (*BUTTONS, "button", "reset", "file")):
            continue
        elif kind not in ("checkbox", "radio") or element.get("checked") is not None:
            yield from ((name, value) for value in _values(element))


def _values(element: Any) -> Iterable[str]:
    if element.tag == "textarea":
        text = "".join(element.itertext())
        return [text.removeprefix("\r").removeprefix("\n")]
    if element.tag == "select":
        return _chosen(element)
    return [element.get("value") or ("on" if _kind(element) in ("checkbox", "radio") else "")]


def _chosen(select: Any) -> Iterable[str]:
    options = [option for option in select.iter("option") if option.get("disabled") is None]
    chosen = [option for option in options if option.get("selected") is not None]
    if select.get("multiple") is None:
        chosen = chosen[-1:] or options[:1]
    for option in chosen:
        told = option.get("value")
        yield str(told if told is not None else " ".join("".join(option.itertext()).split()))
