"""Whether this thread is inside a database transaction: then nobody else may be waited for, the network least of all."""

import contextlib
import threading
from collections.abc import Iterator

_thread = threading.local()


def under_way() -> bool:
    """Say whether this thread is inside a transaction."""
    return getattr(_thread, "inside", False)


@contextlib.contextmanager
def inside() -> Iterator[None]:
    """Note that this thread is inside a transaction. Raises RuntimeError if it is already."""
    if under_way():
        raise RuntimeError("this thread is inside a transaction already; use its connection")
    _thread.inside = True
    try:
        yield
    finally:
        _thread.inside = False


def forbid(what: str) -> None:
    """Refuse what may take long while this thread is inside a transaction, which others wait for. Raises RuntimeError."""
    if under_way():
        raise RuntimeError(f"{what} inside a database transaction: ask first, then store")
