"""What the operating system knows of a file: on which kind of file system it is, and who holds locks on it."""

import os
from dataclasses import dataclass
from pathlib import Path

from scraper.kernel.process import LINUX


@dataclass(frozen=True, slots=True)
class Lock:
    """A lock of a process on some bytes of a file, first and last included."""

    pid: int
    first: int
    last: int


def filesystem(path: Path) -> str:
    """Return the kind of the file system that a path is on, such as "ext4" or "nfs4"; "" where that is not known."""
    if not LINUX:
        return ""
    place = os.fsencode(os.path.realpath(path))
    kind, depth = "", -1
    try:
        lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
    except OSError:
        return ""
    for line in lines:  # proc_pid_mountinfo(5)
        before, _, after = line.partition(b" - ")
        mounted = before.split()[4].replace(rb"\040", b" ")
        inside = mounted == b"/" or place == mounted or place.startswith(mounted + b"/")
        if inside and len(mounted) >= depth:  # what was mounted later hides what was there
            kind, depth = after.split()[0].decode(), len(mounted)
    return kind


def locks_on(path: Path) -> list[Lock]:
    """Return the locks that processes hold on a file; none where the system does not tell."""
    if not LINUX:
        return []
    try:
        found = path.stat()
        lines = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    except OSError:
        return []
    inode = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    held = []
    for line in lines:  # proc_locks(5): "1: POSIX  ADVISORY  READ 5433 08:01:7864448 128 128"
        words = line.split()
        if "->" not in words and len(words) == 8 and words[5] == inode:
            last = int(words[7]) if words[7] != "EOF" else 2**63 - 1
            held.append(Lock(int(words[4]), int(words[6]), last))
    return held
