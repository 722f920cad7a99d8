"""The main text of a page, without what stands around it on every page, and what the page says of itself.

trafilatura (extra `text`) finds the text; without it, it is all that a person sees. Called in a process of its own, with
limits on time and memory: what a stranger's page costs is the stranger's choice.
"""

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from lxml import etree

from scraper import clean
from scraper.config.settings import Noise
from scraper.extract.page import Page
from scraper.extract.visible import blocks

TEXT_MOST = 400_000  # characters
TREE_MOST = 100_000  # elements
PROPERTIES_MOST = 200
VALUE_MOST = 5000
_GRAPH = ("og:", "article:", "book:", "profile:", "video:", "music:", "product:", "twitter:")
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(?:-[A-Za-z0-9]{2,8})*")


def read(url: str, headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
    """Return text, markdown, title, author, date, language, jsonld, opengraph and microdata of a page.

    What a page does not tell is None, or empty. Raises VisitFailed for one that cannot be read.
    """
    page = Page(url, 200, headers, body)
    if page.is_json:
        text = "\n".join(blocks(page, Noise()))[:TEXT_MOST]
        return _nothing() | {"text": text, "markdown": text}
    made = _nothing() | _said_of_itself(page)
    found = _main(page, url)
    if found is None:
        text = "\n".join(blocks(page, Noise()))[:TEXT_MOST]
        made |= {"text": text, "markdown": text}
    else:
        made |= found | {name: made[name] or found[name] for name in ("language",)}
    done: dict[str, Any] = clean.value(made)
    return done


def _nothing() -> dict[str, Any]:
    names = ("title", "author", "date", "language")
    return {"text": "", "markdown": ""} | dict.fromkeys(names) | {"jsonld": [], "opengraph": {}, "microdata": []}


def _main(page: Page, url: str) -> dict[str, Any] | None:
    """What trafilatura finds, or None without it, and where it finds nothing."""
    try:
        import trafilatura  # noqa: PLC0415  an extra, and a large one
    except ImportError:
        return None
    # As text, not as our tree: it changes what it is given.
    options: dict[str, Any] = {"url": url, "include_comments": False, "config": _options()}
    plain: Any = trafilatura.bare_extraction(page.text, with_metadata=True, **options)
    if plain is None or not plain.text:
        return None
    rich = trafilatura.extract(page.text, output_format="markdown", include_links=True, **options)
    told = {name: getattr(plain, name) or None for name in ("title", "author", "date", "language")}
    return told | {"text": plain.text[:TEXT_MOST], "markdown": (rich or plain.text)[:TEXT_MOST]}


@cache
def _options() -> Any:
    """trafilatura's settings, with a limit on the size of a tree."""
    from trafilatura.settings import use_config  # noqa: PLC0415

    options = use_config()
    options.set("DEFAULT", "MAX_TREE_SIZE", str(TREE_MOST))
    return options


def _said_of_itself(page: Page) -> dict[str, Any]:
    root = page.root
    language = root.get("lang") or root.get("{http://www.w3.org/XML/1998/namespace}lang") or ""
    titles: Any = root.xpath("//title/text()")
    return {
        "title": " ".join(str(titles[0]).split())[:VALUE_MOST] if titles else None,
        "language": language if _LANGUAGE.fullmatch(language) else None,
        "jsonld": page.jsonld[:PROPERTIES_MOST],
        "opengraph": _opengraph(root),
        "microdata": _microdata(root),
    }


def _opengraph(root: Any) -> dict[str, Any]:
    """The Open Graph properties (https://ogp.me/) and those beside them; a list where there are several of a name."""
    made: dict[str, Any] = {}
    for element in root.xpath("//meta[@content and (@property or @name)]")[: 5 * PROPERTIES_MOST]:
        name = (element.get("property") or element.get("name")).strip().lower()
        if not name.startswith(_GRAPH) or (name not in made and len(made) >= PROPERTIES_MOST):
            continue
        value = element.get("content").strip()[:VALUE_MOST]
        if name not in made:
            made[name] = value
        elif isinstance(made[name], list):
            made[name].append(value)
        else:
            made[name] = [made[name], value]
    return made


_VALUES = {"meta": "content", "a": "href", "link": "href", "area": "href", "img": "src", "audio": "src", "video": "src"} | {
    "source": "src", "iframe": "src", "embed": "src", "track": "src", "object": "data", "data": "value", "meter": "value",
    "time": "datetime",
}  # fmt: skip


def _microdata(root: Any) -> list[dict[str, Any]]:
    """The items of the page that are in no other (https://html.spec.whatwg.org/multipage/microdata.html), without itemref."""
    tops = root.xpath("//*[@itemscope and not(@itemprop)]")[:PROPERTIES_MOST]
    left = [PROPERTIES_MOST]
    return [_item(top, left, 0) for top in tops]


def _item(element: Any, left: list[int], depth: int) -> dict[str, Any]:
    made: dict[str, Any] = {}
    if kinds := (element.get("itemtype") or "").split():
        made["type"] = kinds[0][:VALUE_MOST]
    properties: dict[str, Any] = {}
    waiting = list(element)[::-1]
    while waiting and left[0] > 0:
        child = waiting.pop()
        if not isinstance(child.tag, str):
            continue
        if names := (child.get("itemprop") or "").split():
            left[0] -= 1
            value: Any = (
                _item(child, left, depth + 1) if child.get("itemscope") is not None and depth < 8 else _value(child)
            )
            for name in names[:4]:
                properties.setdefault(name[:100], []).append(value)
        if child.get("itemscope") is None:
            waiting.extend(list(child)[::-1])
    return made | {"properties": properties}


def _value(element: Any) -> str:
    attribute = _VALUES.get(element.tag)
    told = element.get(attribute) if attribute is not None else None
    if told is None:
        told = str(etree.tostring(element, method="text", encoding="unicode", with_tail=False))
    return " ".join(told.split())[:VALUE_MOST]


def record(subject: Any) -> dict[str, Any]:
    """Return all of it as a record: the function of a task that keeps the main text of every page."""
    made: dict[str, Any] = subject.reading
    return made
