"""Why a page yields less than its source's rules ask for: what is nowhere on it, what cannot be read, what is left out."""

import re
from collections.abc import Iterator
from typing import Any

from scraper.config.settings import Expression, FieldRule, ItemRule, Source
from scraper.extract.convert import convert
from scraper.extract.items import field_of
from scraper.extract.page import Page
from scraper.extract.select import compiled_css, matches, text_of

NOWHERE = "is nowhere on this page"
SHOWN_MOST = 80  # characters of a value


def notes(page: Page, source: Source) -> tuple[str, ...]:
    """Return a sentence for each rule of a source that finds nothing on a page, or nothing that can be used.

    Parsers speak for themselves. Raises VisitFailed: decode.
    """
    return tuple(_notes(page, source))


def _notes(page: Page, source: Source) -> Iterator[str]:
    follow = source.follow if isinstance(source.follow, tuple) else ()
    for key, given in (("follow", follow), ("noise.only", source.noise.only)):
        if page.is_json:
            break
        for css in given:
            if not compiled_css(css, page.is_xml)(page.root):
                yield f"{key}: {css!r} {NOWHERE}"
    for rule in () if source.parser else source.item:
        yield from _of_items(page, rule)


def _of_items(page: Page, rule: ItemRule) -> Iterator[str]:
    scopes = [None] if rule.select is None else matches(rule.select, page, None)
    where = f"item {rule.kind!r}"
    if rule.select is not None and not scopes:
        yield f"{where}: select: {_shown(rule.select)} {NOWHERE}"
        return
    for name, field in rule.fields.items():
        found = [matches(field, page, scope) for scope in scopes]
        if not any(found):
            yield f"{where}: {name}: {_shown(field)} {NOWHERE}"
            continue
        reasons = [why for matched in found for why in _unread(page, field, matched)]
        if reasons:
            yield f"{where}: {name}: {len(reasons)} of {sum(map(len, found))} cannot be used; the first: {reasons[0]}"
    nameless = {
        name: sum(field_of(page, rule.fields[name], scope) in (None, "", []) for scope in scopes) for name in rule.key
    }
    for name, count in nameless.items():
        if count:
            yield f"{where}: {count} of {len(scopes)} are left out: they have no {name!r}, which is in their key"


def _unread(page: Page, rule: FieldRule, matched: list[Any]) -> Iterator[str]:
    """Why what an expression found is no value."""
    for match in matched if rule.many else matched[:1]:
        value = text_of(match)
        shown = repr(str(value)[:SHOWN_MOST])
        if rule.re is not None and value is not None:
            part = re.search(rule.re, str(value))
            if part is None:
                yield f"re {rule.re!r} is not in {shown}"
                continue
            value = part[part.re.groups and 1]
        if value in ("", None):
            yield "it is empty"
            continue
        try:
            convert(value, rule.type, page.base_url)
        except (ValueError, ArithmeticError):
            yield f"{shown} is no {rule.type}"


def _shown(expression: Expression) -> str:
    given = (expression.css, expression.xpath, expression.jsonld, expression.json)
    return " ".join([repr(each) for each in given if each is not None])
