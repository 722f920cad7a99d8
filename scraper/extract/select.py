"""One expression over one document, to values."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any

from cssselect import SelectorError
from lxml import etree
from parsel.csstranslator import HTMLTranslator

from scraper import jmes
from scraper.config.settings import Expression
from scraper.extract.classes import Classes, asks_by_class, walker
from scraper.extract.page import Page


class Translator(HTMLTranslator):
    """parsel's, with the same meaning in terms that do not take longer with the square of an element's children."""

    def xpath_first_child_pseudo(self, xpath: Any) -> Any:
        """Return :first-child."""
        return xpath.add_condition("not(preceding-sibling::*[1])")

    def xpath_last_child_pseudo(self, xpath: Any) -> Any:
        """Return :last-child."""
        return xpath.add_condition("not(following-sibling::*[1])")

    def xpath_direct_adjacent_combinator(self, left: Any, right: Any) -> Any:
        """Return a + b."""
        return left.join("/following-sibling::*[1]/self::", right)

    def xpath_indirect_adjacent_combinator(self, left: Any, right: Any) -> Any:
        """Return a ~ b: b with an a before it, which is found once, not once for each a."""
        if left.path:
            return super().xpath_indirect_adjacent_combinator(left, right)
        return right.add_condition(f"preceding-sibling::{left}[1]")


class _AnyNamespace:
    """A name without a prefix means elements of no namespace, and of those of the document, that of its root and the one which
    it declares for such names: no prefix is declared (Selectors 4, section 5.1)."""

    def xpath_element(self, selector: Any) -> Any:
        """Return a type selector."""
        found = super().xpath_element(selector)  # type: ignore[misc]
        if selector.namespace is not None or not selector.element:
            return found
        name = f"local-name() = '{selector.element}'"
        of_root = "namespace-uri() = namespace-uri(/*) or namespace-uri() = string(/*/namespace::*[name() = ''])"
        own = f"(namespace-uri() = '' or {of_root})"
        return type(found)(element="*", condition=f"{name} and {own}")


class _XmlTranslator(_AnyNamespace, Translator):
    pass


class _PlainXmlTranslator(_AnyNamespace, HTMLTranslator):
    pass


# By whether a page is XML, where names have their case.
_translators = {False: Translator(), True: _XmlTranslator(xhtml=True)}
_plain_translators = {False: HTMLTranslator(), True: _PlainXmlTranslator(xhtml=True)}
_string = etree.XPath("string()", smart_strings=False)
_NOTHING = etree.fromstring("<html/>")
NAMESPACES = {"re": "http://exslt.org/regular-expressions", "set": "http://exslt.org/sets"}


class BadExpression(ValueError):
    """An expression cannot be compiled; the text says why."""


@lru_cache(maxsize=1024)
def compiled_css(css: str, xml: bool = False, *, within: bool = False) -> etree.XPath:
    """Return a CSS selector, with ::text and ::attr(name), ready to use. xml: for a page that is XML. Raises BadExpression.

    within: for an element of a page, whose siblings count too: `dt ~ dd`, of a dt.
    """
    try:
        translators = _plain_translators if within and "~" in css else _translators
        compiled = etree.XPath(translators[xml].css_to_xpath(css), smart_strings=False)
        compiled(_NOTHING)  # prefixes of namespaces are unknown only here
        return compiled
    except (SelectorError, etree.XPathError, ValueError, RecursionError) as error:
        raise BadExpression(f"{css!r} is no CSS selector: {error}") from None


@lru_cache(maxsize=1024)
def compiled_xpath(xpath: str) -> etree.XPath:
    """Return an XPath 1.0 expression ready to use, with the EXSLT functions of parsel. Raises BadExpression."""
    try:
        compiled = etree.XPath(xpath, namespaces=NAMESPACES, smart_strings=False)
        compiled(_NOTHING)  # unknown functions, prefixes and variables are found only here
        return compiled
    except (etree.XPathError, ValueError) as error:
        raise BadExpression(f"{xpath!r} is no XPath expression: {error}") from None


def compiled_json(path: str) -> Callable[[Any], Any]:
    """Return a JMESPath expression ready to use. Raises BadExpression."""
    try:
        return jmes.compiled(path)
    except jmes.BadPath as error:
        raise BadExpression(f"{path!r} is no JMESPath expression: {error}") from None


def compile_expression(expression: Expression) -> None:
    """Compile an expression, so that a bad one is found. Raises BadExpression."""
    if expression.css is not None:
        compiled_css(expression.css)
    if expression.xpath is not None:
        compiled_xpath(expression.xpath)
    for path in (expression.json, expression.jsonld):
        if path is not None:
            compiled_json(path)


def matches(expression: Expression, page: Page, scope: Any, classes: Classes | None = None) -> list[Any]:
    """Return what an expression finds: elements, texts or JSON values; nothing where it does not fit the document.

    scope: the element or the JSON value that the search starts from; None: the whole page. classes: those of the scope, where
    they are known. Raises VisitFailed (decode) if a page that says that it is JSON is none.
    """
    if classes is not None and expression.css is not None and is_by_class(expression):
        found = classes.find(expression.css)
        if found is not None:
            return found
    try:
        return _matches(expression, page, scope)
    except (jmes.Misfit, etree.XPathError):  # right as such, and wrong for these values
        return []


def _matches(expression: Expression, page: Page, scope: Any) -> list[Any]:
    if expression.json is not None and expression.css is None and expression.xpath is None:
        if scope is None and not page.is_json and not page.text.lstrip().startswith(("{", "[")):
            return []
        return _listed(compiled_json(expression.json)(page.exact if scope is None else scope))
    if expression.jsonld is not None:
        search = compiled_json(expression.jsonld)
        entries = [scope] if isinstance(scope, dict | list) else page.exact_jsonld
        return [value for entry in entries for value in _listed(search(entry))]
    css = expression.css
    inside = scope is not None
    compiled = (
        compiled_css(css, page.is_xml, within=inside) if css is not None else compiled_xpath(expression.xpath or "")
    )
    root = page.root if scope is None else scope
    if not etree.iselement(root):
        return []
    found = compiled(root)
    values = found if isinstance(found, list) else [found]
    if expression.json is None:
        return values
    search = compiled_json(expression.json)
    texts = [str(_string(value)) if etree.iselement(value) else str(value) for value in values]
    return [value for text in texts for value in _first(search, page.jsons_in(text))]


def _first(search: Callable[[Any], Any], documents: Iterable[Any]) -> list[Any]:
    """What is found in the first of some JSON values that has it."""
    for document in documents:
        with contextlib.suppress(jmes.Misfit):
            if found := _listed(search(document)):
                return found
    return []


def is_by_class(expression: Expression) -> bool:
    """Say whether an expression asks for elements by class, and for no more."""
    return expression.json is None and asks_by_class(expression.css)


def classes_of(page: Page, scope: Any, asked: tuple[str, ...]) -> Classes | None:
    """Return what selectors that ask by class find in a scope, None where there are no elements. Worth it for two or more."""
    if page.is_xml:
        return None
    place = page.root if scope is None else scope
    return walker(asked).walk(place) if etree.iselement(place) else None


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _with_breaks(element: Any) -> Iterator[str]:
    for event, each in etree.iterwalk(element, events=("start", "end", "comment", "pi")):
        if event == "start":
            yield "\n" if each.tag == "br" else each.text or ""
        elif each is not element:
            yield each.tail or ""


def text_of(value: Any) -> Any:
    """Return an element's text, white space folded, a line break being such; a text stripped; any other JSON value as it is."""
    if etree.iselement(value):
        if len(value) and next(value.iter("br"), None) is not None:
            return " ".join("".join(_with_breaks(value)).split())
        return " ".join(str(_string(value)).split())
    return str(value).strip() if isinstance(value, str) else value
