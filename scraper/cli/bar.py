"""Progress of one long piece of work: a bar on a terminal, a line now and then elsewhere."""

import sys
import time
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

LINE_EACH_S = 5.0


class Bar:
    """Shows how far something is, on stderr."""

    def __init__(self, unit: str) -> None:
        """unit: what is counted, such as rows."""
        self._unit = unit
        self._console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self._console,
        )
        self._tasks: dict[str, TaskID] = {}
        self._told = time.monotonic()

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._progress.stop()

    def show(self, done: int, of: int, part: str = "") -> None:
        """Show how much is done of a part of it."""
        if self._console.is_terminal:
            if part not in self._tasks:
                self._tasks[part] = self._progress.add_task(part or self._unit, total=of)
            self._progress.update(self._tasks[part], completed=done, total=of)
        elif time.monotonic() - self._told > LINE_EACH_S:
            self._told = time.monotonic()
            print(f"{part + ': ' if part else ''}{done} of {of} {self._unit}", file=sys.stderr, flush=True)
