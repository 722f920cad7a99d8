"""Text to int, float, decimal, bool, date, url. Pure. Each raises ValueError for what it cannot read."""

import contextlib
import re
import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime, time
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import Any, Self

from scraper.extract import months
from scraper.urls import canonical

_NUMBER = re.compile(
    r"(?:(?<![0-9A-Za-z])[-+\u2212]\s?)?(?:(?<![0-9A-Za-z.,])[.,](?=[0-9]))?[0-9](?:[0-9.,'\u2019]|[\u00a0\u202f ](?=[0-9]{3}(?![0-9])))*(?:[eE][-+]?[0-9]{1,3}(?![0-9A-Za-z]))?"
)
_THOUSANDS = re.compile(r"[-+]?[1-9][0-9]{0,2}[.,][0-9]{3}")
# Money of countries that write 1.299,00: beside it one dot before three digits is no decimal mark. What is sold by the litre, the kilogram
# or the like may cost 1.799.
_MONEY = (
    r"(?:€|EUR|Euros?|Kč|CZK|zł(?:otych)?|PLN|kr|kroner|kronor|DKK|NOK|SEK|ISK|HUF|(?-i:Ft)|RON|lei|₫|đ|đồng|VND|VNĐ|Rp|IDR|R\$|BRL|₺|TL|TRY|RSD|"
    r"COP|CLP|ARS|₲|PYG|₡|CRC)"
)
# Of these there is no small change: what stands after a mark is no part of one.
_WHOLE = r"(?:ISK|HUF|(?-i:Ft)|₫|đ|đồng|VND|VNĐ|Rp|IDR|COP|CLP|₲|PYG|₡|CRC|RSD)"
_WHOLE_BEFORE = re.compile(rf"(?<!\w){_WHOLE}\.?\s?$", re.IGNORECASE)
_WHOLE_AFTER = re.compile(rf"\s?{_WHOLE}(?!\w)", re.IGNORECASE)
_BEFORE = re.compile(rf"(?<!\w){_MONEY}\.?\s?$", re.IGNORECASE)
_AFTER = re.compile(rf"(?:[.,]?\s?[-–—]\s?[\d.,]*)?\s?{_MONEY}(?!\w)", re.IGNORECASE)
_BY_MEASURE = re.compile(
    rf"\s?(?:{_MONEY})?\.?\s?(?:/|je|pro|per|par|p\.)\s?(?:100?\s?)?(?:l|ltr|liter|litre|kg|kwh|m[³3]?|g|ml|cl)(?![\w²])",
    re.IGNORECASE,
)
# A minus before what the money is called (CLDR: "-$5.00").
_OWED = re.compile(
    rf"(?<![0-9A-Za-z])[-\u2212](?:[A-Z]{{0,3}}[$\u00a2-\u00a5\u20a0-\u20cf]|[A-Z]{{3}}|(?i:{_MONEY}))\.?\s?$"
)
_GROUPS = re.compile(r"[-+]?[0-9]{1,3}(?:[.,][0-9]{3})+")
_UNSEEN = re.compile("[\u00ad\u200b-\u200f\u2060\u2066-\u2069\ufeff]")
_WITHIN = re.compile(r"(?<=[0-9])€(?=[0-9]{2}(?![0-9]))")  # 12€99
_DASHES = ("-", "\u2012", "\u2013", "\u2014")
_MARKS = {"\u066b": ".", "\u066c": ",", "\uff0e": ".", "\uff0c": ","}
MAX_TEXT = 1000
DIGITS_MOST = 400
_TRUE = {"true", "yes", "y", "1", "on"}
_FALSE = {"false", "no", "n", "0", "off", ""}
DIGITS_OF_FLOATS = 300
# Times of the afternoon; and those of RFC 5322, with the zones that it knows.
_HALF_DAY = re.compile(
    r"(?<![0-9:])(?P<hour>1[0-2]|0?[1-9])(?::(?P<rest>[0-5][0-9](?::[0-5][0-9])?))? ?(?P<half>[ap])\.?m\.?$",
    re.IGNORECASE,
)
_CLOCK = re.compile(
    r"(?<![-+:0-9])[0-9]{1,2}:[0-9]{2}(?::[0-9]{2})?(?: (?:[+-][0-9]{4}|UTC?|GMT|Z|[ECMP][SD]T))?(?: ?\([^()]*\)| [0-9]{4})?$",
    re.IGNORECASE,
)
_COLON_OF_ZONE = re.compile(r"(?<=[0-9] [+-][0-9]{2}):(?=[0-9]{2}(?: |$))")
_TIMED = re.compile(r"(.*?),?(?: at)? ([0-9]{1,2}:[0-9]{2}|[0-9]{2}:[0-9]{2}:[0-9]{2})", re.IGNORECASE)
_DATES = (
    *(
        "%d %B %Y",
        "%d %b %Y",
        "%d-%b-%Y",
        "%d-%b-%y",
        "%B %d %Y",
        "%b %d %Y",
        "%d/%m/%Y",
        "%d-%m-%Y",
        "%d.%m.%Y",
        "%d.%m.%y",
    ),
    *("%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%Y年%m月%d日", "%Y년 %m월 %d일", "%Y %b %d", "%Y %d %b", "%Y%m%d"),
)
# What people write around a date that says nothing more: the day of the week, "th", the dot of a month that is cut short.
_WEEKDAY = re.compile(
    r"(?:mon|tues?|wed(?:nes)?|thu(?:rs)?|fri|sat(?:ur)?|sun)(?:day)?\.?,? (?=[0-9A-Za-z])", re.IGNORECASE
)
_WEEKDAY_BEHIND = re.compile(
    r"(?<=日) ?(?:[(（][月火水木金土日][)）]|[月火水木金土日]曜日|星期[一二三四五六日天])|(?<=일) [월화수목금토일]요일"
)
_APART = re.compile(r"(?<=[0-9][.]) (?=[0-9]{1,2}\.|[0-9]{4}\b)")  # 17. 1. 2025
_ORDINAL = re.compile(r"(?<=[0-9])(?:st|nd|rd|th)\b", re.IGNORECASE)
_CUT_SHORT = re.compile(r"\b(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)(?:t\b\.?|\.)", re.IGNORECASE)
_BEFORE_YEAR = re.compile(r"([A-Za-z]+ [0-9]{1,2}|[0-9]{1,2} [A-Za-z]+), ?(?=[0-9]{4}\b)")
_OF = re.compile(r"(?<=[0-9]) of (?=[A-Za-z])", re.IGNORECASE)
# Seconds or milliseconds since 1970, as JSON has them; .NET has words around them, others have them behind the date.
_EPOCH = re.compile(r"(?:/Date\()?([1-9][0-9]{9})(?:[0-9]{3})?(?:\.[0-9]+)?(?:\)/)?")
_EPOCH_BEHIND = re.compile(r"(?<=[0-9]T[0-9]{2}:[0-9]{2}:[0-9]{2}) [1-9][0-9]{9}$")
_ZONE_BEHIND = re.compile(r"(:[0-9]{2}) ([0-9]{4}) (UTC|GMT)$")
_AT = re.compile(r"(?<=[0-9]{4}) at (?=[0-9])", re.IGNORECASE)
_ISO = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9:.]+) ?(?:Z|UTC|GMT)", re.IGNORECASE)


