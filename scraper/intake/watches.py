"""What changedetection.io exports: its url-watches.json, a backup that holds it, or the answer of its API."""

import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any, BinaryIO

from scraper.config.settings import Source
from scraper.config.shape import Fault, build
from scraper.extract.items import faults
from scraper.extract.select import BadExpression, compiled_css
from scraper.intake.found import WHOLE_MOST, Found, Names, Unreadable, slug, web_fault, whole

MEMBER = "url-watches.json"
MEMBERS_MOST = 1_000_000
RATIO_MOST = 200  # deflate does not get near that on such a file
UNITS = {"weeks": 604_800, "days": 86_400, "hours": 3600, "minutes": 60, "seconds": 1}
BROWSERS = ("html_webdriver", "extra_browser_")
# What we have no like of. What is said of each is what stands there when nobody asked for it.
_NOT_OURS: dict[str, tuple[Any, ...]] = {
    "method": ("GET",),
    "processor": ("text_json_diff",),
    "fetch_backend": ("system", "html_requests", *BROWSERS[:1]),
}
_NOT_OURS |= dict.fromkeys(
    (
        "body", "browser_steps", "check_unique_lines", "conditions", "extract_text", "notification_body", "notification_muted",
        "notification_title", "notification_urls", "proxy", "remove_duplicate_lines", "sort_text_alphabetically",
        "text_should_not_be_present", "trigger_text", "trim_text_whitespace", "webdriver_delay", "webdriver_js_execute_code",
    ),
    (),
)  # fmt: skip
_DROPPED = ("item", "noise", "headers", "render", "every", "tags")


def read(file: BinaryIO, names: Names) -> Found:
    """Return a source for each watch. Raises Unreadable."""
    found = Found()
    document = _document(file)
    common = _common(document)
    for mark, watch in _watches(document).items():
        if not isinstance(watch, Mapping):
            found.refuse(str(mark)[:60], "is no watch")
        elif fault := web_fault(watch.get("url")):
            found.refuse(str(mark)[:60], fault)
        else:
            definition, notes = _source(watch, names, common)
            found.definitions.append(definition)
            found.notes += [f"{definition['name']}: {note}" for note in notes]
    return found


def looks_like(document: Any) -> bool:
    """Say whether a JSON document is one of these."""
    if not isinstance(document, Mapping) or not document:
        return False
    watches = document.get("watching", document)
    return isinstance(watches, Mapping) and all(isinstance(w, Mapping) and "url" in w for w in watches.values())


def _document(file: BinaryIO) -> Any:
    start = file.tell()
    data = _unzipped(file) if file.read(4) == b"PK\x03\x04" else None
    if data is None:
        file.seek(start)
        data = whole(file)
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"is no export of changedetection.io: {error}") from None


def _watches(document: Any) -> Mapping[str, Any]:
    watches = document.get("watching", document) if isinstance(document, Mapping) else None
    if not isinstance(watches, Mapping):
        raise Unreadable("is no export of changedetection.io: there are no watches in it")
    return watches


def _unzipped(file: BinaryIO) -> bytes:
    """The one member that counts. Nothing is unpacked to disk, and a name that leads elsewhere condemns the whole."""
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            if len(members) > MEMBERS_MOST or any(_strays(member.filename) for member in members):
                raise Unreadable("is no backup of changedetection.io: a name in it leads out of it")
            member = next((m for m in members if m.filename == MEMBER), None)
            if member is None:
                raise Unreadable(f"has no {MEMBER}; take the list from the API: GET /api/v1/watch")
            if member.file_size > WHOLE_MOST or member.file_size > max(member.compress_size, 1) * RATIO_MOST:
                raise Unreadable(f"{MEMBER} in it is too big, or packed too tightly to be true")
            with archive.open(member) as inside:
                return inside.read(WHOLE_MOST)
    except (zipfile.BadZipFile, RuntimeError, EOFError, OSError, ValueError) as error:
        raise Unreadable(f"cannot be unpacked: {error}") from None


def _strays(name: str) -> bool:
    places = PurePosixPath(name), PureWindowsPath(name)
    return any(place.is_absolute() or place.drive or place.root or ".." in place.parts for place in places)


@dataclass(frozen=True, slots=True)
class _Common:
    """What a file says for all of its watches: how often they are looked at, in seconds, and what their tags are called."""

    every: int | None = None
    tags: Mapping[str, Any] = field(default_factory=dict)


def _common(document: Any) -> _Common:
    settings = _member(document, "settings")
    between = _member(_member(settings, "requests"), "time_between_check")
    return _Common(_seconds(between), _member(_member(settings, "application"), "tags"))


