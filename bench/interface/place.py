"""Where the full databases are: each is made once, and copied for each round."""

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateIndex, CreateTable

from bench.interface.fill import fill
from bench.storage import server
from bench.storage.places import Server
from scraper.database.models import metadata

ROUND = "round"


class Place(Protocol):
    """Where a database can be had."""

    @property
    def name(self) -> str:
        """What the database is called."""

    def full(self) -> str:
        """Return the address of a full database, nobody else's, as it was filled."""

    def drop(self) -> None:
        """Throw that away."""


def mark(sizes: dict[str, int]) -> str:
    """Return what is another one on another day, for other tables and other sizes."""
    dialect = sqlite.dialect()
    made: list[Any] = [
        *(CreateTable(table) for table in metadata.sorted_tables),
        *(
            CreateIndex(index)
            for table in metadata.sorted_tables
            for index in sorted(table.indexes, key=lambda i: str(i.name))
        ),
    ]
    said = [
        datetime.now(UTC).date().isoformat(),
        str(sorted(sizes.items())),
        *(str(one.compile(dialect=dialect)) for one in made),
    ]
    return hashlib.sha256("\n".join(said).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Files:
    """SQLite."""

    folder: Path
    sizes: dict[str, int]
    name: str = "SQLite"

    def full(self) -> str:
        """Return the address of a full database, nobody else's, as it was filled."""
        kept = self.folder / f"full-{mark(self.sizes)}.db"
        if not kept.exists():
            part = self.folder / "filling.db"
            for file in (*self.folder.glob("filling.db*"), *self.folder.glob("full-*.db*")):
                file.unlink()
            fill(f"sqlite:///{part}", self.sizes)
            part.rename(kept)
        self.drop()
        shutil.copyfile(kept, self.folder / f"{ROUND}.db")
        return f"sqlite:///{self.folder / ROUND}.db"

    def drop(self) -> None:
        """Throw that away."""
        for file in self.folder.glob(f"{ROUND}.db*"):
            file.unlink()


@dataclass(frozen=True)
class Databases:
    """PostgreSQL."""

    server: Server
    sizes: dict[str, int]
    name: str = "PostgreSQL"

    def full(self) -> str:
        """Return the address of a full database, nobody else's, as it was filled."""
        kept = f"full-{mark(self.sizes)}"
        known = self.server.names()
        if kept not in known:
            for name in known:
                if name.startswith(("full-", "filling")):
                    self.server.drop(name)
            fill(self.server.fresh("filling"), self.sizes)
            self.server.say(f'ALTER DATABASE "filling" RENAME TO "{kept}"')
        if ROUND in known:
            self.server.drop(ROUND)
        self.server.say(f'CREATE DATABASE "{ROUND}" TEMPLATE "{kept}"')
        return self.server.url(ROUND)

    def drop(self) -> None:
        """Throw that away."""
        self.server.drop(ROUND)


@contextmanager
def served(folder: Path, sizes: dict[str, int]) -> Iterator[Databases]:
    """PostgreSQL, its server in a folder. Raises Missing."""
    with server.postgres(folder / "server") as address:
        yield Databases(Server(address), sizes)