class Exact(float):
    """A number of a JSON document that still knows how it was written."""

    def __new__(cls, text: str) -> Self:
        """text: as it stands in the document."""
        made = super().__new__(cls, text)
        made.text = text
        return made

    def __str__(self) -> str:
        return self.text

    text: str


Exact.__name__ = "float"  # JMESPath knows what may be done with a value by the name of its type


def number(text: str, *, whole: bool = False) -> Decimal:
    """Return the first number in a text, whatever currency, thousands mark or decimal mark it carries.

    whole: it has no decimals, so a mark before three digits is none of them ("125.000 km").

    The last of two different marks is the decimal one; so is a single one, unless three digits follow, and one to three precede,
    which do not begin with 0, and it is a comma, or a dot beside money of a country that writes it so. A mark before a dash is
    the decimal one: "1.500,-".
    """
    text = _in_ascii(" ".join(_UNSEEN.sub("", text).split())[:MAX_TEXT])
    text = _WITHIN.sub(",", text)
    match = _NUMBER.search(text)
    if match is None:
        raise ValueError(f"no number in {text[:80]!r}")
    found, _, exponent = match[0].lower().partition("e")
    found = re.sub(r"[\s'\u2019\u00a0\u202f]", "", found).replace("\u2212", "-")
    if found[-1] in ".," and text[match.end() : match.end() + 1] in _DASHES:
        grouped = _GROUPS.fullmatch(found[:-1]) is not None
        found = re.sub("[.,]", "", found) if grouped else found[:-1].replace("." if found[-1] == "," else ",", "")
    found = found.rstrip(".,")
    dot, comma = found.rfind("."), found.rfind(",")
    if dot >= 0 and comma >= 0:
        thousands, decimal = (",", ".") if dot > comma else (".", ",")
        found = found.replace(thousands, "").replace(decimal, ".")
    elif comma >= 0:
        single = found.count(",") == 1 and (not _THOUSANDS.fullmatch(found) or _is_by_measure(text, match))
        found = found.replace(",", "." if single else "")
    elif found.count(".") > 1 or (dot >= 0 and _THOUSANDS.fullmatch(found) and (whole or _is_money(text, match))):
        found = found.replace(".", "")
    if len(found) > DIGITS_MOST:
        raise ValueError(f"more than {DIGITS_MOST} digits")
    if found[0] not in "-+" and _OWED.search(text, 0, match.start()):
        found = f"-{found}"
    return Decimal(f"{found}e{exponent}" if exponent else found)


def _in_ascii(text: str) -> str:
    """A text with the digits and marks of any script as those of ASCII."""
    if text.isascii():
        return text
    return "".join(str(unicodedata.decimal(c)) if c.isdecimal() else _MARKS.get(c, c) for c in text)


def _is_by_measure(text: str, number: "re.Match[str]") -> bool:
    """Whether a number is money, of a country that writes 1,849, for a litre or the like."""
    return _BY_MEASURE.match(text, number.end()) is not None and _is_beside_money(text, number)


