"""The shop served by nginx on loopback, which keeps count of what was asked of it."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.support import until

ONE_HOST = ("127.0.0.1",)
TWO_HOSTS = ("127.0.0.1", "127.0.0.2")
QUIT_WITHIN_S = 10

# Every page is there compressed, and sent as it is; who takes no gzip gets it unpacked.
_CONFIG = """{user}daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log crit;
events {{ worker_connections 2048; }}
http {{
    log_format counted '$server_addr $status $bytes_sent $body_bytes_sent $uri';
    access_log {log} counted buffer=256k flush=1s;
    types {{ text/html html; }}
    sendfile on; tcp_nopush on; etag on; gzip_static always; gunzip on;
    keepalive_requests 100000000; keepalive_timeout 300s; server_tokens off;
    client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
    uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
    server {{ {listens} root {root}; charset utf-8; location = /robots.txt {{ return 404; }} }}
}}
"""


@dataclass(frozen=True)
class Asked:
    """What was asked of the site: how often each page of each host was sent, and the bytes of all answers, with their heads and without."""

    pages: Counter[tuple[str, str]]
    unchanged: int  # answered by 304
    bytes: int
    body_bytes: int


@dataclass(frozen=True)
class Site:
    """A served shop."""

    port: int
    log: Path

    def url(self, path: str, host: str = ONE_HOST[0]) -> str:
        """Return the address of a page."""
        return f"http://{host}:{self.port}{path}"


def asked(log: Path) -> Asked:
    """Read what was asked, when the server has ended."""
    pages: Counter[tuple[str, str]] = Counter()
    total = bodies = unchanged = 0
    with log.open() as lines:
        for line in lines:
            host, status, size, body, path = line.split(" ", 4)
            total += int(size)
            bodies += int(body)
            unchanged += status == "304"
            if status == "200":
                pages[host, path.rstrip("\n")] += 1
    return Asked(pages, unchanged, total, bodies)


@contextlib.contextmanager
def served(root: Path, folder: Path, port: int, hosts: Sequence[str] = ONE_HOST) -> Iterator[Site]:
    """Serve a folder of compressed pages on these loopback addresses. Its log is whole when this ends."""
    binary = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if binary is None:
        raise SystemExit("nginx is needed: apt-get install nginx-light")
    folder.mkdir(parents=True)
    log = folder / "asked.log"
    listens = " ".join(f"listen {host}:{port} backlog=4096;" for host in hosts)
    user = "user root; " if os.geteuid() == 0 else ""
    config = folder / "nginx.conf"
    config.write_text(_CONFIG.format(user=user, folder=folder, log=log, listens=listens, root=root))
    process = subprocess.Popen([binary, "-c", str(config), "-p", str(folder)], stderr=subprocess.DEVNULL)
    try:
        until(lambda: listening(port, hosts[-1]), "nginx listens")
        yield Site(port, log)
    finally:
        process.send_signal(signal.SIGQUIT)  # it closes idle connections, and writes what it has not written yet
        try:
            process.wait(QUIT_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.terminate()
            process.wait()


def listening(port: int, host: str = ONE_HOST[0]) -> bool:
    """Say whether somebody listens there."""
    with contextlib.suppress(OSError), socket.create_connection((host, port), 1):
        return True
    return False
