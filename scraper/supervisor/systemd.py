"""What systemd wants to hear: sd_notify(3) in a few lines."""

import os
import socket


def notify(**facts: str | int) -> bool:
    """Send READY=1, STATUS=..., and the like. Returns whether there is a systemd that listens."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address or not hasattr(socket, "AF_UNIX"):
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    text = "\n".join(f"{name}={str(value).replace(chr(10), ' ')}" for name, value in facts.items())
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
            end.setblocking(False)
            end.sendto(text.encode(), address)
    except OSError:
        return False
    return True


def watchdog_s() -> float | None:
    """Return how often systemd wants a sign of life from this process, in seconds, or None if it does not."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    pid = os.environ.get("WATCHDOG_PID", "")
    if not microseconds.isdigit() or (pid and pid != str(os.getpid())):
        return None
    return int(microseconds) / 1e6
