"""What holds for every page: policy, console, headings, links, the JSON twin, small and dark screens, accessibility."""

import re
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lxml.html
import pytest
from playwright.sync_api import Browser

from tests.pages.conftest import House, Watched, tab, wide

AXE = Path(__file__).parents[2] / ".venv" / "axe-core" / "package" / "axe.min.js"
EMPTY = ("/sources?q=nothing-like-it", "/items?q=nothinglikeit", "/queue?state=hosts", "/queue?state=flight")
LISTS: tuple[str, ...] = (
    "/",
    "/?range=24h",
    "/?range=7d",
    "/sources",
    "/sources/new",
    "/changes",
    "/changes?change=created",
    "/items",
)
LISTS += ("/items?source=shop", "/pages", "/queue", "/queue?state=due", "/queue?state=retrying", *EMPTY, "/events")
LISTS += ("/search", "/search?q=shop", "/search?q=-nothing", "/search?q=nothinglikeit")
LISTS += ("/tasks", "/tasks/none", "/search?q=shop&mode=semantic")
LISTS += ("/system", "/notifications", "/tokens", "/docs", "/changes/999999999", "/sources/none", "/nothing")
TABS = ("pages", "items", "changes", "runs", "failures", "settings", "robots")


@pytest.fixture(scope="module")
def paths(house: House) -> list[str]:
    """The address of each kind of page, with rows in it."""
    house.shop.prices[3] = "99.00"
    house.shop.news[3] = "This is new."
    item = house.until_listed("/changes.json?of=item&change=changed")[0]
    news = house.until_listed("/changes.json?source=news")[0]
    house.until_listed("/queue.json?source=missing")
    made = house.until_listed("/tasks/letters.json")[0]
    house.until_listed("/tasks/never.json?show=failed")
    single = [f"/changes/{item['id']}", f"/changes/{news['id']}", f"/changes/{news['id']}?whole=true&side=true"]
    single += [f"/items/{item['item_id']}", f"/pages/{news['page_id']}"]
    single += [f"/items/{made['item_id']}", "/tasks/letters", "/tasks/letters?show=queued", "/tasks/never?show=failed"]
    return [
        *LISTS,
        *single,
        *(f"/sources/{name}" for name in ("shop", "missing")),
        *(f"/sources/shop?tab={t}" for t in TABS),
    ]


def test_each_page_keeps_to_the_policy_and_has_one_heading(
    chromium: Browser, house: House, watched: Watched, paths: list[str]
) -> None:
    page = tab(chromium, house, watched)
    for path in paths:
        answer = page.goto(path)
        assert answer is not None
        assert answer.headers["content-type"].startswith("text/html"), path
        assert page.locator("h1").count() == 1, path
        assert page.evaluate("document.documentElement.lang") == "en"
        assert wide(page) == [], path
        root: Any = lxml.html.fromstring(answer.text())
        assert root.xpath("//script[not(@src)] | //style | //@style | //@*[starts-with(name(), 'on')]") == [], path
        ids = root.xpath("//@id")
        assert len(ids) == len(set(ids)), path
        assert watched.faults == [], path
    page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_has_a_serious_fault_of_accessibility(
    chromium: Browser, house: House, watched: Watched, paths: list[str], scheme: Any
) -> None:
    assert AXE.exists(), "axe-core is needed: make axe"
    page = tab(chromium, house, watched, color_scheme=scheme, bypass_csp=True)
    found: dict[str, set[str]] = {}
    for path in paths:
        page.goto(f"{path}{'&' if '?' in path else '?'}live=0")
        page.evaluate(AXE.read_text(encoding="utf-8"))
        told = page.evaluate("axe.run({resultTypes: ['violations']})")
        assert len(told["passes"]) > 10, path
        for fault in told["violations"]:
            if fault["impact"] in ("serious", "critical"):
                node = fault["nodes"][0]
                found.setdefault(f"{fault['id']}: {node['html'][:150]} {node['failureSummary'][-200:]}", set()).add(
                    path
                )
    page.context.close()
    assert found == {}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_each_page_fits_a_small_screen(
    chromium: Browser, house: House, watched: Watched, paths: list[str], scheme: Any
) -> None:
    page = tab(chromium, house, watched, 390, color_scheme=scheme, is_mobile=True, has_touch=True)
    for path in paths:
        page.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, (path, wide(page))
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", dark)[:3])) < 384) == (scheme == "dark")
    page.context.close()


def test_each_page_is_whole_without_javascript(
    chromium: Browser, house: House, watched: Watched, paths: list[str]
) -> None:
    page = tab(chromium, house, watched, java_script_enabled=False)
    for path in paths:
        page.goto(path)
        assert page.locator("main").inner_text().strip(), path
        assert page.get_by_role("button", name="Hold").count() == 0
    page.context.close()


def test_each_page_has_its_twin_in_json(house: House, paths: list[str]) -> None:
    for path in paths:
        if path in ("/docs", "/nothing") or path.endswith(("/none", "/999999999")):
            continue
        name, _, query = path.partition("?")
        name = "/overview" if name == "/" else name
        found = house.get(f"{name}.json?{query}")
        assert isinstance(found, dict), path
    shown: Any = lxml.html.fromstring(house.service.http.get("/items?source=shop").text)
    listed = house.get("/items.json?source=shop")["rows"]
    assert {f"/items/{row['id']}" for row in listed} == set(shown.xpath("//tbody//a[@class='what']/@href"))


def links(house: House, path: str, root: Any) -> Iterator[str]:
    for attribute in root.xpath("//a/@href | //link/@href | //script/@src | //img/@src"):
        full = urllib.parse.urljoin(f"{house.url}{path}", attribute)
        if full.startswith(house.url):
            yield full.removeprefix(house.url).partition("#")[0] or "/"


def test_every_link_of_every_page_leads_somewhere(house: House, paths: list[str]) -> None:
    known = {path for path in paths if not path.endswith(("/none", "/999999999", "/nothing"))}
    waiting, broken = sorted(known), []
    kinds: dict[str, int] = {}
    came_from: dict[str, str] = {}
    while waiting:
        path = waiting.pop()
        answer = house.service.http.get(path, headers={"Accept": "text/html"})
        if answer.status_code != 200:
            broken.append((path, answer.status_code, came_from.get(path)))
        if path.startswith("/api/"):  # what a site sent is for saving, and can do nothing here
            if "/content" in path:
                assert answer.headers["content-security-policy"].startswith("sandbox")
            continue
        if not answer.headers["content-type"].startswith("text/html"):
            continue
        for link in links(house, path, lxml.html.fromstring(answer.text)):
            kind = re.sub(r"=[^&]*", "=", re.sub(r"\d+", "N", link))
            if link not in known and kinds.get(kind, 0) < 3:  # three of each kind: the lists are long
                kinds[kind] = kinds.get(kind, 0) + 1
                known.add(link)
                came_from[link] = path
                waiting.append(link)
    assert broken == []
    assert len(known) > 100
