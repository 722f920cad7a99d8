"""Python's garbage collector, in processes that live long."""

import gc

YOUNG = 20_000  # objects more than were freed, before the young ones are looked at
MIDDLE, OLD = 20, 50


def settle() -> None:
    """Leave what is there by now alone, and look seldom at what comes.

    It stays, and to look for what may go among it stops everything for a tenth of a second. And a page makes much that goes
    again at once, by itself.
    """
    gc.freeze()
    gc.set_threshold(YOUNG, MIDDLE, OLD)
