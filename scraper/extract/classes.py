"""Elements by their classes: one walk over a place answers all that is asked of it.

XPath goes over all elements, and looks at the class of each, once for every class that is asked for.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

# A class or several, of some tag or any: what most fields are selected by. Everything else is for XPath.
_BY_CLASS = re.compile(
    r"([A-Za-z][A-Za-z0-9]*)?((?:\.[A-Za-z][A-Za-z0-9_-]*)+)(?:::(text)|::attr\(([a-z][a-z0-9-]*)\))?"
)
_SPACE = re.compile("[ \t\r\n]+")
REMEMBERED = 10_000
REMEMBERED_LONGEST = 200  # characters of a class attribute


@lru_cache(maxsize=1024)
def _read(css: str) -> tuple[str | None, frozenset[str], bool, str | None] | None:
    """Tag, classes, whether the texts are wanted, or which attribute; None: it asks for more than classes."""
    match = _BY_CLASS.fullmatch(css)
    if match is None:
        return None
    tag, classes, text, attribute = match.groups()
    return tag and tag.lower(), frozenset(classes[1:].split(".")), text is not None, attribute


def asks_by_class(css: str | None) -> bool:
    """Say whether a CSS selector asks for no more than classes and a tag."""
    return css is not None and _read(css) is not None


class Walker:
    """Walks over places for selectors that ask by class. What a class attribute means to them is found out once."""

    def __init__(self, asked: Sequence[str]) -> None:
        """asked: selectors that ask by class."""
        self._asked = {css: read for css in asked if (read := _read(css)) is not None}
        self._wanted: dict[str, tuple[str, ...]] = {}

    def walk(self, place: Any) -> "Classes":
        """Look at all elements of a place, itself included."""
        found: dict[str, list[Any]] = {css: [] for css in self._asked}
        wanted = self._wanted
        for element in place.iter("*"):
            if said := element.get("class"):
                try:
                    selectors = wanted[said]
                except KeyError:
                    selectors = self._meant(said)
                for css in selectors:
                    found[css].append(element)
        return Classes(found)

    def _meant(self, said: str) -> tuple[str, ...]:
        """The selectors whose classes are all in a class attribute."""
        names = frozenset(_SPACE.split(said))
        selectors = tuple([css for css, (_, classes, _, _) in self._asked.items() if classes <= names])
        if len(self._wanted) >= REMEMBERED:
            self._wanted.clear()
        if len(said) <= REMEMBERED_LONGEST:
            self._wanted[said] = selectors
        return selectors


@lru_cache(maxsize=256)
def walker(asked: tuple[str, ...]) -> Walker:
    """Return the one who walks for these selectors, all of which ask by class."""
    return Walker(asked)


class Classes:
    """What a walk over one place found."""

    def __init__(self, found: dict[str, list[Any]]) -> None:
        """found: the elements of each selector by their classes alone, in the order of the page."""
        self._found = found

    def find(self, css: str) -> list[Any] | None:
        """Return what a selector finds that was asked for, in the order of the page; None where only XPath can put it in order."""
        read = _read(css)
        assert read is not None
        tag, _, text, attribute = read
        elements = self._found[css]
        if tag is not None:
            elements = [element for element in elements if element.tag == tag]
        if text:  # of several elements one may be inside another, and its texts between the other's
            return [part for element in elements for part in _texts(element)] if len(elements) < 2 else None
        return elements if attribute is None else [v for e in elements if (v := e.get(attribute)) is not None]


def _texts(element: Any) -> list[str]:
    """The texts right in an element, as XPath's text() has them."""
    return [part for part in (element.text, *[child.tail for child in element]) if part]
