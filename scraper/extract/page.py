"""Page: what a parser gets. Everything that costs time is built when it is first asked for."""

import contextlib
import json
import re
import sys
from collections.abc import Iterable, Mapping
from datetime import date
from functools import cached_property
from html.entities import html5
from typing import TYPE_CHECKING, Any

from lxml import etree
from parsel import Selector, SelectorList

from scraper import clean
from scraper.errors import Failure, VisitFailed
from scraper.extract.charset import decode, encoded, encoding_of
from scraper.extract.convert import Exact, convert
from scraper.records import Fetched
from scraper.tags import LONG, may_be_long
from scraper.urls import canonical, is_web

if TYPE_CHECKING:
    from bs4 import BeautifulSoup

_DIRECTIVE = re.compile(r"\s*(\*|[a-z0-9_-]+)\s*:\s*(.*)", re.IGNORECASE)
MAX_ATTRIBUTES = 2000
_LONG_TAG = re.compile(rb"<[A-Za-z][^>]{%d,}" % LONG)
_QUOTED = re.compile(rb"\"[^\"]*\"|'[^']*'")
REFRESH_MOST_S = 5.0
OF_XML = ("", "amp", "lt", "gt", "quot", "apos")
_ENTITY = re.compile(rb"<!\[CDATA\[.*?(?:\]\]>|\Z)|&([A-Za-z][A-Za-z0-9]{1,31});", re.DOTALL)
_BLANKS = " \t\n\r\f"
_DIGITS = "0123456789"
_scripts: Any = etree.XPath(
    "//script[starts-with(translate(normalize-space(@type), 'ABCDEFGHIJKLMNOPQRSTUVWXYZ', 'abcdefghijklmnopqrstuvwxyz'), 'application/ld+json')]/text()",
    smart_strings=False,
)
_head_title = etree.XPath("string(/html/head/title)", smart_strings=False)
_first_title = etree.XPath("string(//title[not(ancestor::svg)])", smart_strings=False)  # an icon has one too
_SEPARATORS = re.compile(r"[,;\s]+")
_NO_ASCII = re.compile("[^\x00-\x7f]")
_NO_XML = re.compile(
    "[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
)  # lxml writes no such letter, though it reads it
# What people write around JSON-LD and into it that is no JSON: comments, CDATA, a comma too many. Texts come first.
# Where a script says a value, or the text of one.
_GIVEN = re.compile(
    r"""JSON\.parse\(\s*("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|`(?:[^`\\]|\\.)*`)|[=(]\s*(?=[{\[])""", re.DOTALL
)
GIVEN_MOST = 20
_GUARD = re.compile(r"^\s*\)\]\}',?\s*")  # so that nobody runs it as a script (Angular, Google)
_ESCAPED = re.compile(r"\\(?:u\{([0-9A-Fa-f]{1,8})\}|u([0-9A-Fa-f]{4})|x([0-9A-Fa-f]{2})|(\r\n|.))", re.DOTALL)
_LETTERS = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "v": "\v", "0": "\0", "\n": "", "\r\n": ""}
# What JSON has no word for, outside of texts.
_UNDEFINED = re.compile(r"""("(?:[^"\\]|\\.)*")|(?<=[:,\[])\s*undefined(?=\s*[,}\]])""", re.DOTALL)
_LOOSE = re.compile(r"""("(?:[^"\\]|\\.)*")|/\*.*?\*/|//[^\n]*|,(?=\s*[}\]])|<!--|-->|<!\[CDATA\[|\]\]>""", re.DOTALL)
# Directives of X-Robots-Tag that carry a value of their own; any other word before a colon is the name of a robot.
_UNTIL = re.compile(r"unavailable_after\s*:\s*([^\n]{1,200})", re.IGNORECASE)
DATE_COMMAS_MOST = 6
_VALUED = {"max-snippet", "max-image-preview", "max-video-preview", "unavailable_after"}


class Headers(dict[str, str]):
    """Headers by their names, which are kept in lower case and asked for in any (RFC 9110 section 5.1)."""

    def __missing__(self, name: str) -> str:
        if (lower := name.lower()) == name:
            raise KeyError(name)
        value: str = self[lower]
        return value

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name.lower() if isinstance(name, str) else name)

    def get(self, name: str, default: Any = None) -> Any:
        """Return the value of a header, default where there is none."""
        return super().get(name.lower(), default)


