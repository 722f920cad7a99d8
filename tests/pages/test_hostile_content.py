"""What sites and callers send is shown as what it is: nothing of it runs, and it breaks no page."""

import json
import re
from collections.abc import Iterator
from typing import Any

import lxml.html
import pytest
from playwright.sync_api import Browser

from tests.pages.conftest import House, Watched, serving, tab, wide
from tests.site import Request, html, running

RUNS = "window.hurt=1;alert(1)"
TEXTS = {
    "script": f"<script>{RUNS}</script>",
    "handler": f'"><img src=x onerror="{RUNS}">',
    "single": f"' onmouseover='{RUNS}' x='",
    "template": "{{7*7}}{% raw %}${7*7}#{7*7}",
    "cdata": f"]]><script>{RUNS}</script><![CDATA[",
    "right-to-left": "\u202egnp.exe\u2066\u2067 abc",
    "emoji": "👩‍👩‍👧‍👦🏳️‍🌈" * 40,
    "stacked": "Z" + "\u0300" * 500,
    "control": "a\x01\x02\x1b[31mred\x7f\x85\u2028\u2029b",
    "long": "W" * 100_000,
    "closing": f"</title></textarea></style></pre><script>{RUNS}</script>",
}
URLS = (
    f"javascript:{RUNS}",
    f"JaVaScRiPt:{RUNS}",
    f"data:text/html,<script>{RUNS}</script>",
    f"vbscript:{RUNS}",
    f'http://127.0.0.1/"onclick="{RUNS}',
    "//foreign.example/x",
    "https://foreign.example/" + "x" * 5000,
)


def sources(url: str) -> str:
    return f"""
[[source]]
name = "hostile"
start = ["{url}/"]
follow = true
every = "1s"
parser = "hostile_parser:parse"
[[source]]
name = "broken"
start = ["{url}/failing"]
every = "1s"
[[enrich]]
task = "echo"
over = "items"
kind = "python"
function = "hostile_parser:echo"
when = "stored"
[[enrich]]
task = "shout"
over = "items"
kind = "python"
function = "hostile_parser:shout"
attempts = 1
when = "stored"
"""


