"""A source tried on one page, from a thread of another process than the scraper: whatever it is, that goes on."""

import asyncio
import threading
import time
from dataclasses import replace
from typing import Any

import pytest

from scraper.config.settings import FieldRule, Http, ItemRule, Limits, Noise, Source
from scraper.config.shape import build
from scraper.crawl.check import check
from scraper.extract.page import Page
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


GOODS = """<title>t</title><div class=b><i>A</i><b>12.50 EUR</b></div><div class=b><b>ask us</b></div>
<div class=b><i>C</i><b>sold out</b></div>"""


@pytest.mark.parametrize(
    ("page", "given", "notes"),
    [
        (GOODS, {"fields": {"name": "i", "price": {"css": "b"}}}, []),
        (
            GOODS,
            {"fields": {"name": "i", "price": {"css": "b", "type": "decimal"}}, "key": ["name"]},
            [
                "item 'book': price: 2 of 3 cannot be used; the first: 'ask us' is no decimal",
                "item 'book': 1 of 3 are left out: they have no 'name', which is in their key",
            ],
        ),
        (
            GOODS,
            {"fields": {"n": {"css": "b", "re": "([0-9.]+) EUR"}}},
            ["item 'book': n: 2 of 3 cannot be used; the first: re '([0-9.]+) EUR' is not in 'ask us'"],
        ),
        (GOODS, {"fields": {"isbn": {"xpath": ".//u"}}}, ["item 'book': isbn: './/u' is nowhere on this page"]),
        ("<p>x", {"fields": {"name": "i"}}, ["item 'book': select: 'div.b' is nowhere on this page"]),
        ("<div class=b><i> </i></div>", {"fields": {"n": "i"}}, ["item 'book': n: 1 of 1 cannot be used; the first: it is empty"]),
    ],
)  # fmt: skip
async def test_what_a_rule_does_not_find_is_said(
    site: Site, page: str, given: dict[str, Any], notes: list[str]
) -> None:
    site.page("/", page)
    rule = build(ItemRule, {"kind": "book", "select": {"css": "div.b"}, **given}, (), [])
    assert rule is not None
    assert (await check(replace(source(site), item=(rule,)), HTTP))["notes"] == notes


async def test_parts_of_a_page_that_are_named_and_not_there_are_said(site: Site) -> None:
    site.page("/", "<p>x")
    given = {"name": "s", "start": [site.url + "/"], "follow": ["a.next"], "noise": {"only": ["main", "p"]}}
    wanted = build(Source, given, (), [])
    assert wanted is not None
    where = "is nowhere on this page"
    assert (await check(wanted, HTTP))["notes"] == [f"follow: 'a.next' {where}", f"noise.only: 'main' {where}"]


def parse(page: Page) -> list[str]:
    """A parser, which is read by a process of its own."""
    return []


async def test_the_process_that_reads_for_a_parser_says_it_too(site: Site) -> None:
    site.page("/", "<p>x")
    noise = Noise(only=("main",))
    wanted = replace(source(site), follow=False, parser="tests.crawl.test_check:parse", noise=noise)
    found = await check(wanted, HTTP)
    assert found["notes"] == ["noise.only: 'main' is nowhere on this page"]


async def test_a_page_that_a_person_asks_for_is_tried_whatever_the_source_includes(site: Site) -> None:
    site.page("/", "x")
    site.page("/left-out", "<title>here</title>")
    wanted = source(site, exclude=("left-out",))
    found = await check(wanted, Http(delay=0, allow_networks=("127.0.0.0/8",)), site.url + "/left-out")
    assert (found["failure"], found["title"]) == (None, "here")
