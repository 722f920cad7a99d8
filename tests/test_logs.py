"""A log holds nobody up, whoever reads it or not."""

import logging
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from scraper.logs import Patient
from tests.site import Site
from tests.support import Project, Running, until


def fill(into: int) -> None:
    """Write to a pipe until it is full; who has it too must not be told that it never waits."""
    room = select.poll()
    room.register(into, select.POLLOUT)
    while room.poll(0):
        os.write(into, b"x" * select.PIPE_BUF)


@pytest.fixture
def ends() -> Iterator[tuple[int, int]]:
    """A pipe, to read from and to write to."""
    out, into = os.pipe()
    yield out, into
    os.close(out)
    os.close(into)


def test_what_nobody_reads_is_lost_and_counted(ends: tuple[int, int]) -> None:
    out, into = ends
    fill(into)
    with open(into, "w", closefd=False) as stream:
        handler = Patient(stream)
        for number in range(50):
            handler.emit(logging.makeLogRecord({"msg": f"line {number}"}))
        os.read(out, 65536)
        for words in ("here again", "and on", "\u00e4" * 5000):
            handler.emit(logging.makeLogRecord({"msg": words}))
    told = os.read(out, 2**20).decode()
    assert told.startswith("lines of the log are lost: nobody read them\nhere again\nand on\n\u00e4")
    assert told.endswith("\u00e4\n")


def test_a_service_whose_log_nobody_reads_goes_on_and_ends(project: Project, site: Site, ends: tuple[int, int]) -> None:
    site.page("/", "x")
    project.configure(f'[[source]]\nname = "a"\nstart = ["{site.url}/"]\nevery = "1s"\n')
    process = subprocess.Popen(
        [sys.executable, "-m", "scraper", "serve"],
        cwd=project.path,
        stdin=subprocess.DEVNULL,
        stdout=ends[1],
        stderr=ends[1],
        start_new_session=True,
    )
    project.started.append(process)
    service = Running(project, process)
    pid = service.until_state("idle", "scraping")["pid"]
    fill(ends[1])
    os.kill(pid, signal.SIGKILL)
    until(lambda: service.status()["pid"] not in (None, pid), "another one is at work")
    process.send_signal(signal.SIGTERM)
    process.wait(20)
    service.http.close()
