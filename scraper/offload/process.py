"""How each of these processes begins."""

import signal

from scraper import kernel


def begin(parent: int) -> bool:
    """Lead a group of our own, leave Ctrl-C to others, and go when the parent goes. Returns whether it is still there."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    kernel.lead_group()
    try:
        kernel.die_with_parent(parent)
    except ProcessLookupError:
        return False
    return True
