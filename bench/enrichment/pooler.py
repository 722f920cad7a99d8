"""PgBouncer in transaction mode before a server of one's own."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg

from bench.storage import server
from bench.support import free_port, until


@contextlib.contextmanager
def pgbouncer(folder: Path) -> Iterator[str]:
    """Run both. Yields the address of an empty database behind the pooler. Raises Missing."""
    binary = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if binary is None:
        raise server.Missing("apt-get install pgbouncer")
    with server.postgres(folder / "postgres") as url:
        plain = url.replace("postgresql+psycopg", "postgresql")
        with psycopg.connect(f"{plain}/postgres", autocommit=True) as connection:
            connection.execute("CREATE DATABASE enrichment")
        there = plain.rpartition(":")[2]
        port = free_port()
        where = folder / "pooler"
        where.mkdir()
        (where / "users").write_text('"postgres" ""\n')
        (where / "ini").write_text(
            f"[databases]\n* = host=127.0.0.1 port={there}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n"
            f"auth_type = trust\nauth_file = {where}/users\npool_mode = transaction\nunix_socket_dir =\n"
            f"logfile = {where}/log\npidfile = {where}/pid\nignore_startup_parameters = extra_float_digits,options\n"
        )
        if os.geteuid() == 0:
            for path in (where, *where.iterdir()):
                shutil.chown(path, server.USER)
        command = server.as_user([binary, "-q", str(where / "ini")])
        process = subprocess.Popen(command, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            until(lambda: _answers(port), "PgBouncer answers")
            yield f"postgresql+psycopg://{server.USER}@127.0.0.1:{port}/enrichment"
        finally:
            process.terminate()
            process.wait()


def _answers(port: int) -> bool:
    with contextlib.suppress(psycopg.OperationalError):
        psycopg.connect(f"postgresql://{server.USER}@127.0.0.1:{port}/enrichment", connect_timeout=2).close()
        return True
    return False
