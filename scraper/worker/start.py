"""The first breath of a scraper process: everything that must hold before the rest of it is even loaded.

It loads next to nothing itself, so that a process that cannot load the rest can still say why.
"""

import gc
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING

from scraper import kernel, stacks
from scraper.channel import Channel
from scraper.errors import BowerbirdError, Exit
from scraper.worker import lifeline

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from scraper.worker.process import Process


ENRICHER = "enricher"  # the role of a process that makes something of what was scraped


def _scraper() -> "type[Process]":
    from scraper.worker.main import Scraper  # noqa: PLC0415  most of the time that a start takes

    return Scraper


def _enricher() -> "type[Process]":
    from scraper.worker.enricher import Enricher  # noqa: PLC0415  as above

    return Enricher


def run(end: socket.socket, told: "Connection") -> None:
    """Live: the target of the spawned process.

    end: our end of the channel to the supervisor. told: where it tells its stacks, also when nothing else can run; a
    pipe, for a socket takes few of its many small words at a time.
    """
    parent = os.getppid()
    kernel.new_session()
    kernel.adopt()
    kernel.step_back()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    stacks.tell(told)
    try:
        kernel.die_with_parent(parent)
    except ProcessLookupError:
        os._exit(Exit.PARENT_LOST)
    channel = Channel(end)
    code: int = Exit.FAILED
    try:
        boot = lifeline.boot_message(channel)
        gc.disable()  # what is loaded stays: to look for what may go among it takes a seventh of the time
        kind = _enricher() if boot.get("role") == ENRICHER else _scraper()
        gc.enable()
        code = kind(channel, boot).live()
        channel.send({"exit": code}, must=True)  # a parser that ends the process with the same number does not say so
    except BowerbirdError as error:
        code = Exit.BAD_CONFIG
        channel.send({"leaving": str(error), "exit": code}, must=True)
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
