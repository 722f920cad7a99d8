"""Pages by a real Chromium, in which nothing is asked but by our own way."""

import asyncio
import os
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import update

from scraper.config.settings import FieldRule, Http, ItemRule, Limits, Source
from scraper.crawl.check import check
from scraper.database.connection import now
from scraper.database.models import pages
from scraper.offload import Wish, renderer
from scraper.offload.renderer import PREFIX, _new_home, find
from scraper.offload.scripts import Scripts
from scraper.records import Fetched
from tests.crawl.test_engine import Crawler
from tests.site import Request, Site, html, running
from tests.support import PATIENCE_S, until

HERE = ("127.0.0.1/32",)
HTTP = Http(delay=0, allow_networks=HERE)
H1 = ItemRule(fields={"h": FieldRule(css="h1::text")})


@pytest.fixture(autouse=True)
def _nothing_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test leaves no process and no directory of the browser's."""
    assert find(), "Chromium is needed: apt-get install chromium"
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    yield
    until(lambda: not _browsers(), "no browser is left")
    assert [*tmp_path.glob(PREFIX + "*"), *Path("/tmp").glob(f"{PREFIX}{os.getpid()}-*")] == []


def _browsers() -> list[psutil.Process]:
    children = psutil.Process().children(recursive=True)
    return [child for child in children if child.status() != psutil.STATUS_ZOMBIE and "chrom" in child.name()]


async def rendered(url: str, timeout_s: float = 20.0) -> dict[str, Any]:
    source = Source(name="s", start=(url,), follow=True, render=True, item=(H1,))
    async with asyncio.timeout(60):
        return await check(source, HTTP, url, Limits(render_timeout=timeout_s))


async def test_a_page_is_read_as_its_scripts_leave_it(site: Site) -> None:
    site.page("/robots.txt", "User-agent: *\nDisallow: /secret", kind="text/plain")
    site.page(
        "/",
        '<title>x</title><div id=r></div><script src="/app.js"></script><script src="/secret.js"></script>'
        '<img src="/a.png"><link rel="stylesheet" href="/a.css">',
    )
    site.page(
        "/app.js",
        "fetch('/data.json', {method: 'POST', body: 'q=1'}).then(r => r.json()).then(d => {"
        "document.title = navigator.userAgent; document.getElementById('r').innerHTML = `<h1>${d.name}</h1><a href=/next>n</a>` })",
        kind="text/javascript",
    )
    site.page("/data.json", '{"name": "hello"}', kind="application/json")
    found = await rendered(site.url + "/")
    assert found["failure"] is None
    assert found["title"].startswith("bowerbird/")
    assert [item["data"] for item in found["items"]] == [{"h": "hello"}]
    assert found["links"] == [site.url + "/next"]
    assert sorted(site.paths()) == ["/", "/app.js", "/data.json"]


async def test_nothing_leaves_the_browser_by_itself(site: Site) -> None:
    """Every way out of a page leads to an address that may not be asked; its log stays empty."""
    with running("127.0.0.9") as forbidden:
        forbidden.page("/", "secret")
        out, port = forbidden.url, forbidden.port
        site.page(
            "/",
            f"""<link rel=preconnect href="{out}"><link rel=dns-prefetch href="{out}"><link rel=prefetch href="{out}/p">
            <link rel=stylesheet href="{out}/c"><img src="{out}/i"><script src="{out}/s"></script><iframe src="{out}/f"></iframe>
            <script type=speculationrules>{{"prefetch": [{{"source": "list", "urls": ["{out}/x"]}}]}}</script>
            <iframe src="/hop"></iframe><a id=ping href="#" ping="{out}/ping">x</a><h1>here</h1><script>
            const tries = [
              () => fetch("{out}/a"), () => fetch("/hop"), () => navigator.sendBeacon("{out}/b", "x"),
              () => new WebSocket("ws://127.0.0.9:{port}/"), () => new EventSource("{out}/e"), () => open("{out}/o"),
              () => new Worker(URL.createObjectURL(new Blob(["fetch('{out}/w');new WebSocket('ws://127.0.0.9:{port}/')"]))),
              () => {{ const r = new XMLHttpRequest(); r.open("GET", "{out}/r"); r.send() }}, () => ping.click(),
              () => {{ const c = new RTCPeerConnection({{iceServers: [{{urls: "stun:127.0.0.9:{port}"}}]}});
                       c.createDataChannel("x"); c.createOffer().then(o => c.setLocalDescription(o)) }},
            ];
            for (const t of tries) try {{ t() }} catch (e) {{}}
            </script>""",
        )
        site.raw("/hop", f"HTTP/1.1 302 F\r\nLocation: {out}/hop\r\nContent-Length: 0\r\n\r\n".encode())
        found = await rendered(site.url + "/")
        assert [item["data"] for item in found["items"]] == [{"h": "here"}]
        assert "/hop" in site.paths()
        assert forbidden.log == []


