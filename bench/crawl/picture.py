"""The race as a picture: a bar a crawler, as long as it is quick. Pure, but for the writing."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench import picture

FILE = Path(__file__).parents[2] / "docs" / "pictures" / "crawl.svg"
OURS = "bowerbird"


def drawn(found: Mapping[str, Any]) -> str:
    """Return the race as SVG, the quickest on top."""
    rates = {name: float(one["pages_per_s"]) for name, one in found["crawlers"].items()}
    order = sorted(rates, key=lambda name: -rates[name])
    bars = [picture.Bar(name, rates[name], name == OURS, _times(name, rates)) for name in order]
    said = (
        f"Pages per second over {found['pages']:,} pages, every link followed, 32 requests at a time",
        "In brackets: how many times as fast Bowerbird is",
    )
    told = "Pages per second: " + ", ".join(f"{name} {rates[name]:.0f}" for name in order)
    return picture.drawn("Crawling a whole shop", said, bars, told)


def _times(name: str, rates: Mapping[str, float]) -> str:
    ours, rate = rates.get(OURS), rates[name]
    return f"{ours / rate:.{1 if ours > rate else 2}f}×" if ours and name != OURS else ""


def draw(found: Mapping[str, Any]) -> Path:
    """Write the picture, and return where it is."""
    FILE.write_text(drawn(found))
    return FILE
