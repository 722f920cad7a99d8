"""A crawl in this very process."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crawl.test_engine import Crawler


@pytest.fixture
def crawler(tmp_path: Path) -> Iterator[Crawler]:
    """Runs sources to their end, in a database of its own."""
    made = Crawler(tmp_path)
    yield made
    made.db.close()
