"""Logging: one line a record, a constant event and its facts as fields."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

BLOCK = "stacks"  # a fact that people read line by line
_PLAIN = set(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "color_message"}


def _facts(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in record.__dict__.items() if name not in _PLAIN}


class TextLines(logging.Formatter):
    """``2026-01-06T10:30:00Z INFO visit failed url=... failure=dns``: newlines in values are escaped."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        told = _facts(record)
        block = str(told.pop(BLOCK, "") or "")
        facts = "".join(f" {name}={_quoted(value)}" for name, value in told.items())
        line = f"{at} {record.levelname} {_one_line(record.getMessage())}{facts}"
        line += "".join(f"\n    {_one_line(part)}" for part in block.splitlines())
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


class JsonLines(logging.Formatter):
    """The same facts, one JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat().replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **_facts(record),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


def _one_line(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _quoted(value: object) -> str:
    text = _one_line(str(value))
    return json.dumps(text, ensure_ascii=False) if " " in text or '"' in text or not text else text


def set_up(*, production: bool, level: int = logging.INFO) -> None:
    """Send all records to standard error; JSON in production, text otherwise."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if production else TextLines())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    logging.getLogger("asyncio").setLevel(logging.ERROR)
