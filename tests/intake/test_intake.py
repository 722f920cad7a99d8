"""What others wrote, read into our own terms; hostile files too."""

import io
import json
import sqlite3
import zipfile
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scraper.config import rules
from scraper.config.settings import Source
from scraper.config.shape import build
from scraper.intake import SOURCES, Entries, Form, Found, Names, Unfit, Unreadable, chroma, guess, records, watches
from scraper.intake import found as limits


def read(form: Form, data: bytes | str, *taken: str) -> Found:
    return SOURCES[form](io.BytesIO(data.encode() if isinstance(data, str) else data), Names(taken))


def zipped(**members: bytes) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return made.getvalue()


def watch(**given: Any) -> str:
    return json.dumps({"watching": {"u-1": {"url": "https://shop.test/a"} | given}})


@pytest.mark.parametrize(
    ("data", "form"),
    [
        (b"https://a.test/\n", Form.URLS),
        (b"# mine\nhttps://a.test/\n", Form.URLS),
        (b"\xef\xbb\xbf<?xml version='1.0'?><opml/>", Form.OPML),
        (b'{"name": "x"}\n{"name": "y"}\n', Form.SCRAPY),
        (b'{"url": "https://a.test/", "name": "x"}\n', Form.SCRAPY),
        (b'[\n{"name": "x"}\n]', Form.SCRAPY),
        (b'{"u-1": {"url": "https://a.test/"}}', Form.CHANGEDETECTION),
        (b'{\n "watching": {}\n}', Form.CHANGEDETECTION),
        (zipped(**{"url-watches.json": b"{}"}), Form.CHANGEDETECTION),
        (b"", Form.URLS),
    ],
)
def test_a_file_is_known_by_how_it_begins(data: bytes, form: Form) -> None:
    file = io.BytesIO(data)
    assert guess(file) is form
    assert file.tell() == 0


@pytest.mark.parametrize("data", [b"PAR1\x15\x04\x15", b"\x1f\x8b\x08\x00\x00", b"id,name\n1,two\n", b"hello\nworld\n"])
def test_what_is_nothing_of_all_that_is_told_once(data: bytes) -> None:
    with pytest.raises(Unreadable, match="neither a list of URLs"):
        guess(io.BytesIO(data))


def test_a_list_of_urls() -> None:
    found = read(
        Form.URLS,
        "# mine\nhttps://www.shop.test/Books/1?x=2#top\n\n  https://shop.test/books/1 # the same name\nhttps://shop.test/books/1\n"
        "ftp://x/\nhttps://bücher.test/",
        "shop-test",
    )
    assert [d["start"] for d in found.definitions] == [
        ["https://www.shop.test/Books/1?x=2#top"], ["https://shop.test/books/1"], ["https://bücher.test/"],
    ]  # fmt: skip
    assert [d["name"] for d in found.definitions] == ["shop-test-books-1-x-2", "shop-test-books-1", "xn-bcher-kva-test"]
    assert found.bad == 1
    assert found.notes[0].startswith("line 6: 'ftp://x/' is no web address")


@given(st.lists(st.text(), max_size=5), st.text())
def test_names_are_valid_and_there_once(wishes: list[str], url: str) -> None:
    names = Names(["source"])
    made = [names.name(wish) for wish in wishes * 3]
    assert len({*made, "source"}) == len(made) + 1
    for name in made:
        rules.name(name)


@given(st.text())
def test_any_text_is_a_list_of_sound_sources_and_bad_lines(text: str) -> None:
    for definition in read(Form.URLS, text.encode("utf-8", "replace")).definitions:
        assert build(Source, definition, (), []) is not None


def test_opml() -> None:
    found = read(
        Form.OPML,
        """<?xml version="1.0"?><opml version="2.0"><body><outline text="News">
        <outline type="rss" text="t" title="A Blog!" xmlUrl="https://a.test/feed"/>
        <outline type="rss" text="日本" xmlUrl="https://b.test/rss.xml"/>
        <outline xmlUrl="javascript:alert(1)"/><outline xmlUrl="https://a.test/feed"/></outline></body></opml>""",
    )
    assert found.definitions == [
        {"name": "a-blog", "sitemaps": ["https://a.test/feed"], "follow": False},
        {"name": "b-test-rss-xml", "sitemaps": ["https://b.test/rss.xml"], "follow": False},
    ]
    assert found.bad == 1
    assert all(build(Source, definition, (), []) for definition in found.definitions)


