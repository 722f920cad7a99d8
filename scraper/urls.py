"""Canonical form, fingerprint, host and scope of URLs. Pure.

Parsing is that of the WHATWG URL standard, by one parser, once: what was checked is what is asked.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import unquote_to_bytes, urlsplit

import ada_url

MAX_LENGTH = 2048
BLANKS = "".join(map(chr, range(33)))  # around a reference they do not count: controls and the blank (URL standard)
_UNRESERVED = re.compile(r"%(4[1-9A-F]|5[0-9AF]|6[1-9A-F]|7[0-9AE]|3[0-9]|2[DE])", re.IGNORECASE)
_ESCAPE = re.compile(r"%[0-9a-f]{2}", re.IGNORECASE)
# What names the visitor or where he came from, not the page.
_VISITOR = re.compile(
    r"(?:utm_[a-z]+|gclid|gbraid|wbraid|dclid|srsltid|_gl|fbclid|msclkid|ttclid|twclid|yclid|mc_[ce]id|_hsenc|_hsmi|"
    r"phpsessid|jsessionid|aspsessionid[a-z]*|cfid|cftoken|oscsid|xtcsid|zenid)=.*|"
    r"(?:sid|s|session|session_?id|sess(?:ion)?_?key)=[0-9a-f]{32}(?:[0-9a-f]{8})?$|"  # of MD5 or SHA-1
    r"sid=(?=[a-z]*[0-9])[0-9a-z]{26}$",  # of PHP
    re.IGNORECASE,
)
_PATH_SESSION = re.compile(
    r";(?:(?:jsessionid|phpsessid)=[^/?;]*|sid=[0-9a-z]{20,}(?![^/?;]))|"
    r"(?<=/)\((?:[A-Z]\([^()/]*\))*S\([0-9a-z]{24}\)(?:[A-Z]\([^()/]*\))*\)/",  # of ASP.NET
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Parts:
    """The pieces of a URL that decide whom to ask and for what."""

    scheme: str
    host: str
    port: int
    path: str
    origin: str
    userinfo: bool


def canonical(reference: str, base: str | None = None) -> str | None:
    """Return the URL without fragment in the form in which it is asked, or None if it is none or too long."""
    text = reference.strip(BLANKS)
    if not text.isascii():
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    try:
        href: str = ada_url.join_url(base, text) if base is not None else ada_url.normalize_url(text)
    except ValueError:
        return None
    href = href.partition("#")[0]
    return href if len(href) <= MAX_LENGTH else None


def is_web(url: str) -> bool:
    """Say whether a canonical URL is http or https."""
    return url.startswith(("http://", "https://"))


# What canonical() gives for nearly all URLs; all others are parsed anew.
_SIMPLE = re.compile(
    r"(https?)://((?:[a-z0-9-]+\.)*(?:[a-z][a-z0-9-]*[a-z]|[a-z])|(?:(?:0|[1-9][0-9]{0,2})\.){3}(?:0|[1-9][0-9]{0,2}))"
    r"(:[0-9]{1,5})?(/[!$%&'()*+,./0-9:;=?@A-Z_a-z~-]*)$"
)


@lru_cache(maxsize=4096)
def parts(url: str) -> Parts:
    """Return the pieces of a URL. Raises ValueError if it is none."""
    if simple := _SIMPLE.match(url):
        scheme, host, mark, path = simple.groups("")
        number = int(mark[1:]) if mark else 443 if scheme == "https" else 80
        return Parts(scheme, host, number, path, f"{scheme}://{host}{mark}", userinfo=False)
    parsed = ada_url.parse_url(url)
    scheme = parsed["protocol"].rstrip(":")
    port = int(parsed["port"]) if parsed["port"] else 443 if scheme == "https" else 80
    return Parts(
        scheme=scheme,
        host=parsed["hostname"].strip("[]"),
        port=port,
        path=(parsed["pathname"] or "/") + parsed["search"],
        origin=f"{scheme}://{parsed['host']}",
        userinfo=bool(parsed["username"] or parsed["password"]),
    )


# With a port that is no scheme's: those are left out of the name, the one of the other scheme is not.
_PLAIN = re.compile(r"https?://([a-z0-9.-]+(?::(?!(?:80|443)/)[1-9][0-9]*)?)/")


def host_of(url: str) -> str:
    """Return the host that politeness goes by: the name, and the port where it is not that of the scheme.

    http and https of one name are one host. Raises ValueError for what is no URL.
    """
    if plain := _PLAIN.match(url):
        return plain[1]
    p = parts(url)
    return p.host if p.port == (443 if p.scheme == "https" else 80) else f"{p.host}:{p.port}"


def fingerprint(url: str) -> bytes:
    """Return 128 bits that are the same for URLs that name the same page.

    Query parameters count in any order; needless percent-escapes, and the case of needed ones, do not count (RFC 3986
    section 6.2.2), nor do session ids and campaign marks.
    """
    if "%" in url:
        url = _UNRESERVED.sub(lambda m: unquote_to_bytes(m[0]).decode("ascii"), url)
        url = _ESCAPE.sub(lambda m: m[0].upper(), url)
    path, mark, query = unmarked(url).partition("?")
    if mark:
        parameters = sorted(part for part in query.split("&") if part)
        path += "?" + "&".join(parameters) if parameters else ""
    return hashlib.blake2b(path.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def unmarked(url: str) -> str:
    """Return a URL without what names the visitor, or where he came from: session ids and campaign marks."""
    path, mark, query = url.partition("?")
    if ";" in path or "(" in path:
        path = _PATH_SESSION.sub("", path)
    if not mark:
        return path
    kept = [part for part in query.split("&") if not _VISITOR.match(part)]
    return f"{path}{mark}{'&'.join(kept)}" if kept else path


@dataclass(frozen=True, slots=True)
class Scope:
    """Which links belong to a source: its hosts, its include and exclude expressions."""

    hosts: frozenset[str]
    include: tuple[re.Pattern[str], ...] = ()
    exclude: tuple[re.Pattern[str], ...] = ()

    @classmethod
    def around(cls, urls: Iterable[str], include: Iterable[str] = (), exclude: Iterable[str] = ()) -> "Scope":
        """Return the scope of a source that starts from these URLs: their hosts, with and without www."""
        hosts = set()
        for url in urls:
            host = host_of(url)
            hosts |= {host, host.removeprefix("www."), "www." + host.removeprefix("www.")}
        return cls(frozenset(hosts), tuple(map(re.compile, include)), tuple(map(re.compile, exclude)))

    def admits(self, url: str) -> bool:
        """Say whether a canonical URL is on the source's hosts and passes its expressions."""
        try:
            if host_of(url) not in self.hosts:
                return False
        except ValueError:
            return False
        if self.include and not any(pattern.search(url) for pattern in self.include):
            return False
        return not any(pattern.search(url) for pattern in self.exclude)


def source_name(url: str) -> str:
    """Return a name for a source that starts at an address, by its host; "source" where it has none."""
    try:
        host = (urlsplit(url if "//" in url else f"//{url}").hostname or "").removeprefix("www.")
    except ValueError:
        host = ""
    name = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in host.lower())
    return name.strip("-")[:100] or "source"
