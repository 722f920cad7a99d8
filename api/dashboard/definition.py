"""A source's definition as a form, and as TOML. Pure."""

import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields, is_dataclass
from functools import cache
from typing import Any

from scraper.config.settings import Expression, FieldRule, ItemRule, Login, Noise, Recheck, Source
from scraper.urls import source_name

FIELDS = 10

Form = Mapping[str, list[str]]


def blank(url: str) -> dict[str, Any]:
    """Return what the form for a new source shows at first."""
    given = {
        "url": url,
        "name": source_name(url) if url else "",
        "every": "1h",
        "follow": "",
        "kind": "item",
        "select": "",
    }
    return {"given": given | {"key": "", "fields": []}, "found": None, "problem": None}


def _one(form: Form, name: str) -> str:
    return form.get(name, [""])[0].strip()


def of_form(form: Form) -> dict[str, Any]:
    """Return the definition that a form describes, as in the configuration; what is wrong with it is not looked at here."""
    url = _one(form, "url")
    url = url if not url or "://" in url else f"https://{url}"
    made: dict[str, Any] = {"name": _one(form, "name") or source_name(url), "start": [url] if url else []}
    for key in ("every", "cron"):
        if value := _one(form, key):
            made[key] = value
    if follow := _one(form, "follow"):
        made["follow"] = True if follow == "*" else [line.strip() for line in follow.splitlines() if line.strip()]
    named = {name: rule for name, rule in _fields(form)}
    if named:
        item: dict[str, Any] = {"kind": _one(form, "kind") or "item", "fields": named}
        if select := _one(form, "select"):
            item["select"] = select
        if key_names := [name for name in _one(form, "key").replace(",", " ").split() if name]:
            item["key"] = key_names
        made["item"] = [item]
    return made


def _fields(form: Form) -> list[tuple[str, dict[str, Any]]]:
    names, places = form.get("field_name", []), form.get("field_place", [])
    types = form.get("field_type", [])
    found = []
    for number, (name, place) in enumerate(zip(names, places, strict=False)):
        if name.strip() and place.strip():
            kind = types[number] if number < len(types) else ""
            found.append((name.strip(), _place(place.strip()) | ({"type": kind} if kind else {})))
    return found


def _place(text: str) -> dict[str, Any]:
    """Where a value stands: CSS, or another kind with its name before it."""
    for kind in ("xpath", "jsonld", "json", "css"):
        if text.startswith(f"{kind}:"):
            return {kind: text[len(kind) + 1 :].strip()}
    return {"css": text}


def shown(form: Form, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the form shows again."""
    rule = (given.get("item") or [{}])[0]
    follow = given.get("follow", "")
    return {
        "url": (given.get("start") or [""])[0],
        "name": given["name"],
        "every": given.get("every", ""),
        "follow": "*" if follow is True else "\n".join(follow),
        "page": _one(form, "page"),
        "kind": rule.get("kind", "item"),
        "select": rule.get("select", ""),
        "key": ", ".join(rule.get("key", ())),
        "fields": [
            {"name": name, "place": place_of(field), "type": field.get("type", "")}
            for name, field in rule.get("fields", {}).items()
        ],
    }


def place_of(field: Mapping[str, Any] | str) -> str:
    """Return where a field stands as the form writes it."""
    if isinstance(field, str):
        return field
    kind = next(kind for kind in ("css", "xpath", "jsonld", "json") if field.get(kind) is not None)
    return str(field[kind]) if kind == "css" else f"{kind}:{field[kind]}"


def as_toml(definition: Mapping[str, Any]) -> str:
    """Return a definition as it would stand in the configuration, below [[source]]; what is at its default is left out."""
    said = _said(definition, Source)
    rules = said.pop("item", ())
    lines = [f"{name} = {_value(value, TABLES.get(name))}" for name, value in said.items()]
    for rule in rules:
        of_rule = _said(rule, ItemRule)
        named = of_rule.pop("fields", {})
        lines += ["", "[[item]]"]
        lines += [f"{name} = {_value(value, TABLES.get(name))}" for name, value in of_rule.items()]
        lines += ["[item.fields]"]
        lines += [f"{_key(name)} = {_value(field, FieldRule)}" for name, field in named.items()]
    return "\n".join(lines) + "\n"


TABLES = {
    "noise": Noise,
    "recheck": Recheck,
    "login": Login,
    "select": Expression,
}  # of others all that is there is said


def _said(values: Mapping[str, Any], kind: type | None) -> dict[str, Any]:
    """What of a table is not as it is where nothing is said."""
    usual = _usual(kind) if kind is not None else {}
    return {
        name: value
        for name, value in values.items()
        if value is not None and not (name in usual and _plain(value) == usual[name])
    }


@cache
def _usual(kind: type) -> dict[str, Any]:
    """The defaults of a table, as JSON has them."""
    found = {}
    for key in fields(kind):
        if key.default is not MISSING:
            found[key.name] = _plain(key.default)
        elif key.default_factory is not MISSING:
            found[key.name] = _plain(key.default_factory())
    return found


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {name: _plain(member) for name, member in asdict(value).items()}
    return [_plain(member) for member in value] if isinstance(value, list | tuple) else value


def _key(name: str) -> str:
    plain = name.isascii() and name.replace("_", "").replace("-", "").isalnum()
    return name if plain else json.dumps(name)


def _value(value: Any, kind: type | None = None) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(name)} = {_value(v)}" for name, v in _said(value, kind).items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(member) for member in value) + "]"
    if isinstance(value, int | float):
        return str(value)
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
