"""Every way to hang is found, explained and cured."""

import os
import signal
from collections.abc import Callable

import pytest

from tests.site import Site
from tests.support import Project, Running, fault, until

Serve = Callable[..., Running]

WAYS = {
    "a loop without end": ("while True:\n        pass", "in fault"),
    "a regular expression that never returns": ("re.match(r'(a+)+$', 'a' * 64 + 'b')", "in fault"),
    "a lock taken twice": ("lock = threading.Lock()\n    lock.acquire()\n    lock.acquire()", "in fault"),
    "a thread that is waited for and waits": (
        "waits = threading.Thread(target=threading.Event().wait)\n    waits.start()\n    waits.join()",
        "in wait",
    ),
    "a database thread that waits for good": (
        "import scraper.database.connection as c\n    c.Db.write = lambda *_: threading.Event().wait()",
        "in wait",
    ),
}


@pytest.mark.parametrize(("way", "shown"), WAYS.values(), ids=WAYS)
def test_a_hang_leaves_its_stacks_and_its_page_and_is_cured(
    serve: Serve, project: Project, site: Site, way: str, shown: str
) -> None:
    site.page("/", '<a href="/bad">x</a>')
    site.page("/bad", "x")
    project.configure(
        f'[[source]]\nname = "s"\nstart = ["{site.url}/"]\nfollow = true\nevery = "1h"\n',
        supervisor="heartbeat_timeout = 3.0\nbackoff_max = 0.2",
    )
    service = serve(**fault(f"if url.endswith('/bad'):\n    {way}"))
    first = service.until_state("scraping")["pid"]
    last = until(lambda: service.status()["last_exit"], "it was ended", within_s=3.0 + 5.0 + 10.0)
    assert (last["pid"], last["reason"], last["signal"]) == (first, "hang", "SIGKILL")
    assert shown in last["stacks"]
    assert last["url"] == site.url + "/bad" or "c.Db.write" in way
    assert shown in project.output()
    assert service.until_state("scraping", "idle")["pid"] != first
    listed = service.http.get("/api/events?level=error", headers={"Accept": "application/json"}).json()["items"]
    assert any(e["facts"].get("is") == "hung" and "silent for" in e["facts"]["cause"] for e in listed)


def test_pages_that_each_take_long_are_no_hang(serve: Serve, project: Project, site: Site) -> None:
    site.raw("*", b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 1\r\n\r\nx", close=False)
    project.configure(
        "".join(f'[[source]]\nname = "s{n}"\nstart = ["{site.url}/{n}"]\nevery = "1h"\n' for n in range(6)),
        http="delay = 0\nper_host = 6\nobey_robots = false",
        supervisor="heartbeat_timeout = 3.0",
    )
    service = serve(**fault("time.sleep(1.2)"))
    until(lambda: {r["state"] for r in service.http.get("/api/runs").json()["items"]} == {"done"}, "all are done")
    assert service.status()["last_exit"] is None


def test_a_stopped_process_is_found_hung_and_replaced(serve: Serve, scraping: Project) -> None:
    service = serve()
    pid = service.until_state("scraping")["pid"]
    os.kill(pid, signal.SIGSTOP)
    assert service.status()["process_alive"] is True
    assert service.until_state("hung", within_s=8.0)["pid"] == pid
    until(lambda: service.status()["pid"] not in (None, pid), "a new pid", within_s=5.0)
    assert service.until_state("scraping")["last_exit"]["reason"] == "hang"


def test_a_page_on_which_the_scraper_hangs_twice_is_set_aside(serve: Serve, project: Project, site: Site) -> None:
    site.page("/", '<a href="/bad">x</a><a href="/good">x</a>')
    site.page("/bad", "x")
    site.page("/good", "x")
    project.configure(
        f'[[source]]\nname = "s"\nstart = ["{site.url}/"]\nfollow = true\nevery = "1h"\n',
        supervisor="heartbeat_timeout = 3.0\nbackoff_max = 0.2",
    )
    service = serve(**fault("while url.endswith('/bad'):\n    pass"))
    failure = until(lambda: service.http.get("/api/failures").json()["items"], "poison", within_s=60)[0]
    assert (failure["url"], failure["reason"]) == (site.url + "/bad", "poison")
    until(lambda: service.http.get("/api/runs/1").json()["state"] == "done", "the run ends")
    assert service.http.get("/api/runs/1").json()["pages"] == 2
    assert "fault.py" in project.output()  # where it hung


ENDLESS = {
    "a loop": "while True:\n            pass",
    "a regular expression": "import re; re.match(r'(a+)+$', 'a' * 64 + 'b')",
    "a wait": "import threading; threading.Event().wait()",
}


@pytest.mark.parametrize("way", ENDLESS.values(), ids=ENDLESS)
def test_a_parser_that_never_returns_costs_its_page_alone(serve: Serve, project: Project, site: Site, way: str) -> None:
    (project.path / "my_parser.py").write_text(
        f"def parse(page):\n    if page.url.endswith('/bad'):\n        {way}\n    yield {{'url': page.url}}\n"
        "    yield from page.css('a::attr(href)').getall()\n"
    )
    site.page("/", '<a href="/bad">x</a><a href="/good">x</a>')
    site.page("/bad", "x")
    site.page("/good", "x")
    project.configure(
        f'[limits]\nparse_timeout = 1\n[[source]]\nname = "s"\nstart = ["{site.url}/"]\nparser = "my_parser:parse"\n'
        'every = "1h"\n',
        supervisor="heartbeat_timeout = 3.0",
    )
    service = serve()
    until(lambda: service.http.get("/api/runs").json()["items"], "a run")
    until(lambda: service.http.get("/api/runs/1").json()["state"] == "done", "the run ends")
    failure = service.http.get("/api/failures").json()["items"][0]
    assert (failure["url"], failure["reason"]) == (site.url + "/bad", "parse_limit")
    assert "my_parser.py" in failure["message"]  # where it was
    assert service.http.get("/api/runs/1").json()["items"] == 2
    assert service.status()["restarts"] == 0
    trouble = service.http.get("/api/sources/s").json()["troubles"][0]
    assert (trouble["reason"], trouble["count"], trouble["url"]) == ("parse_limit", 1, site.url + "/bad")
