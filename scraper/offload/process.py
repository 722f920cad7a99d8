"""How each of these processes begins."""

import contextlib
import os
import signal
from typing import TYPE_CHECKING

from scraper import kernel, stacks

if TYPE_CHECKING:
    from multiprocessing.connection import Connection


def begin(parent: int, told: "Connection") -> bool:
    """Lead a group of our own, tell our stacks to whom asks, leave Ctrl-C to others, and go when the parent goes. Returns whether it is still there."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(OSError):  # there may be none
        os.dup2(2, 1)  # what a user's function prints is none of a command's results
    stacks.tell(told)
    kernel.lead_group()
    try:
        kernel.die_with_parent(parent)
    except ProcessLookupError:
        return False
    return True
