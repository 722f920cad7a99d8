"""Locks that the kernel frees when their holder dies."""

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from io import FileIO
from pathlib import Path

HELD = "held.lock"


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

    def renew(self, note: str) -> bool:
        """Take a new lock instead of one whose file was taken away; the old one is given up only then.

        Returns False if another process has it. Raises OSError if the file cannot be opened.
        """
        fresh = FileLock(self.path)
        if not fresh.acquire(note):
            return False
        self.release()
        self._file = fresh._file
        return True

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

    def taken(self) -> bool:
        """Say whether another process has the lock."""
        try:
            file = FileIO(self.path, "r+b")
        except OSError:  # nobody made it; or it is not ours to look at
            return False
        with file:
            return not _lock(file)

    def note(self) -> str:
        """Return what the holder wrote, or an empty text."""
        try:
            return self.path.read_text()
        except OSError:
            return ""


@contextlib.contextmanager
def alone_with(file: int) -> Iterator[None]:
    """Wait until no other process does so with this open file, and keep others waiting meanwhile. Not on Windows."""
    if sys.platform == "win32":
        yield
        return
    import fcntl  # noqa: PLC0415  POSIX only

    fcntl.flock(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


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


@contextlib.contextmanager
def temporary(prefix: str) -> Iterator[Path]:
    """Make a temporary directory that goes when we do; what earlier owners left that were killed goes first. prefix: of its name."""
    for left in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        lock = FileLock(left / HELD)
        with contextlib.suppress(OSError):
            is_ours = not hasattr(os, "geteuid") or left.lstat().st_uid == os.geteuid()
            if is_ours and lock.path.exists() and lock.acquire(""):
                lock.release()
                shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    lock = FileLock(folder / HELD)
    try:
        lock.acquire(str(os.getpid()))
        yield folder
    finally:
        lock.release()
        shutil.rmtree(folder, ignore_errors=True)
