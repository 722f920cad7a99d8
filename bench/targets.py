"""What figures should be. Pure, but for the printing."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.support import table

Results = Mapping[str, Any]


@dataclass(frozen=True)
class Target:
    """A figure and its bound; value raises KeyError where it was not measured."""

    name: str
    wanted: float
    value: Callable[[Results], float]
    at_most: bool = False

    def holds(self, found: float) -> bool:
        """Say whether a figure is within the bound."""
        return found <= self.wanted if self.at_most else found >= self.wanted


def judged(targets: Sequence[Target], results: Results) -> list[dict[str, Any]]:
    """Return each target with what was measured, if it was."""
    found: list[dict[str, Any]] = []
    for target in targets:
        bound = f"{'<=' if target.at_most else '>='} {target.wanted:g}"
        try:
            value = target.value(results)
        except KeyError:
            found.append({"target": target.name, "wanted": bound, "measured": None, "holds": None})
            continue
        found.append(
            {"target": target.name, "wanted": bound, "measured": round(value, 3), "holds": target.holds(value)}
        )
    return found


_WORDS = {True: "yes", False: "no", None: "not measured"}


def show(found: list[dict[str, Any]]) -> None:
    """Print them."""
    rows = [
        [one["target"], one["wanted"], "-" if one["measured"] is None else one["measured"], _WORDS[one["holds"]]]
        for one in found
    ]
    table("Targets", ["", "wanted", "measured", "holds"], rows)
