"""Many slow hosts in one process: each a chain of pages, each page answered after a while; some never answer.

Run as a program it writes, when it is told to end, which host was asked when and answered when.
"""

import asyncio
import json
import signal
import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

AFTER_S = 0.3
_PAGE = "<!doctype html><title>Page {n}</title><h1>Page {n}</h1>{link}<p>" + "It takes its time. " * 40 + "</p>"
_NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"


def address(number: int) -> str:
    """Return the loopback address of a host."""
    return f"127.1.{number // 250}.{number % 250 + 1}"


@dataclass
class Hosts:
    """What all hosts share: how long their chains are, which never answer, and what was seen."""

    pages: int
    stalling: int
    seen: list[tuple[int, int, float, float]] = field(default_factory=list)  # host, page, asked at, answered at

    def answer(self, page: int) -> bytes:
        """Return a page with a link to the next one."""
        link = f'<a href="/{page + 1}">on</a>' if page + 1 < self.pages else ""
        body = _PAGE.format(n=page, link=link).encode()
        return b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


class Connection(asyncio.Protocol):
    """One connection to one host. Requests come one after the other, and fit into what is read at once."""

    def __init__(self, hosts: Hosts, number: int) -> None:
        self._hosts = hosts
        self._number = number
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where answers go."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer later, or never; what is no page is refused at once."""
        path = data.split(b" ", 2)[1].strip(b"/").decode()
        if not path.isdigit():
            self._transport.write(_NOT_FOUND)
        elif self._number >= self._hosts.stalling:
            self._loop.call_later(AFTER_S, self._send, int(path), self._loop.time())

    def _send(self, page: int, asked_at: float) -> None:
        if not self._transport.is_closing():
            self._transport.write(self._hosts.answer(page))
            self._hosts.seen.append((self._number, page, asked_at, self._loop.time()))


async def serve(port: int, hosts: Hosts, count: int) -> None:
    """Serve so many hosts, until told to end."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    servers = [
        await loop.create_server(partial(Connection, hosts, number), address(number), port) for number in range(count)
    ]
    await ended.wait()
    for server in servers:
        server.close()


def main() -> None:
    """Serve, and then tell."""
    port, count, stalling, pages = (int(word) for word in sys.argv[1:5])
    hosts = Hosts(pages, stalling)
    asyncio.run(serve(port, hosts, count))
    Path(sys.argv[5]).write_text(json.dumps(hosts.seen))


if __name__ == "__main__":
    main()
