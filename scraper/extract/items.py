"""A source's item rules, or its parser function, over a page."""

import importlib
import inspect
import json
import math
import re
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, is_dataclass
from typing import Any

from scraper import clean
from scraper.config.settings import FieldRule, ItemRule, Source
from scraper.errors import Failure, VisitFailed
from scraper.extract.classes import Classes
from scraper.extract.convert import convert
from scraper.extract.page import Page
from scraper.extract.select import (
    BadExpression,
    classes_of,
    compile_expression,
    compiled_css,
    is_by_class,
    matches,
    text_of,
)
from scraper.records import Item, Link
from scraper.urls import unmarked

Parser = Callable[[Page], Iterable[Any] | None]
TRACEBACK_MOST = 8
PRIORITY_MOST = 1_000_000
BY_CLASS_LEAST = 2  # fields that ask for a class: one alone is found sooner without an index


def faults(source: Source) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Yield each expression of a source that cannot be compiled, as (path in the source, message)."""
    if isinstance(source.follow, tuple):
        for index, css in enumerate(source.follow):
            try:
                compiled_css(css)
            except BadExpression as error:
                yield ("follow", index), str(error)
    for key, parts in (("only", source.noise.only), ("select", source.noise.select)):
        for index, css in enumerate(parts):
            try:
                compiled_css(css)
            except BadExpression as error:
                yield ("noise", key, index), str(error)
    for index, rule in enumerate(source.item):
        named = [(("select",), rule.select)] if rule.select else []
        paths = [*named, *((("fields", name), field) for name, field in rule.fields.items())]
        for path, expression in paths:
            try:
                compile_expression(expression)
            except BadExpression as error:
                yield ("item", index, *path), str(error)


def load_parser(path: str) -> Parser:
    """Return the function that "module:function" names. Raises VisitFailed: extract, with the reason."""
    module, _, name = path.partition(":")
    try:
        parser: Parser = getattr(importlib.import_module(module), name)
    except BaseException as error:  # noqa: BLE001  a user's module may do anything when it is imported, exit too
        said = traceback.format_exception_only(error)[-1].strip()
        raise VisitFailed(Failure.EXTRACT, f"the parser {path} cannot be loaded: {said}") from None
    return parser


def by_rules(page: Page, rules: tuple[ItemRule, ...]) -> tuple[Item, ...]:
    """Return the items that a source's rules find in a page. Raises VisitFailed: decode, parse_limit."""
    nameless: Counter[str] = Counter()
    found: list[Item] = []
    for rule in rules:
        found += _by_rule(page, rule, nameless[rule.kind])
        nameless[rule.kind] += not rule.key
    return tuple(found)


def _by_rule(page: Page, rule: ItemRule, number: int) -> Iterator[Item]:
    """number: how many rules before it name no key, and are for the same kind."""
    scopes = [None] if rule.select is None else matches(rule.select, page, None)
    by_class = tuple([css for field in rule.fields.values() if (css := field.css) is not None and is_by_class(field)])
    for position, scope in enumerate(scopes):
        classes = classes_of(page, scope, by_class) if len(by_class) >= BY_CLASS_LEAST else None
        data = {name: field_of(page, field, scope, classes) for name, field in rule.fields.items()}
        found = [data[name] for name, field in rule.fields.items() if data[name] not in (None, [], field.default)]
        if not found:
            continue
        parts = [_same_for_all(data[name], rule.fields[name]) for name in rule.key]
        if any(part in (None, "") for part in parts):
            continue  # what cannot be told apart cannot be kept
        yield made(rule.kind, key_of(parts) if parts else _place(page, position, number), data, rule.quiet)


def key_of(parts: list[Any]) -> str:
    """Return the key of an item from the values of its key fields."""
    return str(parts[0]) if len(parts) == 1 else json.dumps(parts, ensure_ascii=False, default=str)


def _place(page: Page, position: int, number: int = 0) -> str:
    url = unmarked(page.url)
    if number:
        return f"{url}#{number}.{position}"
    return f"{url}#{position}" if position else url


def _same_for_all(value: Any, field: FieldRule) -> Any:
    """The value of a key field: of a link without what is the visitor's, as pages are told apart."""
    return unmarked(value) if field.type == "url" and isinstance(value, str) else value


