"""Where databases are made: files of SQLite, or databases of one PostgreSQL server. Tables are made by Bowerbird's own upgrade()."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from bench.storage.site import Sites
from scraper.config.settings import Database, Source
from scraper.database import Db, frontier, runs, schema, sources
from scraper.database.connection import now
from scraper.records import Link

MAX_PAGES = 10**9


class Place(Protocol):
    """Where databases are made."""

    @property
    def name(self) -> str:
        """What the database is called."""

    def fresh(self, label: str) -> str:
        """Make a new, empty database, and return its address."""

    def url(self, label: str) -> str:
        """Return the address of a database."""

    def drop(self, label: str) -> None:
        """Throw a database away."""


@dataclass(frozen=True)
class Files:
    """SQLite."""

    folder: Path
    name: str = "SQLite"

    def fresh(self, label: str) -> str:
        """Make a new, empty database, and return its address."""
        return self.url(label)

    def url(self, label: str) -> str:
        """Return the address of a database."""
        return f"sqlite:///{self.folder / label}.db"

    def drop(self, label: str) -> None:
        """Throw a database away."""
        for file in self.folder.glob(f"{label}.db*"):
            file.unlink()


@dataclass(frozen=True)
class Server:
    """PostgreSQL. address: of a server, without a database's name."""

    address: str
    name: str = "PostgreSQL"

    def fresh(self, label: str) -> str:
        """Make a new, empty database, and return its address."""
        self.say(f'CREATE DATABASE "{label}"')
        return self.url(label)

    def url(self, label: str) -> str:
        """Return the address of a database."""
        return f"{self.address}/{label}"

    def drop(self, label: str) -> None:
        """Throw a database away."""
        self.say(f'DROP DATABASE "{label}" WITH (FORCE)')
        self.say("CHECKPOINT")  # what it wrote is none of the next one's

    def names(self) -> set[str]:
        """Return which databases there are."""
        return {name for (name,) in self.say("SELECT datname FROM pg_database")}

    def say(self, statement: str) -> list[tuple[Any, ...]]:
        """Have the server do something, and return the rows that it answers."""
        import psycopg

        with psycopg.connect(plain(f"{self.address}/postgres"), autocommit=True) as connection:
            done = connection.execute(statement)
            return done.fetchall() if done.description else []


def plain(url: str) -> str:
    """Return the address of a PostgreSQL database as its own library wants it."""
    return url.replace("+psycopg", "", 1)


def source_of(sites: Sites, number: int) -> Source:
    """Return the definition of one of the sources."""
    starts = tuple(sites.start(number))
    return Source(name=sites.source(number), start=starts, follow=True, max_depth=1000, max_pages=MAX_PAGES)


def prepare(url: str, sites: Sites) -> dict[str, int]:
    """Make the tables, the sources, and a run of each that has its start pages. Returns the run of each source."""

    def unit(connection: Any) -> dict[str, int]:
        wanted = [source_of(sites, number) for number in range(sites.sources)]
        at = now()
        sources.sync(connection, wanted, lambda _, last: None)
        found = {}
        for source in wanted:
            run_id = found[source.name] = runs.request(connection, source.name, at)
            rows = [frontier.row_of(run_id, source.name, Link(link, priority=100), 0) for link in source.start]
            frontier.add(connection, [row for row in rows if row], {run_id: frontier.Room(len(rows))})
            runs.start(connection, run_id, MAX_PAGES, len(rows), at)
        return found

    with Db(Database(url=url)) as db:
        schema.upgrade(db)
        return db.write(unit)
