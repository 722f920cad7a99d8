"""The web that misbehaves: an HTTP server under the tests' control, byte by byte."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Request:
    """One request as it came, and when (monotonic seconds)."""

    path: str
    headers: Mapping[str, str]
    at: float
    body: bytes = b""


Answer = Callable[[socket.socket, Request], bool]


def html(body: str, *, status: str = "200 OK", kind: str = "text/html; charset=utf-8", **headers: str) -> bytes:
    """Return a whole response."""
    data = body.encode()
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", f"Content-Length: {len(data)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data


@dataclass
class Site:
    """A server on a loopback address. Its log is what politeness is judged by."""

    host: str = "127.0.0.1"
    log: list[Request] = field(default_factory=list)
    routes: dict[str, Answer] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._listener = socket.create_server((self.host, 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"http://{self.host}:{self.port}"
        self._open = True
        threading.Thread(target=self._accept, daemon=True).start()

    def raw(self, path: str, data: bytes | Callable[[Request], bytes], *, close: bool = True) -> str:
        """Answer a path ("*": every other one) with these very bytes. Returns its URL."""

        def answer(end: socket.socket, request: Request) -> bool:
            end.sendall(data if isinstance(data, bytes) else data(request))
            return not close

        self.routes[path] = answer
        return self.url + path

    def page(self, path: str, body: str, **headers: str) -> str:
        """Answer a path with a page, 304 if its ETag is known. Returns its URL."""

        def answer(end: socket.socket, request: Request) -> bool:
            etag = headers.get("ETag")
            if etag and request.headers.get("if-none-match") == etag:
                end.sendall(f"HTTP/1.1 304 Not Modified\r\nETag: {etag}\r\n\r\n".encode())
            else:
                end.sendall(html(body, **headers))
            return True

        self.routes[path] = answer
        return self.url + path

    def paths(self) -> list[str]:
        """Return what was asked for, robots.txt left out, in order."""
        return [request.path for request in self.log if request.path != "/robots.txt"]

    def close(self) -> None:
        """Listen no more."""
        self._open = False
        self._listener.close()

    def _accept(self) -> None:
        while self._open:
            try:
                end, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(end,), daemon=True).start()

    def _serve(self, end: socket.socket) -> None:
        with end, contextlib.suppress(OSError):
            unread = b""
            while True:
                while b"\r\n\r\n" not in unread:
                    chunk = end.recv(65536)
                    if not chunk:
                        return
                    unread += chunk
                head, _, unread = unread.partition(b"\r\n\r\n")
                first, *lines = head.decode("latin-1").split("\r\n")
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
                length = int(headers.get("content-length", 0))
                while len(unread) < length:
                    chunk = end.recv(65536)
                    if not chunk:
                        return
                    unread += chunk
                body, unread = unread[:length], unread[length:]
                request = Request(first.split(" ")[1], headers, time.monotonic(), body)
                self.log.append(request)
                answer = self.routes.get(request.path) or self.routes.get("*")
                if answer is None:
                    end.sendall(html("gone", status="404 Not Found"))
                elif not answer(end, request):
                    return


@contextlib.contextmanager
def running(host: str = "127.0.0.1") -> Iterator[Site]:
    """Run a site."""
    site = Site(host)
    try:
        yield site
    finally:
        site.close()
