"""A service with a scraper under it, and a Chromium that looks at its pages."""

import re
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Dialog, Page, sync_playwright
from playwright.sync_api import Request as Asked

from scraper.offload.renderer import find
from tests.site import Answer, Request, Site, html, running
from tests.support import PATIENCE_S, Project, Running, until

TITLES: tuple[str, ...] = (
    "Amber cap",
    "Blue button",
    "Copper peg",
    "Dotted marble",
    "Early cap",
    "Feathered button",
    "Glass peg",
)
TITLES += ("Hazel marble", "Ivory cap", "Jade button", "Khaki peg", "Lilac marble")


@dataclass
class Shop:
    """A shop of twelve things, whose prices and words are what the test says."""

    site: Site
    prices: dict[int, str] = field(default_factory=lambda: {n: f"{n + 1}.50" for n in range(12)})
    news: list[str] = field(default_factory=lambda: [f"Paragraph {n} stays as it is." for n in range(12)])
    there: int = 12

    def open(self) -> None:
        """Answer."""
        self.site.routes["/"] = self._page(self._front)
        self.site.routes["/news"] = self._page(lambda: "".join(f"<p>{line}</p>" for line in self.news), "The news")
        for number, title in enumerate(TITLES):
            self.site.routes[f"/{number}"] = self._page(partial(self._thing, number), title)

    def _page(self, body: Callable[[], str], title: str = "A shop") -> Answer:
        def answer(end: socket.socket, request: Request) -> bool:
            end.sendall(html(f"<title>{title}</title><h1>{title}</h1>{body()}"))
            return True

        return answer

    def _front(self) -> str:
        things = (
            f'<li class="thing"><a href="/{n}">{TITLES[n]}</a> <b class="cost">£{self.prices[n]}</b></li>'
            for n in range(self.there)
        )
        return f"<ul>{''.join(things)}</ul>"

    def _thing(self, number: int) -> str:
        return f'<article class="thing"><h2>{TITLES[number]}</h2><p class="price">£{self.prices[number]}</p></article>'

    def sources(self) -> str:
        """The shop's things, its news, and a page that is not there."""
        url = self.site.url
        return f"""
[[source]]
name = "shop"
start = ["{url}/"]
every = "1s"
tags = ["daily", "prices"]
[[source.item]]
kind = "thing"
select = "li.thing"
key = ["title"]
[source.item.fields]
title = "a::text"
price = {{ css = "b.cost::text", type = "decimal" }}
[[source]]
name = "news"
start = ["{url}/news"]
every = "1s"
[[source]]
name = "missing"
start = ["{url}/none", "{url}/nor-this"]
every = "1s"
[[notify]]
name = "hook"
url = "{url}/hook"
on = ["alarm"]
[[enrich]]
task = "letters"
over = "items"
source = "shop"
kind = "python"
function = "made:letters"
when = "stored"
[[enrich]]
task = "never"
over = "items"
kind = "python"
function = "made:never"
attempts = 1
when = "stored"
"""


MADE = """
def letters(subject):
    return {"letters": len(subject.title), "of": subject.title}

def never(subject):
    raise ValueError("this is never made")
"""


@dataclass
class Watched:
    """What a page did that no page of ours may."""

    allowed: str
    faults: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)

    def context(self, made: BrowserContext) -> BrowserContext:
        """Watch all pages of a context."""
        made.set_default_timeout(PATIENCE_S * 1000)
        made.add_init_script(
            "addEventListener('securitypolicyviolation', e => console.error('CSP', e.violatedDirective, e.blockedURI, e.sample))"
        )
        made.on("console", self._said)
        made.on("weberror", lambda error: self.faults.append(f"uncaught: {error.error}"))
        made.on("request", self._asked)
        made.on("dialog", self._dialog)
        return made

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not re.search(
            r"the server responded with a status of (4\d\d|503)", message.text
        ):
            self.faults.append(f"{message.type}: {message.text}")

    def _asked(self, request: Asked) -> None:
        if not request.url.startswith((self.allowed, "data:image/")):
            self.faults.append(f"asked for {request.url}")

    def _dialog(self, dialog: Dialog) -> None:
        self.dialogs.append(dialog.message)
        dialog.accept()


@dataclass
class House:
    """A service, the shop it watches, and where its pages are."""

    service: Running
    shop: Shop
    url: str
    folder: Path

    def get(self, path: str) -> Any:
        """Return what a JSON address answers."""
        answer = self.service.http.get(path)
        assert answer.status_code == 200, (path, answer.text[:500])
        return answer.json()

    def until_listed(self, path: str, fact: Callable[[list[dict[str, Any]]], Any] = list, what: str = "") -> Any:
        """Wait until the rows of a page are like that."""
        return until(lambda: fact(self.get(path)["rows"]), what or path)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """One Chromium for a module: its loop has to end before tests that bring their own."""
    found = find()
    assert found, "Chromium is needed: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


def serving(folder: Path, text: str, site: Site, server: str = "") -> Iterator[House]:
    """A service, until the generator is closed."""
    project = Project(folder)
    project.configure(text)
    if server:
        file = folder / "bowerbird.toml"
        file.write_text(file.read_text().replace("[server]", f"[server]\n{server}", 1))
    process = project.start("serve")
    service = Running(project, process)
    house = House(service, Shop(site), f"http://127.0.0.1:{project.port}", folder)
    try:
        until(lambda: _answers(service), "the service answers")
        yield house
    finally:
        service.http.close()
        process.terminate()
        try:
            process.wait(15)
        finally:
            project.end()


def _answers(service: Running) -> bool:
    assert service.process.poll() is None, service.project.output()
    try:
        return service.http.get("/healthz").status_code == 200
    except httpx.HTTPError:
        return False


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A service that watches the shop every second, with news of it."""
    with running() as site:
        shop = Shop(site)
        shop.open()
        folder = tmp_path_factory.mktemp("house")
        (folder / "made.py").write_text(MADE)
        for house in serving(folder, shop.sources(), site):
            house.shop = shop
            house.until_listed("/items.json", lambda rows: len(rows) == 12, "the shop is read")
            house.until_listed("/pages.json?source=news", what="the news are read")
            yield house


@pytest.fixture
def watched() -> Iterator[Watched]:
    """Fails the test whose pages say something on the console, violate the policy or ask somebody else."""
    made = Watched("http://127.0.0.1:")
    yield made
    assert made.faults == []


def tab(browser: Browser, house: House, watched: Watched, width: int = 1280, **more: Any) -> Page:
    made = browser.new_context(base_url=house.url, viewport={"width": width, "height": 800}, **more)
    return watched.context(made).new_page()


def wide(page: Page) -> list[str]:
    """What is wider than the window, outside of what scrolls by itself."""
    found: list[str] = page.evaluate("""() => document.documentElement.scrollWidth <= innerWidth ? [] :
        [...document.querySelectorAll("body *")].filter(e => e.getBoundingClientRect().right > innerWidth + 1
          && !e.closest(".scroll, nav, pre, .picker")).map(e => e.outerHTML.slice(0, 120))""")
    return found


@pytest.fixture
def page(chromium: Browser, house: House, watched: Watched) -> Iterator[Page]:
    """A tab."""
    context = watched.context(chromium.new_context(base_url=house.url, viewport={"width": 1280, "height": 800}))
    yield context.new_page()
    context.close()
