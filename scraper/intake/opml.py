"""Lists of feeds (OPML), as feed readers export them."""

from typing import Any, BinaryIO

from lxml import etree

from scraper.intake.found import Found, Names, Unreadable, web_fault, whole


def read(file: BinaryIO, names: Names) -> Found:
    """Return a source for each feed. Raises Unreadable."""
    found = Found()
    seen: set[str] = set()
    for outline in _root(whole(file)).iter("outline"):
        told = {name.lower(): value for name, value in outline.attrib.items()}
        url = told.get("xmlurl", "").strip()
        if not url or url in seen:
            continue
        seen.add(url)
        if fault := web_fault(url):
            found.refuse(f"line {outline.sourceline}", fault)
            continue
        wishes = told.get("title"), told.get("text")
        name = names.name(*wishes) if any(map(_has_letters, wishes)) else names.of(url)
        found.definitions.append({"name": name, "sitemaps": [url], "follow": False})
    return found


def _has_letters(wish: str | None) -> bool:
    return any(letter.isascii() and letter.isalnum() for letter in wish or "")


def _root(data: bytes) -> Any:
    """The document, without ever looking at what it refers to: no entities, no document type, nothing from elsewhere."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        root = etree.fromstring(data.lstrip(), parser)
    except etree.XMLSyntaxError as error:
        raise Unreadable(f"is no OPML: {error}") from None
    tree: Any = root.getroottree()
    if tree.docinfo.doctype:
        raise Unreadable("has a document type, which OPML needs none of and which may hide anything; remove it")
    if root.tag != "opml":
        raise Unreadable(f"is no OPML, its root is {str(root.tag)[:60]!r}")
    return root
