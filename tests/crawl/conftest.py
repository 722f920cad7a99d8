"""A crawl in this very process."""

from collections.abc import Iterator

import pytest

from scraper.config.settings import Database
from tests.crawl.test_engine import Crawler


@pytest.fixture
def crawler(database: Database) -> Iterator[Crawler]:
    """Runs sources to their end, in a database of its own."""
    made = Crawler(database)
    yield made
    made.db.close()
