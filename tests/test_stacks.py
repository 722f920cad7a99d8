"""Asking a process where it stands, however busy it is."""

import multiprocessing
from collections.abc import AsyncIterator
from multiprocessing.connection import Connection
from typing import Any

import pytest

from scraper import stacks

SPAWN = multiprocessing.get_context("spawn")


def busy(told: Connection, ready: Any) -> None:
    """Makes and leaves frames as fast as it can."""
    stacks.tell(told)
    ready.set()
    while True:
        sum(any(number == 1 for number in range(3)) for _ in range(50))


def waiting(told: Connection, ready: Any) -> None:
    stacks.tell(told)
    ready.set()
    SPAWN.Event().wait()


@pytest.fixture
async def started(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Any, Connection]]:
    pipe, told = SPAWN.Pipe(duplex=False)
    ready = SPAWN.Event()
    process = SPAWN.Process(target=request.param, args=(told, ready), daemon=True)
    process.start()
    told.close()
    assert ready.wait(30)
    yield process, pipe
    process.kill()
    process.join()
    pipe.close()


@pytest.mark.parametrize("started", [busy, waiting], indirect=True)
async def test_a_process_says_where_it_stands_and_lives_on(started: tuple[Any, Connection]) -> None:
    process, pipe = started
    for _ in range(40):
        assert "test_stacks.py" in await stacks.asked(process.pid, pipe)
    assert process.is_alive()


async def test_who_is_gone_says_nothing() -> None:
    pipe, told = SPAWN.Pipe(duplex=False)
    process = SPAWN.Process(target=print)
    process.start()
    process.join()
    assert process.pid is not None
    told.close()
    assert await stacks.asked(process.pid, pipe) == ""
    pipe.close()
