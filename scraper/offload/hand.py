"""One process of ours that does what it is told, one thing after the other."""

import asyncio
import socket
import time
from collections.abc import Callable
from typing import Any

from scraper import kernel, stacks
from scraper.offload import frames
from scraper.spawning import SPAWN, forget

Target = Callable[..., None]


class Died(Exception):
    """The process ended before it answered; the text says how."""


class Hand:
    """A spawned process at the other end of a socket. It goes when its socket closes, or its parent."""

    def __init__(self, name: str, target: Target, *args: Any) -> None:
        """target: called in the process with its end of the socket, a pipe for its stacks, and args. Raises OSError."""
        self.name = name
        self._ours, theirs = socket.socketpair()
        self._stacks, written = SPAWN.Pipe(duplex=False)
        self._process = SPAWN.Process(target=target, args=(theirs, written, *args), name=name, daemon=True)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self.idle_since = time.monotonic()
        self.knows: dict[str, Any] = {}  # what it was told once and for all
        try:
            self._process.start()
        except OSError:
            self._ours.close()
            self._stacks.close()
            raise
        finally:
            theirs.close()
            written.close()

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid or 0

    async def streams(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Return the two directions."""
        if self._streams is None:
            self._streams = await asyncio.open_connection(sock=self._ours)
        return self._streams

    @property
    def alive(self) -> bool:
        """Whether the process is there."""
        return self._process.is_alive()

    async def _ended(self) -> None:
        """Wait for its end, not for long; in no thread, for those may all be waiting for something else."""
        for _ in range(100):
            if not self.alive:
                return
            await asyncio.sleep(0.01)

    async def send(self, value: Any) -> None:
        """Send a value. Raises Died."""
        _, writer = await self.streams()
        try:
            writer.write(frames.packed(value))
            await writer.drain()
        except ConnectionError:
            raise Died(await self._how()) from None

    async def receive(self) -> Any:
        """Return the next value that comes. Raises Died."""
        reader, _ = await self.streams()
        try:
            return await frames.read(reader)
        except EOFError:
            raise Died(await self._how()) from None

    async def _how(self) -> str:
        await self._ended()
        code = self._process.exitcode
        return f"it was ended by signal {-code}" if code is not None and code < 0 else f"it ended with exit code {code}"

    async def stacks(self) -> str:
        """Return where it stands, as far as it can still say so. To ask may end it."""
        return await stacks.asked(self.pid, self._stacks)

    async def end(self) -> None:
        """Kill it, and what it started."""
        if self._streams is not None:
            self._streams[1].transport.abort()
        else:
            self._ours.close()
        if self._process.pid is not None:
            kernel.end_tree(self._process.pid)
            await self._ended()
            forget(self._process.pid)
        self._stacks.close()