ENDLESS = {
    "a script without end": ("<h1>kept</h1><script>setTimeout(() => { while (true) {} }, 100)</script>", "kept"),
    "dialogs": ("<h1>kept</h1><script>for (let i = 0; i < 5; i++) alert(i)</script>", "kept"),
    "a circle of reloads": ("<h1>kept</h1><script>location.reload()</script>", "kept"),
    "timers": ("<h1>kept</h1><script>setInterval(() => document.title += 'x', 50)</script>", "kept"),
}


@pytest.mark.parametrize(("body", "expected"), ENDLESS.values(), ids=ENDLESS)
async def test_a_page_that_never_ends_is_taken_as_it_is(site: Site, body: str, expected: str) -> None:
    site.page("/", body)
    found = await rendered(site.url + "/", 8.0)
    assert [item["data"] for item in found["items"]] == [{"h": expected}], found["failure"]


async def test_a_page_that_eats_the_memory_fails_alone(crawler: Crawler, site: Site) -> None:
    site.page("/", '<h1>home</h1><a href="/bomb">x</a><a href="/good">x</a>')
    site.page("/bomb", "<script>const a = []; while (true) a.push(new Array(1e6).fill('x' + a.length))</script>")
    site.page("/good", "<h1>good</h1>")
    source = Source(name="s", start=(site.url + "/",), follow=True, render=True, item=(H1,))
    run = await crawler.run(source, HTTP, Limits(render_timeout=8, memory=600 * 2**20))
    assert (run["state"], run["pages"], run["failures"]) == ("done", 2, 1)
    assert [f["reason"] for f in crawler.rows("failures")] == ["parse_limit"]
    assert sorted(item["data"]["h"] for item in crawler.rows("items")) == ["good", "home"]


async def test_where_a_script_goes_on_to_is_the_page(site: Site) -> None:
    site.page("/", "<script>location = '/there?x'</script>")
    site.page("/there?x", "<h1>there</h1><a href='n'>n</a>")
    found = await rendered(site.url + "/")
    assert found["final_url"] == site.url + "/there?x"
    assert [item["data"] for item in found["items"]] == [{"h": "there"}]


async def test_the_delay_holds_for_what_a_page_asks_for(site: Site) -> None:
    site.page("/", "".join(f'<script src="/{n}.js"></script>' for n in range(4)))
    for n in range(4):
        site.page(f"/{n}.js", "1", kind="text/javascript")
    source = Source(name="s", start=(site.url + "/",), render=True, http={"delay": 0.3})
    assert (await check(source, HTTP, None, Limits()))["failure"] is None
    times = [request.at for request in site.log]
    assert len(times) == 6
    assert times[-1] - times[0] > 0.3 * 5 * 0.9


async def test_a_wait_that_a_request_of_a_page_is_asked_for_holds_for_the_host(crawler: Crawler, site: Site) -> None:
    site.page("/", "<script>fetch('/busy').then(r => document.title = r.status)</script><a href='/next'>n</a>")
    site.raw("/busy", b"HTTP/1.1 503 B\r\nRetry-After: 3\r\nContent-Length: 0\r\n\r\n")
    site.page("/next", "<p>next")
    run = await crawler.run(Source(name="s", start=(site.url + "/",), follow=True, render=True), HTTP)
    assert (run["state"], run["pages"]) == ("done", 2)
    assert crawler.rows("pages")[0]["title"] == "503"
    asked = {request.path: request.at for request in site.log}
    assert asked["/next"] - asked["/busy"] > 2.9


def test_what_a_killed_scraper_left_of_its_browser_is_removed() -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    left = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{gone.pid}-", dir="/tmp"))
    lives = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getppid()}-", dir="/tmp"))
    made = _new_home()
    assert (left.exists(), lives.exists(), made.exists()) == (False, True, True)
    for folder in (lives, made):
        folder.rmdir()


async def test_what_a_script_makes_of_the_address_is_not_the_pages(site: Site) -> None:
    site.page(
        "/", "<h1>here</h1><a href=/next>n</a><script>history.replaceState(0, '', '/' + 'x'.repeat(6000))</script>"
    )
    found = await rendered(site.url + "/")
    assert (found["failure"], found["final_url"]) == (None, site.url + "/")


