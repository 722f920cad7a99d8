"""The race as a picture: a bar a crawler, as long as it is quick. Pure, but for the writing."""

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

FILE = Path(__file__).parents[2] / "docs" / "pictures" / "crawl.svg"
WIDTH, LEFT, RIGHT, TOP, ROW, BAR = 760, 170, 130, 94, 34, 20
OURS = "bowerbird"

_STYLE = """
  svg { color-scheme: light dark; }
  .ground { fill: #ffffff; stroke: #d8dee4; }
  text { font: 14px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; fill: #1f2328; }
  .title { font-size: 17px; font-weight: 600; }
  .quiet { fill: #59636e; font-size: 13px; }
  .bar { fill: #9aa7b4; }
  .ours { fill: #2f6feb; }
  .axis { stroke: #d8dee4; }
  @media (prefers-color-scheme: dark) {
    .ground { fill: #0d1117; stroke: #30363d; }
    text { fill: #e6edf3; }
    .quiet { fill: #9198a1; }
    .bar { fill: #59636e; }
    .ours { fill: #4c8dff; }
    .axis { stroke: #30363d; }
  }
"""


def drawn(found: Mapping[str, Any]) -> str:
    """Return the race as SVG, the quickest on top."""
    rates = {name: float(one["pages_per_s"]) for name, one in found["crawlers"].items()}
    order = sorted(rates, key=lambda name: -rates[name])
    height = TOP + ROW * len(order) + 16
    scale = (WIDTH - LEFT - RIGHT) / max(rates.values())
    bars = "\n".join(_bar(n, name, rates[name], rates.get(OURS), scale) for n, name in enumerate(order))
    said = f"Pages per second over {found['pages']:,} pages, every link followed, 32 requests at a time"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'role="img" aria-label="{escape(_told(order, rates))}">\n<style>{_STYLE}</style>\n'
        f'<rect class="ground" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="8"/>\n'
        f'<text class="title" x="20" y="32">Crawling a whole shop</text>\n'
        f'<text class="quiet" x="20" y="54">{said}</text>\n'
        f'<text class="quiet" x="20" y="72">In brackets: how many times as fast Bowerbird is</text>\n'
        f'<line class="axis" x1="{LEFT}" y1="{TOP - 6}" x2="{LEFT}" y2="{height - 14}"/>\n{bars}\n</svg>\n'
    )


def _bar(number: int, name: str, rate: float, ours: float | None, scale: float) -> str:
    y, length = TOP + ROW * number, max(1.0, rate * scale)
    ratio = (
        f' <tspan class="quiet">({ours / rate:.{1 if ours > rate else 2}f}×)</tspan>' if ours and name != OURS else ""
    )
    return (
        f'<text x="{LEFT - 10}" y="{y + 15}" text-anchor="end">{escape(name)}</text>'
        f'<rect class="{"ours" if name == OURS else "bar"}" x="{LEFT}" y="{y}" width="{length:.1f}" height="{BAR}" rx="2"/>'
        f'<text x="{LEFT + length + 8:.1f}" y="{y + 15}">{rate:,.0f}{ratio}</text>'
    )


def _told(order: list[str], rates: Mapping[str, float]) -> str:
    return "Pages per second: " + ", ".join(f"{name} {rates[name]:.0f}" for name in order)


def draw(found: Mapping[str, Any]) -> Path:
    """Write the picture, and return where it is."""
    FILE.write_text(drawn(found))
    return FILE
