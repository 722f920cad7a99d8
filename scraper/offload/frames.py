"""Values over a socket between a scraper and a process of its own: a length, then a pickle."""

import asyncio
import pickle
import socket
import struct
from collections.abc import Callable
from dataclasses import fields
from operator import attrgetter
from typing import Any

from scraper.records import Fetched, Item, Link, Reading

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


_FETCHED: Callable[[Fetched], tuple[Any, ...]] = attrgetter(*(each.name for each in fields(Fetched)))

# Dataclasses take long to pickle: what goes over on every page goes as tuples.


def flat(fetched: Fetched) -> tuple[Any, ...]:
    """Return a response as a tuple; Fetched(*it) is the response again."""
    return _FETCHED(fetched)


def flat_reading(reading: Reading) -> tuple[Any, ...]:
    """Return a reading as a tuple, for reading_of()."""
    items = [(item.kind, item.key, item.data, item.quiet) for item in reading.items]
    links = [(link.url, link.kind, link.priority, link.modified_at) for link in reading.links]
    rest = reading.simhash, reading.canonical, reading.noindex, reading.fault, reading.refused, reading.difference
    return reading.title, items, links, *rest, reading.notes


def reading_of(flattened: tuple[Any, ...]) -> Reading:
    """Return what flat_reading() took apart."""
    title, items, links, *rest = flattened
    return Reading(title, tuple(Item(*item) for item in items), tuple(Link(*link) for link in links), *rest)
