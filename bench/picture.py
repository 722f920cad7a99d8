"""Figures as a picture: a bar each, as long as the figure is large. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, LEFT, RIGHT, TOP, ROW, BAR = 760, 170, 130, 94, 34, 20

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


@dataclass(frozen=True)
class Bar:
    """One figure. ours: whether it stands out. note: what is said in brackets behind it."""

    name: str
    value: float
    ours: bool = False
    note: str = ""


def drawn(title: str, said: Sequence[str], bars: Sequence[Bar], told: str, left: int = LEFT) -> str:
    """Return the bars as SVG, in the order given. said: two lines below the title. told: the whole in words. left: room for the
    names.
    """
    height = TOP + ROW * len(bars) + 16
    scale = (WIDTH - left - RIGHT) / max(bar.value for bar in bars)
    lines = "\n".join(
        f'<text class="quiet" x="20" y="{54 + 18 * n}">{escape(line)}</text>' for n, line in enumerate(said)
    )
    rows = "\n".join(_bar(n, bar, scale, left) for n, bar in enumerate(bars))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'role="img" aria-label="{escape(told)}">\n<style>{_STYLE}</style>\n'
        f'<rect class="ground" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="8"/>\n'
        f'<text class="title" x="20" y="32">{escape(title)}</text>\n{lines}\n'
        f'<line class="axis" x1="{left}" y1="{TOP - 6}" x2="{left}" y2="{height - 14}"/>\n{rows}\n</svg>\n'
    )


def _bar(number: int, bar: Bar, scale: float, left: int) -> str:
    y, length = TOP + ROW * number, max(1.0, bar.value * scale)
    note = f' <tspan class="quiet">({escape(bar.note)})</tspan>' if bar.note else ""
    return (
        f'<text x="{left - 10}" y="{y + 15}" text-anchor="end">{escape(bar.name)}</text>'
        f'<rect class="{"ours" if bar.ours else "bar"}" x="{left}" y="{y}" width="{length:.1f}" height="{BAR}" rx="2"/>'
        f'<text x="{left + length + 8:.1f}" y="{y + 15}">{bar.value:,.0f}{note}</text>'
    )
