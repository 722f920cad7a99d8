"""The first breath of a scraper process: everything that must hold before the rest of it is even loaded.

It loads next to nothing itself, so that a process that cannot load the rest can still say why.
"""

import faulthandler
import os
import signal
import socket
import sys

from scraper import kernel
from scraper.channel import Channel
from scraper.errors import BowerbirdError, Exit
from scraper.worker import lifeline


def run(end: socket.socket) -> None:
    """Live: the target of the spawned process. end: our end of the channel to the supervisor."""
    parent = os.getppid()
    kernel.new_session()
    kernel.mark_member()
    kernel.step_back()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    faulthandler.enable(file=end)
    if hasattr(faulthandler, "register"):
        faulthandler.register(signal.SIGUSR1, file=end, all_threads=True)
    try:
        kernel.die_with_parent(parent)
    except ProcessLookupError:
        os._exit(Exit.PARENT_LOST)
    channel = Channel(end)
    code: int = Exit.FAILED
    try:
        boot = lifeline.boot_message(channel)
        from scraper.worker.main import Scraper  # noqa: PLC0415  most of the time that a start takes

        code = Scraper(channel, boot).live()
    except BowerbirdError as error:
        channel.send({"leaving": str(error)}, must=True)
        code = Exit.BAD_CONFIG
    except BaseException as error:  # noqa: BLE001  the top of a process: it is told, and ends it
        import traceback  # noqa: PLC0415  only where it is needed

        channel.send({"leaving": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}, must=True)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        if code < 0:
            signal.signal(-code, signal.SIG_DFL)
            os.kill(os.getpid(), -code)
        os._exit(code)  # no thread that waits for a database or a Manager may keep us
