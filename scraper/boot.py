"""What the processes of a supervisor are started with: from the settings to plain messages and rules."""

import logging
import socket
from pathlib import Path
from typing import Any

from scraper import kernel
from scraper.channel import Message
from scraper.config.settings import Settings, Supervision, plain
from scraper.supervisor.policy import Rules


def have_family(family: str) -> None:
    """Make this process one that has children: it sees their deaths, adopts what they leave, and all of them can be told by their family."""
    kernel.see_deaths()
    kernel.use_all_files()
    kernel.adopt()
    kernel.mark_family(family)


def rules_of(supervisor: Supervision, *, once: bool) -> Rules:
    """Return the rules of supervising. once: the processes end when their work is done, and are not started again then."""
    return Rules(
        heartbeat_timeout=supervisor.heartbeat_timeout,
        stop_timeout=supervisor.stop_timeout,
        backoff_max=supervisor.backoff_max,
        max_restarts=supervisor.max_restarts,
        restart_window=supervisor.restart_window,
        restart="on-failure" if once else supervisor.restart,
    )


def boot_of(configured: Settings, base: Path, folder: Path, role: str, place: str, once: Any) -> Message:
    """Return what a process is told at its start, all of it plain.

    base: what paths are relative to. folder: where its heartbeats go. place: what tells this service from others on the machine.
    once: what it is to do before it ends; None: whatever is due, for ever.
    """
    return {
        "role": role,
        "config": plain(configured),
        "base": str(base),
        "state_dir": str(folder),
        "instance": f"{socket.gethostname()}/{place}",
        "once": once,
        "log_level": logging.getLogger().getEffectiveLevel(),
    }
