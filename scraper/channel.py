"""JSON lines over a socket pair between the supervisor and one generation of a process.

Beats and reasons come up, wishes go down, and the end of the stream means that the other side is gone. Neither side
ever waits for the other: what does not fit is dropped, for the next line tells more.
"""

import json
import socket
from typing import Any

Message = dict[str, Any]
MAX_LINE = 1 << 28


class Channel:
    """One end of the pair."""

    def __init__(self, end: socket.socket) -> None:
        self.socket = end
        self._unread = b""
        self._unsent = b""

    def send(self, message: Message, *, must: bool = False) -> None:
        """Send a line without waiting. must: keep it for the next flush() if the other side is slow to read."""
        if self._unsent and not must:
            return
        self._unsent += json.dumps(message, default=str).encode() + b"\n"
        self.flush()

    @property
    def unsent(self) -> bool:
        """Whether something waits for the next flush()."""
        return bool(self._unsent)

    def flush(self) -> None:
        """Send what is left, as far as that goes without waiting."""
        self.socket.setblocking(False)
        try:
            while self._unsent:
                sent = self.socket.send(self._unsent)
                self._unsent = self._unsent[sent:]
        except BlockingIOError:
            pass
        except OSError:  # the other side is gone; its death is told elsewhere
            self._unsent = b""

    def receive(self) -> tuple[list[Message], bool]:
        """Return the lines that have come, without waiting, and whether the stream goes on."""
        self.socket.setblocking(False)
        open_still = True
        try:
            while chunk := self.socket.recv(65536):
                self._unread += chunk
                if len(self._unread) > MAX_LINE:
                    self._unread = b""
            open_still = False
        except BlockingIOError:
            pass
        except OSError:
            open_still = False
        return self._lines(), open_still

    def _lines(self) -> list[Message]:
        *lines, self._unread = self._unread.split(b"\n")
        found = []
        for line in lines:
            try:
                message = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(message, dict):
                found.append(message)
        return found

    def close(self) -> None:
        """Close this end."""
        self.socket.close()
