"""Elements by their classes: one walk over a place answers all that is asked of it.

XPath goes over all elements, and looks at the class of each, once for every class that is asked for.
"""

import re
from functools import lru_cache
from typing import Any

# A class or several, of some tag or any: what most fields are selected by. Everything else is for XPath.
_BY_CLASS = re.compile(
    r"([A-Za-z][A-Za-z0-9]*)?((?:\.[A-Za-z][A-Za-z0-9_-]*)+)(?:::(text)|::attr\(([a-z][a-z0-9-]*)\))?"
)
_SPACE = re.compile("[ \t\r\n]+")


@lru_cache(maxsize=1024)
def _read(css: str) -> tuple[str | None, str, frozenset[str], bool, str | None] | None:
    """Tag, a class, all classes, whether the texts are wanted, or which attribute; None: it asks for more than classes."""
    match = _BY_CLASS.fullmatch(css)
    if match is None:
        return None
    tag, classes, text, attribute = match.groups()
    names = classes[1:].split(".")
    return tag and tag.lower(), names[0], frozenset(names), text is not None, attribute


def asks_by_class(css: str | None) -> bool:
    """Say whether a CSS selector asks for no more than classes and a tag."""
    return css is not None and _read(css) is not None


class Classes:
    """The elements of one place, itself included, by what their class attributes say."""

    def __init__(self, place: Any) -> None:
        self._found: dict[str, list[tuple[int, Any]]] = {}
        for number, element in enumerate(place.iter("*")):
            if said := element.get("class"):
                self._found.setdefault(said, []).append((number, element))

    def find(self, css: str) -> list[Any] | None:
        """Return what a selector that asks by class finds, in the order of the page; None where only XPath can put it in order."""
        read = _read(css)
        assert read is not None
        tag, name, classes, text, attribute = read
        found = [
            pair
            for said, pairs in self._found.items()
            if name in said and classes.issubset(_SPACE.split(said))
            for pair in pairs
        ]
        elements = [element for _, element in sorted(found) if tag is None or element.tag == tag]
        if text:  # of several elements one may be inside another, and its texts between the other's
            return [part for element in elements for part in _texts(element)] if len(elements) < 2 else None
        return elements if attribute is None else [v for e in elements if (v := e.get(attribute)) is not None]


def _texts(element: Any) -> list[str]:
    """The texts right in an element, as XPath's text() has them."""
    return [part for part in (element.text, *[child.tail for child in element]) if part]
