"""Lists: what their filters find."""

import pytest
from sqlalchemy import Connection, insert

from scraper.database import Db, listing, pages
from scraper.database.connection import now
from scraper.database.models import items as item_table

everywhere = pytest.mark.databases("sqlite", "postgresql", "pgbouncer")


def found_by(db: Db, word: str) -> list[str]:
    towns = ["Wien, Österreich, Москва: 100%", "Graz, Osterreich, Mockba: 100 "]

    def unit(connection: Connection) -> None:
        at, url = now(), "https://a.example/"
        page_id = pages.placed(connection, "s", [url], 1, at)[url]
        shared = {"source": "s", "kind": "k", "url": url, "page_id": page_id, "run_id": 1}
        shared |= {"first_seen": at, "last_seen": at, "changed_at": at}
        rows = [shared | {"key": str(number), "data": {"town": town}} for number, town in enumerate(towns)]
        connection.execute(insert(item_table), rows)

    db.write(unit)
    found = db.read(lambda c: listing.rows(c, "items", {"q": word}, None, 10))
    return [item["key"] for item in found]


@everywhere
@pytest.mark.parametrize("word", ["wien", "WIEN", "Österreich", "100%"])
def test_items_are_found_by_a_word_in_whatever_case(db: Db, word: str) -> None:
    assert found_by(db, word) == ["0"]


@pytest.mark.databases("sqlite")  # a server does as its locale has it
@pytest.mark.parametrize("word", ["ÖSTERREICH", "österreich", "МОСКВА", "москва"])
def test_letters_beyond_ascii_have_their_case_too(db: Db, word: str) -> None:
    assert found_by(db, word) == ["0"]
