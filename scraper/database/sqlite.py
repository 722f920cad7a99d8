"""What is particular to SQLite: which library, which file, and its write-ahead log (WAL)."""

import contextlib
import glob
import importlib
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from scraper import kernel
from scraper.config.settings import Database
from scraper.database import folded
from scraper.errors import Conflict, Unavailable, Unusable

LOCK_SLICE_S = 0.005  # SQLite's own waits get long, and a lock that is free meanwhile goes unused
COPIED_AT_ONCE = 2000  # pages
LEFT_S = 60.0
WAL_PAGES = 4000  # how many pages make the one process that does so bring them into the database
WAL_PAGES_OF_OTHERS = 64_000
WAL_KEPT_BYTES = 64 * 2**20
# There a lock may be none, or the file be cached: https://sqlite.org/faq.html#q5, https://sqlite.org/wal.html
REMOTE = {
    *(
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "coda",
        "davfs",
        "glusterfs",
        "gpfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "smb3",
        "smbfs",
    ),
    *(
        "fuse.ceph",
        "fuse.davfs",
        "fuse.glusterfs",
        "fuse.rclone",
        "fuse.s3fs",
        "fuse.smbnetfs",
        "fuse.sshfs",
        "fuse.curlftpfs",
    ),
}
# Which bytes of the WAL's index are its readers' locks: https://sqlite.org/walformat.html#wal_index_locking
READ_LOCKS_AT = 123
READ_SLOTS = 5
COMMAND_MOST = 200


def is_sound(version: tuple[int, ...]) -> bool:
    """Say whether a version of SQLite is without the WAL-reset bug: a checkpoint and a writer of two connections that meet in the
    same instant may corrupt the database (https://sqlite.org/wal.html#walresetbug).

    3.51.3 is the first without it; 3.50.7 and 3.44.6 got the same correction.
    """
    return version >= (3, 51, 3) or (3, 50, 7) <= version < (3, 51) or (3, 44, 6) <= version < (3, 45)


def driver() -> ModuleType:
    """Return the SQLite to use: Python's own, or that of the extra [sqlite] where Python's own has the WAL-reset bug."""
    if not is_sound(sqlite3.sqlite_version_info):
        try:
            other = importlib.import_module("pysqlite3.dbapi2")
        except ImportError:
            return sqlite3
        if is_sound(other.sqlite_version_info):
            return other
    return sqlite3


def said_of(library: ModuleType) -> str:
    """Return what there is to say of a SQLite library: its version, and what to do if it has the bug."""
    version = str(library.sqlite_version)
    if is_sound(library.sqlite_version_info):
        return version
    return (
        f"{version} has the WAL-reset bug, so only one process does checkpoints; "
        'pip install "bowerbird[sqlite]" brings a SQLite without it'
    )


def _place(part: Path, to: Path) -> None:
    """Give a file its name, unless there is one by now. Raises Conflict."""
    try:
        os.link(part, to)
    except FileExistsError:
        part.unlink()
        raise Conflict(f"{to}: is there already, and is not overwritten") from None
    except OSError:  # no hard links here
        part.replace(to)
    else:
        part.unlink()


def _remove(file: Path) -> None:
    """Remove a database with all that SQLite may have put beside it."""
    for ending in ("", "-journal", "-wal", "-shm"):
        file.with_name(file.name + ending).unlink(missing_ok=True)


def _sweep(to: Path) -> None:
    """Remove the beginnings of copies to the same place whose makers were killed."""
    for left in to.parent.glob(f"{glob.escape(to.name)}.*.part"):
        pid = left.name.removeprefix(f"{to.name}.").removesuffix(".part")
        with contextlib.suppress(OSError):
            is_old = time.time() - left.stat().st_mtime > LEFT_S  # its maker may be in another container
            if is_old and pid.isdecimal() and kernel.birth(int(pid)) is None:
                _remove(left)


