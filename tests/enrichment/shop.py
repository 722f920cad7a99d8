"""A database with pages and items in it, and tasks over them that are done in this very process."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import select, update

from scraper import crew
from scraper.config.load import Loaded
from scraper.config.settings import Database, Embed, Enrich, Llm, Settings
from scraper.database import Db, enrichments, jobs, listing, schema, tasks
from scraper.database import models as tables
from scraper.database.changes import row, tell
from scraper.database.jobs import Only
from scraper.database.models import attempts
from scraper.enrichment import layout
from scraper.enrichment.layout import Options
from tests.export import stock


class Shop:
    """Where tasks find what they are over, and leave what they made."""

    def __init__(self, database: Database, base: Path) -> None:
        self.db = Db(database)
        self.base = base
        self.settings = Settings(database=database)
        schema.upgrade(self.db)
        stock.source(self.db)

    def close(self) -> None:
        """Give the connections back."""
        self.db.close()

    def sell(self, *data: Mapping[str, Any], kind: str = "book", first: int = 1) -> None:
        """Store items."""
        where = stock.page(self.db, f"http://shop.test/{kind}/{first}")
        stock.put(self.db, *data, kind=kind, page_id=where, first=first)

    def books(self, count: int) -> None:
        """Store so many items, each another one."""
        self.sell(*({"title": f"Book {number}", "number": number} for number in range(1, count + 1)))

    def page(self, html: str, url: str = "http://shop.test/", **given: Any) -> int:
        """Store a page; return its id."""
        return stock.page(self.db, url, html.encode(), **given)

    def change(self, item_id: int, data: Mapping[str, Any]) -> None:
        """Have an item be another one, as a visit would."""

        def unit(c: Any) -> None:
            c.execute(update(tables.items).where(tables.items.c.id == item_id).values(data=dict(data)))
            tell(c, [row(stock.AT, "shop", "item", "changed", item_id=item_id, kind="book")])

        self.db.write(unit)

    def use(self, llm: Llm | None = None, embed: Embed | None = None) -> None:
        """Have another model."""
        self.settings = replace(self.settings, llm=llm or self.settings.llm, embed=embed or self.settings.embed)

    def know(self, *wanted: Enrich) -> Loaded:
        """Have these be the tasks of the configuration."""
        self.db.write(lambda c: tasks.sync(c, wanted))
        self.settings = replace(self.settings, enrich=wanted)
        return Loaded(self.settings, None, self.base)

    def lay_out(self, task: Enrich, options: Options | None = None) -> int:
        """Lay out what is due of a task; return how much that is."""
        marked = layout.mark(task, self.settings.llm, self.settings.embed)
        return max([0, *layout.sweep(self.db, task, marked, options or Options())])

    def do(self, task: Enrich, options: Options | None = None, *, lay_out: bool = True) -> None:
        """Do a task, here. Raises what a command would say."""
        loaded = self.know(task)
        chosen = options or Options()
        if lay_out:
            self.lay_out(task, chosen)
        crew.work_here(loaded, task.task, Only(chosen.source, chosen.kind), lambda: None)

    def records(self, task: str) -> list[tuple[int, str, int, dict[str, Any]]]:
        """Return what a task has made, in order: of which page or item, kind, number, data."""
        return made(self.db, task)

    def jobs(self, task: str) -> list[dict[str, Any]]:
        """Return a task's jobs, in order."""
        rows: Sequence[dict[str, Any]] = self.db.read(
            lambda c: listing.rows(c, name="jobs", filters={"task": task}, before=None, limit=10_000)
        )
        return sorted(rows, key=lambda job: int(job["id"]))

    def counts(self, task: str) -> dict[str, int]:
        """Return how many of a task's jobs are in each state."""
        return self.db.read(lambda c: jobs.counts(c, task)).get(task, {})

    def spent(self, task: str) -> tasks.Spent:
        """Return what a task has cost."""
        return self.db.read(lambda c: tasks.spent(tasks.one(c, task)))

    def tries(self) -> list[str]:
        """Return the outcomes of all tries, in order."""
        return list(self.db.read(lambda c: c.scalars(select(attempts.c.outcome).order_by(attempts.c.id)).all()))


def made(db: Db, task: str) -> list[tuple[int, str, int, dict[str, Any]]]:
    """Return what a task has made, in order: of which page or item, kind, number, data."""
    table = tables.enrichments
    wanted = select(table).where(table.c.task == task).order_by(table.c.subject_id, table.c.kind, table.c.number)
    rows = [enrichments.public(found) for found in db.read(lambda c: c.execute(wanted).all())]
    return [(r["page_id"] or r["item_id"], r["kind"], r["number"], json.loads(json.dumps(r["data"]))) for r in rows]