PARSER = """
import json

def echo(subject):
    return dict(subject.item)

def shout(subject):
    raise ValueError(json.dumps(subject.item, ensure_ascii=False))

def parse(page):
    for row in json.loads(page.css("#data::text").get() or "[]"):
        yield row
"""


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A service whose source sends all of it, and then something else of the same kind."""
    turn = {"n": 0}

    def front(request: Request) -> bytes:
        turn["n"] += 1
        rows = [
            {"title": text, f"name {text[:80]}": text, "url": URLS[n % len(URLS)], "turn": turn["n"] // 2, "k": name}
            for n, (name, text) in enumerate(TEXTS.items())
        ]
        data = json.dumps(rows).replace("&", "&amp;").replace("<", "&lt;")
        links = "".join(
            f'<a href="{u.replace(chr(34), "&quot;").replace("<", "&lt;")}">{t[:50]!r}</a>'
            for u in URLS
            for t in ("x",)
        )
        title = TEXTS["script"].replace("<", "&lt;") + TEXTS["right-to-left"]
        evil = TEXTS["handler"].encode("ascii").decode()
        body = f"<title>{title}</title><h1>&lt;script>{RUNS}&lt;/script></h1><p>{turn['n']} words</p>{links}<div id=data>{data}</div>"
        return html(body, X_Evil=evil, ETag=f'"{turn["n"]}<script>"')

    with running() as site:
        site.raw("/", front)
        site.raw(
            "/robots.txt",
            html(f"User-agent: *\nAllow: /\n# {TEXTS['closing']}\nDisallow: /{TEXTS['script']}", kind="text/plain"),
        )
        site.raw("/failing", html("x", status=f"500 {TEXTS['script']}", kind=f"text/html; {TEXTS['handler']}"))
        folder = tmp_path_factory.mktemp("hostile")
        (folder / "hostile_parser.py").write_text(PARSER)
        for house in serving(folder, sources(site.url), site):
            house.until_listed("/items.json", lambda rows: len(rows) >= len(TEXTS) - 1, "the items are there")
            house.until_listed("/changes.json", lambda rows: rows, "there are changes")
            house.until_listed("/queue.json", lambda rows: rows, "there are failures")
            house.until_listed("/tasks/echo.json", lambda rows: len(rows) >= len(TEXTS) - 1, "records were made")
            house.until_listed("/tasks/shout.json?show=failed", lambda rows: rows, "some were not")
            for name in (f"<b>{RUNS}", TEXTS["handler"]):  # no token is called so, and what is said of it is shown
                refused = house.service.http.post("/api/tokens", json={"name": name, "scope": "read"})
                assert refused.status_code == 422
            yield house


def test_nothing_of_it_runs_and_no_page_breaks(chromium: Browser, hostile: House, watched: Watched) -> None:
    page = tab(chromium, hostile, watched)
    listed = hostile.get("/items.json")["rows"]
    changes = hostile.get("/changes.json")["rows"]
    evil = "%3Cscript%3Ealert(1)%3C/script%3E%22%3E"
    paths = [
        "/",
        "/sources",
        "/sources/hostile",
        "/changes",
        "/items",
        "/items?source=hostile",
        "/pages",
        "/queue",
        "/events",
    ]
    paths += [f"/sources/hostile?tab={name}" for name in ("pages", "items", "changes", "runs", "settings", "robots")]
    paths += [
        "/sources/broken",
        "/sources/broken?tab=failures",
        "/queue?state=hosts",
        "/system",
        "/tokens",
        "/notifications",
    ]
    paths += [f"/items/{row['id']}" for row in listed] + [
        f"/pages/{row['id']}" for row in hostile.get("/pages.json")["rows"]
    ]
    paths += [f"/changes/{row['id']}" for row in changes[:12]]
    paths += [f"/sources?q={evil}&tag={evil}", f"/items?q={evil}&kind={evil}&columns={evil}", f"/changes?source={evil}"]
    paths += [
        f"/sources/{evil}",
        f"/{evil}",
        f"/sources/new?url={evil}",
        f"/login?next=javascript:{evil}",
        f"/events?name={evil}",
        f"/search?q={evil}",
        "/search?q=alert%20OR%20w*%20OR%20red",
        f"/search?q={evil}&mode=semantic",
        "/tasks",
        "/tasks/echo",
        "/tasks/shout?show=failed",
        f"/tasks/{evil}",
        f"/tasks/echo?source={evil}&kind={evil}",
    ]
    for path in paths:
        page.goto(path)
        assert page.evaluate("window.hurt") is None, path
        assert wide(page) == [], path
        assert page.locator("script:not([src]), [onerror], [onmouseover], [onclick], img[src=x]").count() == 0, path
        shady = page.evaluate("[...document.links].map(a => a.href).filter(h => !/^https?:/.test(h))")
        assert shady == [], path
        assert page.locator("h1").count() == 1, path
        assert (
            "49" not in page.locator("main").inner_text() or "{{7*7}}" in page.content() or "7*7" not in page.content()
        )
    assert watched.dialogs == []
    page.context.close()


def test_the_texts_are_shown_as_they_are(hostile: House) -> None:
    found = {row["data"]["k"]: row for row in hostile.get("/items.json?source=hostile")["rows"]}
    for name in ("script", "handler", "template", "cdata"):
        answer = hostile.service.http.get(f"/items/{found[name]['id']}", headers={"Accept": "text/html"}).text
        root: Any = lxml.html.fromstring(answer)
        assert root.xpath("//h1")[0].text_content().strip().startswith(TEXTS[name][:60])


def test_a_form_filled_with_it_comes_back_with_it(chromium: Browser, hostile: House, watched: Watched) -> None:
    page = tab(chromium, hostile, watched)
    page.goto("/sources/new")
    for text in (TEXTS["handler"], TEXTS["closing"], TEXTS["template"]):
        page.get_by_label("Address").fill(f"http://127.0.0.1:1/{text}")
        page.get_by_label("Name", exact=True).fill(text)
        page.locator("#follow").fill(text)
        page.get_by_label("where it stands").first.fill(text)
        page.get_by_label("name of a field").first.fill(text)
        page.get_by_role("button", name=re.compile("^Look$")).click()
        assert page.locator("#follow").input_value() == text
        assert page.get_by_label("where it stands").first.input_value() == text
        assert page.evaluate("window.hurt") is None
        assert wide(page) == []
    page.context.close()
