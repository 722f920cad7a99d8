"""How long the pages take as a picture. Pure, but for the writing."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench import picture
from bench.interface.asked import PATHS, WANTED
from bench.interface.targets import DATABASES

FILE = Path(__file__).parents[2] / "docs" / "pictures" / "interface.svg"
LEFT = 210


def drawn(results: Mapping[str, Any]) -> str:
    """Return those pages and lists of both databases that have a target, as SVG."""
    there = {name: results[part] for name, part in DATABASES.items() if part in results}
    bars = [
        picture.Bar(
            f"{PATHS[name]}, {database}",
            found["pages"][name]["p95_ms"],
            database == "SQLite",
            f"{found['pages'][name]['bytes'] / 1000:.0f} KB",
        )
        for name in WANTED
        for database, found in there.items()
    ]
    sizes = next(iter(there.values()))["sizes"]
    said = (
        f"Milliseconds within which 95 of 100 answers are there: {sizes['items']:,} items, {sizes['changes']:,} changes, {sizes['sources']:,} sources",
        "The scraper works at full speed meanwhile. In brackets: the size of an answer",
    )
    told = "Milliseconds: " + ", ".join(f"{bar.name} {bar.value:.0f}" for bar in bars)
    return picture.drawn("Pages of a full database", said, bars, told, LEFT)


def draw(results: Mapping[str, Any]) -> Path:
    """Write the picture, and return where it is."""
    FILE.write_text(drawn(results))
    return FILE
