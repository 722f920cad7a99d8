"""Charts as the points of SVG lines and areas. Pure: the templates draw them."""

from collections.abc import Sequence
from dataclasses import dataclass

from scraper.database.activity import Point

WIDTH, HEIGHT = 300.0, 60.0
RANGES = {"1h": (60, 60), "24h": (24 * 60, 96), "7d": (7 * 24 * 60, 84)}  # minutes, points


@dataclass(frozen=True, slots=True)
class Line:
    """One line: its points, and what it is called."""

    name: str
    points: str


@dataclass(frozen=True, slots=True)
class Chart:
    """One picture: what it shows, the value at its end, the largest value, the lines."""

    title: str
    now: str
    most: str
    lines: tuple[Line, ...]
    empty: bool


def line(values: Sequence[float | None], most: float) -> str:
    """Return values as the points of a polyline; where there is none the line goes on to the next."""
    step = WIDTH / max(1, len(values) - 1)
    scale = (HEIGHT - 4) / most if most > 0 else 0.0
    found = [(place * step, HEIGHT - 2 - value * scale) for place, value in enumerate(values) if value is not None]
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in found)


def _chart(title: str, named: dict[str, Sequence[float | None]], unit: str) -> Chart:
    values = [value for found in named.values() for value in found if value is not None]
    most = max(values, default=0.0)
    lines = tuple(Line(name, line(found, most)) for name, found in named.items())
    last = next((found[-1] for found in named.values() if found), None)
    return Chart(title, _said(last, unit), _said(most, unit), lines, not any(values))


def _said(value: float | None, unit: str) -> str:
    if value is None:
        return "–"
    if unit == "s":
        return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s"
    return f"{value:.1f}" if 0 < value < 10 and value != int(value) else f"{value:,.0f}".replace(",", "\u202f")


def charts(series: Sequence[Point]) -> list[Chart]:
    """Return the four pictures of the first page."""
    return [
        _chart("Pages a minute", {"pages": [point.pages for point in series]}, ""),
        _chart("Failures a minute", {"failures": [sum(point.failures.values()) for point in series]}, ""),
        _chart(
            "Answers take", {"p95": [point.p95_s for point in series], "p50": [point.p50_s for point in series]}, "s"
        ),
        _chart("URLs waiting", {"waiting": [float(point.depth) for point in series]}, ""),
    ]
