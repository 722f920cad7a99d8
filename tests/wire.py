"""A wire to a server that can be cut at a chosen moment. What goes over it is passed through as it is, encrypted or not."""

import contextlib
import select
import socket
import threading
from collections.abc import Iterator
from typing import Literal

Cut = Literal["before", "after", "unanswered"]
CHUNK = 1 << 16
LOOK_S = 0.05


class Wire:
    """Listens on a port of its own, and connects each who comes with the server."""

    def __init__(self, server: int) -> None:
        self._server = server
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open = True
        self._cuts: list[Cut] = []
        self.refuses = False  # whoever comes is sent away
        self.refused = 0
        self.cut_off = 0
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def cut(self, when: Cut, *, then_refuse: bool = False) -> None:
        """Cut the connection on which a client next says something.

        before: the server does not hear it. after: the server heard it and answered, and the client does not hear that.
        unanswered: the server heard it and has not answered yet. then_refuse: nobody gets through from then on.
        """
        self._then_refuse = then_refuse
        self._cuts.append(when)

    def close(self) -> None:
        """Cut everything."""
        self._open = False
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while self._open:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.refuses:
                self.refused += 1
                client.close()
                continue
            thread = threading.Thread(target=self._carry, args=(client,))
            self._threads.append(thread)
            thread.start()

    def _carry(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._server)) as server, contextlib.suppress(OSError):
            both = select.poll()  # select() knows no descriptor beyond 1023
            for end in (client, server):
                both.register(end, select.POLLIN)
            while self._open:
                ready = {descriptor for descriptor, _ in both.poll(LOOK_S * 1000)}
                if server.fileno() in ready:
                    if not (answer := server.recv(CHUNK)):
                        return
                    client.sendall(answer)
                if client.fileno() in ready:
                    if not (said := client.recv(CHUNK)):
                        return
                    if self._cuts:
                        self._end(self._cuts.pop(), server, said)
                        return
                    server.sendall(said)

    def _end(self, when: Cut, server: socket.socket, said: bytes) -> None:
        self.refuses = self._then_refuse
        if when != "before":
            server.sendall(said)
        if when == "after":
            server.recv(CHUNK)
        self.cut_off += 1


@contextlib.contextmanager
def strung(server: int) -> Iterator[Wire]:
    """Have a wire to a port on this machine."""
    wire = Wire(server)
    try:
        yield wire
    finally:
        wire.close()
