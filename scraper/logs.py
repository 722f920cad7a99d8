"""Logging: one line a record, a constant event and its facts as fields."""

import json
import logging
import os
import select
import sys
import time
from datetime import UTC, datetime
from typing import Any, TextIO

BLOCK = "stacks"  # a fact that people read line by line
SELDOM_S = 10.0
SELDOM_KEPT = 50
STALLED_MS = 1000
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
        line = f"{at} {record.levelname} {one_line(record.getMessage())}{facts}"
        line += "".join(f"\n    {one_line(part)}" for part in block.splitlines())
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


def one_line(text: str) -> str:
    """Return a text of strangers as a terminal may show it: what is no letter, digit or sign is escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _quoted(value: object) -> str:
    text = one_line(str(value))
    return json.dumps(text, ensure_ascii=False) if " " in text or '"' in text or not text else text


class Seldom(logging.Filter):
    """Lets a message that repeats itself through once in a while: asyncio says thousands of times that it cannot accept."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        last, now = self._said.get(record.msg, -SELDOM_S), time.monotonic()
        if now - last < SELDOM_S:
            return False
        self._said = {**dict(list(self._said.items())[-SELDOM_KEPT:]), record.msg: now}
        record.exc_info = None
        return True


class Patient(logging.StreamHandler[TextIO]):
    """Writes to a stream whose reader may have stopped to read: it waits a moment for it, once, and then for nobody.

    Without that a supervisor would stand still because somebody holds its log in a pager. What is lost is counted.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._lost = 0
        self._cut = ""  # what ends a line that was cut off

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, if there is room for it."""
        try:
            end = self.stream.fileno()
        except (OSError, ValueError, AttributeError):  # no file of the system's, such as a test's
            super().emit(record)
            return
        try:
            self._write(end, f"{self.format(record)}\n")
        except OSError:
            self.handleError(record)

    def _write(self, end: int, text: str) -> None:
        wait_ms = 0 if self._lost else STALLED_MS
        if self._lost and self._has_room(end, 0):
            told = {"msg": "lines of the log are lost: nobody read them", "levelname": "WARNING", "lost": self._lost}
            text = f"{self._cut}{self.format(logging.makeLogRecord(told))}\n{text}"
            self._lost, self._cut = 0, ""
        data = text.encode("utf-8", "backslashreplace")
        for start in range(0, len(data), select.PIPE_BUF):
            if not self._has_room(end, wait_ms):
                self._lost += 1
                self._cut = "\n" if start else self._cut
                return
            os.write(end, data[start : start + select.PIPE_BUF])

    @staticmethod
    def _has_room(end: int, wait_ms: int) -> bool:
        """Whether so many bytes can be written at once (POSIX: a pipe that is ready takes PIPE_BUF bytes)."""
        room = select.poll()
        room.register(end, select.POLLOUT)
        return bool(room.poll(wait_ms))


def set_up(*, production: bool, level: int = logging.INFO) -> None:
    """Send all records to standard error; JSON in production, text otherwise."""
    handler = Patient(sys.stderr)
    handler.setFormatter(JsonLines() if production else TextLines())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    asyncio_log = logging.getLogger("asyncio")
    asyncio_log.setLevel(logging.ERROR)
    asyncio_log.addFilter(Seldom())
    "\n".encode("unicode_escape")  # loads that codec now: later there may be no descriptor left to load it with
