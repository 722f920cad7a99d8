"""Charts as the paths of SVG bars, and the bars of a source's last runs. Pure: the templates put them in their place."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from markupsafe import Markup

from scraper.database.activity import Point
from scraper.states import RunState

WIDTH, HEIGHT = 300.0, 60.0
GAP = 0.25  # of a bar's place
OUTCOME = 5  # the place of a run's bar
LEAST = 1.5  # what is there is seen, however small
RANGES = {"1h": (60, 60), "24h": (24 * 60, 96), "7d": (7 * 24 * 60, 84)}  # minutes, points


@dataclass(frozen=True, slots=True)
class Bars:
    """One row of bars: what it is called, and its outline."""

    name: str
    path: str


@dataclass(frozen=True, slots=True)
class Chart:
    """One picture: what it shows, the value at its end, the largest value, its bars from the back to the front."""

    title: str
    now: str
    most: str
    bars: tuple[Bars, ...]
    empty: bool


def bars(values: Sequence[float | None], most: float) -> str:
    """Return values as the path of bars; where there is none, or nothing, there is no bar."""
    step = WIDTH / max(1, len(values))
    wide = step * (1 - GAP)
    made = []
    for place, value in enumerate(values):
        if value and most > 0:
            high = max(LEAST, min(1.0, value / most) * HEIGHT)
            made.append(f"M{place * step:.1f} {HEIGHT:.0f}v-{high:.1f}h{wide:.1f}v{high:.1f}z")
    return "".join(made)


def outcomes(runs: Sequence[Mapping[str, Any]], most: int = 30) -> Markup:
    """Return the last runs of a source, the oldest first, as a picture of bars with room for so many, each with what it was."""
    failed = sum([run["state"] == RunState.FAILED for run in runs])
    drawn = [
        _outcome(place, run["state"], run["started_at"], run["pages"], run["failures"])
        for place, run in enumerate(runs, most - len(runs))
    ]
    wide = most * OUTCOME
    return Markup(
        f'<span class="bars"><svg viewBox="0 0 {wide} 18" width="{wide}" height="18" role="img"'
        f' aria-label="the last {len(runs)} runs: {failed} failed">{"".join(drawn)}</svg></span>'
    )


@lru_cache(maxsize=8192)
def _outcome(place: int, state: str, began: datetime | None, pages: int, failures: int) -> str:
    """One bar. All of it is our own words and numbers: there is nothing to escape."""
    kind = "some" if state == RunState.DONE and failures else state
    said = began.isoformat(timespec="seconds") if began is not None else "queued"
    more = f", {failures} failures" if failures else ""
    return (
        f'<rect class="bar-{kind}" x="{place * OUTCOME}" width="4" height="18" rx="1">'
        f"<title>{said}: {state}, {pages} pages{more}</title></rect>"
    )


def _chart(title: str, named: dict[str, Sequence[float | None]], unit: str) -> Chart:
    values = [value for found in named.values() for value in found if value is not None]
    most = max(values, default=0.0)
    rows = tuple(Bars(name, bars(found, most)) for name, found in named.items())
    last = next((found[-1] for found in reversed(named.values()) if found), None)
    return Chart(title, _said(last, unit), _said(most, unit), rows, not any(values))


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
