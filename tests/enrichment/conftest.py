"""An endpoint, and a shop whose pages and items are what tasks are over."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from scraper.config.settings import Database
from scraper.enrichment import cure, runner
from tests.enrichment.endpoint import Endpoint
from tests.enrichment.factory import Factory
from tests.enrichment.shop import Shop
from tests.site import Site
from tests.support import Project


@pytest.fixture
def endpoint(site: Site) -> Endpoint:
    return Endpoint(site)


@pytest.fixture
def shop(database: Database, tmp_path: Path) -> Iterator[Shop]:
    made = Shop(database, tmp_path)
    yield made
    made.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for nothing for long, in this process."""
    monkeypatch.setattr(cure, "FIRST_WAIT_S", 0.02)
    monkeypatch.setattr(runner, "LOOK_EACH_S", 0.05)
    monkeypatch.setattr(runner, "AWAY_FIRST_S", 0.02)
    monkeypatch.setattr(runner, "AWAY_MOST_S", 0.2)
    monkeypatch.setattr(runner, "GIVE_UP_S", 0.6)


@pytest.fixture
def factory(project: Project, database: Database) -> Iterator[Factory]:
    made = Factory(project, database)
    yield made
    made.close()
