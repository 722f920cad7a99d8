"""What the pages have in common, asked for without a browser."""

from typing import Any

import httpx
from sqlalchemy import Connection, event, insert, update

from scraper.database import Db
from scraper.database.connection import now
from scraper.database.models import runs, sources
from scraper.states import RunState


def _fail(c: Connection) -> None:
    at = now()
    c.execute(insert(runs).values(source="books", state=RunState.FAILED, queued_at=at, started_at=at, finished_at=at))
    c.execute(update(sources).where(sources.c.name == "books").values(last_run_at=at))


async def test_what_the_overview_has_counted_is_beside_the_names_of_the_next_page(
    http: httpx.AsyncClient, kept: Db
) -> None:
    assert "<title>(1)" not in (await http.get("/")).text
    kept.write(_fail)
    assert "<title>(1)" in (await http.get("/")).text
    asked: list[str] = []

    def note(*told: Any) -> None:
        asked.append(told[2])

    event.listen(kept.engine, "before_cursor_execute", note)
    assert "<title>(1)" in (await http.get("/tokens")).text
    assert asked
    assert not [statement for statement in asked if "runs" in statement]