@pytest.mark.parametrize(
    "data",
    [
        '<!DOCTYPE opml [<!ENTITY x SYSTEM "file:///etc/passwd">]><opml><outline title="&x;" xmlUrl="https://a.test/"/></opml>',
        '<!DOCTYPE opml SYSTEM "http://127.0.0.1:1/x.dtd"><opml/>',
        "<!DOCTYPE l ["
        + "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
        + "]><opml a='&l11;'/>",
        "<opml>",
        "<html/>",
        "<a>" * 100_000,
        "",
    ],
)
def test_hostile_opml_is_refused(data: str) -> None:
    with pytest.raises(Unreadable):
        read(Form.OPML, data)


def test_a_file_that_is_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "WHOLE_MOST", 2**20)
    for form in SOURCES:
        with pytest.raises(Unreadable, match="longer than 1 MiB"):
            read(form, b" " * (2**20 + 1))


def test_a_watch_of_changedetection() -> None:
    found = read(
        Form.CHANGEDETECTION,
        watch(
            title="My Shop",
            time_between_check={"weeks": None, "days": 1, "hours": "2", "minutes": 0, "seconds": 5},
            time_between_check_use_default=False,
            include_filters=["#price", "xpath://h1/text()", "json:$.a.b[0].c"],
            headers={"X-Token": "1"},
            paused=True,
            fetch_backend="html_webdriver",
        ),
    )
    (made,) = found.definitions
    assert made == {
        "name": "my-shop",
        "start": ["https://shop.test/a"],
        "every": 86_400 + 7_200 + 5,
        "item": [
            {
                "fields": {
                    "text": {"css": "#price", "many": True},
                    "text2": {"xpath": "//h1/text()", "many": True},
                    "text3": {"json": "a.b[0].c", "many": True},
                }
            }
        ],
        "headers": {"X-Token": "1"},
        "enabled": False,
        "render": True,
    }
    assert found.notes == []
    assert build(Source, made, (), []) is not None


@pytest.mark.parametrize(
    ("given", "note"),
    [
        ({"method": "POST"}, "method is not carried over"),
        ({"notification_muted": True}, "notification_muted is not carried over"),
        ({"notification_urls": ["mailto://x"]}, "notification_urls is not carried over"),
        ({"processor": "restock_diff"}, "processor is not carried over"),
        ({"include_filters": ["jq:.a"]}, "the filter 'jq:.a' is not carried over"),
        ({"include_filters": ["json:$..price"]}, "the filter 'json:$..price' is not carried over"),
        ({"include_filters": ["p["]}, "item is not carried over: "),
        ({"include_filters": ["xpath:///["]}, "item is not carried over: "),
        ({"headers": {"Host": "x"}}, "headers is not carried over: 'Host' cannot be set here"),
        ({"headers": {"X": "${HOME}"}}, "the header 'X' is not carried over"),
        ({"time_schedule_limit": {"enabled": True}}, "time_schedule_limit is not carried over"),
    ],
)
def test_what_is_not_carried_over_is_said_and_the_rest_is_sound(given: dict[str, Any], note: str) -> None:
    found = read(Form.CHANGEDETECTION, watch(**given))
    assert len(found.notes) == 1
    assert found.notes[0].startswith(f"shop-test-a: {note}")
    assert found.definitions == [{"name": "shop-test-a", "start": ["https://shop.test/a"]}]


def test_what_nobody_asked_for_is_not_said() -> None:
    usual: dict[str, Any] = {
        "method": "GET",
        "processor": "text_json_diff",
        "fetch_backend": "system",
        "ignore_text": [],
        "body": None,
    }
    steps: dict[str, Any] = {"browser_steps": [{"operation": "Choose one"}], "time_schedule_limit": {"enabled": False}}
    between: dict[str, Any] = {"time_between_check": {"hours": 3}, "time_between_check_use_default": True}
    found = read(Form.CHANGEDETECTION, watch(**usual, **steps, **between))
    assert found.notes == []
    assert found.definitions == [{"name": "shop-test-a", "start": ["https://shop.test/a"]}]


def test_the_answer_of_the_api_and_a_backup_say_the_same() -> None:
    api = json.dumps({"u-1": {"url": "https://shop.test/a", "title": None, "tag": "", "last_changed": 0}})
    expected = [{"name": "shop-test-a", "start": ["https://shop.test/a"]}]
    assert read(Form.CHANGEDETECTION, api).definitions == expected
    backup = zipped(**{"u-1/1.txt": b"x", "url-watches.json": watch().encode()})
    assert read(Form.CHANGEDETECTION, backup).definitions == expected


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "..\\x", "C:\\x", "\\x"])
def test_a_backup_with_names_that_lead_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(Unreadable, match="leads out of it"):
        read(Form.CHANGEDETECTION, zipped(**{"url-watches.json": watch().encode(), name: b""}))


