"""A source tried on one page, from a thread of another process than the scraper: whatever it is, that goes on."""

import asyncio
import threading
import time
from dataclasses import replace
from typing import Any

from scraper.config.settings import FieldRule, Http, ItemRule, Limits
from scraper.crawl.check import check
from tests.crawl.test_engine import source
from tests.site import Site

HTTP = Http(allow_networks=("127.0.0.0/8",), delay=0)


def test_an_expression_that_takes_for_ever_costs_the_check_alone(site: Site) -> None:
    site.page("/", f"<h1>{'a' * 200}!</h1>")
    evil = replace(source(site), item=(ItemRule(fields={"x": FieldRule(css="h1", re="(a+)+$")}),))
    found: list[dict[str, Any]] = []
    limits = Limits(parse_timeout=2.0)
    thread = threading.Thread(target=lambda: found.append(asyncio.run(check(evil, HTTP, limits=limits))), daemon=True)
    thread.start()
    longest, last = 0.0, time.monotonic()
    while thread.is_alive() and last < time.monotonic() + 60:
        thread.join(0.01)
        now = time.monotonic()
        longest, last = max(longest, now - last), now
    assert found[0]["failure"]["reason"] == "parse_limit"
    assert longest < 2.0  # nobody else in this process had to wait for it


def test_a_page_is_tried_from_any_thread(site: Site) -> None:
    site.page("/", "<title>t</title><h1>one</h1>")
    wanted = replace(source(site), item=(ItemRule(fields={"x": FieldRule(css="h1")}),))
    found: list[dict[str, Any]] = []
    thread = threading.Thread(target=lambda: found.append(asyncio.run(check(wanted, HTTP))), daemon=True)
    thread.start()
    thread.join(60)
    assert (found[0]["title"], found[0]["items"][0]["data"]) == ("t", {"x": "one"})


async def test_a_page_that_a_person_asks_for_is_tried_whatever_the_source_includes(site: Site) -> None:
    site.page("/", "x")
    site.page("/left-out", "<title>here</title>")
    wanted = source(site, exclude=("left-out",))
    found = await check(wanted, Http(delay=0, allow_networks=("127.0.0.0/8",)), site.url + "/left-out")
    assert (found["failure"], found["title"]) == (None, "here")
