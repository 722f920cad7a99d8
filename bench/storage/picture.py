"""Pages stored per second as a picture. Pure, but for the writing."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench import picture

FILE = Path(__file__).parents[2] / "docs" / "pictures" / "storage.svg"
PEER = "bare"
LEFT = 210


def drawn(results: Mapping[str, Any]) -> str:
    """Return both databases as SVG, each with its bare loop first."""
    bars = []
    races = [results[part] for part in ("sqlite", "postgresql") if part in results]
    for race in races:
        peer = race["ways"][PEER]["pages_per_s"]
        for way, one in race["ways"].items():
            name = f"{race['database']}, {'bare loop' if way == PEER else way}"
            ours = "process" in way
            bars.append(
                picture.Bar(name, one["pages_per_s"], ours, f"{one['pages_per_s'] / peer:.2f}×" if ours else "")
            )
    said = (
        f"Pages per second: {races[0]['pages']:,} pages of 5 KB packed, each with three items and twenty links",
        "In brackets: how many times as fast as a bare loop over the same tables, in one process",
    )
    told = "Pages stored per second: " + ", ".join(f"{bar.name} {bar.value:.0f}" for bar in bars)
    return picture.drawn("Storing what was crawled", said, bars, told, LEFT)


def draw(results: Mapping[str, Any]) -> Path:
    """Write the picture, and return where it is."""
    FILE.write_text(drawn(results))
    return FILE
