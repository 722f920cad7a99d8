"""Pages of an empty database, of one that is away, and of a service that asks who calls."""

import re
import sqlite3
import time
from collections.abc import Iterator
from typing import Any

import lxml.html
import pytest
from playwright.sync_api import Browser, expect

from tests.pages.conftest import House, Watched, serving, tab
from tests.site import running
from tests.support import until

LISTS = (
    "/",
    "/sources",
    "/changes",
    "/items",
    "/pages",
    "/queue",
    "/queue?state=due",
    "/events",
    "/notifications",
    "/tokens",
)
SLOW_S = 5.0


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A service with nothing to do."""
    with running() as site:
        yield from serving(tmp_path_factory.mktemp("empty"), "", site)


def test_an_empty_list_says_what_to_do_next(house: House) -> None:
    wanted = {
        "/": "bowerbird sources add",
        "/sources": "bowerbird sources add",
        "/items": "bowerbird sources check",
        "/pages": "bowerbird scrape",
        "/notifications": "[[notify]]",
        "/tokens": "bowerbird token create",
    }
    for path in LISTS:
        answer = house.service.http.get(path)
        root: Any = lxml.html.fromstring(answer.text)
        if path not in ("/events",):
            assert root.xpath("//*[@class='empty']"), path
        assert wanted.get(path, "") in root.text_content(), path


@pytest.mark.parametrize("kind", ["locked", "unreadable"])
def test_pages_answer_while_the_database_is_away(house: House, chromium: Browser, watched: Watched, kind: str) -> None:
    file = house.folder / "bowerbird.db"
    page = tab(chromium, house, watched)
    page.goto("/")
    if kind == "locked":
        lock = sqlite3.connect(file, isolation_level=None, timeout=20)
        lock.execute("BEGIN EXCLUSIVE")
    else:
        file.rename(file.with_suffix(".away"))
    try:
        for path in (*LISTS, "/system", "/sources/none", "/sources/new"):
            began = time.monotonic()
            answer = page.goto(path)
            assert answer is not None
            assert time.monotonic() - began < SLOW_S, path
            assert answer.status in (200, 404, 503), (path, house.service.project.output()[-4000:])
            assert page.locator("h1").count() == 1, path
            if answer.status == 503:
                assert answer.headers["retry-after"]
                expect(page.get_by_role("alert")).to_contain_text("bowerbird.db")
    finally:
        if kind == "locked":
            lock.rollback()
            lock.close()
        else:
            file.with_suffix(".away").rename(file)
    until(lambda: house.service.http.get("/sources").status_code == 200, "it goes on by itself")
    page.context.close()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A service that asks for a token."""
    with running() as site:
        yield from serving(
            tmp_path_factory.mktemp("guarded"), "", site, server='token = "a long enough secret, is it not"'
        )


def test_a_person_logs_in_and_out(chromium: Browser, guarded: House, watched: Watched) -> None:
    page = tab(chromium, guarded, watched)
    page.goto("/changes?change=moved")
    expect(page).to_have_url(re.compile("/login"))
    page.get_by_label("Key").fill("wrong")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert")).to_contain_text("no key of this service")
    page.get_by_label("Key").fill("a long enough secret, is it not")
    page.get_by_role("button", name="Log in").click()
    expect(page).to_have_url(re.compile(r"/changes\?change=moved$"))
    page.goto("/")
    expect(page.locator("#pulse")).to_have_text("live")
    page.get_by_role("button", name="Pause").click()
    expect(page.locator("h1")).to_contain_text("Paused")
    page.get_by_role("button", name="Log out").click()
    expect(page).to_have_url(re.compile("/login"))
    page.goto("/")
    expect(page).to_have_url(re.compile("/login"))
    page.context.close()


def test_who_may_only_read_is_told_so_on_a_page(chromium: Browser, guarded: House, watched: Watched) -> None:
    key = {"Authorization": "Bearer a long enough secret, is it not"}
    made = guarded.service.http.post("/api/tokens", json={"name": "reader", "scope": "read"}, headers=key).json()
    page = tab(chromium, guarded, watched)
    page.goto("/login")
    page.get_by_label("Key").fill(made["token"])
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("button", name="Stop").or_(page.get_by_role("button", name="Resume")).first.click()
    expect(page.get_by_role("alert")).to_contain_text("has the scope read")
    page.goto("/tokens")
    expect(page.get_by_role("alert")).to_contain_text("needs admin")
    page.context.close()
