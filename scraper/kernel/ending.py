"""Ending processes, and everything that they started.

A process group holds what did not leave it. Who left it, by a session of its own, still carries the environment that it
was born with: a mark in there finds it (Linux).
"""

import contextlib
import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

from scraper.kernel.process import LINUX, POSIX, birth, parent

FAMILY = "_BOWERBIRD_FAMILY"  # all that a service started, its Manager too
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


def mark_family(family: str) -> None:
    """Mark what this process starts from now on as one family."""
    os.environ[FAMILY] = family


def mark_member() -> None:
    """Mark what this process, a member of the family, runs from now on as started by it."""
    os.environ[MEMBER] = str(os.getpid())


def end_left_by(pid: int, family: str) -> list[int]:
    """Kill what a dead member of our family left, it having led its own session and process group.

    Returns the pids of those that had left that group. To be called by the head of the family, before the dead one is reaped.
    """
    if POSIX:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)

    def left(found: int, born_with: bytes) -> bool:
        members = re.search(rb"\0%s=(\d+)\0" % MEMBER.encode(), born_with)
        if members is not None:
            return int(members[1]) == pid
        return found != pid and not _descends(found, os.getpid())  # forked, and nothing else run since

    return _end_marked(family, left)


def end_all_of(family: str) -> list[int]:
    """Kill all of a family but ourselves. Returns their pids."""
    return _end_marked(family, lambda found, born_with: True)


def _end_marked(family: str, chosen: Callable[[int, bytes], bool]) -> list[int]:
    """Kill the chosen ones of a family, as far as the environment tells it; elsewhere than on Linux nobody."""
    needle = f"\0{FAMILY}={family}\0".encode()
    ended: list[int] = []
    for _ in range(ROUNDS if LINUX else 0):
        found = [pid for pid, born_with in _environments() if needle in born_with and chosen(pid, born_with)]
        if not found:
            break
        for pid in found:
            with contextlib.suppress(PermissionError):
                _send(pid, signal.SIGKILL)
        ended += [pid for pid in found if pid not in ended]
    return ended


def _environments() -> Iterator[tuple[int, bytes]]:
    """Yield every living process of ours but ourselves, with the environment that it was born with."""
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            born_with = Path(entry.path, "environ").read_bytes()
        except OSError:  # another user's, or gone meanwhile
            continue
        if born_with and birth(int(entry.name)) is not None:
            yield int(entry.name), b"\0" + born_with + b"\0"


def _descends(pid: int, ancestor: int) -> bool:
    """Say whether a process is below another one."""
    while pid > 1:
        if pid == ancestor:
            return True
        pid = parent(pid)
    return False


def _send(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
