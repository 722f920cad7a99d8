"""Texts regardless of case, in any script: SQLite's own lower() and LIKE know the letters of ASCII alone."""

from typing import Any

from sqlalchemy import ColumnElement, FunctionElement, String, or_
from sqlalchemy.ext.compiler import compiles

NAME = "folded"


def fold(text: str | None) -> str | None:
    """Return a text in lower case; what SQLite calls by NAME."""
    return text.lower() if text is not None else None


class Folded(FunctionElement[str]):
    """A text of the database in lower case."""

    name = NAME
    type = String()
    inherit_cache = True


@compiles(Folded)
def _by_server(element: Any, compiler: Any, **options: Any) -> str:
    return f"lower({compiler.process(element.clauses, **options)})"


@compiles(Folded, "sqlite")
def _by_us(element: Any, compiler: Any, **options: Any) -> str:
    return f"{NAME}({compiler.process(element.clauses, **options)})"


def holds(text: ColumnElement[str], word: str) -> ColumnElement[bool]:
    """Whether a text of the database holds a word, in whatever case either is written."""
    found = text.icontains(word, autoescape=True)
    if word.isascii():  # SQLite's own is enough for these, and quicker
        return found
    return or_(found, Folded(text).contains(word.lower(), autoescape=True))