def _is_money(text: str, number: "re.Match[str]") -> bool:
    if _WHOLE_AFTER.match(text, number.end()) or _WHOLE_BEFORE.search(text, 0, number.start()):
        return True
    return not _BY_MEASURE.match(text, number.end()) and _is_beside_money(text, number)


def _is_beside_money(text: str, number: "re.Match[str]") -> bool:
    return _AFTER.match(text, number.end()) is not None or _BEFORE.search(text, 0, number.start()) is not None


def _integer(text: str, base: str) -> int:
    return int(number(text, whole=True))


def _float(text: str, base: str) -> float:
    return float(number(text))


def _decimal(text: str, base: str) -> str:
    return format(number(text), "f")


def _boolean(text: str, base: str) -> bool:
    word = text.strip().lower()
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    raise ValueError(f"{text[:80]!r} is neither true nor false")


def _whole(value: float) -> int:
    if isinstance(value, Exact) and len(value.text) <= DIGITS_MOST and abs(value) < 10.0**DIGITS_OF_FLOATS:
        return int(Decimal(value.text))
    return int(value)


def _date(text: str, base: str) -> str:
    text = _in_ascii(" ".join(_UNSEEN.sub("", text).split()))[:MAX_TEXT]
    try:
        return _in_numbers_or_english(text)
    except ValueError:
        if (said := months.in_english(text)) is None:
            raise
    with contextlib.suppress(ValueError):
        return _in_numbers_or_english(said)
    raise ValueError(f"{text[:80]!r} is no date that is understood")


def _in_numbers_or_english(text: str) -> str:
    text = _EPOCH_BEHIND.sub("", _AT.sub(" ", _ZONE_BEHIND.sub(r"\1 \3 \2", text))).removesuffix(" Uhr")
    if zulu := _ISO.fullmatch(text):
        text = f"{zulu[1]}T{zulu[2]}+00:00"
    if half := _HALF_DAY.search(text):
        hour = int(half["hour"]) % 12 + 12 * (half["half"] in "pP")
        text = f"{text[: half.start()]}{hour:02}:{half['rest'] or '00'}"
    if since := _EPOCH.fullmatch(text):
        return datetime.fromtimestamp(int(since[1]), UTC).isoformat()
    try:
        moment = datetime.fromisoformat(text)
        return moment.date().isoformat() if len(text) <= 10 else moment.isoformat()
    except ValueError:
        pass
    text = _APART.sub("", _WEEKDAY_BEHIND.sub("", text)).removesuffix(" г.").removesuffix(".")
    plain = _ORDINAL.sub("", _WEEKDAY.sub("", text, count=1) if _WEEKDAY.match(text) else text)
    plain = _BEFORE_YEAR.sub(r"\1 ", _CUT_SHORT.sub(r"\1", _OF.sub(" ", plain)))
    day, clock = (timed[1], timed[2]) if (timed := _TIMED.fullmatch(plain)) else (plain, "")
    for form in _DATES:
        if form == "%Y%m%d" and len(day) != 8:  # else "202512" would be the second of January
            continue
        with contextlib.suppress(ValueError):
            parsed = datetime.strptime(day, form).date()  # noqa: DTZ007  a day has no time zone
            return f"{parsed}T{time.fromisoformat(clock.zfill(5))}" if clock else f"{parsed}"
    try:
        text = _COLON_OF_ZONE.sub("", text)
        if not _CLOCK.search(text):  # what comes after it would count for nothing
            raise ValueError(text)
        return parsedate_to_datetime(text).isoformat()
    except (ValueError, TypeError, IndexError):
        raise ValueError(f"{text[:80]!r} is no date that is understood") from None


def _url(text: str, base: str) -> str:
    found = canonical(text, base)
    if found is None:
        raise ValueError(f"{text[:80]!r} is no URL")
    return found


_CONVERTERS: dict[str, Callable[[str, str], Any]] = {
    "str": lambda text, base: text,
    "int": _integer,
    "float": _float,
    "decimal": _decimal,
    "bool": _boolean,
    "date": _date,
    "url": _url,
}


def convert(value: Any, wanted: str | None, base: str) -> Any:
    """Return a value as the type that is wanted; decimals come as text, so that JSON keeps every digit.

    base: the URL that relative ones are relative to. Without a wanted type, JSON values stay what they are.
    Raises ValueError.
    """
    if wanted is None:
        return value
    if isinstance(value, bool) and wanted in ("bool", "str"):
        return value if wanted == "bool" else str(value).lower()
    if isinstance(value, float) and wanted == "decimal":
        said = value.text if isinstance(value, Exact) and len(value.text) <= DIGITS_MOST else repr(float(value))
        exact = Decimal(said)
        return format(exact if abs(exact.adjusted()) <= DIGITS_MOST else Decimal(repr(float(value))), "f")
    if wanted == "int" and isinstance(value, int | float):
        return _whole(value)
    if wanted == "float" and isinstance(value, int | float):
        return float(value)
    return _CONVERTERS[wanted](value if isinstance(value, str) else str(value), base)
