"""The calling process: the name of a function and what it is given come in, what it returns goes out."""

import importlib
import os
import socket
import sys
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from scraper import kernel
from scraper.offload import frames
from scraper.offload.process import begin

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

SAID_MOST = 4000


def run(
    end: socket.socket, told: "Connection", parent: int, memory: int, base: str, modules: Sequence[str] = ()
) -> None:
    """Call functions until the socket closes. memory: bytes that it may take. base: the directory that users' modules are in.

    modules: what is loaded before the first call, and is none of its time.
    """
    if not begin(parent, told):
        return
    kernel.limit_memory(memory)
    kernel.step_back()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    sys.path.append(base)
    for module in modules:
        importlib.import_module(module)
    end.sendall(frames.packed(None))
    me = os.getpid()
    while True:
        try:
            path, given = frames.receive(end)
        except EOFError:
            os._exit(0)
        answer = _answer(path, given)
        if os.getpid() != me:  # as in the reading process
            os._exit(0)
        end.sendall(frames.packed((answer, kernel.own_memory())))


def _answer(path: str, given: Any) -> Any:
    """("returned", value), or ("raised", class name, what it said, traceback)."""
    try:
        module, _, name = path.partition(":")
        value = getattr(importlib.import_module(module), name)(*given)
        frames.packed(value)  # what cannot go over the socket is the function's fault, not ours
    except MemoryError:
        return "raised", "MemoryError", "it took more memory than [limits] memory allows", ""
    except Exception as error:  # noqa: BLE001  a user's function may raise whatever it likes
        return "raised", type(error).__name__, str(error)[:SAID_MOST], traceback.format_exc()[-SAID_MOST:]
    return "returned", value
