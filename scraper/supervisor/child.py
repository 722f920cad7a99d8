"""One generation of one process: spawn, watch, terminate, kill the tree, reap."""

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import socket
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import psutil

from scraper import kernel
from scraper.channel import Channel, Message

Target = Callable[[socket.socket], None]
SPAWN = multiprocessing.get_context("spawn")
_main_hidden = threading.Lock()


@contextlib.contextmanager
def without_main() -> Iterator[None]:
    """Keep a spawned child from importing our __main__ again: that costs uvicorn and FastAPI, half a second."""
    with _main_hidden:
        main = sys.modules["__main__"]
        sys.modules["__main__"] = types.ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = main


@dataclass(frozen=True, slots=True)
class Vitals:
    """What a process costs: resident bytes, and CPU seconds since its start."""

    rss_bytes: int
    cpu_s: float


class Child:
    """A started process. All times are monotonic seconds."""

    def __init__(self, name: str, target: Target, boot: Message, announce: Callable[[], None]) -> None:
        """Start it. boot: the first line that it reads, its config dict in it; large ones do not block the start.

        Raises OSError if the system has no room for another process or descriptor.
        """
        ours, theirs = socket.socketpair()
        self.name = name
        self.channel = Channel(ours)
        self.process = SPAWN.Process(target=target, args=(theirs,), name=name, daemon=False)
        try:
            with without_main():
                self.process.start()
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()  # or the end of the stream would never be seen
        assert self.process.pid is not None
        self.pid = self.process.pid
        self.born = kernel.birth(self.pid)
        self.pidfd = kernel.watch_death(self.pid, announce, self.process.join)
        self.started = time.monotonic()
        self.channel.send(boot, must=True)
        self._told = psutil.Process(self.pid) if psutil.pid_exists(self.pid) else None

    def ended(self) -> bool:
        """Say whether it is gone; does not wait."""
        if self.pidfd is not None:
            return kernel.readable(self.pidfd, 0)
        return not self.process.is_alive()

    def vitals(self) -> Vitals | None:
        """Return what it costs now, or None if it is gone."""
        if self._told is None:
            return None
        try:
            times = self._told.cpu_times()
            return Vitals(self._told.memory_info().rss, times.user + times.system)
        except (psutil.Error, OSError):  # gone, or no descriptor left to look with
            return None

    def ask_to_end(self) -> None:
        """Terminate, by message and by signal, and continue it if it is stopped."""
        self.channel.send({"stop": True}, must=True)
        kernel.end_politely(self.pid)

    def show_stacks(self) -> None:
        """Have it print where each of its threads stands."""
        kernel.show_stacks(self.pid)

    def kill(self) -> None:
        """Kill it and what it started."""
        kernel.end_tree(self.pid)

    def reap(self, family: str) -> tuple[int | None, list[int]]:
        """Kill what the ended process left behind, and close what belongs to it.

        family: the mark of all that is ours. Returns its exit code, and the pids of those that had left its process group.
        """
        left = kernel.end_left_by(self.pid, family)
        self.process.join(1.0)
        code = self.process.exitcode
        if self.pidfd is not None:
            os.close(self.pidfd)
        self.channel.close()
        return code, left


def signal_name(exit_code: int | None) -> str | None:
    """Return "SIGKILL" for -9, None for what was no signal."""
    if exit_code is None or exit_code >= 0:
        return None
    try:
        return signal.Signals(-exit_code).name
    except ValueError:
        return f"signal {-exit_code}"


def on_parent_death(then: Callable[[], None]) -> None:
    """Call then, in a thread of its own, when the process that spawned this one is gone; do nothing if none did."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def wait() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        then()

    threading.Thread(target=wait, name="parent", daemon=True).start()
