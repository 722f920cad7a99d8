"""What a dead service has left is found by the notes of its processes."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from scraper import kernel
from scraper.scoreboard import end_left_by


@pytest.fixture
def left() -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen(["sleep", "3336"], start_new_session=True, env={})
    yield process
    process.kill()
    process.wait()


def note(folder: Path, name: str, process: "subprocess.Popen[bytes]", family: str) -> None:
    holder = {"pid": process.pid, "born": kernel.birth(process.pid), "family": family}
    (folder / f"{name}.lock").write_text(json.dumps(holder))


@pytest.mark.parametrize("name", ["scraper-0", "enricher-1"])
def test_the_session_of_each_kind_of_process_is_ended(
    name: str, tmp_path: Path, left: "subprocess.Popen[bytes]"
) -> None:
    note(tmp_path, name, left, "ours")
    (tmp_path / "scraper-9.lock").write_text("{")
    end_left_by("ours", tmp_path)
    assert left.wait(5) == -9


def test_those_of_another_family_live_on(tmp_path: Path, left: "subprocess.Popen[bytes]") -> None:
    note(tmp_path, "scraper-0", left, "theirs")
    end_left_by("ours", tmp_path)
    assert left.poll() is None
