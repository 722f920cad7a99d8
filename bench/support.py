"""What the benchmarks share: a site on loopback, stamps, tables."""

import argparse
import contextlib
import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

RESULTS = Path(__file__).parent / "results"


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as end:
        end.bind(("127.0.0.1", 0))
        return int(end.getsockname()[1])


def directory(text: str) -> Path:
    """Return a directory that a command line names. Raises argparse.ArgumentTypeError where there is none."""
    if not (found := Path(text)).is_dir():
        raise argparse.ArgumentTypeError(f"{text} is no directory; make it first")
    return found


def until(fact: Callable[[], Any], what: str, within_s: float = 30.0) -> Any:
    """Wait for a fact and return it. Raises TimeoutError."""
    deadline = time.monotonic() + within_s
    while not (found := fact()):
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        time.sleep(0.002)
    return found


@dataclass
class Endless:
    """A site without end, in this process, that notes when each connection was opened."""

    opened: list[float] = field(default_factory=list)
    asked: list[tuple[float, float]] = field(default_factory=list)  # when, on the connection opened when

    def __post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def first_page_after(self, moment: float) -> float | None:
        """Return when the first page was asked for on a connection that was opened after a moment."""
        return next((at for at, opened in self.asked if opened > moment), None)

    def close(self) -> None:
        """Listen no more."""
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                end, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(end,), daemon=True).start()

    def _serve(self, end: socket.socket) -> None:
        opened = time.monotonic()
        with end, contextlib.suppress(OSError):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while head := end.recv(65536):
                path = head.split(b" ", 2)[1].decode()
                number = path.strip("/")
                if not number.isdigit():
                    end.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
                    continue
                self.asked.append((time.monotonic(), opened))
                n = int(number)
                body = f'<title>{n}</title><a href="/{n + 1}">{n}</a><a href="/{2 * n + 1}">{n}</a>'.encode()
                end.sendall(
                    b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
                )


@contextlib.contextmanager
def nginx(folder: Path, pages: int) -> Iterator[str]:
    """Serve so many pages, each leading to others, by nginx on loopback. Yields the address."""
    binary = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if binary is None:
        raise SystemExit("nginx is needed: apt-get install nginx-light")
    root = folder / "site"
    root.mkdir(parents=True)
    filler = "<p>Lorem ipsum dolor sit amet, consetetur sadipscing elitr.</p>" * 40
    for n in range(pages):
        links = "".join(f'<li><a href="/{m}.html">page {m}</a></li>' for m in (2 * n + 1, 2 * n + 2) if m < pages)
        (root / f"{n}.html").write_text(f"<!doctype html><title>{n}</title><h1>{n}</h1><ul>{links}</ul>{filler}")
    port = free_port()
    (folder / "nginx.conf").write_text(
        f"{'user root; ' if os.geteuid() == 0 else ''}daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;\n"
        "events { worker_connections 512; }\n"
        f"http {{ access_log off; client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; types {{ text/html html; }}\n"
        f"fastcgi_temp_path {folder}/c; uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;\n"
        f"server {{ listen 127.0.0.1:{port}; root {root}; keepalive_requests 1000000; }} }}\n"
    )
    folder.chmod(0o755)
    process = subprocess.Popen([binary, "-c", str(folder / "nginx.conf"), "-p", str(folder)], stderr=subprocess.DEVNULL)
    try:
        until(lambda: _listens(port), "nginx listens")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def family(pid: int) -> list[psutil.Process]:
    """Return a process and all below it."""
    head = psutil.Process(pid)
    return [head, *head.children(recursive=True)]


def living(processes: Sequence[psutil.Process]) -> list[psutil.Process]:
    """Return those that have not ended."""
    found = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def kill_all(processes: Sequence[psutil.Process]) -> None:
    """Kill what is left of these."""
    for process in living(processes):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value below which this share of them is."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return least, median and most, in milliseconds, of seconds."""
    found = {"min": min(values), "median": statistics.median(values), "max": max(values)}
    return {name: round(1000 * value, 1) for name, value in found.items()}


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print rows under their headings."""
    cells = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(row[n]) for row in cells) for n in range(len(head))]
    print(f"\n{title}")
    for number, row in enumerate(cells):
        print(
            "  "
            + "  ".join(
                cell.ljust(w) if n == 0 else cell.rjust(w) for n, (cell, w) in enumerate(zip(row, widths, strict=True))
            )
        )
        if number == 0:
            print("  " + "  ".join("-" * w for w in widths))


def with_known(name: str, results: dict[str, Any]) -> dict[str, Any]:
    """Return what was measured, beside what is known of the parts that were not measured this time."""
    file = RESULTS / f"{name}.json"
    known = json.loads(file.read_text()) if file.exists() else {}
    return {part: found for part, found in {**known, **results}.items() if part != "machine"}


def keep(name: str, results: dict[str, Any]) -> Path:
    """Write the results as JSON, with what they were measured on. Returns the file."""
    RESULTS.mkdir(exist_ok=True)
    machine = {
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "system": f"{sys.platform} {platform.machine()}",
    }
    file = RESULTS / f"{name}.json"
    file.write_text(json.dumps({"machine": machine, **results}, indent=2) + "\n")
    return file
