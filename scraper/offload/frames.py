"""Values over a socket between a scraper and a process of its own: a length, then a pickle."""

import asyncio
import pickle
import socket
import struct
from typing import Any

HEAD = struct.Struct("<I")


def packed(value: Any) -> bytes:
    """Return a value as a frame."""
    data = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    return HEAD.pack(len(data)) + data


async def read(stream: asyncio.StreamReader) -> Any:
    """Return the next value. Raises EOFError when the other side is gone."""
    try:
        (length,) = HEAD.unpack(await stream.readexactly(HEAD.size))
        return pickle.loads(await stream.readexactly(length))
    except (asyncio.IncompleteReadError, ConnectionError):
        raise EOFError from None


def receive(end: socket.socket) -> Any:
    """Wait for the next value. Raises EOFError when the other side is gone."""
    (length,) = HEAD.unpack(_exactly(end, HEAD.size))
    return pickle.loads(_exactly(end, length))


def _exactly(end: socket.socket, length: int) -> bytes:
    buffer = bytearray(length)
    view = memoryview(buffer)
    while view:
        try:
            count = end.recv_into(view)
        except OSError:
            count = 0
        if not count:
            raise EOFError
        view = view[count:]
    return bytes(buffer)
