"""What a process may use, and what it had to give up."""

import contextlib
import os
from functools import cache
from pathlib import Path

from scraper.kernel.process import LINUX, POSIX

NICENESS = 5
FILES_MOST = 65536
BLOCKS_KEPT = 2000
BLOCK_MOST = 256  # bytes: larger ones are no tree's, and what one thread makes and another frees would be kept by both


def raise_open_files(limit: int) -> None:
    """Set the limit of open files of this process (POSIX). Raises ValueError or OSError if it may not be that high."""
    if POSIX:
        import resource  # noqa: PLC0415  there is none on Windows

        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, max(limit, hard) if hard >= 0 else hard))


def use_all_files() -> None:
    """Raise the limit of open files as far as it may be: each connection takes one."""
    if POSIX:
        import resource  # noqa: PLC0415  there is none on Windows

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = FILES_MOST if hard == resource.RLIM_INFINITY else min(hard, FILES_MOST)
        if soft < most:
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def limit_memory(most: int) -> None:
    """Have this process refused more private memory than this, in bytes: a MemoryError instead of a machine out of memory."""
    if LINUX:
        import resource  # noqa: PLC0415  there is none on Windows

        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_DATA, (most, resource.getrlimit(resource.RLIMIT_DATA)[1]))


def keep_freed_blocks() -> None:
    """Have the processes that are started from now on keep more freed small blocks of each size at hand, unless that is said already.

    The tree of a page is some thousand small blocks, made and freed for every page; glibc keeps seven of a size by itself
    (its manual, "Memory Allocation Tunables"). Other C libraries do not look at this.
    """
    said = f"glibc.malloc.tcache_count={BLOCKS_KEPT}:glibc.malloc.tcache_max={BLOCK_MOST}"
    os.environ.setdefault("GLIBC_TUNABLES", said)


def own_memory() -> int:
    """Return the resident bytes of this process, 0 where nobody can tell (Linux only)."""
    try:
        return int(Path("/proc/self/statm").read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE") if LINUX else 0
    except OSError:
        return 0


def step_back() -> None:
    """Let others have the processor first: on a busy machine whoever answers people comes before whoever scrapes.

    On Linux a session is a scheduling group of its own, which has a niceness too (sched(7), autogroup).
    """
    if hasattr(os, "nice"):
        with contextlib.suppress(OSError):
            os.nice(NICENESS)
    if LINUX:
        with contextlib.suppress(OSError):
            Path("/proc/self/autogroup").write_text(str(NICENESS))


def oom_kills() -> int:
    """Return how often the kernel has killed for memory so far, in our control group or else anywhere; Linux only.

    A process killed for its memory looks like one killed by hand; this count moved in the one case and not in the other.
    """
    file = _oom_file()
    try:
        text = file.read_text() if file is not None else ""
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("oom_kill "))


@cache
def _oom_file() -> Path | None:
    """The file that counts: memory.events (version 2) or memory.oom_control (version 1) of our group, /proc/vmstat."""
    if not LINUX:
        return None
    try:
        groups = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        groups = []
    candidates = []
    for line in groups:
        _, controllers, path = line.split(":", 2)
        below = path.lstrip("/")
        if "memory" in controllers.split(","):
            candidates.append(Path("/sys/fs/cgroup/memory", below, "memory.oom_control"))
        elif not controllers:
            candidates.append(Path("/sys/fs/cgroup", below, "memory.events"))
    counting = [file for file in candidates if _counts(file)]
    return counting[0] if counting else Path("/proc/vmstat")


def _counts(file: Path) -> bool:
    try:
        return any(line.startswith("oom_kill ") for line in file.read_text().splitlines())
    except OSError:
        return False
