"""The main text of pages and what they say of themselves, and the word of their sites on who may read it."""

import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scraper.config.settings import Enrich, Limits, Llm
from scraper.database import hosts
from scraper.database.hosts import StoredRobots
from scraper.enrichment.maintext import PROPERTIES_MOST, TEXT_MOST, VALUE_MOST, read
from scraper.offload.callers import Callers, Late, Raised
from tests.enrichment.endpoint import Endpoint, says
from tests.enrichment.shop import Shop
from tests.export import stock

HTML = {"content-type": "text/html; charset=utf-8"}
PARAGRAPHS = [
    f"The barn owl number {n} hunts at night over open fields, where it listens for mice and voles in the long grass, and it "
    "brings what it has caught to its young, which wait in the old tower near the church until the morning comes."
    for n in ("one", "two", "three", "four")
]
ARTICLE = f"""<!doctype html><html lang="en-GB"><head><title>Owls at night</title>
<meta property="og:title" content="Owls"><meta property="og:image" content="/a.png"><meta property="og:image" content="/b.png">
<meta name="twitter:card" content="summary"><meta name="viewport" content="no">
<meta name="author" content="Ada Bird"><meta property="article:published_time" content="2026-01-31T10:00:00Z">
<script type="application/ld+json">{{"@type": "Article", "headline": "Owls", "wordCount": 4}}</script></head><body>
<nav><ul><li><a href="/">Home</a></li><li><a href="/shop">Buy our boilerplate</a></li></ul></nav>
<header>The Daily Boilerplate</header>
<article><h1>Owls at night</h1>{"".join(f"<p>{p}</p>" for p in PARAGRAPHS)}
<p>More in <a href="/voles">the article on voles</a>, which is as long as this one.</p></article>
<aside>Subscribe to our boilerplate letter</aside><footer>Copyright boilerplate, all rights reserved, cookies</footer>
</body></html>"""


def page(body: str, url: str = "http://s.test/owls", **headers: str) -> dict[str, Any]:
    return read(url, HTML | headers, body.encode())


def test_an_article_is_read_without_what_stands_around_it() -> None:
    found = page(ARTICLE)
    assert all(paragraph in found["text"] for paragraph in PARAGRAPHS)
    assert "oilerplate" not in found["text"]
    assert "](http://s.test/voles)" in found["markdown"]
    assert found["title"] in ("Owls at night", "Owls")
    assert (found["author"], found["date"], found["language"]) == ("Ada Bird", "2026-01-31", "en-GB")


def test_what_a_page_says_of_itself_is_kept() -> None:
    found = page(ARTICLE)
    assert found["jsonld"] == [{"@type": "Article", "headline": "Owls", "wordCount": 4}]
    assert found["opengraph"]["og:title"] == "Owls"
    assert found["opengraph"]["og:image"] == ["/a.png", "/b.png"]
    assert found["opengraph"]["twitter:card"] == "summary"
    assert "viewport" not in found["opengraph"]


def test_microdata_is_read_as_it_is_nested() -> None:
    found = page(
        '<div itemscope itemtype="http://schema.org/Book"><b itemprop="name">Owls</b>'
        '<p itemprop="author" itemscope itemtype="http://schema.org/Person"><i itemprop="name">Ada</i></p>'
        '<a itemprop="url" href="/owls">x</a><time itemprop="date" datetime="2026">last year</time>'
        '<meta itemprop="isbn copy" content="7"><b itemprop="tag">a</b><b itemprop="tag">b</b></div>'
    )
    assert found["microdata"] == [
        {
            "type": "http://schema.org/Book",
            "properties": {
                "name": ["Owls"],
                "author": [{"type": "http://schema.org/Person", "properties": {"name": ["Ada"]}}],
                "url": ["/owls"], "date": ["2026"], "isbn": ["7"], "copy": ["7"], "tag": ["a", "b"],
            },
        }
    ]  # fmt: skip


def test_a_page_without_an_article_is_what_a_person_sees() -> None:
    found = page("<title>T</title><div>one</div><span>two</span><script>hidden()</script>")
    assert "one" in found["text"]
    assert "two" in found["text"]
    assert "hidden" not in found["text"]
    assert found["title"] == "T"


def test_json_is_read_as_its_words() -> None:
    found = read("http://s.test/a", {"content-type": "application/json"}, b'{"a": ["owl", {"b": "fly"}], "n": 5}')
    assert "owl" in found["text"]
    assert "fly" in found["text"]
    assert (found["title"], found["jsonld"], found["microdata"]) == (None, [], [])


