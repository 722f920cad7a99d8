"""A time limit for Python code in this very thread: a regular expression, too, looks for signals while it runs."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

AGAIN_S = 0.05


class TookTooLong(Exception):
    """The time is up."""


def _ring(number: int, frame: FrameType | None) -> None:
    raise TookTooLong


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raise TookTooLong in the block when the time is up; in the main thread of a POSIX process, elsewhere never."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return
    if signal.getsignal(signal.SIGALRM) is not _ring:  # it stays: without a timer it is never called
        signal.signal(signal.SIGALRM, _ring)
    signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN_S)  # where it rings may be a place that swallows it
    try:
        yield
    finally:
        while True:
            try:
                signal.setitimer(signal.ITIMER_REAL, 0)
                break
            except TookTooLong:
                continue
