"""What values a setting takes: each rule returns the value, or raises Refused with what would be right."""

import ipaddress
import re
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from scraper.config.shape import Refused, sound
from scraper.urls import canonical, host_of, parts


def most(maximum: float) -> Any:
    """Return a rule: no more than the maximum."""

    def rule(value: Any) -> Any:
        if value > maximum:
            raise Refused(f"{value!r} is too big; at most {maximum:g}")
        return value

    return rule


def least(minimum: float) -> Any:
    """Return a rule: a number, no less than the minimum."""

    def rule(value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Refused(f"wants a number, not {value!r}")
        if not minimum <= value < 1e15:
            raise Refused(
                f"{value!r} is too small; at least {minimum:,.15g}" if value < minimum else f"{value!r} is too big"
            )
        return value

    return rule


def whole(value: Any) -> int:
    """A whole number."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise Refused(f"wants a whole number, not {value!r}")
    return value


def port(value: Any) -> int:
    """A port; 0: any free one."""
    if not 0 <= whole(value) <= 65535:
        raise Refused(f"{value!r} is no port; 1 to 65535, or 0 for any free one")
    return int(value)


def text(value: Any) -> str:
    """A text."""
    if not isinstance(value, str):
        raise Refused(f"wants a text, not {value!r}")
    return value


def name(value: Any) -> str:
    """A name that is fit for commands, files and URLs."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,99}", text(value)):
        raise Refused(f"{value!r} is no name; lower-case letters, digits, - and _, the first one a letter or a digit")
    return str(value)


def regex(value: Any) -> str:
    """A regular expression that can be compiled, and finds something."""
    if text(value) == "":
        raise Refused("is empty, and would be found everywhere; leave it out")
    try:
        re.compile(sound(value))
    except (re.error, OverflowError, RecursionError) as error:
        raise Refused(f"{value!r} is no regular expression: {error}") from None
    return str(value)


def web(value: Any) -> str:
    """An http or https address that can be asked."""
    match = re.match(r"([a-zA-Z][a-zA-Z0-9+.-]*):", text(value))
    if match is None or match[1].lower() not in ("http", "https"):
        raise Refused(f"{value!r} is no web address; it begins with http:// or https://")
    if not re.match(r"(?i)https?://[^/?#\s]+", value):
        raise Refused(f"{value!r} names no host")
    url = canonical(str(value))
    try:
        if url is None or parts(url).userinfo or not host_of(url):
            raise ValueError
    except ValueError:
        raise Refused(
            f"{value!r} is no address that can be asked (at most 2048 characters, no user or password)"
        ) from None
    return str(value)


def web_or_nothing(value: Any) -> str:
    """An http or https address that can be asked, or nothing."""
    return web(value) if text(value) else ""


def window(value: Any) -> str:
    """Hours of the day."""
    match = re.fullmatch(r"\s*(\d\d?):(\d\d)\s*-\s*(\d\d?):(\d\d)\s*", text(value))
    if match is None or any(
        int(h) * 60 + int(m) > 24 * 60 or int(m) > 59 for h, m in (match.groups()[:2], match.groups()[2:])
    ):
        raise Refused(f'{value!r} is no window of the day; write for example "22:00-06:00"')
    return str(value)


def zone(value: Any) -> str:
    """A time zone by its IANA name, or nothing for that of this machine."""
    try:
        if text(value):
            ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise Refused(f'{value!r} is no time zone; write for example "Europe/Berlin"') from None
    return str(value)


def header_value(value: Any) -> str:
    """The value of a header."""
    if not text(value).isprintable():
        raise Refused("wants printable characters; no line ends")
    return str(value)


def header_fault(name: str) -> str | None:
    """Say what is wrong with the name of a header, or None."""
    if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_|~-]+", name):
        return f"{name!r} is no name of a header"
    if name.lower() in ("host", "content-length", "transfer-encoding", "connection", "cookie"):
        return f"{name!r} cannot be set here" + ("; use cookies" if name.lower() == "cookie" else "")
    return None


def network(value: Any) -> str:
    """A network as CIDR."""
    try:
        ipaddress.ip_network(text(value), strict=True)
    except ValueError as error:
        raise Refused(f"{value!r} is no network: {error}; write it as CIDR, for example 192.168.1.0/24") from None
    return str(value)


def import_path(value: Any) -> str:
    """module:function."""
    if not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", text(value)):
        raise Refused(f'{value!r} names no function; write "module:function"')
    return str(value)


def simple(value: Any) -> Any:
    """A value that JSON has, or a list of such."""
    members = value if isinstance(value, list) else [value]
    if any(not isinstance(sound(member), str | bool | int | float | None) for member in members):
        raise Refused(f"wants a text, a number, true, false, or a list of these, not {value!r}")
    return value


def http2(value: Any) -> bool:
    """Whether HTTP/2 is spoken; that needs an extra."""
    if not isinstance(value, bool):
        raise Refused(f"wants true or false, not {value!r}")
    if value and find_spec("h2") is None:
        raise Refused("needs the extra: pip install 'bowerbird[http2]'")
    return value


def render_fault() -> str | None:
    """Say what pages cannot be rendered for want of, or None."""
    if find_spec("playwright") is None:
        return "needs the extra: pip install 'bowerbird[browser]'"
    return None


def proxy(value: Any) -> str:
    """The address of a proxy, or nothing."""
    said = text(value)
    try:
        where = urlsplit(said)
        _ = where.port  # raises for what is none
        sound = not said or bool(re.fullmatch(r"(?i)(https?|socks5h?)://[^/\s]+/?", said) and where.hostname)
    except ValueError:
        sound = False
    shown = f"{said.partition('://')[0]}://***@{said.rpartition('@')[2]}" if "@" in said else said
    if not sound:
        raise Refused(f"{shown!r} is no proxy; write for example http://10.0.0.1:3128 or socks5://...")
    if str(value).lower().startswith("socks") and find_spec("socksio") is None:
        raise Refused("needs the extra: pip install 'bowerbird[socks]'")
    return text(value)
