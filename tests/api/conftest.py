"""The application over a database of its own, without a scraper: what answers at once is asked in this process."""

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from api.app import create_app
from api.keys import Keys
from api.stream import Streams
from scraper.config.settings import Database
from scraper.database import Db
from scraper.service import Service
from scraper.startup import preflight, settings_of

TOKEN = "the-token-of-the-configuration"
SOURCE = '[[source]]\nname = "books"\nstart = ["http://127.0.0.9:1/"]\nenabled = true\n'

Make = Callable[..., FastAPI]


@contextlib.contextmanager
def standing(folder: Path, text: str, token: str, url: str) -> Iterator[FastAPI]:
    """The application as its lifespan leaves it, but for the scraper."""
    file = folder / "bowerbird.toml"
    file.write_text(f'[server]\ntoken = "{token}"\n[database]\nurl = "{url}"\ntimeout = 0.5\n{text}')
    loaded = settings_of(file)
    with preflight(loaded, brings=True) as db:
        app = create_app()
        app.state.settings, app.state.db, app.state.service = loaded.settings, db, Service(loaded)
        app.state.keys, app.state.streams = Keys(db, token), Streams(db)
        yield app


@pytest.fixture
def make(tmp_path: Path, database: Database) -> Iterator[Make]:
    """Make an application: with what configuration, behind which token."""
    with ExitStack() as stack:
        yield lambda text=SOURCE, token="": stack.enter_context(standing(tmp_path, text, token, database.url))


@pytest.fixture
def app(make: Make) -> FastAPI:
    """An application for everybody on this machine."""
    return make()


@pytest.fixture
def kept(app: FastAPI) -> Db:
    """Its database."""
    db: Db = app.state.db
    return db


def client(app: FastAPI, token: str = "", **headers: str) -> httpx.AsyncClient:
    """A caller; with a token if one is named. A fault of ours is an answer to it, as it is to a real one."""
    given = {"Authorization": f"Bearer {token}"} if token else {}
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:5000", headers=given | headers)


@pytest.fixture
async def http(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A caller on this machine."""
    async with client(app) as made:
        yield made