def test_a_backup_that_is_a_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = zipped(**{"url-watches.json": b" " * 2**22})
    with pytest.raises(Unreadable, match="packed too tightly"):
        read(Form.CHANGEDETECTION, bomb)
    monkeypatch.setattr(watches, "RATIO_MOST", 10**9)
    monkeypatch.setattr(watches, "WHOLE_MOST", 2**20)
    with pytest.raises(Unreadable, match="too big"):
        read(Form.CHANGEDETECTION, bomb)


@pytest.mark.parametrize(
    "data",
    [b"PK\x03\x04 and nothing else", zipped(other=b""), b"{", b"[]", b'{"watching": []}', b"[" * 100_000, b'"x"'],
)
def test_what_is_no_export_of_changedetection_is_refused(data: bytes) -> None:
    with pytest.raises(Unreadable):
        read(Form.CHANGEDETECTION, data)


def test_a_watch_without_a_url_is_bad_and_the_others_count() -> None:
    found = read(
        Form.CHANGEDETECTION, json.dumps({"a": {"url": "file:///etc/passwd"}, "b": 1, "c": {"url": "https://x.test/"}})
    )
    assert (found.bad, len(found.definitions)) == (2, 1)


def told(data: str | bytes) -> list[tuple[str, Any]]:
    file = io.BytesIO(data.encode() if isinstance(data, str) else data)
    return [(place, str(r) if isinstance(r, Unfit) else r) for place, r in records(file)]


def test_lines_of_scrapy() -> None:
    found = told('\ufeff{"a": 1}\n\nnonsense\n[1]\n{"a": "ü"}\n{"cut off')
    assert [place for place, _ in found] == ["line 1", "line 3", "line 4", "line 5", "line 6"]
    assert (found[0][1], found[3][1]) == ({"a": 1}, {"a": "ü"})
    assert found[1][1].startswith("is no JSON")
    assert found[2][1].startswith("is no item")


def test_an_array_of_scrapy_in_little_memory() -> None:
    text = json.dumps([{"n": n, "text": "ü" * 1000} for n in range(300)], ensure_ascii=False, indent=1)
    assert [r["n"] for _, r in told(text)] == list(range(300))
    assert told("[]") == []
    cut = told(text[:-500])
    assert len(cut) == 300
    assert cut[-1][0] == "item 300"
    assert "what follows is not read" in cut[-1][1]


@given(st.binary())
def test_any_bytes_are_records_or_faults(data: bytes) -> None:
    for _, record in told(data) + told(b"[" + data):
        assert isinstance(record, dict | str)


def test_how_items_are_known() -> None:
    by_url = Entries("book", ())
    urls = [
        by_url.entry({"url": url, "n": n})
        for n, url in enumerate(["HTTP://A.test", "http://a.test/#x", "http://a.test/b"])
    ]
    assert [(entry.url, entry.item.key) for entry in urls] == [
        ("http://a.test/", "http://a.test/"), ("http://a.test/", "http://a.test/#1"), ("http://a.test/b", "http://a.test/b"),
    ]  # fmt: skip
    bare = [Entries("book", ()).entry({"a": 1, "b": 2}), Entries("book", ()).entry({"b": 2, "a": 1})]
    assert bare[0].url is None
    assert bare[0].item.key == bare[1].item.key
    assert Entries("book", ["id"]).entry({"id": 7}).item.key == "7"
    assert Entries("book", ["id", "x"]).entry({"id": 7, "x": "y"}).item.key == '[7, "y"]'
    with pytest.raises(Unfit, match="has no id"):
        Entries("book", ["id"]).entry({"id": ""})
    assert Entries("book", ()).entry({"url": "javascript:x"}).url is None


def test_our_own_exports_are_known() -> None:
    row = {
        "id": 3,
        "source": "s",
        "kind": "book",
        "key": "a897",
        "url": "http://a.test/b",
        "page_id": 1,
        "data": {"n": 1},
    }
    entry = Entries("item", ()).entry(row | {"first_seen": "2026-01-01T00:00:00Z"})
    assert Entries("item", ["n"]).entry(row | {"first_seen": ""}).item.key == "1"
    with pytest.raises(Unfit, match="gone from its site"):
        Entries("item", ()).entry(row | {"first_seen": "", "removed_at": "2026-02-01T00:00:00Z"})
    with pytest.raises(Unfit, match="4000 digits"):
        Entries("item", ()).entry({"n": 10**4100})
    assert (entry.url, entry.item.kind, entry.item.key, entry.item.data) == (
        "http://a.test/b",
        "book",
        "a897",
        {"n": 1},
    )


