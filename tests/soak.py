"""A long look at one scraper: does it grow? `make soak ARGS="--minutes 60"`.

It crawls a site without end, run after run, with a parser function beside the rules; its memory and its descriptors are noted,
and after the first third of the time a straight line through the memory says how much it grows in an hour.
"""

import argparse
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

import httpx
import psutil

from tests.site import Request, Site, html, running
from tests.support import Project, Running, until

EACH_S = 5.0
WARM_SHARE = 1 / 3
MIB = 2**20


def endless(site: Site) -> str:
    """A site without end, in two sources: one read by rules, one by a function."""

    def page(request: Request) -> bytes:
        number = int(request.path.strip("/") or 0) % 1_000_000
        links = "".join(f'<a href="/{n}">{n}</a>' for n in (number + 1, number * 2 + 1))
        words = " ".join(f"word{(number * k) % 977}" for k in range(200))
        return html(f"<title>{number}</title><h1>{number}</h1>{links}<p>{words}</p>", ETag=f'"{number}"')

    site.raw("*", page, close=False)
    site.raw("/robots.txt", html("", status="404 Not Found"), close=False)
    common = f'start = ["{site.url}/0"]\nevery = "1s"\nmax_depth = 9999\nmax_pages = 2000\n'
    rules = '[[source.item]]\nkind = "n"\nfields = { n = "h1::text" }\n'
    return (
        f'[[source]]\nname = "rules"\nfollow = true\n{common}{rules}'
        f'[[source]]\nname = "parser"\nparser = "soaked:parse"\n{common}'
    )


def main() -> int:
    """Look, and say how it went. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    minutes = parser.parse_args().minutes
    with tempfile.TemporaryDirectory() as folder, running() as site:
        project = Project(Path(folder))
        (project.path / "soaked.py").write_text(
            "def parse(page):\n    yield {'n': page.css('h1::text').get()}\n    yield from page.css('a::attr(href)').getall()\n"
        )
        project.configure(endless(site), http="delay = 0.02")
        service = Running(project, project.start("serve"))
        try:
            until(lambda: _up(service), "the service is up")
            scraper = psutil.Process(service.until_state("scraping")["pid"])
            looks = _look(scraper, site, minutes * 60)
            return _judge(looks, service.status()["restarts"])
        finally:
            service.process.terminate()
            service.process.wait(20)
            project.end()


def _up(service: Running) -> bool:
    try:
        return service.http.get("/healthz").status_code == 200
    except httpx.HTTPError:
        return False


def _look(scraper: psutil.Process, site: Site, seconds: float) -> list[tuple[float, int, int]]:
    """Note time, memory and descriptors until the time is up."""
    looks: list[tuple[float, int, int]] = []
    began = time.monotonic()
    pause = threading.Event()
    while (at := time.monotonic() - began) < seconds:
        looks.append((at, scraper.memory_info().rss, scraper.num_fds()))
        if len(looks) % 24 == 0:
            memory, files = looks[-1][1] / MIB, looks[-1][2]
            print(f"{at / 60:5.1f} min  {memory:6.1f} MiB  {files} descriptors  {len(site.log)} requests", flush=True)
        site.log[:-10_000] = []
        pause.wait(EACH_S)
    return looks


def _judge(looks: list[tuple[float, int, int]], restarts: int) -> int:
    warm = looks[int(len(looks) * WARM_SHARE) :]
    slope, _ = statistics.linear_regression([at / 3600 for at, _, _ in warm], [memory / MIB for _, memory, _ in warm])
    files = max(files for *_, files in warm) - min(files for *_, files in warm)
    print(f"memory grows by {slope:.2f} MiB an hour; descriptors vary by {files}; {restarts} restarts")
    return 0 if slope < 1.0 and restarts == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
