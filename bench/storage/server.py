"""A PostgreSQL server of one's own, on loopback, as Debian's packages have it."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg

from bench.support import free_port, until

# Written out, though they are what a server has of itself: a commit is on the disk before it is told.
SETTINGS = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
USER = "postgres"


class Missing(Exception):
    """There is no server to start."""


def _binaries() -> Path:
    if found := shutil.which("postgres"):
        return Path(found).resolve().parent
    for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        if (folder / "initdb").exists():
            return folder
    raise Missing("no PostgreSQL here: apt-get install postgresql")


def as_user(command: list[str]) -> list[str]:
    """A server refuses to run as root."""
    return ["runuser", "-u", USER, "--", *command] if os.geteuid() == 0 else command


@contextlib.contextmanager
def postgres(folder: Path, binaries: Path | None = None) -> Iterator[str]:
    """Run a server whose data is in a folder, and stays there. Yields the address, without a database's name. Raises Missing.

    binaries: where its programs are, if they are others than the system's.
    """
    binaries = binaries or _binaries()
    data, port = folder / "data", free_port()
    folder.mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0:
        shutil.chown(folder, USER)
    made = [str(binaries / "initdb"), "-D", str(data), "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8"]
    with (folder.parent / "postgres.log").open("ab") as log:
        if not data.exists():
            subprocess.run(as_user(made), cwd="/", stdout=log, stderr=log, check=True)
        settings = SETTINGS | {"listen_addresses": "127.0.0.1", "port": str(port), "unix_socket_directories": ""}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        command = as_user([str(binaries / "postgres"), "-D", str(data), *options])
        process = subprocess.Popen(command, cwd="/", stdout=log, stderr=log)
    try:
        until(lambda: _answers(port), "PostgreSQL answers")
        yield f"postgresql+psycopg://{USER}@127.0.0.1:{port}"
    finally:
        head = (data / "postmaster.pid").read_text().split()[0]  # runuser, if any, stands before it
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(head), 2)  # SIGINT: end at once, in order
        process.wait()


def _answers(port: int) -> bool:
    with contextlib.suppress(psycopg.OperationalError):
        psycopg.connect(f"postgresql://{USER}@127.0.0.1:{port}/{USER}", connect_timeout=2).close()
        return True
    return False
