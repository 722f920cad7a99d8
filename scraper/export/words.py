"""How a value is said in text."""

import json
from datetime import datetime
from typing import Any


def as_json(row: Any) -> str:
    """Return a row as one line of JSON, whatever takes U+2028 for the end of a line."""
    return json.dumps(row, ensure_ascii=False, default=text).replace("\u2028", "\\u2028")


def text(value: Any) -> str:
    """Return what JSON has no word for, as text; instants as the API tells them."""
    return value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else str(value)


def plain(value: Any) -> str:
    """Return any value as the text of one cell: nothing for None, JSON for what is nested."""
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False, default=text)
    return "" if value is None else text(value)
