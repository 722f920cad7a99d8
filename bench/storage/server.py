"""A PostgreSQL server of one's own, on loopback, as Debian's packages have it."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

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
def postgres(folder: Path) -> Iterator[str]:
    """Run a server whose data is in a folder, and stays there. Yields the address, without a database's name. Raises Missing."""
    binaries = _binaries()
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
        until(lambda: _answers(binaries, port), "PostgreSQL answers")
        yield f"postgresql+psycopg://{USER}@127.0.0.1:{port}"
    finally:
        head = (data / "postmaster.pid").read_text().split()[0]  # runuser, if any, stands before it
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(head), 2)  # SIGINT: end at once, in order
        process.wait()


def _answers(binaries: Path, port: int) -> bool:
    asked = [str(binaries / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
    return subprocess.run(asked, check=False).returncode == 0
