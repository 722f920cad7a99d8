"""Ending processes, and everything that they started.

A process group holds what did not leave it. Who left it, by a session of its own, still carries the environment that it
was born with: a mark in there finds it (Linux).
"""

import contextlib
import os
import signal
from collections.abc import Collection
from pathlib import Path

from scraper.kernel.process import LINUX, POSIX, birth

FAMILY = "_BOWERBIRD_FAMILY"  # what a service started, its Manager too
MEMBER = "_BOWERBIRD_MEMBER"  # what one of its processes started
ROUNDS = 5  # something may be forking while it is looked for


def end_politely(pid: int) -> None:
    """Ask a process to end, a stopped one too: SIGTERM, then SIGCONT. Windows has no such signal: there, ask by message."""
    if POSIX:
        _send(pid, signal.SIGTERM)
        _send(pid, signal.SIGCONT)


def show_stacks(pid: int) -> None:
    """Have a process that registered faulthandler print its stacks."""
    if POSIX:
        _send(pid, signal.SIGUSR1)


def end_tree(pid: int) -> None:
    """Kill a child that leads its own session, and what it started in it. The child must not be reaped yet."""
    if POSIX:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getpgid(pid) == pid:
                os.killpg(pid, signal.SIGKILL)
        _send(pid, signal.SIGKILL)
        return
    import psutil  # noqa: PLC0415  as in birth()

    try:
        process = psutil.Process(pid)
        for member in [*process.children(recursive=True), process]:
            member.kill()
    except psutil.NoSuchProcess:
        pass


def membership(family: str, pid: int) -> str:
    """Return the mark of what one process of a family starts."""
    return f"{family}/{pid}"


def mark(name: str, value: str) -> None:
    """Mark what this process starts from now on, so that end_marked() finds it."""
    os.environ[name] = value


def end_family(pgid: int, name: str, value: str) -> list[int]:
    """Kill what a dead session leader left: its process group, and all that carries its mark. Returns the marked ones."""
    if POSIX:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pgid, signal.SIGKILL)
    return end_marked(name, value)


def end_marked(name: str, value: str, but: Collection[int] = ()) -> list[int]:
    """Kill all processes of ours that were born with a mark, save some. Returns their pids. Elsewhere than on Linux: none."""
    ended: list[int] = []
    needle = b"\0" + f"{name}={value}".encode() + b"\0"
    for _ in range(ROUNDS if LINUX else 0):
        found = [pid for pid in _marked(needle) if pid != os.getpid() and pid not in but]
        if not found:
            break
        for pid in found:
            with contextlib.suppress(PermissionError):
                _send(pid, signal.SIGKILL)
        ended += [pid for pid in found if pid not in ended]
    return ended


def _marked(needle: bytes) -> list[int]:
    found = []
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            born_with = Path(entry.path, "environ").read_bytes()
        except OSError:  # another user's, or gone meanwhile
            continue
        if needle in b"\0" + born_with and birth(int(entry.name)) is not None:
            found.append(int(entry.name))
    return found


def _send(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
