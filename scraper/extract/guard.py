"""A time limit for Python code in this very thread: a regular expression, too, looks for signals while it runs."""

import signal
import threading
from types import FrameType

AGAIN_S = 0.05


class TookTooLong(Exception):
    """The time is up."""


def _ring(number: int, frame: FrameType | None) -> None:
    raise TookTooLong


class Guard:
    """Raises TookTooLong in a with block when its time is up; in the main thread of a POSIX process, elsewhere never.

    It is for one block after the other. The alarm is this process's only one: who makes a guard has SIGALRM from then on.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.works = hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()
        if self.works:
            signal.signal(signal.SIGALRM, _ring)

    def __enter__(self) -> None:
        if self.works:
            signal.setitimer(
                signal.ITIMER_REAL, self._seconds, AGAIN_S
            )  # where it rings may be a place that swallows it

    def __exit__(self, *_: object) -> None:
        while self.works:
            try:
                signal.setitimer(signal.ITIMER_REAL, 0)
                break
            except TookTooLong:
                continue
