"""Rules for items that might suit a page: for a person who points at a page and wants to see what could be had of it."""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from scraper.config.settings import ItemRule
from scraper.config.shape import build
from scraper.errors import VisitFailed
from scraper.extract import items
from scraper.extract.page import Page
from scraper.records import Fetched

REPEATS_LEAST = 3
ELEMENTS_MOST = 5000
PROPOSALS_MOST = 4
FIELDS_MOST = 8
SAMPLES = 3
TEXTS_MOST = 120
TEXT_MOST = 120
_NAME = re.compile(r"[A-Za-z_][\w-]*")
_PRICE = re.compile(r"(?:[$€£¥₹]|USD|EUR|GBP|CHF)\s*\d|\d[\d.,\s]*(?:[$€£¥₹]|USD|EUR|GBP|CHF)")
_SKIPPED = {"script", "style", "noscript", "template", "svg", "title", "nav", "footer", "option"}
# What schema.org calls things, as fields of ours.
_JSONLD = {
    "name": "name", "headline": "headline", "price": "offers.price", "currency": "offers.priceCurrency", "sku": "sku",
    "brand": "brand.name", "author": "author.name", "published": "datePublished", "rating": "aggregateRating.ratingValue",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Proposals:
    """Item rules with samples of what they find; the texts of the page, each with a selector; the kinds of links."""

    rules: list[dict[str, Any]]
    texts: list[dict[str, str]]
    lists: list[dict[str, Any]]


def of_page(fetched: Fetched) -> Proposals:
    """Return what might be had of a page; nothing for what is no HTML."""
    page = Page.of(fetched)
    try:
        if page.is_json:
            return Proposals([], [], [])
        elements = list(_elements(page.root))
        candidates = [*_by_jsonld(page), *_repeated(elements), *_single(elements)]
        rules = [done for rule in candidates if (done := _tried(page, rule)) is not None]
        return Proposals(rules[:PROPOSALS_MOST], list(_texts(elements)), _links(elements))
    except VisitFailed:
        return Proposals([], [], [])


def _elements(root: Any) -> Iterator[Any]:
    """The elements that a person may see, from the top."""
    stack = [root]
    count = 0
    while stack and count < ELEMENTS_MOST:
        element = stack.pop()
        if not isinstance(element.tag, str) or element.tag in _SKIPPED:
            continue
        count += 1
        yield element
        stack.extend(reversed(list(element)))


def _simple(element: Any) -> str:
    """The shortest selector that says what an element is: its tag, and its first classes."""
    classes = [name for name in (element.get("class") or "").split() if _NAME.fullmatch(name)]
    return str(element.tag) + "".join(f".{name}" for name in classes[:2])


def _text(element: Any) -> str:
    return " ".join("".join(element.itertext()).split())


def _by_jsonld(page: Page) -> Iterator[dict[str, Any]]:
    for found in page.jsonld[:5]:
        kind = found.get("@type") if isinstance(found, dict) else None
        if isinstance(kind, str) and kind.lower() in (
            "product",
            "article",
            "newsarticle",
            "recipe",
            "event",
            "jobposting",
            "book",
        ):
            fields = {name: {"jsonld": path} for name, path in _JSONLD.items()}
            yield {"kind": kind.lower(), "fields": fields, "_why": f"the page describes itself as {kind} (JSON-LD)"}


def _repeated(elements: Sequence[Any]) -> Iterator[dict[str, Any]]:
    """What is there several times beside each other, each with different words: a list of things."""
    groups: dict[tuple[Any, str], list[Any]] = defaultdict(list)
    for element in elements:
        parent = element.getparent()
        if parent is not None and element.tag in ("li", "article", "div", "tr", "section", "a", "dl"):
            groups[parent, _simple(element)].append(element)
    scored = []
    for (_, name), found in groups.items():
        texts = {_text(element) for element in found}
        if len(found) >= REPEATS_LEAST and len(texts) > len(found) // 2:
            inside = sum(len(list(element.iter())) for element in found[:5]) / min(5, len(found))
            if inside >= 2:
                scored.append((len(found) * min(inside, 20.0), name, found))
    scored.sort(key=lambda entry: -entry[0])
    seen: set[str] = set()
    for _, name, found in scored:
        if name not in seen and len(seen) < PROPOSALS_MOST:
            seen.add(name)
            select = name if "." in name else f"{_simple(found[0].getparent())} > {name}"
            yield {
                "kind": "item",
                "select": select,
                "fields": _fields(found[0]),
                "_why": f"there are {len(found)} of these beside each other",
            }


def _fields(element: Any) -> dict[str, Any]:
    """What stands in each of several like elements: its texts by their places, its link, its picture."""
    fields: dict[str, Any] = {}
    for inner in element.iterdescendants():
        if not isinstance(inner.tag, str) or len(fields) >= FIELDS_MOST:
            continue
        own = " ".join((inner.text or "").split())
        if own:
            name, rule = _field(inner, own)
            fields.setdefault(name if name not in fields else f"{name}_{len(fields)}", rule)
        if inner.tag == "a" and inner.get("href") and "url" not in fields:
            fields["url"] = {"css": f"{_simple(inner)}::attr(href)", "type": "url"}
        if inner.tag == "img" and inner.get("src") and "image" not in fields:
            fields["image"] = {"css": f"{_simple(inner)}::attr(src)", "type": "url"}
    if not fields:
        fields["text"] = {"css": "::text"}
    return fields


def _field(element: Any, own: str) -> tuple[str, dict[str, Any]]:
    css = f"{_simple(element)}::text"
    if _PRICE.search(own):
        return "price", {"css": css, "type": "decimal"}
    if element.tag == "time":
        at = element.get("datetime")
        return "date", {"css": f"{_simple(element)}::attr(datetime)", "type": "date"} if at else {"css": css}
    if element.tag in ("h1", "h2", "h3", "h4", "a") or element.find("a") is not None:
        return "title", {"css": css}
    named = next((n for n in (element.get("class") or "").split() if _NAME.fullmatch(n)), str(element.tag))
    return re.sub(r"\W+", "_", named.lower()).strip("_") or "text", {"css": css}


def _single(elements: Sequence[Any]) -> Iterator[dict[str, Any]]:
    """The page as one thing: its heading, and what looks like a price."""
    fields: dict[str, Any] = {}
    for element in elements:
        own = " ".join((element.text or "").split())
        if element.tag == "h1" and own and "title" not in fields:
            fields["title"] = {"css": "h1::text"}
        elif own and _PRICE.search(own) and "price" not in fields and len(own) < 40:
            fields["price"] = {"css": f"{_simple(element)}::text", "type": "decimal"}
    if fields:
        yield {"kind": "item", "fields": fields, "_why": "the page as a whole"}


def _tried(page: Page, rule: dict[str, Any]) -> dict[str, Any] | None:
    """A rule with samples of what it finds, without the fields that find nothing; None if that is all."""
    why = rule.pop("_why")
    made = build(ItemRule, rule, (), [])
    if made is None:
        return None
    try:
        found = items.by_rules(page, (made,))
    except VisitFailed:
        return None
    filled = [name for name in rule["fields"] if any(item.data.get(name) not in (None, "", []) for item in found)]
    if not filled:
        return None
    fields = {name: rule["fields"][name] for name in filled}
    samples = [{name: item.data.get(name) for name in filled} for item in found[:SAMPLES]]
    return {"rule": {**rule, "fields": fields}, "why": why, "count": len(found), "samples": samples}


def _texts(elements: Sequence[Any]) -> Iterator[dict[str, str]]:
    """What is written on the page, piece by piece, each with a selector that finds it."""
    count = 0
    for element in elements:
        own = " ".join((element.text or "").split())
        if own and count < TEXTS_MOST:
            count += 1
            yield {"text": own[:TEXT_MOST], "css": f"{_path(element)}::text"}


def _path(element: Any) -> str:
    """A selector from the nearest ancestor that has a name of its own."""
    steps = [_simple(element)]
    outer = element.getparent()
    while outer is not None and len(steps) < 3 and "." not in steps[0]:
        if (name := outer.get("id")) and _NAME.fullmatch(name):
            return f"#{name} " + " > ".join(steps)
        steps.insert(0, _simple(outer))
        outer = outer.getparent()
    return " > ".join(steps)


def _links(elements: Sequence[Any]) -> list[dict[str, Any]]:
    """The kinds of links of the page, by where they stand: what to follow."""
    found: dict[str, list[str]] = defaultdict(list)
    for element in elements:
        if element.tag == "a" and element.get("href"):
            parent = element.getparent()
            found[f"{_simple(parent)} > {_simple(element)}" if parent is not None else "a"].append(_text(element))
    return [
        {"css": css, "count": len(texts), "sample": next((text for text in texts if text), "")[:TEXT_MOST]}
        for css, texts in sorted(found.items(), key=lambda entry: -len(entry[1]))[:12]
    ]
