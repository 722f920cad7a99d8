"""What we ask of the operating system, with the way of other systems beside that of Linux.

Nothing else in the project asks which system it runs on.
"""

from scraper.kernel.ending import end_all_of, end_left_by, end_politely, end_tree, mark_family, mark_member, show_stacks
from scraper.kernel.lock import FileLock
from scraper.kernel.process import (
    LINUX,
    POSIX,
    await_death,
    birth,
    die_with_parent,
    doing,
    new_session,
    readable,
    wake_when_orphaned,
    watch_death,
)
from scraper.kernel.resources import oom_kills, raise_open_files, step_back

__all__ = [
    "LINUX",
    "POSIX",
    "FileLock",
    "await_death",
    "birth",
    "die_with_parent",
    "doing",
    "end_all_of",
    "end_left_by",
    "end_politely",
    "end_tree",
    "mark_family",
    "mark_member",
    "new_session",
    "oom_kills",
    "raise_open_files",
    "readable",
    "show_stacks",
    "step_back",
    "wake_when_orphaned",
    "watch_death",
]
