"""What systemd wants to hear: sd_notify(3) in a few lines."""

import contextlib
import os
import socket


def listens() -> bool:
    """Say whether there is a systemd that wants to hear."""
    return bool(os.environ.get("NOTIFY_SOCKET")) and hasattr(socket, "AF_UNIX")


def notify(**facts: str | int) -> None:
    """Send READY=1, STATUS=..., and the like. What does not get through is said again."""
    if not listens():
        return
    address = os.environ["NOTIFY_SOCKET"]
    if address.startswith("@"):
        address = "\0" + address[1:]
    text = "\n".join(f"{name}={str(value).replace(chr(10), ' ')}" for name, value in facts.items())
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.setblocking(False)
        end.sendto(text.encode(), address)


def watchdog_s() -> float | None:
    """Return how often systemd wants a sign of life from this process, in seconds, or None if it does not."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    pid = os.environ.get("WATCHDOG_PID", "")
    if not microseconds.isdigit() or (pid and pid != str(os.getpid())):
        return None
    return int(microseconds) / 1e6