def test_without_the_extra_it_is_all_that_a_person_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trafilatura", None)
    found = page(ARTICLE)
    assert PARAGRAPHS[0] in found["text"]
    assert "boilerplate" in found["text"]
    assert (found["title"], found["language"]) == ("Owls at night", "en-GB")
    assert found["jsonld"]


@pytest.mark.parametrize("body", ["", " ", "<", "<html>", "\x00", "<p>" + "\ud800".encode("utf-8", "replace").decode()])
def test_a_page_of_nothing_is_read_too(body: str) -> None:
    assert isinstance(page(body)["text"], str)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("<div>" * 30_000 + "deep", id="deep"),
        pytest.param("<b itemscope itemprop=a>" * 5000, id="deep microdata"),
        pytest.param("<p itemscope><b itemprop=a>x</b></p>" * 20_000, id="much microdata"),
        pytest.param('<meta property="og:a" content="x">' * 50_000, id="much of itself"),
        pytest.param(f'<meta property="og:a" content="{"x" * 10**6}">', id="long words"),
        pytest.param('<script type="application/ld+json">' + "[" * 50_000 + "</script>", id="deep JSON-LD"),
        pytest.param("<p>" + "word " * 300_000, id="a long text"),
        pytest.param("<table>" + "<tr><td>a<td>b" * 30_000, id="a large table"),
        pytest.param("<a href=x>" * 20_000, id="links in links"),
    ],
)
async def test_a_hostile_page_costs_its_own_reading_alone(body: str, tmp_path: Path) -> None:
    callers = Callers(Limits(memory=512 * 2**20), tmp_path)
    began = time.monotonic()
    try:
        found = await callers.call("scraper.enrichment.maintext:read", "http://s/", HTML, body.encode(), timeout_s=4)
        assert len(found["text"]) <= TEXT_MOST
        assert len(json.dumps(found["microdata"])) < 40 * PROPERTIES_MOST * 40
        assert len(json.dumps(found["opengraph"])) < 6 * PROPERTIES_MOST * (VALUE_MOST + 100)
    except (Late, Raised):
        pass  # within its limits, and with a name
    finally:
        await callers.close()
    assert time.monotonic() - began < 60


# -- Content-Signal

TASK = Enrich(task="sum", prompt="{{ text[:40] }}")


def robots(shop: Shop, text: str, status: int = 200) -> None:
    found = {"http://shop.test": StoredRobots(status, text, stock.AT)}
    shop.db.write(lambda c: hosts.keep_robots(c, found))


@pytest.fixture
def asking(shop: Shop, endpoint: Endpoint, impatient: None) -> Shop:
    shop.use(Llm(base_url=endpoint.url, model="m"))
    endpoint.answers(says({"text": "fine"}))
    shop.page(ARTICLE)
    return shop


def test_what_a_site_does_not_want_given_to_a_model_is_not(asking: Shop, endpoint: Endpoint) -> None:
    robots(asking, "User-agent: *\nContent-Signal: search=yes, ai-input=no\nAllow: /\n")
    asking.do(TASK)
    (job,) = asking.jobs("sum")
    assert (job["state"], job["reason"]) == ("failed", "content_signal")
    assert "http://shop.test/robots.txt says Content-Signal: ai-input=no" in job["message"]
    assert endpoint.log == []


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("User-agent: *\nContent-Signal: ai-input=yes, ai-train=no\nAllow: /\n", 200),
        ("User-agent: other\nContent-Signal: ai-input=no\nAllow: /\n", 200),
        ("User-agent: *\nContent-Signal: ai-input=no\nAllow: /\n", 404),
        ("", 200),
    ],
)
def test_what_a_site_does_not_forbid_is_asked(text: str, status: int, asking: Shop, endpoint: Endpoint) -> None:
    robots(asking, text, status)
    asking.do(TASK)
    assert asking.records("sum")[0][3] == {"text": "fine"}
    assert endpoint.prompts()[0].startswith("Owls at night")


def test_a_function_of_ones_own_is_no_model(asking: Shop) -> None:
    robots(asking, "User-agent: *\nContent-Signal: ai-input=no\nAllow: /\n")
    asking.do(replace(TASK, kind="python", prompt="", function="scraper.enrichment.maintext:record"))
    (record,) = asking.records("sum")
    assert PARAGRAPHS[0] in record[3]["text"]
    assert record[3]["author"] == "Ada Bird"
