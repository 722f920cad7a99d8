"""The channel to the supervisor, read by a thread: commands for the event loop, and the end of the world.

The end of the stream means that the supervisor is gone, however it went; then nothing may be left of us.
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable

from scraper import kernel, spawning
from scraper.channel import Channel, Message
from scraper.errors import Exit

BOOT_S = 20.0
REAP_EACH_S = 30.0


def boot_message(channel: Channel) -> Message:
    """Wait for the first message, the one with the config dict. Ends the process if it does not come."""
    deadline = time.monotonic() + BOOT_S
    while time.monotonic() < deadline:
        kernel.readable(channel.socket.fileno(), 1.0)
        messages, open_still = channel.receive()
        if messages:  # what was said meanwhile counts as said at the start
            return {name: value for message in messages for name, value in message.items()}
        if not open_still:
            break
    os._exit(Exit.PARENT_LOST)


def watch(channel: Channel, deliver: Callable[[Message], None]) -> None:
    """Deliver each command, and end the process and its session when the supervisor is gone."""

    def run() -> None:
        dead_since: dict[int, float] = {}
        while True:
            if not kernel.readable(channel.socket.fileno(), REAP_EACH_S):
                spawning.reap_strangers(dead_since)
                continue
            messages, open_still = channel.receive()
            for message in messages:
                with contextlib.suppress(RuntimeError):  # the loop has ended: so do we, in a moment
                    deliver(message)
            if not open_still:
                end_all()

    threading.Thread(target=run, name="lifeline", daemon=True).start()


def end_all() -> None:
    """End this process and all that it started, now. What was not committed is rolled back."""
    if kernel.POSIX and os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(Exit.PARENT_LOST)
