"""Takes the pictures of the README and the guide: `make pictures`. Runs the demo, with a source that fails beside it."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
from playwright.sync_api import Browser, Page, sync_playwright

from scraper.offload.renderer import find
from tests.support import free_port, until

FOLDER = Path(__file__).parents[2] / "docs" / "pictures"
MOST = 250_000  # bytes of a picture
MINUTES = int(
    os.environ.get("MINUTES", "6")
)  # for so long it runs before the pictures: the charts have one bar a minute


@contextlib.contextmanager
def demo() -> Iterator[tuple[httpx.Client, str]]:
    """Run the demo. Yields a client for its API and the address of its shop."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="bb-") as folder:
        log = Path(folder) / "log"
        with log.open("wb") as said:
            command = [sys.executable, "-m", "scraper", "demo", "--port", str(port)]
            process = subprocess.Popen(command, stderr=said, env=os.environ | {"TMPDIR": folder})
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http:
                until(lambda: _answers(http), "the demo answers")
                shop = re.search(r"The shop is at (\S+)/ ", log.read_text())
                assert shop is not None
                yield http, shop[1]
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(20)


def _answers(http: httpx.Client) -> bool:
    try:
        return http.get("/healthz").status_code == 200
    except httpx.HTTPError:
        return False


def _prepare(http: httpx.Client, shop: str) -> None:
    """Give it more to show: a source that fails, one without items, a process that was killed, and some time."""
    for source in (
        {"name": "old-catalogue", "start": [f"{shop}/catalogue/2019"], "every": "30s", "tags": ["archive"]},
        {"name": "featured", "start": [f"{shop}/product/{n}" for n in (3, 9, 17)], "every": "10s", "tags": ["daily"]},
        {"name": "shelves", "start": [f"{shop}/shelf/caps"], "every": "1h", "tags": ["daily"]},
    ):
        http.post("/api/sources", json=source).raise_for_status()
    until(lambda: http.get("/overview.json").json()["unread"] > 20, "there are changes", 60)
    os.kill(http.get("/api/scraper-status").json()["pid"], signal.SIGKILL)
    until(lambda: http.get("/overview.json").json()["worst"], "a source fails", 60)
    until(lambda: http.get("/events.json?kind=process").json()["rows"], "it was told", 60)

    def bars() -> int:
        return str(http.get("/overview.json").json()["charts"][0]["bars"][0]["path"]).count("M")

    until(lambda: bars() > MINUTES, "the charts have something to show", MINUTES * 60 + 90)
    newest = http.get("/changes.json").json()["rows"][12]["id"]
    http.post("/changes/read", data={"up_to": str(newest)})


def _take(page: Page, name: str) -> None:
    page.wait_for_load_state("load")
    page.evaluate("document.fonts.ready")
    file = FOLDER / f"{name}.png"
    page.screenshot(path=file, animations="disabled")
    assert file.stat().st_size < MOST, (name, file.stat().st_size)
    print(f"{file}: {file.stat().st_size:,} bytes")


def _pages(browser: Browser, url: str, shop: str) -> None:
    light = browser.new_context(base_url=url, viewport={"width": 1280, "height": 800}, color_scheme="light")
    page = light.new_page()
    for name, path in (
        ("overview", "/"),
        ("sources", "/sources"),
        ("items", "/items?source=shop"),
        ("changes", "/changes"),
    ):
        page.goto(path)
        if path in ("/", "/sources"):
            page.locator("#pulse", has_text="live").wait_for()
        _take(page, name)
    page.goto("/changes?source=shop&of=item")
    page.locator("a.what").first.click()
    page.locator(".diff").first.wait_for()
    _take(page, "change")
    page.goto(f"/sources/new?url={shop}/shelf/caps")
    page.get_by_role("button", name="Look").click()
    page.get_by_text("proposals").wait_for()
    page.get_by_label("Name", exact=True).fill("caps")
    page.evaluate("document.activeElement.blur()")
    _take(page, "new")
    for name, width, height, scheme in (("overview-dark", 1280, 800, "dark"), ("overview-small", 390, 800, "light")):
        context = browser.new_context(
            base_url=url,
            viewport={"width": width, "height": height},
            color_scheme="dark" if scheme == "dark" else "light",
        )
        page = context.new_page()
        page.goto("/")
        page.locator("#pulse", has_text="live").wait_for()
        _take(page, name)


def main() -> None:
    """Take all pictures."""
    with demo() as (http, shop), sync_playwright() as playwright:
        _prepare(http, shop)
        browser = playwright.chromium.launch(executable_path=find(), args=["--no-sandbox"])
        _pages(browser, str(http.base_url), shop)
        browser.close()


if __name__ == "__main__":
    main()
