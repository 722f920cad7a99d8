"""Secrets of sources, hidden from those who may not read them."""

from collections.abc import Callable, Mapping
from typing import Any

from scraper.config import secrets
from scraper.errors import BadConfig, Problem
from scraper.urls import canonical

HIDDEN = "***"


def masked(definition: Mapping[str, Any]) -> dict[str, Any]:
    """Return a definition without the values of secrets; names of variables stay."""
    made = _covered(definition, lambda _, value: value if not secrets.says(value) else HIDDEN)
    proxy = made.get("http", {}).get("proxy", "") if isinstance(made.get("http"), Mapping) else ""
    if "@" in str(proxy):
        made["http"] = {**made["http"], "proxy": f"{proxy.partition('://')[0]}://{HIDDEN}@{proxy.rpartition('@')[2]}"}
    return made


def unmasked(given: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """Return a definition with the secrets that were hidden from who gives it back.

    They stay with the hosts that they were given for: who may write, but not read them, sends them nowhere else. Raises BadConfig.
    """
    there = {path: value for path, value in _secrets(before)}
    elsewhere = sorted(_hosts(given) - _hosts(before))

    def kept(path: tuple[str, ...], value: str) -> str:
        if value != HIDDEN:
            return value
        if path not in there:
            raise BadConfig([Problem(".".join(path), "is hidden: give the value itself")])
        if elsewhere:
            said = f"was hidden from you, and is not for {', '.join(elsewhere)[:200]}: give it again"
            raise BadConfig([Problem(".".join(path), said)])
        return there[path]

    return _covered(given, kept)


def _hosts(definition: Mapping[str, Any]) -> set[str]:
    """The hosts that a definition asks first, each with its scheme and port: its secrets are for them."""
    login = definition.get("login")
    lists = [texts for key in ("start", "sitemaps") if isinstance(texts := definition.get(key), list)]
    found = [text for texts in lists for text in texts] + [login.get("url") if isinstance(login, Mapping) else None]
    urls = [url for text in found if isinstance(text, str) and (url := canonical(text))]
    return {"/".join(url.split("/")[:3]) for url in urls}


def _secrets(definition: Mapping[str, Any]) -> list[tuple[tuple[str, ...], str]]:
    found: list[tuple[tuple[str, ...], str]] = []

    def note(path: tuple[str, ...], value: str) -> str:
        found.append((path, value))
        return value

    _covered(definition, note)
    return found


def _covered(definition: Mapping[str, Any], each: Callable[[tuple[str, ...], str], str]) -> dict[str, Any]:
    """A copy of a definition in which each secret is what a function makes of it."""
    made = dict(definition)
    for key in ("headers", "cookies"):
        if isinstance(table := made.get(key), Mapping):
            made[key] = {
                name: each((key, name), value) if isinstance(value, str) else value for name, value in table.items()
            }
    login = made.get("login")
    if isinstance(login, Mapping) and isinstance(login.get("form"), Mapping):
        form = {name: each(("login", name), v) if isinstance(v, str) else v for name, v in login["form"].items()}
        made["login"] = {**login, "form": form}
    return made
