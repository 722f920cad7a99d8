"""How an export is written."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """How an export is written, beyond its format.

    gz: compressed. guard: no cell of a CSV is a formula. bom: CSV begins with a mark that old spreadsheets go by.
    columns: those of the CSV file that is written on, which then has no second header.
    """

    gz: bool = False
    guard: bool = True
    bom: bool = False
    columns: tuple[str, ...] | None = None


PLAIN = Style()