async def test_a_frame_has_none_of_our_credentials_and_reads_no_other_origin(crawler: Crawler, site: Site) -> None:
    with running("127.0.0.7") as other:
        site.page("/", f'<h1>here</h1><iframe src="{other.url}/frame"></iframe>')
        site.page("/account", "number 4711")
        site.page("/transfer", "done")
        other.page(
            "/frame",
            f"<script>fetch('/go').then(r => r.text()).then(t => fetch('/got', {{method: 'POST', body: t}}));"
            f"fetch('{site.url}/transfer', {{method: 'POST', mode: 'no-cors'}})</script>",
        )
        other.raw("/go", f"HTTP/1.1 302 F\r\nLocation: {site.url}/account\r\nContent-Length: 0\r\n\r\n".encode())
        source = Source(
            name="s", start=(site.url + "/",), follow=False, render=True, headers={"Authorization": "Bearer S3CRET"}
        )
        await crawler.run(source, Http(delay=0, allow_networks=("127.0.0.0/8",)))
        asked = {one.path: one.headers.get("authorization") for one in site.log if one.path != "/robots.txt"}
        assert asked["/"] == "Bearer S3CRET"
        assert [said for path, said in asked.items() if path != "/"] in ([None, None], [None])
        assert [one for one in other.log if one.path == "/got"] == []


LISTED = """<ul id=u></ul><script>fetch("/state", {headers: {"X-Api-Key": "k1"}}).then(r => { if (!r.ok) throw 1; return r.json() })
    .then(d => { u.innerHTML = `<h1>${d.name}</h1>` }).catch(e => { u.textContent = "Sorry, try again" })</script>"""
DOWN = b"HTTP/1.1 503 F\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbusy"


async def test_a_page_that_lacks_its_data_for_now_is_a_failure_and_its_items_stay(crawler: Crawler, site: Site) -> None:
    source = Source(name="s", start=(site.url + "/",), render=True, item=(H1,))
    http = Http(delay=0, retries=0, allow_networks=HERE)
    site.page("/", LISTED)
    site.page("/state", '{"name": "first"}', kind="application/json")
    assert (await crawler.run(source, http))["items"] == 1
    assert next(asked for asked in site.log if asked.path == "/state").headers["x-api-key"] == "k1"
    site.raw("/state", DOWN, close=True)
    run = await crawler.run(source, http)
    failure = crawler.rows("failures")[0]
    assert (run["state"], run["changes"], failure["reason"]) == ("failed", 0, "http_5xx")
    assert "/state" in failure["message"]
    crawler.db.write(lambda c: c.execute(update(pages).values(fetched_at=now() - timedelta(hours=25))))
    run = await crawler.run(source, http)  # one thing that never comes does not keep a page as it was for ever
    assert (run["state"], run["pages"], run["failures"]) == ("done", 1, 0)


@pytest.mark.parametrize(("status", "failure"), [(b"503", "http_5xx"), (b"404", "http_4xx")])
async def test_where_a_script_goes_on_to_must_be_a_page(site: Site, status: bytes, failure: str) -> None:
    site.page("/", '<h1>x</h1><script>location = "/on"</script>')
    site.raw("/on", DOWN.replace(b"503", status), close=True)
    assert (await rendered(site.url + "/"))["failure"]["reason"] == failure


async def test_a_download_that_a_page_begins_leaves_it_as_it_is(site: Site) -> None:
    site.page("/", '<h1>x</h1><script>location = "/file"</script>')
    site.page("/file", "PK", kind="application/zip")
    found = await rendered(site.url + "/")
    assert (found["failure"], [item["data"] for item in found["items"]]) == (None, [{"h": "x"}])


async def test_a_browser_that_was_killed_costs_no_page(crawler: Crawler, site: Site) -> None:
    killed: list[int] = []

    def slow(_: object) -> bytes:
        if not killed:
            leader = min(_browsers(), key=lambda process: process.create_time())
            killed.append(leader.pid)
            leader.kill()
        return b"HTTP/1.1 200 OK\r\nContent-Type: text/javascript\r\nContent-Length: 0\r\n\r\n"

    site.page("/", '<h1>here</h1><script src="/app.js"></script>')
    site.raw("/app.js", slow, close=False)
    run = await crawler.run(Source(name="s", start=(site.url + "/",), render=True, item=(H1,)), HTTP)
    assert killed
    assert (run["state"], run["pages"], run["items"]) == ("done", 1, 1)


async def test_a_host_whose_pages_hang_leaves_a_browser_for_the_others(crawler: Crawler, site: Site) -> None:
    both, other = threading.Barrier(2), threading.Event()
    hanging, came = threading.Event(), list[bool]()
    script = html("", kind="text/javascript")

    def hang(_: object) -> bytes:
        both.wait(PATIENCE_S)
        hanging.set()
        came.append(other.wait(HTTP.timeout - 1))
        return script

    def late(_: object) -> bytes:
        assert hanging.wait(PATIENCE_S)
        return html('<h1>other</h1><script src="/free.js"></script>')

    def free(_: object) -> bytes:
        other.set()
        return script

    paths = [f"/{n}" for n in range(4)]
    for path in paths:
        site.page(path, f'<h1>{path}</h1><script src="{path}.js"></script>')
        site.raw(f"{path}.js", hang)
    with running("127.0.0.2") as elsewhere:
        elsewhere.raw("/", late)
        elsewhere.raw("/free.js", free)
        start = (*(site.url + path for path in paths), elsewhere.url + "/")
        http = Http(delay=0, per_host=len(start), allow_networks=("127.0.0.0/8",))
        run = await crawler.run(Source(name="s", start=start, render=True, item=(H1,)), http)
    assert (run["state"], run["pages"], run["items"]) == ("done", 5, 5)
    assert all(came)
    assert not both.broken  # two of a host at once


