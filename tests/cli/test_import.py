"""bowerbird import: sources and items from other programs."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from scraper.cli.intake import enter
from scraper.compression import stored
from scraper.config.load import Loaded
from scraper.config.settings import Settings
from scraper.database import Db, health, imports, items, listing, pages
from scraper.database import changes as change_rows
from scraper.database.connection import now
from scraper.database.models import changes, runs
from scraper.database.models import items as item_table
from scraper.database.models import pages as page_table
from scraper.records import Claim, Fetched, Item, Visit
from tests.support import Project, rows

BOTH = pytest.mark.databases("sqlite", "postgresql")


def brought(db: Db, *entries: tuple[str | None, dict[str, Any]]) -> dict[str, int]:
    under = db.write(lambda c: imports.begin(c, "shop", now()))
    told = [(url, Item("item", data["id"], data)) for url, data in entries]
    db.write(lambda c: imports.put(c, under, told, "http://h/", now()))
    return db.write(lambda c: imports.end(c, under, now()))


@BOTH
def test_items_are_first_seen_when_they_are_imported(db: Db) -> None:
    assert brought(
        db, ("http://x.test/", {"id": "1"}), ("http://x.test/", {"id": "2"}), ("http://y.test/", {"id": "3"})
    ) == {"created": 3}
    found = db.read(lambda c: listing.rows(c, "items", {}, None, 10))
    assert [(row["key"], row["url"], row["removed_at"]) for row in found] == [
        ("3", "http://y.test/", None), ("2", "http://x.test/", None), ("1", "http://x.test/", None),
    ]  # fmt: skip
    places = db.read(lambda c: c.execute(select(page_table)).all())
    assert [(p.final_url, p.body, p.stored_bytes, p.content_hash) for p in places] == [
        ("http://x.test/", b"", 0, ""), ("http://y.test/", b"", 0, ""),
    ]  # fmt: skip
    (run,) = db.read(lambda c: c.execute(select(runs)).all())
    assert (run.kind, run.state, run.items) == ("import", "done", 3)


@BOTH
def test_imported_twice_is_there_once_and_what_changed_is_a_version(db: Db) -> None:
    brought(db, ("http://x.test/", {"id": "1", "price": 1}), ("http://x.test/", {"id": "2", "price": 1}))
    assert brought(db, ("http://x.test/", {"id": "1", "price": 1}), ("http://x.test/", {"id": "2", "price": 2})) == {
        "changed": 1
    }
    assert db.read(lambda c: listing.count(c, "items", {})) == 2
    assert db.read(lambda c: listing.count(c, "pages", {})) == 1
    (told,) = db.read(lambda c: listing.rows(c, "changes", {"change": "changed"}, None, 10))
    assert told["fields"] == {"price": [1, 2]}
    assert [v["data"]["price"] for v in db.read(lambda c: items.history(c, told["item_id"]))] == [2, 1]


@BOTH
def test_a_page_that_was_never_read_is_new_when_it_is_and_not_changed(db: Db) -> None:
    brought(db, ("http://x.test/", {"id": "1"}))

    def read(body: bytes) -> None:
        claim = Claim(1, 99, "shop", "http://x.test/", "x.test", 0, "page", 0)
        visit = Visit(claim, now(), Fetched("http://x.test/", "http://x.test/", 200, {}, body, 1, 0.1))

        def unit(c: Any) -> None:
            told: list[dict[str, Any]] = []
            pages.put(c, [pages.ready(visit)], told)
            change_rows.tell(c, told)

        db.write(unit)

    read(b"first")
    read(b"second")
    told = db.read(lambda c: c.execute(select(changes).where(changes.c.of == "page").order_by(changes.c.id)).all())
    assert [row.change for row in told] == ["created", "changed"]
    (page,) = db.read(lambda c: c.execute(select(page_table)).all())
    assert stored(page.body) == b"second"


@BOTH
def test_items_go_to_the_page_that_is_there(db: Db) -> None:
    claim = Claim(1, 1, "shop", "http://x.test/?a=1&b=2", "x.test", 0, "page", 0)
    url = "http://x.test/?a=1&b=2"
    visit = Visit(claim, now(), Fetched(url, url, 200, {}, b"x", 1, 0.1))
    (page_id,) = db.write(lambda c: pages.put(c, [pages.ready(visit)], []))
    brought(db, ("http://x.test/?b=2&a=1", {"id": "1"}))
    assert db.read(lambda c: c.scalar(select(item_table.c.page_id))) == page_id
    assert db.read(lambda c: listing.count(c, "pages", {})) == 1


@BOTH
def test_sources_are_stored_whole_or_said_to_be_faulty(db: Db, tmp_path: Path) -> None:
    good = {"name": "good", "start": ["https://x.test/"], "every": "1h"}
    bad = {"name": "bad", "start": ["https://x.test/"], "follow": ["p["]}
    entered, faults = enter(db, Loaded(Settings(), None, tmp_path), [good, bad])
    assert entered == [good]
    assert len(faults) == 1
    assert faults[0].startswith("bad: follow[0]") or faults[0].startswith("bad: follow")
    row = db.read(lambda c: health.one(c, "good"))
    assert (row["origin"], row["every"], row["enabled"]) == ("database", 3600.0, True)


@pytest.fixture
def shop(project: Project) -> Project:
    project.configure('[[source]]\nname = "shop"\nstart = ["http://shop.test/"]')
    return project


def write(project: Project, name: str, text: str) -> str:
    (project.path / name).write_text(text, encoding="utf-8")
    return name


def test_a_list_of_urls_becomes_sources(shop: Project) -> None:
    file = write(shop, "list.txt", "https://a.test/x\nhttps://b.test/\nnonsense\n")
    dry = shop.run("import", file, "--dry-run", "--every", "2h")
    assert [json.loads(line)["name"] for line in dry.stdout.splitlines()] == ["a-test-x", "b-test"]
    assert "2 sources would be stored" in dry.stderr
    assert rows(shop, "SELECT name FROM sources") == [("shop",)]
    done = shop.run("import", file, "--every", "2h")
    assert done.stdout.splitlines() == ["a-test-x", "b-test"]
    assert done.stderr.splitlines()[0].startswith("line 3: 'nonsense' is no web address")
    assert done.returncode == 1  # one line could not be used
    stored = rows(
        shop, "SELECT name, origin, json_extract(definition, '$.every'), next_at IS NULL FROM sources ORDER BY name"
    )
    assert stored[:2] == [("a-test-x", "database", 7200.0, 0), ("b-test", "database", 7200.0, 0)]
    again = shop.run("import", file)
    assert (again.stdout, "2 there already" in again.stderr) == ("", True)
    assert len(rows(shop, "SELECT name FROM sources")) == 3


def test_opml_and_changedetection_are_known_by_themselves(shop: Project) -> None:
    opml = write(shop, "feeds.xml", '<opml><body><outline title="News" xmlUrl="https://n.test/feed"/></body></opml>')
    assert shop.run("import", opml).stdout == "news\n"
    watches = {
        "u": {"url": "https://w.test/", "title": "W", "trigger_text": ["x"], "time_between_check": {"minutes": 5}}
    }
    done = shop.run("import", write(shop, "w.json", json.dumps(watches)), "--every", "1d")
    assert (done.returncode, done.stdout) == (0, "w\n")
    assert done.stderr.splitlines() == ["w: trigger_text is not carried over", "1 source stored"]
    found = dict(rows(shop, "SELECT name, definition FROM sources"))
    assert json.loads(found["news"])["sitemaps"] == ["https://n.test/feed"]
    assert json.loads(found["w"])["every"] == 300


def test_items_of_scrapy(shop: Project) -> None:
    told = [json.dumps({"url": f"http://shop.test/{n}", "price": n}) for n in range(1200)]
    told[700] = "nonsense"
    file = write(shop, "items.jl", "\n".join(told))
    done = shop.run("import", file, "--source", "shop", "--item", "book")
    assert done.returncode == 1
    assert done.stdout == "1199 items read: 1199 created\n"
    assert done.stderr.splitlines()[0].startswith("line 701: is no JSON")
    assert rows(shop, "SELECT count(*), count(DISTINCT page_id), min(kind) FROM items") == [(1199, 1199, "book")]
    again = shop.run("import", file, "--source", "shop", "--item", "book")
    assert again.stdout == "1199 items read, 1199 as they were\n"
    assert rows(shop, "SELECT count(*) FROM items") == [(1199,)]
    assert shop.run("db", "check").returncode == 0
    assert shop.run("export", "shop", "--item", "book").stdout.count("\n") == 1199


def test_an_array_and_keys_and_standard_input(shop: Project) -> None:
    command = [sys.executable, "-m", "scraper", "import", "-", "--source", "shop", "--key", "sku"]
    text = json.dumps([{"sku": "a", "n": 1}, {"n": 2}, {"sku": "b"}])
    done = subprocess.run(command, cwd=shop.path, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == "item 2: has no sku, by which it is to be known"
    assert rows(shop, "SELECT key, url FROM items ORDER BY key") == [
        ("a", "http://shop.test/"),
        ("b", "http://shop.test/"),
    ]


def test_a_dry_run_stores_no_items(shop: Project) -> None:
    file = write(shop, "items.jl", '{"a": 1}\n')
    assert shop.run("import", file, "--source", "shop", "--dry-run").stdout == "1 items read\n"
    assert rows(shop, "SELECT count(*) FROM items") == [(0,)]
    assert rows(shop, "SELECT count(*) FROM runs") == [(0,)]


@pytest.mark.parametrize(
    ("args", "text", "words", "code"),
    [
        (["items.jl"], '{"a": 1}', "say with --source of which source they are", 2),
        (["items.jl", "--source", "nobody"], '{"a": 1}', "there is no source 'nobody'", 1),
        (["list.txt", "--source", "shop"], "https://x.test/", "--source is for items", 2),
        (["list.txt", "--every", "soon"], "https://x.test/", "--every: 'soon' is no duration", 2),
        (["missing.txt"], None, "missing.txt: cannot be read: No such file", 1),
        (["x.opml", "--format", "opml"], "nonsense", "x.opml: is no OPML", 1),
        (["."], None, ".: cannot be read: Is a directory", 1),
    ],
)
def test_what_goes_wrong_is_one_line(shop: Project, args: list[str], text: str | None, words: str, code: int) -> None:
    if text is not None:
        write(shop, args[0], text)
    done = shop.run("import", *args)
    assert done.returncode == code
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert words in done.stderr


@BOTH
def test_an_item_that_says_no_url_stays_where_it_is(db: Db) -> None:
    brought(db, ("http://x.test/a", {"id": "1"}))
    assert brought(db, (None, {"id": "1", "new": True}), (None, {"id": "2"})) == {"changed": 1, "created": 1}
    found = db.read(lambda c: listing.rows(c, "items", {}, None, 10))
    assert {row["key"]: row["url"] for row in found} == {"1": "http://x.test/a", "2": "http://h/"}
