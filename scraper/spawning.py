"""Processes that are spawned, and those that fall to us when one of them dies.

A spawned process does not import our __main__ again: that costs uvicorn and FastAPI, half a second.
"""

import contextlib
import multiprocessing
import os
import sys
import threading
import time
import types
from multiprocessing.context import SpawnContext, SpawnProcess

from scraper import kernel
from scraper.errors import Exit

DEAD_FOR_S = 60.0
TRACKER = "multiprocessing.resource_tracker"
_spawning = threading.Lock()
_spawned: set[int] = set()
_known: set[int] = set()  # children that are nobody's leftovers
_seen: set[int] = set()  # those that were there at the last look
_unswept: set[int] = set()


class Spawned(SpawnProcess):
    """A process that is started without what it would import as __main__."""

    def start(self) -> None:
        """Start it. Raises OSError."""
        with _spawning:
            kernel.keep_freed_blocks()
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
    parent = multiprocessing.parent_process()
    if parent is not None and parent.pid is not None:
        try:
            kernel.die_with_parent(parent.pid)
        except ProcessLookupError:  # it has died already
            os._exit(Exit.PARENT_LOST)


def forget(pid: int) -> None:
    """A process that we spawned was reaped: its pid may be a stranger's from now on."""
    _spawned.discard(pid)


def swept() -> bool:
    """Say whether the last search for leftovers could be made."""
    return not _unswept


def look() -> None:
    """Remember which children there are while no process of ours has died: they are nobody's leftovers.

    Only what was there at the look before counts: a death may be under way that nobody has been told of yet.
    """
    with _spawning, contextlib.suppress(OSError):
        seen = set(kernel.children())
        _known.clear()
        _known.update(_seen & seen)
        _seen.clear()
        _seen.update(seen)


def end_adopted() -> list[int]:
    """Kill the children of this process that fell to it by a death, and reap them. Returns their pids (Linux).

    Whoever was a child before that death, or is of our own session, was started by somebody else in this process.
    """
    with _spawning:
        _unswept.clear()
        _seen.clear()
        try:
            return kernel.end_children(_fell_to_us)
        except OSError:  # no descriptor is left to look with: to be done again
            _unswept.add(0)
            return []


def _fell_to_us(pid: int) -> bool:
    ours = pid in _spawned or pid in _known or kernel.session(pid) == kernel.session(os.getpid())
    return not ours and TRACKER not in kernel.command(pid)


def reap_strangers(since: dict[int, float]) -> None:
    """Reap children that are dead for a while and that nobody waits for: they fell to us when their parents died.

    since: when each was seen dead first, in monotonic seconds; kept by the caller between calls.
    """
    try:
        dead = [pid for pid in kernel.children() if kernel.birth(pid) is None]
    except OSError:
        return
    waited_for = {process.pid for process in multiprocessing.active_children()}
    now = time.monotonic()
    for pid in [pid for pid in since if pid not in dead]:
        del since[pid]
    for pid in dead:
        if now - since.setdefault(pid, now) > DEAD_FOR_S and pid not in waited_for:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
