"""Processes that are spawned, and those that fall to us when one of them dies.

A spawned process does not import our __main__ again: that costs uvicorn and FastAPI, half a second.
"""

import contextlib
import multiprocessing
import os
import sys
import threading
import types
from multiprocessing.context import SpawnContext, SpawnProcess

from scraper import kernel

TRACKER = "multiprocessing.resource_tracker"
_spawning = threading.Lock()
_spawned: set[int] = set()


class Spawned(SpawnProcess):
    """A process that is started without what it would import as __main__."""

    def start(self) -> None:
        """Start it. Raises OSError."""
        with _spawning:
            main = sys.modules["__main__"]
            sys.modules["__main__"] = types.ModuleType("__main__")
            try:
                super().start()
            finally:
                sys.modules["__main__"] = main
            if self.pid is not None:
                _spawned.add(self.pid)


class Spawning(SpawnContext):
    """The context that makes such processes."""

    Process = Spawned


SPAWN = Spawning()


def end_with_parent() -> None:
    """If this process was spawned, a worker of a server, have it end with that; until a service sees to it in order."""
    if multiprocessing.parent_process() is not None:
        with contextlib.suppress(ProcessLookupError):
            kernel.die_with_parent(os.getppid())


def forget(pid: int) -> None:
    """A process that we spawned was reaped: its pid may be a stranger's from now on."""
    _spawned.discard(pid)


def end_adopted() -> list[int]:
    """Kill the children of this process that nobody here started: what a dead one left. Returns their pids (Linux)."""
    with _spawning:
        return kernel.end_children(lambda pid: pid not in _spawned and TRACKER not in kernel.command(pid))
