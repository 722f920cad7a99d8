"""What we ask of the operating system, with the way of other systems beside that of Linux.

Nothing else in the project asks which system it runs on.
"""

import contextlib
import ctypes
import errno
import os
import select
import signal
import sys
import threading
from collections.abc import Callable
from io import FileIO
from pathlib import Path

LINUX = sys.platform == "linux"
POSIX = os.name == "posix"
PR_SET_PDEATHSIG = 1


def birth(pid: int) -> str | None:
    """Return when a process was born, as a token to compare, or None if it is gone or a zombie.

    A pid alone may belong to a stranger by now. On Linux the token is field 22 of /proc/PID/stat (ticks since boot),
    which clock changes do not move.
    """
    if LINUX:
        try:
            stat = Path(f"/proc/{pid}/stat").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            return None
        fields = stat[stat.rindex(b")") + 2 :].split()
        return None if fields[0] in (b"Z", b"X") else fields[19].decode()
    import psutil  # noqa: PLC0415  32 ms that a scraper process on Linux does not have to pay

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else str(process.create_time())
    except psutil.NoSuchProcess:
        return None


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


def readable(fd: int, wait_s: float | None) -> bool:
    """Wait until a descriptor can be read (or its other end is gone), wait_s seconds at most; None: as long as it takes.

    A pidfd can be read when its process has ended.
    """
    if hasattr(select, "poll"):  # select() ends at descriptor 1023
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        return bool(poll.poll(None if wait_s is None else wait_s * 1000))
    return bool(select.select([fd], [], [], wait_s)[0])


def die_with_parent(parent_pid: int) -> None:
    """Have the kernel kill this process when the thread that started it ends (Linux; elsewhere nothing).

    Raises ProcessLookupError if the parent is gone already.
    """
    if LINUX:
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if POSIX and os.getppid() != parent_pid:
        raise ProcessLookupError(parent_pid)


def new_session() -> None:
    """Leave the terminal and the process group of the parent, so that Ctrl-C is the parent's alone."""
    if POSIX and os.getpid() != os.getsid(0):
        os.setsid()


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
        try:
            if os.getpgid(pid) == pid:
                os.killpg(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        _send(pid, signal.SIGKILL)
        return
    import psutil  # noqa: PLC0415  as in birth()

    try:
        process = psutil.Process(pid)
        for member in [*process.children(recursive=True), process]:
            member.kill()
    except psutil.NoSuchProcess:
        pass


def end_group(pgid: int) -> None:
    """Kill what a dead session leader left behind in its process group."""
    if POSIX:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pgid, signal.SIGKILL)


def _send(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def raise_open_files(limit: int) -> None:
    """Set the limit of open files of this process (POSIX). Raises ValueError or OSError if it may not be that high."""
    if POSIX:
        import resource  # noqa: PLC0415  there is none on Windows

        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, max(limit, hard) if hard >= 0 else hard))


class FileLock:
    """A lock on a file that the kernel frees when its holder dies, however it dies.

    The file itself stays: its text says who holds it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: FileIO | None = None

    @property
    def held(self) -> bool:
        return self._file is not None

    def acquire(self, note: str) -> bool:
        """Take the lock and write the note into its file, or return False if another process has it.

        Raises OSError if the file cannot be opened.
        """
        if self._file is not None:
            return True
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)
        file = FileIO(os.open(self.path, flags, 0o600), "r+b")
        if not _lock(file):
            file.close()
            return False
        self._file = file
        try:
            file.truncate(0)
            file.write(note.encode())
        except OSError:  # a full disk: the lock counts, its note is for people
            pass
        return True

    def release(self) -> None:
        """Give the lock back."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def lost(self) -> bool:
        """Say whether somebody took away the file under a held lock: then others could take another one."""
        if self._file is None:
            return False
        try:
            there = self.path.stat()
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return not os.path.samestat(there, os.fstat(self._file.fileno()))

    def note(self) -> str:
        """Return what the holder wrote, or an empty text."""
        try:
            return self.path.read_text()
        except OSError:
            return ""


def _lock(file: FileIO) -> bool:
    if sys.platform == "win32":
        import msvcrt  # noqa: PLC0415  Windows only

        try:
            file.seek(1 << 20)  # beyond the note, which others must be able to read
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        finally:
            file.seek(0)
        return True
    import fcntl  # noqa: PLC0415  POSIX only

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
