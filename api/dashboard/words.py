"""How moments, lengths of time, amounts and names are said to people; and the marks that are in each row of a list.

Those are functions that give the finished piece of a page: a macro takes several times as long, and a list has hundreds.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from markupsafe import Markup, escape

VALUE_MOST = 80


def ago(moment: datetime | str | None) -> str:
    """Return how far a moment is from now."""
    if moment is None:
        return "never"
    at = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    seconds = (datetime.now(UTC) - at).total_seconds()
    if abs(seconds) < 1:
        return "now"
    text = span(abs(seconds))
    return f"{text} ago" if seconds >= 0 else f"in {text}"


def span(seconds: float | None) -> str:
    """Return a length of time in its largest unit."""
    if seconds is None:
        return "–"
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 1 or seconds == 0 else f"{seconds * 1000:.0f} ms"


def amount(bytes_: float | None) -> str:
    """Return bytes in their largest unit."""
    if bytes_ is None:
        return "–"
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if bytes_ >= size:
            return f"{bytes_ / size:.1f} {unit}"
    return f"{bytes_:.0f} B"


def number(value: float | None) -> str:
    """Return a count with its thousands apart."""
    return "–" if value is None else f"{value:,.0f}".replace(",", "\u202f")


def every(source: Mapping[str, Any]) -> str:
    """Return when a source is visited."""
    if source["cron"]:
        return str(source["cron"])
    if source["every"] is None:
        return "when asked"
    seconds = float(source["every"])
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size and seconds % size == 0:
            return f"every {seconds / size:.0f} {unit}"
    return f"every {seconds:g} s"


def short(value: Any, most: int = VALUE_MOST) -> str:
    """Return the beginning of a value."""
    text = "–" if value is None or value == "" else str(value)
    return text if len(text) <= most else text[: most - 1] + "…"


def exact(moment: datetime | str | None) -> str:
    """Return a moment to the second."""
    return "" if moment is None else moment if isinstance(moment, str) else moment.isoformat(timespec="seconds")


def when(moment: datetime | str | None) -> Markup:
    """Return a moment by its distance, with what it is exactly."""
    said = escape(exact(moment))
    return Markup(f'<time datetime="{said}" title="{said}">{ago(moment)}</time>')


def badge(word: object) -> Markup:
    """Return a state, or another of few words, in its colour."""
    said = escape(word)
    return Markup(f'<span class="badge {said}">{said}</span>')
