"""What we ask of the operating system, with the way of other systems beside that of Linux.

Nothing else in the project asks which system it runs on.
"""

from scraper.kernel.ending import (
    adopt,
    end_all_of,
    end_children,
    end_group,
    end_politely,
    end_session,
    end_tree,
    family,
    mark_family,
    show_stacks,
)
from scraper.kernel.lock import FileLock
from scraper.kernel.process import (
    LINUX,
    POSIX,
    STOPPED,
    await_death,
    birth,
    children,
    command,
    die_with_parent,
    doing,
    new_session,
    readable,
    see_deaths,
    session,
    thread_at_work,
    wake_when_orphaned,
    watch_death,
)
from scraper.kernel.resources import oom_kills, raise_open_files, step_back, use_all_files

__all__ = [
    "LINUX",
    "POSIX",
    "STOPPED",
    "FileLock",
    "adopt",
    "await_death",
    "birth",
    "children",
    "command",
    "die_with_parent",
    "doing",
    "end_all_of",
    "end_children",
    "end_group",
    "end_politely",
    "end_session",
    "end_tree",
    "family",
    "mark_family",
    "new_session",
    "oom_kills",
    "raise_open_files",
    "readable",
    "see_deaths",
    "session",
    "show_stacks",
    "step_back",
    "thread_at_work",
    "use_all_files",
    "wake_when_orphaned",
    "watch_death",
]