def field_of(page: Page, rule: FieldRule, scope: Any, classes: Classes | None = None) -> Any:
    """Return the value of a field, from a place in a page. Raises VisitFailed: decode."""
    done: list[Any] = []
    for match in matches(rule, page, scope, classes):
        value = text_of(match)
        if rule.re is not None and value is not None:
            part = re.search(rule.re, str(value))
            value = part[part.re.groups and 1] if part else None
        if value in ("", None) or (isinstance(value, float) and not math.isfinite(value)):
            continue
        if rule.type == "url" and isinstance(value, str) and not value.isascii():
            value = page.encoded(value)
        try:
            done.append(convert(value, rule.type, page.base_url))
        except (ValueError, ArithmeticError):
            continue
        if not rule.many:
            return done[0]
    return rule.default if not done and (rule.default is not None or not rule.many) else done


def by_parser(page: Page, parser: Parser) -> tuple[tuple[Item, ...], list[Link]]:
    """Return the items and links that a user's function yields for a page. Raises VisitFailed: extract, with the traceback."""
    found: list[Item] = []
    links: list[Link] = []
    try:
        for yielded in _plain(parser(page)) or ():
            if isinstance(yielded, Link):
                links.append(_link(yielded))
            elif isinstance(yielded, str):
                links.append(Link(str(yielded)))
            elif yielded is not None and (item := _item(page, yielded, len(found))) is not None:
                found.append(item)
    except VisitFailed:
        raise
    except BaseException as error:  # noqa: BLE001  whatever a user's function raises is this page's failure, exit too
        raise VisitFailed(Failure.EXTRACT, _told(error)) from None
    return tuple(found), links


def _plain(yielded: Any) -> Any:
    if inspect.isasyncgen(yielded) or inspect.iscoroutine(yielded):
        if inspect.iscoroutine(yielded):
            yielded.close()
        raise TypeError("a parser is a plain function: write def in place of async def; the page is fetched already")
    alone = isinstance(yielded, Mapping | str | Item | Link) or hasattr(yielded, "model_dump") or is_dataclass(yielded)
    return [yielded] if alone and yielded else yielded


def _link(yielded: Link) -> Link:
    if not isinstance(yielded.url, str):
        raise TypeError(f"the url of a Link is a text, not {yielded.url!r}")
    if not isinstance(yielded.priority, int) or abs(yielded.priority) > PRIORITY_MOST:
        raise TypeError(
            f"the priority of a Link is a whole number of at most {PRIORITY_MOST}, not {yielded.priority!r}"
        )
    return yielded


def _told(error: BaseException) -> str:
    """The error, where it was raised, and the way there, without our own part of it."""
    frames = traceback.extract_tb(error.__traceback__)[1:]
    said = traceback.format_exception_only(error)[-1].strip()
    where = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "?"
    way = "".join(traceback.format_list(frames[-TRACEBACK_MOST:])).rstrip()
    return f"the parser raised {said} at {where}" + (f"\n{way}" if way else "")


def _item(page: Page, yielded: Any, position: int) -> Item | None:
    if isinstance(yielded, Item):
        if not yielded.kind or not isinstance(yielded.kind, str):
            raise TypeError(f"the kind of an Item is a name, not {yielded.kind!r}")
        if yielded.key in (None, ""):
            return None  # as by rules: what cannot be told apart cannot be kept
        if not isinstance(yielded.data, dict):
            raise TypeError(f"the data of an Item is a dict, not {type(yielded.data).__name__}")
        return made(str(yielded.kind), str(yielded.key), yielded.data, yielded.quiet)
    kind = "item"
    if hasattr(yielded, "model_dump"):
        kind = _named_so(yielded)
        yielded = yielded.model_dump(mode="json")
    elif is_dataclass(yielded) and not isinstance(yielded, type):
        kind, yielded = _named_so(yielded), asdict(yielded)
    elif isinstance(yielded, Mapping):  # of Scrapy's, for example
        yielded = dict(yielded)
    if not isinstance(yielded, dict):
        raise TypeError(
            f"a parser yields dicts, dataclasses, pydantic models, Items, URLs or Links, not {type(yielded).__name__}"
        )
    return made(kind, _place(page, position), yielded)


def _named_so(yielded: Any) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(yielded).__name__).lower()


def made(kind: str, key: str, data: dict[str, Any], quiet: tuple[str, ...] = ()) -> Item:
    """Return an item fit for JSON and any database. Raises VisitFailed: parse_limit."""
    try:
        return Item(clean.text(kind)[:100], clean.text(key)[:2000], clean.value(data), quiet)
    except ValueError as error:
        raise VisitFailed(Failure.PARSE_LIMIT, f"the data of an item is {error}") from None