_HTML = re.compile(r"<(?:!doctype\s+html|(?:\w+:)?html)\b", re.IGNORECASE)
PREAMBLE_MOST = 2048  # characters
LINKING = ("a", "area", "frame")


class Page:
    """One fetched page.

    url: where it lives, redirects followed. status, headers (by their names in any case), body (bytes, decoded), text.
    soup: BeautifulSoup. css(), xpath(): parsel selectors, as in Scrapy. json(): the parsed document.
    """

    def __init__(self, url: str, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.url = url
        self.status = status
        self.headers = Headers(headers)
        self.body = body
        self._plain = False  # whether the body is UTF-8 as it stands

    @classmethod
    def of(cls, fetched: Fetched) -> "Page":
        """Return the page of what was fetched."""
        return cls(fetched.final_url, fetched.status, fetched.headers, fetched.body)

    def __repr__(self) -> str:
        return f"<Page {self.status} {self.url}>"

    @cached_property
    def content_type(self) -> str:
        """The media type, without parameters."""
        said: str = self.headers.get("content-type", "")
        return said.partition(";")[0].strip().lower()

    @cached_property
    def is_json(self) -> bool:
        """Whether the page says that it is JSON."""
        return self.content_type.endswith(("/json", "+json"))

    @cached_property
    def is_xml(self) -> bool:
        """Whether the page says that it is XML, and is no HTML: a feed, for example. Names have their case then, and namespaces."""
        kind = self.content_type
        return kind.endswith(("/xml", "+xml")) and kind != "application/xhtml+xml" and not self._looks_like_html

    @cached_property
    def is_text(self) -> bool:
        """Whether the page says that it is text without marks, and has none of HTML's."""
        kind = self.content_type
        return kind.startswith("text/") and kind not in ("text/html", "text/xml") and not self._looks_like_html

    @cached_property
    def _looks_like_html(self) -> bool:
        return _HTML.search(self.text[:PREAMBLE_MOST]) is not None

    @cached_property
    def text(self) -> str:
        """The body as text; NUL and lone surrogates are gone."""
        said: str = self.headers.get("content-type", "")
        if (
            said.endswith("utf-8")
            and b"\x00" not in self.body
            and not self.body.startswith((b"\xfe\xff", b"\xff\xfe", b"\xef\xbb\xbf"))
        ):
            try:
                text = self.body.decode()
            except UnicodeDecodeError:
                return decode(self.body, said)
            self._plain = True
            return text
        text = decode(self.body, said)
        self._plain = len(text) == len(self.body) and text.isascii()
        return text

    @cached_property
    def encoding(self) -> str:
        """The encoding of the body, by its name in the Encoding standard."""
        return encoding_of(self.body, self.headers.get("content-type", ""))

    def encoded(self, reference: str) -> str:
        """Return a reference whose query is percent-encoded in the encoding of the page (URL standard, "query state")."""
        before, mark, rest = reference.partition("?")
        query, sharp, fragment = rest.partition("#")
        if query.isascii() or "#" in before or self.encoding.startswith("utf-"):
            return reference
        octets = encoded(query, self.encoding)
        return f"{before}{mark}{_NO_ASCII.sub(_escaped, octets.decode('latin-1'))}{sharp}{fragment}"

    @cached_property
    def soup(self) -> "BeautifulSoup":
        """The page for BeautifulSoup. Slow on large pages: css() and xpath() are some 20 times faster."""
        from bs4 import BeautifulSoup  # noqa: PLC0415  0.07 s of each start that most sources never need

        return BeautifulSoup(self.text, "lxml-xml" if self.is_xml else "lxml")

    @cached_property
    def root(self) -> "etree._Element":
        """The lxml tree of the page. Raises VisitFailed: parse_limit."""
        source = _resolved(self._source) if self.is_xml else self._source
        for tag in _LONG_TAG.finditer(source) if may_be_long(source) else ():
            if len(_QUOTED.sub(b"", tag[0]).split()) > MAX_ATTRIBUTES:  # libxml2 takes their number, squared
                raise VisitFailed(Failure.PARSE_LIMIT, f"a tag has more than {MAX_ATTRIBUTES} attributes")
        parser: Any = (
            etree.XMLParser(recover=True, encoding="utf-8", resolve_entities=False, no_network=True, collect_ids=False)
            if self.is_xml
            else etree.HTMLParser(recover=True, encoding="utf-8", huge_tree=True, collect_ids=False)
        )
        root: etree._Element | None = etree.fromstring(source.strip() or b"<html/>", parser=parser)
        last = parser.error_log.last_error
        if last is not None and "Excessive depth" in last.message:
            raise VisitFailed(Failure.PARSE_LIMIT, "the page is nested too deeply")
        if root is None:
            return etree.fromstring(b"<html/>")
        if root.getnext() is not None and not self.is_xml:
            _take_in(root)
        return root

    @cached_property
    def _source(self) -> bytes:
        """The text in UTF-8."""
        text = self.text
        return self.body if self._plain else text.encode("utf-8")

    @cached_property
    def _said(self) -> dict[str, list["etree._Element"]]:
        """What the page says of itself, and what it links to, by tag. One walk over the tree, which takes less than a look for one word."""
        linking: list[etree._Element] = []  # all in one, so that they stay in the order of the page
        found: dict[str, list[etree._Element]] = {"base": [], "link": [], "meta": []} | dict.fromkeys(LINKING, linking)
        for element in self.root.iter(*found) if not self.is_json and not self.is_xml else ():
            found[str(element.tag)].append(element)
        return found

    def linking(self) -> Iterable["etree._Element"]:
        """Return the elements that link to other pages, in the order of the page."""
        return self.root.iter(*LINKING) if self.is_xml else self._said[LINKING[0]]

    @cached_property
    def base_url(self) -> str:
        """What relative links are relative to."""
        href = next(
            (h for base in self._said["base"] if (h := base.get("href")) is not None and not _is_without_scripts(base)),
            None,
        )
        found = canonical(href, self.url) if href is not None else None
        # What is no place to go from is none of a base (HTML standard, "set the frozen base URL").
        return found if found is not None and is_web(found) else self.url

    @cached_property
    def title(self) -> str | None:
        """The text of <title>, white space folded."""
        if self.is_json:
            return None
        text = str(_head_title(self.root)) or str(_first_title(self.root))
        return clean.text(" ".join(text[:10_000].split())[:1000]) or None

    @cached_property
    def words(self) -> str:
        """All text of the page, scripts and styles too."""
        return self.text if self.is_json else str(etree.tostring(self.root, method="text", encoding="unicode"))

    @cached_property
    def canonical(self) -> str | None:
        """The address that the page gives as its own (RFC 6596), or None."""
        for link in self._said["link"]:
            if "canonical" in (link.get("rel") or "").lower().split() and (href := link.get("href")) is not None:
                return canonical(self.encoded(href), self.base_url)
        return None

    @cached_property
    def refresh(self) -> str | None:
        """Where the page sends its visitors by itself within five seconds, by its header or in itself, or None."""
        if (found := _refreshed(self.headers.get("refresh", ""))) is not None:
            return canonical(found[1], self.url) if found[0] <= REFRESH_MOST_S else None
        for meta in self._said["meta"]:
            if (meta.get("http-equiv") or "").lower() != "refresh" or _is_without_scripts(meta):
                continue
            found = _refreshed(meta.get("content") or "")
            if found is not None and found[0] <= REFRESH_MOST_S:
                return canonical(self.encoded(found[1]), self.base_url)
        return None

    def robots(self, agent: str, today: date | None = None) -> set[str]:
        """Return what the page and its headers ask of robots: noindex, nofollow, ...; agent: our product token.

        What is said to us by name counts beside what is said to all, as Google and Bing read it. today: after the day that
        unavailable_after gives, it means noindex.
        """
        until = _said_to_us(self.headers.get("x-robots-tag", ""), agent) if "x-robots-tag" in self.headers else []
        said = _header_directives(self.headers.get("x-robots-tag", ""), agent) if "x-robots-tag" in self.headers else []
        for meta in self._said["meta"]:
            if (meta.get("name") or "").strip().lower() in ("robots", agent):
                said += _SEPARATORS.split((meta.get("content") or "").lower())
                until.append(meta.get("content") or "")
        if today is not None and any(_is_over(text, today) for text in until):
            said.append("noindex")
        return {"noindex", "nofollow"} | set(said) if "none" in said else set(said)

    @cached_property
    def selector(self) -> Selector:
        """The page as a parsel Selector."""
        return Selector(root=self.root, type="xml" if self.is_xml else "html", base_url=self.url)

    def css(self, query: str) -> SelectorList[Selector]:
        """Select by CSS, with ::text and ::attr(name)."""
        return self.selector.css(query)

    def xpath(self, query: str) -> SelectorList[Selector]:
        """Select by XPath 1.0."""
        return self.selector.xpath(query)

    def json(self) -> Any:
        """Return the parsed document. Raises VisitFailed: decode."""
        return self._document

    @cached_property
    def _document(self) -> Any:
        return self._parsed(float)

    @cached_property
    def exact(self) -> Any:
        """The parsed document, whose numbers still know how they were written. Raises VisitFailed: decode."""
        return self._parsed(Exact)

    def _parsed(self, number: type[float]) -> Any:
        try:
            return json.loads(_GUARD.sub("", self.text, count=1), parse_float=number)
        except (ValueError, RecursionError) as error:
            raise VisitFailed(Failure.DECODE, f"is not valid JSON: {error}") from None

    def jsons_in(self, text: str) -> list[Any]:
        """Return the JSON values in a text of the page, a script or an attribute, whose numbers still know how they were written."""
        if text not in self._jsons:
            self._jsons[text] = _within(text)
        return self._jsons[text]

    @cached_property
    def _jsons(self) -> dict[str, list[Any]]:
        return {}

    @cached_property
    def jsonld(self) -> list[Any]:
        """The JSON-LD objects of the page, graphs and lists flattened; invalid ones are left out."""
        return self._jsonld(float)

    @cached_property
    def exact_jsonld(self) -> list[Any]:
        """The same, whose numbers still know how they were written."""
        return self._jsonld(Exact)

    def _jsonld(self, number: type[float]) -> list[Any]:
        found: list[Any] = []
        for script in _scripts(self.root):
            for entry in _flat(_loosely(str(script), number)):
                graph = entry.get("@graph") if isinstance(entry, dict) else None
                found.extend(_flat(graph) if isinstance(graph, dict | list) else [entry])
        return found


def _resolved(source: bytes) -> bytes:
    """An XML document in which the entities of HTML, that nobody declared, are what they stand for, as readers of feeds have it."""
    if b"&" not in source or b"<!ENTITY" in source:
        return source
    return _ENTITY.sub(_as_meant, source)


def _as_meant(found: re.Match[bytes]) -> bytes:
    name = (found[1] or b"").decode()
    meant = html5.get(f"{name};") if name not in OF_XML else None
    return found[0] if meant is None else "".join(f"&#{ord(letter)};" for letter in meant).encode()


def _refreshed(content: str) -> tuple[int, str] | None:
    """After how many seconds a page sends its visitors where; None: nowhere else (HTML standard, "shared declarative refresh steps")."""
    text = content.lstrip(_BLANKS)
    rest = text.lstrip(_DIGITS)
    digits = text[: len(text) - len(rest)]
    if not digits and not rest.startswith("."):
        return None
    rest = rest.lstrip(_DIGITS + ".")
    if not rest or rest[0] not in ";," + _BLANKS:
        return None
    rest = rest.lstrip(_BLANKS)
    if rest.startswith((";", ",")):
        rest = rest[1:].lstrip(_BLANKS)
    after = rest[3:].lstrip(_BLANKS)
    named = rest[:3].lower() == "url" and after.startswith("=")
    target = after[1:].lstrip(_BLANKS) if named else rest
    if target.startswith(("'", '"')) and (named or rest[:1].lower() != "u"):
        target = target[1:].partition(target[0])[0]
    return (int(digits[:6] or "0"), target) if target.strip(_BLANKS) else None


def _within(text: str) -> list[Any]:
    """The JSON that a text is, or those that a script in it assigns or passes on, in order."""
    if (whole := _loosely(text, Exact)) != []:
        return [whole]
    if "undefined" in text:
        text = _UNDEFINED.sub(lambda found: found[1] or "null", text)
    decoder = json.JSONDecoder(parse_float=Exact, strict=False)
    values: list[Any] = []
    at = 0
    while len(values) < GIVEN_MOST and (found := _GIVEN.search(text, at)) is not None:
        at = found.end()
        with contextlib.suppress(ValueError, RecursionError):
            if found[1] is not None:
                value = json.loads(_literal(found[1]), parse_float=Exact, strict=False)
            else:
                value, at = decoder.raw_decode(text, at)
            if value not in ([], {}):  # what is filled in later holds nothing yet
                values.append(value)
    return values


def _literal(text: str) -> str:
    """What a string of a script says, in its quotes (ECMAScript, "String Literals")."""
    said = _ESCAPED.sub(_meant_by, text[1:-1])
    return said.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # of two halves one letter


def _meant_by(escaped: "re.Match[str]") -> str:
    code = escaped[1] or escaped[2] or escaped[3]
    if code is not None:
        return chr(min(int(code, 16), sys.maxunicode))
    return _LETTERS.get(escaped[4], escaped[4])


def _loosely(text: str, number: type[float]) -> Any:
    """The JSON of a script, also if something is around it or in it that is none; an empty list if it cannot be read."""
    with contextlib.suppress(ValueError, RecursionError):  # line ends within texts are no JSON, and common
        return json.loads(text, parse_float=number, strict=False)
    with contextlib.suppress(ValueError, RecursionError):
        bare = _LOOSE.sub(lambda found: found[1] or "", text).strip("\ufeff; \t\r\n")
        return json.loads(bare, parse_float=number, strict=False)
    return []


def _flat(document: Any) -> list[Any]:
    """What is in a list, and in lists in it, in order; without recursion, for a site may nest them deeper than that goes."""
    found: list[Any] = []
    waiting = [document]
    while waiting:
        one = waiting.pop()
        if isinstance(one, list):
            waiting.extend(reversed(one))
        else:
            found.append(one)
    return found


def _escaped(letter: re.Match[str]) -> str:
    return f"%{ord(letter[0]):02X}"


def _is_without_scripts(element: "etree._Element") -> bool:
    """Whether it is for those who run no scripts."""
    return next(element.iterancestors("noscript"), None) is not None


def _take_in(root: "etree._Element") -> None:
    """Move what stands after the end of the document into its body (HTML standard, section 13.2.6.4.20)."""
    body = root.find("body")
    target = root if body is None else body
    for late in list(root.itersiblings()):
        if not isinstance(late.tag, str):
            continue
        if late.tag != "html":
            target.append(late)
            continue
        _say(target, late.text)
        for part in list(late):  # another document: what its head and its body hold
            if part.tag not in ("head", "body"):
                target.append(part)
                continue
            _say(target, part.text)
            for element in list(part):
                target.append(element)
            _say(target, part.tail)
        target.append(late)  # beside the root it cannot be removed
        target.remove(late)


def _say(place: "etree._Element", text: str | None) -> None:
    """Put a text at the end of an element."""
    text = _NO_XML.sub("", text or "")
    if not text:
        return
    if len(place):
        place[-1].tail = (place[-1].tail or "") + text
    else:
        place.text = (place.text or "") + text


def _said_to_us(value: str, agent: str) -> list[str]:
    """The lines of an X-Robots-Tag that are for all robots, or for us by name."""
    found = []
    for line in value.split("\n"):
        named = _DIRECTIVE.match(line)
        if named is None or named[1].lower() in _VALUED:
            found.append(line)
        elif named[1].lower() in ("robots", "*", agent):
            found.append(named[2])
    return found


def _is_over(directives: str, today: date) -> bool:
    """Whether a day is named after which the page is not to be shown, and it has passed. A date may have commas in it."""
    named = _UNTIL.search(directives)
    parts = named[1].split(",")[:DATE_COMMAS_MOST] if named else []
    for count in range(len(parts), 0, -1):
        with contextlib.suppress(ValueError, OverflowError):
            return date.fromisoformat(convert(",".join(parts[:count]).strip(), "date", "")[:10]) < today
    return False


def _header_directives(value: str, agent: str) -> list[str]:
    """The directives of an X-Robots-Tag that are for all robots, or for us by name."""
    found = []
    for line in value.split("\n"):  # each header is a list of its own
        for_us = True
        for part in line.split(","):
            named = _DIRECTIVE.match(part)
            if named and named[1].lower() not in _VALUED:
                for_us, part = named[1].lower() in ("robots", "*", agent), named[2]
            if for_us:
                found += _SEPARATORS.split(part.strip().lower())
    return found
