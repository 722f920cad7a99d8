"""An endpoint like OpenAI's under the tests' control: it answers what the test says, byte by byte."""

import json
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.site import Request, Site

PATH = "/v1/chat/completions"

Asked = dict[str, Any]
Reply = Callable[[Asked], bytes]


def event(found: Any, end: str = "\n") -> bytes:
    """Return one event of a stream."""
    said = found if isinstance(found, str) else json.dumps(found)
    return f"data: {said}{end}{end}".encode()


def stream(text: str, *, reason: str | None = "stop", done: bool = True, end: str = "\n", usage: bool = True) -> bytes:
    """Return the body of a streamed answer, a few letters at a time; 7 tokens in, 3 out."""
    pieces = [text[start : start + 5] for start in range(0, len(text), 5)]
    made = [event({"choices": [{"index": 0, "delta": {"role": "assistant"}}]}, end)]
    made += [event({"choices": [{"index": 0, "delta": {"content": piece}}]}, end) for piece in pieces]
    made.append(event({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}, end))
    if usage:
        made.append(event({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}, end))
    return b"".join([*made, event("[DONE]", end) if done else b""])


def response(body: bytes, status: str = "200 OK", kind: str = "text/event-stream", **headers: str) -> bytes:
    """Return a whole response."""
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def says(text: str | dict[str, Any], **how: Any) -> Reply:
    """Answer with this text, or the JSON of this record, as a stream."""
    said = text if isinstance(text, str) else json.dumps(text)
    return lambda _: response(stream(said, **how))


def fails(status: str, body: str = "", **headers: str) -> Reply:
    """Answer with another status."""
    return lambda _: response(body.encode(), status, "application/json", **headers)


def quiet_end(body: bytes) -> Reply:
    """Answer so that the end of the connection is the end of the body."""
    return lambda _: b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n" + body


def cut(text: str) -> Reply:
    """Break off in the middle of the body."""
    return lambda _: response(stream(text))[:-40]


@dataclass
class Endpoint:
    """A model behind HTTP. replies: one after the other, the last one for ever. Its log is what a client is judged by."""

    site: Site
    replies: Sequence[Reply] = ()
    log: list[Asked] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    takes_s: float = 0.0
    most: int = 0
    at_once: int = 0

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self.url = f"{self.site.url}/v1"
        self.site.routes[PATH] = self._answer

    def answers(self, *replies: Reply) -> None:
        """Say what is answered, from now on."""
        with self._lock:
            self.replies, self._begun = replies, len(self.log)

    def _answer(self, end: socket.socket, request: Request) -> bool:
        asked = json.loads(request.body)
        with self._lock:
            reply = self.replies[min(len(self.log) - self._begun, len(self.replies) - 1)]
            self.log.append(asked)
            self.headers.append(dict(request.headers))
            self.times.append(time.monotonic())
            self.at_once += 1
            self.most = max(self.most, self.at_once)
        try:
            time.sleep(self.takes_s)
            end.sendall(reply(asked))
        finally:
            with self._lock:
                self.at_once -= 1
        return False

    def prompts(self) -> list[str]:
        """Return what a user is made to say, of each request."""
        return [asked["messages"][-1]["content"] for asked in self.log]