async def test_a_page_that_loads_itself_anew_is_what_the_site_says_then(site: Site) -> None:
    def gate(request: Request) -> bytes:
        if "pass=1" in request.headers.get("cookie", ""):
            return html("<h1>inside</h1>")
        return html("<h1>gate</h1><script>document.cookie = 'pass=1; path=/'; location.reload()</script>")

    site.raw("/", gate, close=False)
    found = await rendered(site.url + "/")
    assert [item["data"] for item in found["items"]] == [{"h": "inside"}], found["failure"]


async def test_a_start_page_may_go_on_where_a_redirect_might(site: Site) -> None:
    with running("127.0.0.2") as elsewhere:
        elsewhere.page("/", '<h1>interim</h1><script>location = "/there"</script>')
        elsewhere.page("/there", "<h1>there</h1>")
        site.raw("/", f"HTTP/1.1 302 F\r\nLocation: {elsewhere.url}/\r\nContent-Length: 0\r\n\r\n".encode())
        source = Source(name="s", start=(site.url + "/",), render=True, item=(H1,))
        found = await check(source, Http(delay=0, allow_networks=("127.0.0.0/8",)), None, Limits())
    assert [item["data"] for item in found["items"]] == [{"h": "there"}], found["failure"]


async def test_a_browser_that_dies_at_its_start_is_started_once_more(
    crawler: Crawler, site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wrapper = tmp_path / "bin" / "chromium"
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/sh\n[ -e "$0.tried" ] || {{ touch "$0.tried"; exit 1; }}\nexec "{find()}" "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setattr(renderer, "find", lambda: str(wrapper))
    site.page("/", "<h1>here</h1>")
    run = await crawler.run(Source(name="s", start=(site.url + "/",), render=True, item=(H1,)), HTTP)
    assert (tmp_path / "bin" / "chromium.tried").exists()
    assert (run["state"], run["pages"], run["failures"]) == ("done", 1, 0)


async def test_a_browser_is_ended_though_who_ends_it_is_cancelled(site: Site, tmp_path: Path) -> None:
    made = renderer.Renderer(Limits(), Scripts())
    fetched = Fetched(site.url + "/", site.url + "/", 200, {"content-type": "text/html"}, b"<h1>x</h1>", 1, 0.1)

    async def ask(wish: Wish) -> Fetched:
        raise AssertionError(wish.url)

    await made.render(renderer.Document(fetched, keeps=True, strict=False), "agent", 1000, ask)
    ending = asyncio.create_task(made._drop())
    await asyncio.sleep(0)
    ending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ending
    await made.close()
    assert not _browsers()


def test_a_browser_leaves_no_files(site: Site, tmp_path: Path) -> None:
    site.page("/", "<h1>x</h1>")
    asyncio.run(rendered(site.url + "/"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ({}, False),
        ({"etag": '"1"'}, True),
        ({"last-modified": "Thu, 01 Jan 2026 00:00:00 GMT"}, True),
        ({"etag": '"1"', "pragma": "no-cache"}, False),
        ({"expires": "Thu, 01 Jan 1970 00:00:00 GMT"}, False),
        ({"expires": "0", "etag": '"1"'}, False),
        ({"date": "Thu, 01 Jan 2026 00:00:00 GMT", "expires": "Thu, 01 Jan 2026 01:00:00 GMT"}, True),
        ({"cache-control": "max-age=600"}, True),
        ({"cache-control": "max-age=600", "age": "600"}, False),
        ({"cache-control": "no-cache"}, False),
        ({"cache-control": "max-age=0, must-revalidate"}, False),
        ({"cache-control": "s-maxage=600"}, False),
        ({"cache-control": "no-store"}, False),
    ],
)
def test_a_script_is_kept_as_long_as_its_site_lets_us(said: dict[str, str], kept: bool) -> None:
    scripts = Scripts()
    wish = Wish(1, "http://a.org/x.js", "GET", {}, b"", "Script", main=False, top=True)
    scripts.put("http://a.org/", wish, Fetched(wish.url, wish.url, 200, said, b"x", 1, 0.1))
    assert (scripts.get("http://a.org/", wish) is not None) is kept
