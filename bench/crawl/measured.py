"""What a command takes: seconds, processor, and memory of it and all that it starts."""

import compileall
import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

EACH_S = 0.05
SHARED_EACH = 4  # the proportional share costs the kernel a walk over the memory: every fourth time
TICKS_S = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
MIB = 2**20
ROOT = Path(__file__).parents[2]


class Failed(Exception):
    """A crawler did not end well."""


@dataclass(frozen=True)
class Cost:
    """What was taken. cpu_s: user and system, of the command and all below it. Memory: the most of all together."""

    wall_s: float
    cpu_s: float
    sampled_cpu_s: float
    rss_mib: float
    pss_mib: float
    largest_mib: float  # the proportional share of the largest single process


@dataclass
class Sampler:
    """Looks at a process and all below it, again and again."""

    pid: int
    rss: int = 0
    pss: int = 0
    largest: int = 0
    cpu: dict[tuple[int, int], float] = field(default_factory=dict)  # by pid and birth, so that a reused pid is another

    def __post_init__(self) -> None:
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Look no more."""
        self._end.set()
        self._thread.join()

    def _look(self) -> None:
        number = 0
        while not self._end.wait(EACH_S):
            pids = below(self.pid)
            self.rss = max(self.rss, sum(_rss(pid) for pid in pids))
            for pid in pids:
                self._clock(pid)
            if number % SHARED_EACH == 0:
                shares = [_pss(pid) for pid in pids]
                self.pss, self.largest = max(self.pss, sum(shares)), max(self.largest, *shares)
            number += 1

    def _clock(self, pid: int) -> None:
        with contextlib.suppress(OSError, IndexError):
            parts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            self.cpu[pid, int(parts[19])] = (int(parts[11]) + int(parts[12])) / TICKS_S


def below(pid: int) -> list[int]:
    """Return a process and all its descendants."""
    found = [pid]
    for parent in found:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{parent}/task").iterdir():
                with contextlib.suppress(OSError):
                    found += [int(child) for child in (task / "children").read_text().split()]
    return found


def _rss(pid: int) -> int:
    with contextlib.suppress(OSError, IndexError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES
    return 0


def _pss(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def environment() -> dict[str, str]:
    """Return what a command needs to find Bowerbird."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return kept | {"PYTHONPATH": str(ROOT)}


def compiled() -> None:
    """Compile Bowerbird, as pip does with what it installs: a peer is compiled too."""
    compileall.compile_dir(ROOT / "scraper", quiet=1)


def measure(command: Sequence[str], folder: Path, ends: Sequence[int] = (0,)) -> Cost:
    """Run a command in a folder to its end, and return what it took. ends: the exit codes that are well. Raises Failed."""
    with (folder / "out.log").open("ab") as log:
        began = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=folder, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment()
        )
        sampler = Sampler(process.pid)
        try:
            _, status, used = os.wait4(process.pid, 0)
            wall_s = time.perf_counter() - began
            process.returncode = os.waitstatus_to_exitcode(status)
        except BaseException:
            process.kill()
            process.wait()
            raise
        finally:
            sampler.close()
    if process.returncode not in ends:
        raise Failed(f"{command[0]} ended with {process.returncode}: {tail(folder / 'out.log')}")
    waited, sampled = used.ru_utime + used.ru_stime, sum(sampler.cpu.values())
    return Cost(
        wall_s=wall_s,
        cpu_s=max(waited, sampled),  # what a process left to init to be reaped, wait4 does not know of
        sampled_cpu_s=sampled,
        rss_mib=sampler.rss / MIB,
        pss_mib=sampler.pss / MIB,
        largest_mib=sampler.largest / MIB,
    )


def tail(file: Path, most: int = 2000) -> str:
    """Return the end of a file."""
    return file.read_text(errors="replace")[-most:]
