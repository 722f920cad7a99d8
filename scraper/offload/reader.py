"""The reading process: a page and its source come in, what was read of it goes out."""

import os
import pickle
import socket
from typing import TYPE_CHECKING, Any

from scraper import kernel
from scraper.offload import frames
from scraper.offload.process import begin

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from scraper.extract.reading import Reader


def run(end: socket.socket, told: "Connection", parent: int, memory: int) -> None:
    """Read pages until the socket closes. memory: bytes that it may take."""
    if not begin(parent, told):
        return
    kernel.limit_memory(memory)
    import scraper.extract.reading  # noqa: PLC0415, F401  most of the time that a start takes

    end.sendall(frames.packed(None))
    readers: dict[str, Reader] = {}
    me = os.getpid()
    while True:
        try:
            task = frames.receive(end)
        except EOFError:
            os._exit(0)
        answer = _answer(task, readers)
        if os.getpid() != me:  # a parser has forked, and this is the copy: the answer is not its to give
            os._exit(0)
        end.sendall(_packed(answer))


def _packed(answer: Any) -> bytes:
    """The answer for our parent; a failure in its place if it cannot be handed over."""
    from scraper.errors import Failure  # noqa: PLC0415  as in _answer()

    try:
        return frames.packed((answer, kernel.own_memory()))
    except (pickle.PickleError, TypeError, AttributeError, ValueError, RecursionError) as error:
        told = f"what was read cannot be handed over: {type(error).__name__}: {error}"
        return frames.packed((("failed", (Failure.EXTRACT, told)), kernel.own_memory()))


def _answer(task: Any, readers: "dict[str, Reader]") -> Any:
    """What was read, or the failure as (name, message)."""
    from scraper.errors import Failure, VisitFailed  # noqa: PLC0415  the process tells its parent first that it is there
    from scraper.extract.reading import Reader  # noqa: PLC0415
    from scraper.records import Fetched  # noqa: PLC0415

    name, told, fetched, kind, before = task
    try:
        if told is not None:
            readers[name] = Reader(*told)
        return "read", frames.flat_reading(readers[name].read(Fetched(*fetched), kind, before))
    except VisitFailed as failed:
        return "failed", (failed.failure, failed.message)
    except MemoryError:
        return "failed", (Failure.PARSE_LIMIT, "reading it took more memory than [limits] memory allows")
    except Exception as error:  # noqa: BLE001  a page that cannot be read is one page
        return "failed", (Failure.EXTRACT, f"{type(error).__name__}: {error}")
