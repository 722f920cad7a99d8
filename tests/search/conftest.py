"""What the tests of search share."""

import pytest

from scraper.database import pgvector


@pytest.fixture(autouse=True)
def _any_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """An index of vectors is made for the first of them."""
    monkeypatch.setattr(pgvector, "WORTH_IT", 1)