class File:
    """The file of a SQLite database, for the connections of one process."""

    def __init__(self, path: Path, settings: Database, *, checkpoints: bool) -> None:
        """checkpoints: this is the process that takes the WAL in; others do so only if it gets very long."""
        self.path = Path(os.path.realpath(path))  # as SQLite sees it: its log is beside the file, not beside a link
        self.library = driver()
        self.create = False
        self.replaced = False  # another file took the place of the one that was open
        self.foreign_keys = True
        self._settings = settings
        self.checkpoints = checkpoints
        self._identity: tuple[int, int] | None = None
        self._former: tuple[int, int] | None = None
        self._log: int | None = None  # the WAL, held open: as long as it is, no other file has its number
        self._connecting = threading.Lock()

    def connect(self) -> Any:
        """Return a new connection. Raises Unavailable if there is no file, Unusable if it cannot be used where it is."""
        kind = kernel.filesystem(self.path.parent)
        if kind in REMOTE:
            raise Unusable(
                f"{self.path}: is on a network file system ({kind}), on which SQLite loses data; "
                "put it on a local disk, or use PostgreSQL"
            )
        if self._identity is None and self.path.exists() and (names := self.path.stat().st_nlink) > 1:
            raise Unusable(
                f"{self.path}: this file has {names} names (hard links); SQLite keeps its log beside each of them, and who "
                "opens it by another destroys it: keep one"
            )
        if not self.create and not self.path.exists():
            raise Unavailable(
                f"{self.path}: there is no such file; put it back, or make an empty one with `bowerbird db upgrade`"
            )
        with self._connecting:
            return self._connect()

    def _connect(self) -> Any:
        if self._identity is None:
            self._drop_former_log()
        timeout = min(self._settings.timeout, LOCK_SLICE_S)
        made = self.library.connect(
            f"{self.path.absolute().as_uri()}?mode={'rwc' if self.create else 'rw'}",
            uri=True,
            timeout=timeout,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            self._prepare(made, timeout)
        except self.library.Error:
            made.close()
            raise
        if self._identity is None:
            self._identity = self._look()
            self.replaced = self.replaced or self._former not in (None, self._identity)
            self._former = self._identity
        self._hold_log()
        return made

    def _prepare(self, made: Any, timeout: float) -> None:
        others = 0 if not is_sound(self.library.sqlite_version_info) else WAL_PAGES_OF_OTHERS
        for pragma in (
            f"busy_timeout={int(timeout * 1000)}",
            "journal_mode=wal",
            "synchronous=full",  # or what was committed last, and told to others, would be gone after a power cut
            f"foreign_keys={'on' if self.foreign_keys else 'off'}",
            "temp_store=memory",
            "cache_size=-16384",
            f"journal_size_limit={WAL_KEPT_BYTES}",
            f"wal_autocheckpoint={WAL_PAGES if self.checkpoints else others}",
        ):
            made.execute(f"PRAGMA {pragma}")
        made.create_function(folded.NAME, 1, folded.fold, deterministic=True)

    def copy(self, source: Any, to: Path, progress: Callable[[int, int], None]) -> None:
        """Copy the database as one connection sees it at this moment, while others go on writing.

        progress: told how many pages are left, and how many there are. Raises Conflict if the file is there, Unusable if it
        cannot be made.
        """
        if to.exists():
            raise Conflict(f"{to}: is there already, and is not overwritten")
        part = to.with_name(f"{to.name}.{os.getpid()}.part")  # several may make the same copy
        _sweep(to)
        try:
            _remove(part)
            part.touch(mode=0o600)
            with contextlib.closing(self.library.connect(part)) as copy:
                source.execute("BEGIN")  # or it would start anew with each write
                try:
                    source.execute("SELECT count(*) FROM sqlite_schema").fetchone()
                    source.backup(copy, pages=COPIED_AT_ONCE, progress=lambda _, left, all_: progress(left, all_))
                finally:
                    source.execute("ROLLBACK")
                found = copy.execute("PRAGMA quick_check(1)").fetchone()[0]
            if found != "ok":
                part.unlink()
                told = " ".join(str(found).split())
                raise Unusable(f"{self.path}: its copy is not sound: {told}; `bowerbird db check` says more")
            with part.open("rb+") as written:
                os.fsync(written.fileno())
            _place(part, to)
        except (OSError, self.library.Error) as error:
            why = error.strerror or error if isinstance(error, OSError) else error
            raise Unusable(f"{self.path}: cannot be copied to {to}: {why}") from None
        finally:
            with contextlib.suppress(OSError):
                _remove(part)

    def moved(self) -> bool:
        """Say whether there is another file now than the one that was opened, or none: what is written to that is lost."""
        if self._identity is None or self._look() == self._identity:
            return False
        self._identity = None
        return True

    def _hold_log(self) -> None:
        """Know the WAL of the file that is open from any other one that may stand in its place."""
        with contextlib.suppress(OSError):
            if self._log is None or not os.path.samestat(os.fstat(self._log), self._log_path.stat()):
                self.let_go()
                self._log = os.open(self._log_path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))

    def _drop_former_log(self) -> None:
        """Another file was put in place of the one that was open: SQLite would take the log of that for its log, and damage it."""
        if self._log is None or self._look() in (None, self._former):
            return
        with kernel.alone_with(self._log), contextlib.suppress(OSError):  # another process may have begun a new one
            if os.path.samestat(os.fstat(self._log), self._log_path.stat()):
                self._log_path.unlink()
                self.path.with_name(self.path.name + "-shm").unlink()
        self.let_go()

    def let_go(self) -> None:
        """Hold nothing open any more."""
        log, self._log = self._log, None
        if log is not None:
            os.close(log)

    @property
    def _log_path(self) -> Path:
        return self.path.with_name(self.path.name + "-wal")

    def _look(self) -> tuple[int, int] | None:
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def wal_bytes(self) -> int:
        """Return how long the WAL is."""
        try:
            return self._log_path.stat().st_size
        except OSError:
            return 0

    def readers(self) -> dict[tuple[int, int], str]:
        """Return who looks at the database now: process and slot of the WAL's index, and the command.

        By the kernel's list of locks: to open the index here, and to close it, would drop the locks of this very process
        (fcntl_locking(2)).
        """
        found = {}
        for lock in kernel.locks_on(Path(f"{self.path}-shm")):
            for slot in range(READ_SLOTS):
                if lock.first <= READ_LOCKS_AT + slot <= lock.last:
                    found[lock.pid, slot] = " ".join(kernel.command(lock.pid).split())[:COMMAND_MOST]
        return found