# As ChromaDB 1.5 makes them; what is not read is left out.
CHROMA = """
CREATE TABLE collections (id TEXT PRIMARY KEY, name TEXT NOT NULL, dimension INTEGER);
CREATE TABLE segments (id TEXT PRIMARY KEY, type TEXT NOT NULL, scope TEXT NOT NULL, collection TEXT NOT NULL);
CREATE TABLE embeddings (id INTEGER PRIMARY KEY, segment_id TEXT NOT NULL, embedding_id TEXT NOT NULL, seq_id BLOB);
CREATE TABLE embedding_metadata (
    id INTEGER, key TEXT NOT NULL, string_value TEXT, int_value INTEGER, float_value REAL, bool_value INTEGER
);
INSERT INTO collections VALUES ('c1', 'books', 8), ('c2', 'empty', NULL);
INSERT INTO segments VALUES ('v1', 'hnsw', 'VECTOR', 'c1'), ('m1', 'sqlite', 'METADATA', 'c1'), ('m2', 'sqlite', 'METADATA', 'c2');
INSERT INTO embeddings VALUES (1, 'm1', 'a', 1), (2, 'm1', 'b', 2);
INSERT INTO embedding_metadata VALUES
    (1, 'chroma:document', 'A light in the attic', NULL, NULL, NULL), (1, 'price', NULL, NULL, 51.5, NULL),
    (1, 'pages', NULL, 3, NULL, NULL), (1, 'sold', NULL, NULL, NULL, 0), (2, 'author', 'M. H.', NULL, NULL, NULL);
"""


def test_a_folder_of_chroma_is_read_and_not_written(tmp_path: Path) -> None:
    file = tmp_path / chroma.FILE
    with closing(sqlite3.connect(file)) as made:
        made.executescript(CHROMA)
    before = file.read_bytes()
    assert chroma.is_folder(tmp_path)
    assert list(chroma.read(tmp_path)) == [
        ("books", {"id": "a", "text": "A light in the attic", "price": 51.5, "pages": 3, "sold": False}),
        ("books", {"id": "b", "text": "", "author": "M. H."}),
    ]
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [chroma.FILE]


@pytest.mark.parametrize("data", [b"", b"no database", b"SQLite format 3\x00 and no more"])
def test_a_folder_of_chroma_that_is_none_is_told(tmp_path: Path, data: bytes) -> None:
    (tmp_path / chroma.FILE).write_bytes(data)
    with pytest.raises(Unreadable, match="no ChromaDB"):
        list(chroma.read(tmp_path))


def test_what_a_watch_looks_at_is_what_is_news() -> None:
    watch = {
        "url": "https://w.test/",
        "include_filters": ["#price", ".stock"],
        "subtractive_selectors": [".ad", "//footer"],
        "ignore_text": ["seen 3 times", "/at .*/"],
    }
    [made] = read(Form.CHANGEDETECTION, json.dumps({"u": watch})).definitions
    assert made["noise"] == {
        "only": ["#price", ".stock"],
        "select": [".ad"],
        "patterns": [r"seen\ 3\ times", "at .*"],
    }


def test_what_a_file_says_for_all_watches_is_carried_over() -> None:
    watches = {
        "a": {"url": "https://a.test/", "time_between_check_use_default": True, "tags": ["t1", "t2", "t3"]},
        "b": {"url": "https://b.test/", "time_between_check": {"minutes": 5}},
    }
    tags = {"t1": {"title": "Price watch"}, "t2": {"title": ""}}
    settings = {"requests": {"time_between_check": {"hours": 3, "minutes": None}}, "application": {"tags": tags}}
    found = read(Form.CHANGEDETECTION, json.dumps({"watching": watches, "settings": settings}))
    assert [one["every"] for one in found.definitions] == [10_800, 300]
    assert found.definitions[0]["tags"] == ["price-watch"]
    assert [note.partition(" is not")[0] for note in found.notes] == ["a-test: the tag 't2'", "a-test: the tag 't3'"]
    odds: list[Any] = [
        {"requests": 5},
        {"requests": {"time_between_check": []}},
        [],
        {"application": {"tags": [1]}},
        None,
    ]
    for odd in odds:
        plain = read(Form.CHANGEDETECTION, json.dumps({"watching": {"a": watches["a"]}, "settings": odd}))
        assert "every" not in plain.definitions[0]
