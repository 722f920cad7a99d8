"""One generation of one process: spawn, watch, terminate, kill the tree, reap."""

import multiprocessing
import multiprocessing.connection
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psutil

from scraper import kernel, spawning, stacks
from scraper.channel import Channel, Message
from scraper.spawning import SPAWN

Target = Callable[[socket.socket, Any], None]


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
        self._stacks, written = SPAWN.Pipe(duplex=False)
        self.process = SPAWN.Process(target=target, args=(theirs, written), name=name, daemon=False)
        self.pidfd: int | None = None
        try:
            self.process.start()
            self._know(announce)
        except (OSError, RuntimeError, psutil.Error) as error:  # no descriptor, no thread, no memory
            self._close()
            self._undo()
            raise error if isinstance(error, OSError) else OSError(str(error)) from error
        finally:
            theirs.close()  # or the end of the stream would never be seen
            written.close()
        self.started = time.monotonic()
        self.channel.send(boot, must=True)

    def _know(self, announce: Callable[[], None]) -> None:
        assert self.process.pid is not None
        self.pid = self.process.pid
        self.born = kernel.birth(self.pid)
        self.pidfd = kernel.watch_death(self.pid, announce, self.process.join)
        self._told = psutil.Process(self.pid) if psutil.pid_exists(self.pid) else None

    def _undo(self) -> None:
        """A process that was started and cannot be watched is none that we can keep."""
        if self.pidfd is not None:
            os.close(self.pidfd)
        if self.process.pid is not None:
            self.process.kill()
            self.process.join(1.0)

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
        stacks.ask(self.pid)

    def read_stacks(self) -> str:
        """Return what its fault handler has written since the last call; does not wait."""
        return stacks.read(self._stacks)

    def kill(self) -> None:
        """Kill it and what it started."""
        kernel.end_tree(self.pid)

    def reap(self) -> tuple[int | None, list[int]]:
        """Kill what the ended process left behind, and close what belongs to it.

        Returns its exit code, and the pids of those that had left its process group.
        """
        kernel.end_group(self.pid)
        left = spawning.end_adopted()  # before join(), which waits for all that hold our end of the sentinel
        self.process.join(1.0)
        spawning.forget(self.pid)
        code = self.process.exitcode
        if self.pidfd is not None:
            os.close(self.pidfd)
        self._close()
        return code, left

    def _close(self) -> None:
        self.channel.close()
        self._stacks.close()


def signal_name(exit_code: int | None) -> str | None:
    """Return "SIGKILL" for -9, None for what was no signal."""
    if exit_code is None or exit_code >= 0:
        return None
    try:
        return signal.Signals(-exit_code).name
    except ValueError:
        return f"signal {-exit_code}"


def on_parent_death(then: Callable[[], None]) -> bool:
    """Call then, in a thread of its own, when the process that spawned this one is gone. Returns whether one did."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return False

    def wait() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        then()

    threading.Thread(target=wait, name="parent", daemon=True).start()
    return True
