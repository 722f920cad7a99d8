"""Where the threads of a process stand, told by Python's fault handler through a pipe, also when nothing else works.

It is asked by a signal: the thread that it interrupts stands still meanwhile. To ask may end a busy process, one time in
tens of thousands: ask those that are to be ended. The fault handler's own watchdog needs no signal, but reads the frames of
a thread that runs on, and ends it far more often.
"""

import asyncio
import contextlib
import faulthandler
import os
import signal
import time
from multiprocessing.connection import Connection

from scraper import kernel

MOST = 64 * 1024  # bytes
WAIT_S = 1.0
QUIET_S = 0.05  # nothing more for so long: that was all


def tell(pipe: Connection) -> None:
    """Have this process's fault handler write into a pipe: of a crash, and when it is asked to."""
    if kernel.POSIX:  # elsewhere a pipe is no file
        faulthandler.enable(file=pipe)
        faulthandler.register(signal.SIGUSR1, file=pipe, all_threads=True)


def ask(pid: int) -> None:
    """Ask a process that tells its stacks for them."""
    kernel.show_stacks(pid)


def read(pipe: Connection) -> str:
    """Return what a process has told since the last call; does not wait."""
    if not kernel.POSIX:
        return ""
    fd, text = pipe.fileno(), b""
    os.set_blocking(fd, False)
    with contextlib.suppress(BlockingIOError):
        while len(text) < MOST and (chunk := os.read(fd, 65536)):
            text += chunk
    return text.decode(errors="replace")


async def asked(pid: int, pipe: Connection) -> str:
    """Ask a process for its stacks; return them, or as much as comes within a second."""
    read(pipe)
    ask(pid)
    began = news = time.monotonic()
    text = ""
    while (now := time.monotonic()) < began + WAIT_S and not (text and now > news + QUIET_S):
        await asyncio.sleep(0.01)
        if more := read(pipe):
            text, news = text + more, time.monotonic()
    return text
