"""How much memory an export takes, each in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scraper.config.settings import Database
from scraper.database import Db, schema
from scraper.export import Format, What
from tests.export import stock

MOST = 110 * 2**20  # of its own; the files of pyarrow and of what it loads are 80 MiB beside that
GROWS_MOST = 40 * 2**20  # SQLite's own cache takes 16 MiB, and has not got them all with few rows
FEW, MANY = 10_000, 60_000
FEW_PAGES, MANY_PAGES, PAGE_BYTES = 100, 2100, 20_000


@pytest.fixture(scope="module")
def stocked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Database, Database]:
    """Databases with few and with many rows."""
    folder = tmp_path_factory.mktemp("memory")
    few, many = (Database(url=f"sqlite:///{folder / name}.db") for name in ("few", "many"))
    for settings, items, pages in ((few, FEW, FEW_PAGES), (many, MANY, MANY_PAGES)):
        with Db(settings) as db:
            schema.upgrade(db)
            stock.many(db, items)
            for number in range(pages):
                stock.page(db, f"http://shop.test/page/{number}", os.urandom(PAGE_BYTES))
    return few, many


def peak(database: Database, what: What, form: Format) -> int:
    """Return the most memory that exporting all of it took, in bytes."""
    command = [sys.executable, "-m", "tests.export.exporter", database.url, what, form]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[1])


@pytest.mark.parametrize("form", Format)
def test_memory_does_not_grow_with_the_rows(stocked: tuple[Database, Database], form: Format) -> None:
    what: What = "pages" if form is Format.WARC else "items"
    few, many = (peak(database, what, form) for database in stocked)
    assert many < MOST
    assert many - few < GROWS_MOST
