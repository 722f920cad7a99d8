"""What a notification says: its payload, its subject and its text. Pure."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from scraper import jmes
from scraper.records import called
from scraper.template import BadTemplate, filled

CHANGES_MOST = 1000  # of one message; all are counted
VALUE_MOST = 300
TEXT_MOST = 20_000


def of_changes(rule: str, found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the payload that tells of changes, each with the key, url and data of what it is of."""
    return {
        "type": "changes",
        "rule": rule,
        "count": len(found),
        "changes": [_shown(one) for one in found[:CHANGES_MOST]],
    }


def test(rule: str) -> dict[str, Any]:
    """Return the payload of a test."""
    return {"type": "test", "rule": rule, "said": "This is a test. Whoever reads it is told by Bowerbird."}


def merged(payload: Mapping[str, Any], more: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a payload of changes with more of them."""
    room = max(0, CHANGES_MOST - len(payload["changes"]))
    shown = [*payload["changes"], *(_shown(one) for one in more[:room])]
    return {**payload, "count": payload["count"] + len(more), "changes": shown}


def _shown(change: Mapping[str, Any]) -> dict[str, Any]:
    made = {name: change[name] for name in ("id", "source", "of", "kind", "change", "item_id", "page_id", "key", "url")}
    fields = {name: [_short(old), _short(new)] for name, (old, new) in change["fields"].items()}
    return made | {"at": change["at"].isoformat(), "title": _title(change), "fields": fields}


def _title(change: Mapping[str, Any]) -> str:
    return str(_short(called(change.get("data"), change.get("title"), change.get("key"), change.get("url"))))


def _short(value: Any) -> Any:
    if isinstance(value, str) and len(value) > VALUE_MOST:
        return value[: VALUE_MOST - 1] + "…"
    if isinstance(value, dict | list) and len(json.dumps(value, default=str)) > VALUE_MOST:
        return json.dumps(value, default=str, ensure_ascii=False)[: VALUE_MOST - 1] + "…"
    return value


def matches(where: str, change: Mapping[str, Any]) -> bool:
    """Say whether a condition (JMESPath) holds of a change: over source, of, kind, change, key, url, data, old and new."""
    if not where:
        return True
    fields = change["fields"]
    told = {name: change.get(name) for name in ("source", "of", "kind", "change", "key", "url", "data")}
    told |= {"old": {name: pair[0] for name, pair in fields.items()}, "new": {n: pair[1] for n, pair in fields.items()}}
    return jmes.holds(where, told)


def subject(payload: Mapping[str, Any]) -> str:
    """Return what a message is about, in one line."""
    if payload["type"] != "changes":
        return str(payload["said"]).partition("\n")[0][:200]
    counts = Counter(change["change"] for change in payload["changes"])
    told = ", ".join(f"{count} {name}" for name, count in counts.most_common())
    names = sorted({change["source"] for change in payload["changes"]})
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return f"{shown}: {told}" + (f" of {payload['count']}" if payload["count"] > len(payload["changes"]) else "")


def text(payload: Mapping[str, Any], template: str) -> str:
    """Return the text of a message; a template that fails does not keep it back."""
    if not template:
        return _usual(payload)[:TEXT_MOST]
    try:
        return filled(template, {**payload, "subject": subject(payload)}, TEXT_MOST)[:TEXT_MOST]
    except BadTemplate as error:
        return f"{_usual(payload)}\n\n({error})"[:TEXT_MOST]


def _usual(payload: Mapping[str, Any]) -> str:
    if payload["type"] != "changes":
        return str(payload["said"])
    return "\n".join(line for change in payload["changes"] for line in _lines(change))


def _said(value: Any) -> str:
    return "nothing" if value in (None, "", [], {}) else str(value)


def _lines(change: Mapping[str, Any]) -> list[str]:
    lines = [f"{change['change']}: {change['title']} ({change['source']})"]
    if change["change"] != "created":
        lines += [
            f"  {name}: {_said(old)} -> {_said(new)}"
            for name, (old, new) in change["fields"].items()
            if name != "content_hash"
        ]
    return [*lines, f"  {change['url']}"] if change["url"] else lines