def _member(found: Any, name: str) -> Mapping[str, Any]:
    value = found.get(name) if isinstance(found, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def _source(watch: Mapping[str, Any], names: Names, common: _Common) -> tuple[dict[str, Any], list[str]]:
    """The definition of a watch, and what is not carried over."""
    url, title = str(watch["url"]).strip(), watch.get("title")
    notes = [f"{name} is not carried over" for name in _left(watch)]
    given: dict[str, Any] = {"start": [url]}
    if every := _every(watch) or common.every:
        given["every"] = every
    if tags := list(_tags(watch.get("tags"), common, notes)):
        given["tags"] = tags
    if fields := dict(_fields(watch.get("include_filters"), notes)):
        given["item"] = [{"fields": fields}]
    if noise := _noise(watch, fields):
        given["noise"] = noise
    if headers := dict(_headers(watch.get("headers"), notes)):
        given["headers"] = headers
    if watch.get("paused"):
        given["enabled"] = False
    if str(watch.get("fetch_backend", "")).startswith(BROWSERS):
        given["render"] = True
    notes += _mended(given)
    named = isinstance(title, str) and re.search(r"[A-Za-z0-9]", title)
    return {"name": names.name(title) if named else names.of(url)} | given, notes


def _noise(watch: Mapping[str, Any], fields: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What of its page is no news: all but what it selects, what it takes away, and texts that it ignores."""
    made: dict[str, Any] = {}
    if fields and all(_is_css(field.get("css", "")) for field in fields.values()):
        made["only"] = [field["css"] for field in fields.values()]
    if parts := [css for css in _texts(watch.get("subtractive_selectors")) if _is_css(css)]:
        made["select"] = parts
    if texts := _texts(watch.get("ignore_text")):
        made["patterns"] = [text[1:-1] if re.fullmatch("/.+/", text) else re.escape(text) for text in texts]
    return made


def _is_css(text: str) -> bool:
    if not text or text.startswith(("/", "xpath")):
        return False
    try:
        compiled_css(text)
    except BadExpression:
        return False
    return True


def _texts(given: Any) -> list[str]:
    return [text for one in given if (text := str(one).strip())] if isinstance(given, list) else []


def _left(watch: Mapping[str, Any]) -> Iterator[str]:
    for name, usual in _NOT_OURS.items():
        value = watch.get(name)
        if value and value not in usual and not (name == "fetch_backend" and str(value).startswith(BROWSERS)):
            if name == "browser_steps" and isinstance(value, list) and not any(map(_is_step, value)):
                continue
            yield name
    limit = watch.get("time_schedule_limit")
    if isinstance(limit, Mapping) and limit.get("enabled"):
        yield "time_schedule_limit"


def _is_step(step: Any) -> bool:
    """Say whether a step does anything: its editor leaves empty ones."""
    return not isinstance(step, Mapping) or step.get("operation") not in (None, "", "Choose one", "Goto site")


def _every(watch: Mapping[str, Any]) -> int | None:
    """How often it is looked at, in seconds; None if nothing was said."""
    return None if watch.get("time_between_check_use_default") else _seconds(_member(watch, "time_between_check"))


def _seconds(between: Mapping[str, Any]) -> int | None:
    seconds = 0
    for unit, size in UNITS.items():
        told = str(between.get(unit) or 0)
        seconds += int(told) * size if told.isdecimal() and len(told) < 9 else 0
    return seconds or None


def _tags(given: Any, common: _Common, notes: list[str]) -> Iterator[str]:
    """What its tags are called: a watch has their marks alone."""
    for mark in given if isinstance(given, list) else ():
        title = _member(common.tags, str(mark)).get("title")
        if isinstance(title, str) and (name := slug(title)):
            yield name
        else:
            notes.append(f"the tag {str(mark)[:60]!r} is not carried over: the file does not say what it is called")


def _fields(filters: Any, notes: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The fields for filters: the first is the text, further ones text2, text3."""
    given = filters if isinstance(filters, list) else [filters]
    count = 0
    for text in (str(one).strip() for one in given if one):
        expression = _expression(text)
        if expression is None:
            notes.append(f"the filter {text[:200]!r} is not carried over")
        elif text:
            count += 1
            yield f"text{count if count > 1 else ''}", {**expression, "many": True}


def _expression(text: str) -> dict[str, Any] | None:
    kind, mark, rest = text.partition(":")
    if mark and kind in ("xpath", "xpath1"):
        return {"xpath": rest.strip()}
    if text.startswith("/"):
        return {"xpath": text}
    if mark and kind == "json":
        path = re.sub(r"^\$\.?", "", rest.strip())
        # The part that JSONPath and JMESPath have in common.
        return {"json": path} if re.fullmatch(r"[A-Za-z_]\w*((\.[A-Za-z_]\w*)|\[(\d+|\*)\])*", path) else None
    return None if mark and kind in ("jq", "jqraw") else {"css": text}


def _headers(headers: Any, notes: list[str]) -> Iterator[tuple[str, str]]:
    for name, value in headers.items() if isinstance(headers, Mapping) else ():
        if "${" in str(value):  # here that names a variable of ours, which no file from elsewhere may ask for
            notes.append(f"the header {str(name)[:100]!r} is not carried over")
        else:
            yield str(name), str(value)


def _mended(given: dict[str, Any]) -> Iterator[str]:
    """Take out what would be refused. Yields why."""
    for _ in _DROPPED:
        told: list[Fault] = []
        made = build(Source, {"name": "watch", **given}, (), told)
        told += faults(made) if made is not None else []
        for path, message in told[:1]:
            key = str(path[0]) if path else ""
            if key in _DROPPED and given.pop(key, None) is not None:
                yield f"{key} is not carried over: {message}"
