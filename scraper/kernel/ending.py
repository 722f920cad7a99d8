"""Ending processes, and everything that they started.

A process group holds what did not leave it. Who left it, by a session of its own, falls to its next living ancestor that
adopts; and when nobody is left to adopt, it still carries the environment that it was born with: a mark in there finds it.
"""

import contextlib
import ctypes
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

from scraper.kernel.process import LINUX, POSIX, await_death, birth, children, session

FAMILY = "_BOWERBIRD_FAMILY"  # all that a service started, its Manager too
PR_SET_CHILD_SUBREAPER = 36
DEATH_S = 0.2
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


def adopt() -> None:
    """Have the descendants of our children fall to us, and not to init, when their parents die (Linux: subreaper)."""
    if LINUX:
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_group(leader: int) -> None:
    """Kill what a dead process, which led its own process group, left in it."""
    if POSIX:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(leader, signal.SIGKILL)


def end_children(chosen: Callable[[int], bool]) -> list[int]:
    """Kill and reap the chosen ones of our children, and of those that fall to us by that. Returns their pids (Linux).

    Raises OSError if they cannot be looked for.
    """
    ended: list[int] = []
    for _ in range(ROUNDS if LINUX else 0):
        found = [pid for pid in children() if chosen(pid)]
        if not found:
            break
        for pid in found:
            _send(pid, signal.SIGKILL)
            await_death(pid, DEATH_S)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        ended += [pid for pid in found if pid not in ended]
    return ended


def mark_family(given: str) -> None:
    """Mark what this process starts from now on as one family."""
    os.environ[FAMILY] = given


def family() -> str:
    """Return the mark of the family that this process was born into, an empty text if none."""
    return os.environ.get(FAMILY, "")


def end_all_of(marked: str) -> list[int]:
    """Kill all of a family but ourselves, as far as their environment tells them (Linux). Returns their pids."""
    needle = f"\0{FAMILY}={marked}\0".encode()
    ended: list[int] = []
    for _ in range(ROUNDS if LINUX else 0):
        found = [pid for pid, born_with in _environments() if needle in born_with]
        if not found:
            break
        for pid in found:
            with contextlib.suppress(PermissionError):
                _send(pid, signal.SIGKILL)
        ended += [pid for pid in found if pid not in ended]
    return ended


def end_session(leader: int, born: str) -> None:
    """Kill what is left of the session of a process that is dead (Linux). born: of the dead one; its pid may be in use again."""
    if birth(leader) not in (None, born):
        return
    for pid in _pids() if LINUX else ():
        if session(pid) == leader:
            _send(pid, signal.SIGKILL)


def _pids() -> list[int]:
    try:
        return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    except OSError:  # no descriptor is left to look with
        return []


def _environments() -> Iterator[tuple[int, bytes]]:
    """Yield every living process of ours but ourselves, with the environment that it was born with."""
    for pid in _pids():
        if pid == os.getpid():
            continue
        try:
            born_with = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:  # another user's, or gone meanwhile
            continue
        if born_with and birth(pid) is not None:
            yield pid, b"\0" + born_with + b"\0"


def _send(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
