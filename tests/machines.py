"""Several machines on one wire: network namespaces with host names of their own, whose cables can be pulled out.

They go when the tests do, however these end. What the tests themselves serve is put on the wire by `Wire.inside`.
"""

import contextlib
import ctypes
import errno
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest

from tests.support import until

T = TypeVar("T")
NETWORK = 0x40000000  # CLONE_NEWNET of sched.h
NET = "10.213.0"  # of this wire alone: nothing leads out of it
HUB = f"{NET}.1"
LACKING = "the tests need root, and Debian's iproute2 and util-linux, to make machines of network namespaces"


class Machine:
    """One host: a name, an address, a cable."""

    def __init__(self, name: str, number: int) -> None:
        self.name = name
        self.address = f"{NET}.{number}"
        self._holder = subprocess.Popen(
            [
                *("setpriv", "--pdeathsig", "KILL", "unshare", "--net", "--uts"),
                *("sh", "-c", 'hostname "$1" && echo up && exec sleep infinity', "sh", name),
            ],
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
        )
        assert self._holder.stdout is not None
        with self._holder.stdout as told:
            assert told.readline() == b"up\n"
        self.pid = self._holder.pid
        self._thread = ThreadPoolExecutor(1, initializer=_enter, initargs=(self.pid,))

    @property
    def prefix(self) -> tuple[str, ...]:
        """What a command begins with to run on this machine."""
        return ("nsenter", "--target", str(self.pid), "--net", "--uts", "--")

    def ip(self, *words: str) -> None:
        """Set up its network."""
        subprocess.run([*self.prefix, "ip", *words], check=True)

    def do(self, work: Callable[[], T]) -> T:
        """Do something as if on this machine: what it connects to, and listens on, is there."""
        return self._thread.submit(work).result()

    def close(self) -> None:
        """Take it away."""
        self._thread.shutdown()
        self._holder.kill()
        self._holder.wait()


def _enter(pid: int) -> None:
    """Move this thread, and those that it starts, to the network of a process."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path(f"/proc/{pid}/ns/net").open("rb") as place:
        if libc.setns(place.fileno(), NETWORK):
            raise OSError(ctypes.get_errno(), "setns")


@dataclass
class Wire:
    """A switch, what the tests serve beside it, and the machines."""

    hub: Machine
    machines: list[Machine]
    leaving: contextlib.ExitStack

    def inside(self, work: Callable[[], T]) -> T:
        """Do something at the switch, whose address is HUB."""
        return self.hub.do(work)

    def cut(self, machine: Machine) -> None:
        """Pull its cable out: nothing goes through, and nobody is told."""
        self.hub.ip("link", "set", machine.name, "down")

    def mend(self, machine: Machine) -> None:
        """Put its cable back."""
        self.hub.ip("link", "set", machine.name, "up")

    def offer(self, port: int) -> None:
        """Have a loopback port of the tests' own network be the same port of the switch."""
        listener = self.inside(lambda: socket.create_server((HUB, port)))
        taken: list[tuple[socket.socket, threading.Thread]] = []
        forwarding = threading.Thread(target=_forward, args=(listener, port, taken), daemon=True)
        forwarding.start()
        self.leaving.callback(_hang_up, taken)
        self.leaving.callback(forwarding.join)
        self.leaving.callback(listener.shutdown, socket.SHUT_RDWR)


def _forward(listener: socket.socket, port: int, taken: list[tuple[socket.socket, threading.Thread]]) -> None:
    with listener:
        while True:
            try:
                near, _ = listener.accept()
                far = socket.create_connection(("127.0.0.1", port))
            except OSError:
                return
            joined = threading.Thread(target=_join, args=(near, far), daemon=True)
            joined.start()
            taken.append((far, joined))


def _hang_up(taken: list[tuple[socket.socket, threading.Thread]]) -> None:
    """End what is connected still: the other end may have been cut off."""
    for far, joined in taken:
        with contextlib.suppress(OSError):
            far.shutdown(socket.SHUT_RDWR)
        joined.join()


def _join(near: socket.socket, far: socket.socket) -> None:
    with near, far:
        back = threading.Thread(target=_pour, args=(far, near), daemon=True)
        back.start()
        _pour(near, far)
        back.join()


def _pour(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while chunk := source.recv(65536):
            target.sendall(chunk)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def wired(count: int) -> Iterator[Wire]:
    """Make so many machines on one wire. Fails if this machine does not let us."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("ip", "nsenter", "unshare", "setpriv"))):
        pytest.fail(LACKING)
    with contextlib.ExitStack() as stack:

        def made(name: str, number: int) -> Machine:
            machine = Machine(name, number)
            stack.callback(machine.close)
            machine.ip("link", "set", "lo", "up")
            return machine

        hub = made("hub", 1)
        hub.ip("link", "add", "switch", "type", "bridge")
        hub.ip("addr", "add", f"{HUB}/24", "dev", "switch")
        hub.ip("link", "set", "switch", "up")
        wire = Wire(hub, [made(f"host{number}", 10 + number) for number in range(count)], stack)
        for machine in wire.machines:
            hub.ip("link", "add", machine.name, "type", "veth", "peer", "name", "eth0", "netns", str(machine.pid))
            hub.ip("link", "set", machine.name, "master", "switch", "up")
            machine.ip("addr", "add", f"{machine.address}/24", "dev", "eth0")
            machine.ip("link", "set", "eth0", "up")
            until(lambda machine=machine: _reaches(machine), f"{machine.name} is on the wire")  # type: ignore[misc]
        yield wire


def _reaches(machine: Machine) -> bool:
    """Whether a packet to the switch is answered, if only by a refusal."""

    def knock() -> bool:
        with socket.socket() as end:
            end.settimeout(0.2)
            return end.connect_ex((HUB, 9)) == errno.ECONNREFUSED

    return machine.do(knock)
