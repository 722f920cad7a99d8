"""Processes: who one is, what it is at, when it ends, and what it owes its parent."""

import ctypes
import errno
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

LINUX = sys.platform == "linux"
POSIX = os.name == "posix"
PR_SET_PDEATHSIG = 1
STOPPED = "stopped by a signal"
WORDS = {
    "R": "running",
    "S": "waiting",
    "I": "waiting",
    "D": "waiting for a disk or another device",
    "T": STOPPED,
    "t": "stopped by a debugger",
}


def _stat(pid: int) -> list[bytes] | None:
    """Return the fields of /proc/PID/stat from the third on: the second, a name, may hold anything."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:  # gone; or no descriptor is left to look with
        return None
    return stat[stat.rindex(b")") + 2 :].split()


def birth(pid: int) -> str | None:
    """Return when a process was born, as a token to compare, or None if it is gone or a zombie.

    A pid alone may belong to a stranger by now. On Linux the token is field 22 of /proc/PID/stat (ticks since boot),
    which clock changes do not move.
    """
    if LINUX:
        fields = _stat(pid)
        return None if fields is None or fields[0] in (b"Z", b"X") else fields[19].decode()
    import psutil  # noqa: PLC0415  32 ms that a scraper process on Linux does not have to pay

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else str(process.create_time())
    except psutil.NoSuchProcess:
        return None


def doing(pid: int) -> str | None:
    """Say in words what the kernel has a process do, or None where nobody can tell (Linux only)."""
    fields = _stat(pid) if LINUX else None
    return WORDS.get(fields[0].decode()) if fields else None


def session(pid: int) -> int:
    """Return the session of a process, 0 if it is gone or nobody can tell (Linux only)."""
    fields = _stat(pid) if LINUX else None
    return int(fields[3]) if fields else 0


def children() -> list[int]:
    """Return the pids of our children, dead ones that were not reaped too (Linux only). Raises OSError."""
    if not LINUX:
        return []
    tasks = list(Path("/proc/self/task").iterdir())
    if (tasks[0] / "children").exists():
        return [int(pid) for task in tasks for pid in _text(task / "children").split()]
    # a kernel without that list
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [pid for pid in pids if (fields := _stat(pid)) and int(fields[1]) == os.getpid()]


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:  # a thread that has ended meanwhile
        return ""


def command(pid: int) -> str:
    """Return the command line of a process, or an empty text (Linux only)."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def thread_at_work(thread: int) -> tuple[bool, int]:
    """Say of a thread of ours, by its native id, whether it waits for a device, and how much processor it has had (Linux)."""
    try:
        stat = Path(f"/proc/self/task/{thread}/stat").read_bytes()
    except OSError:
        return False, 0
    fields = stat[stat.rindex(b")") + 2 :].split()
    return fields[0] == b"D", int(fields[11]) + int(fields[12])


def see_deaths() -> None:
    """Have the deaths of children seen, should whoever started us have had them ignored. In the main thread alone."""
    main = threading.current_thread() is threading.main_thread()
    if POSIX and main and signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def watch_death(pid: int, announce: Callable[[], None], join: Callable[[], object]) -> int | None:
    """Have the death of a child noticed at once.

    Returns a pidfd that becomes readable at its death; where there are none, starts a thread that joins the child and
    then calls announce, and returns None.
    """
    if LINUX and hasattr(os, "pidfd_open"):
        try:
            return os.pidfd_open(pid)
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.EPERM, errno.EMFILE):
                raise

    def wait() -> None:
        join()
        announce()

    threading.Thread(target=wait, name=f"join-{pid}", daemon=True).start()
    return None


def await_death(pid: int, wait_s: float) -> None:
    """Return as soon as a process is gone, ours or not, or after wait_s seconds; where there are no pidfds, then."""
    if LINUX and hasattr(os, "pidfd_open"):
        try:
            fd = os.pidfd_open(pid)
        except OSError:  # gone already, or in a place that we cannot see into
            time.sleep(min(wait_s, 0.05))
            return
        try:
            readable(fd, wait_s)
        finally:
            os.close(fd)
        return
    time.sleep(wait_s)


def readable(fd: int, wait_s: float | None) -> bool:
    """Wait until a descriptor can be read (or its other end is gone), wait_s seconds at most; None: as long as it takes.

    A pidfd can be read when its process has ended.
    """
    if hasattr(select, "poll"):  # select() ends at descriptor 1023
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        return bool(poll.poll(None if wait_s is None else wait_s * 1000))
    return bool(select.select([fd], [], [], wait_s)[0])


def wake_when_orphaned() -> None:
    """Have the kernel continue this process, should it be stopped, when the thread that started it ends (Linux)."""
    _on_parent_death(signal.SIGCONT if POSIX else 0)


def _on_parent_death(number: int) -> None:
    if LINUX:
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)


def die_with_parent(parent_pid: int) -> None:
    """Have the kernel kill this process when the thread that started it ends (Linux; elsewhere nothing).

    Raises ProcessLookupError if the parent is gone already.
    """
    _on_parent_death(signal.SIGKILL if POSIX else 0)
    if POSIX and os.getppid() != parent_pid:
        raise ProcessLookupError(parent_pid)


def lead_group() -> None:
    """Lead a process group of our own: what we start can be ended with us."""
    if POSIX:
        os.setpgid(0, 0)


def new_session() -> None:
    """Leave the terminal and the process group of the parent, so that Ctrl-C is the parent's alone."""
    if POSIX and os.getpid() != os.getsid(0):
        os.setsid()
