"""Canonical form, fingerprint, host and scope of URLs. Pure.

Parsing is that of the WHATWG URL standard, by one parser, once: what was checked is what is asked.
"""

import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import unquote_to_bytes

import ada_url

MAX_LENGTH = 2048
_UNRESERVED = re.compile(r"%(4[1-9A-F]|5[0-9AF]|6[1-9A-F]|7[0-9AE]|3[0-9]|2[DE])", re.IGNORECASE)
_ESCAPE = re.compile(r"%[0-9a-f]{2}", re.IGNORECASE)


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
    text = reference.strip(" \t\n\r\f")
    try:
        href: str = ada_url.join_url(base, text) if base is not None else ada_url.normalize_url(text)
    except ValueError:
        return None
    href = href.partition("#")[0]
    return href if len(href) <= MAX_LENGTH else None


def is_web(url: str) -> bool:
    """Say whether a canonical URL is http or https."""
    return url.startswith(("http://", "https://"))


@lru_cache(maxsize=4096)
def parts(url: str) -> Parts:
    """Return the pieces of a URL. Raises ValueError if it is none."""
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


def host_of(url: str) -> str:
    """Return the host that politeness goes by: the name, and the port where it is not that of the scheme.

    http and https of one name are one host. Raises ValueError for what is no URL.
    """
    p = parts(url)
    return p.host if p.port == (443 if p.scheme == "https" else 80) else f"{p.host}:{p.port}"


def fingerprint(url: str) -> bytes:
    """Return 128 bits that are the same for URLs that name the same page.

    Query parameters count in any order; needless percent-escapes, and the case of needed ones, do not count (RFC 3986
    section 6.2.2).
    """
    url = _UNRESERVED.sub(lambda m: unquote_to_bytes(m[0]).decode("ascii"), url)
    url = _ESCAPE.sub(lambda m: m[0].upper(), url)
    path, mark, query = url.partition("?")
    if mark:
        path += "?" + "&".join(sorted(query.split("&"))) if query else ""
    return hashlib.blake2b(path.encode("utf-8", "surrogatepass"), digest_size=16).digest()


@dataclass(frozen=True, slots=True)
class Scope:
    """Which links belong to a source: its hosts, its include and exclude expressions."""

    hosts: frozenset[str]
    include: tuple[re.Pattern[str], ...] = ()
    exclude: tuple[re.Pattern[str], ...] = ()

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
