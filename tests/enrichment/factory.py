"""A project with things in its database and functions that make something of them, in processes of their own."""

import json
import textwrap
from collections import Counter
from typing import Any

import psutil

from scraper.config.settings import Database
from scraper.database import Db, jobs, listing, schema
from tests.enrichment.shop import made
from tests.export import stock
from tests.support import Project

FUNCTIONS = """
import ctypes, os, signal, sys, time
def square(subject):
    return {"square": subject.item["number"] ** 2}
def slow(subject):
    time.sleep(0.02)
    return square(subject)
def by(subject):
    time.sleep(0.02)
    return {"by": os.getppid()}
def whole(subject):
    return [{"number": subject.item["number"], "kind": subject.kind}] * 2
def odd(subject):
    if subject.item["number"] % 2 == 0 and not os.path.exists("mended"):
        raise ValueError("even")
    return square(subject)
def deadly(subject):
    if subject.item["number"] == 3:
        os.kill(os.getppid(), signal.SIGSEGV)
        time.sleep(60)
    return square(subject)
"""


def task(name: str, function: str | None = "", **more: Any) -> str:
    """Return the lines of a task over the items. function: of the module; its name's own, if not said; None: it has none."""
    called = None if function is None else f"functions:{function or name}"
    said: dict[str, Any] = {"over": "items", "kind": "python", "function": called} | more
    lines = [f"{key} = {json.dumps(value)}" for key, value in said.items() if value is not None]
    return "\n".join([f'[[enrich]]\ntask = "{name}"', *lines, ""])


class Factory:
    """A project, its database, and what the commands did there."""

    def __init__(self, project: Project, database: Database) -> None:
        self.project = project
        self.database = database
        self.db = Db(database)
        schema.upgrade(self.db)
        (project.path / "functions.py").write_text(FUNCTIONS)

    def books(self, count: int, first: int = 1) -> None:
        """Store items, each with another number."""
        numbers = range(first, first + count)
        where = stock.page(self.db, f"http://shop.test/from/{first}")
        stock.put(
            self.db, *({"title": f"Book {number}", "number": number} for number in numbers), page_id=where, first=first
        )

    def configure(self, *tasks: str, text: str = "", supervisor: str = "") -> None:
        """Write the configuration: these tasks, over a source that is not scraped."""
        pooled = "transaction_pooler = true\n" if self.database.transaction_pooler else ""
        source = '[[source]]\nname = "shop"\nstart = ["http://127.0.0.1:1/"]\nenabled = false\n'
        where = f'[database]\nurl = "{self.database.url}"\n{pooled}'
        self.project.configure("\n".join([where, text, source, *tasks]), supervisor=supervisor)

    def function(self, code: str) -> None:
        """Have one more function."""
        with (self.project.path / "functions.py").open("a") as file:
            file.write(textwrap.dedent(code))

    def records(self, name: str) -> list[tuple[int, str, int, dict[str, Any]]]:
        """Return what a task has made, in order: of which item, kind, number, data."""
        return made(self.db, name)

    def counts(self, name: str) -> dict[str, int]:
        """Return how many of a task's jobs are in each state."""
        return self.db.read(lambda c: jobs.counts(c, name)).get(name, {"queued": 0, "done": 0, "failed": 0})

    def jobs(self, name: str, state: str | None = None) -> list[dict[str, Any]]:
        """Return a task's jobs, in order."""
        filters = {"task": name, "state": state}
        rows = self.db.read(lambda c: listing.rows(c, name="jobs", filters=filters, before=None, limit=10_000))
        return sorted(rows, key=lambda job: int(job["id"]))

    def reasons(self, name: str) -> Counter[str]:
        """Return for which reasons a task's jobs failed."""
        return Counter(job["reason"] for job in self.jobs(name, "failed"))

    def close(self) -> None:
        """Give the connections back."""
        self.db.close()


def workers(command: int) -> list[psutil.Process]:
    """Return the enrichers that a command has started: those of its children that have children of their own, which call functions."""
    try:
        return [child for child in psutil.Process(command).children() if child.children()]
    except psutil.NoSuchProcess:
        return []
