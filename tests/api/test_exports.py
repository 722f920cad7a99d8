"""Exports and the feed, over HTTP."""

import gzip
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastapi import Depends, FastAPI
from lxml import etree
from starlette.requests import ClientDisconnect
from starlette.types import Message

from api import problems
from api.deps import only_known
from api.routes import exports, rows
from scraper.database import Db, changes
from scraper.database.connection import now
from tests.export import stock

FORMATS = {
    "jsonl": ("application/x-ndjson", b'{"id": 1'),
    "csv": ("text/csv; charset=utf-8", b"id,source"),
    "parquet": ("application/vnd.apache.parquet", b"PAR1"),
    "sqlite": ("application/vnd.sqlite3", b"SQLite format 3\x00"),
    "warc": ("application/warc", b"WARC/1.1"),
}


@pytest.fixture
async def http(db: Db) -> AsyncIterator[httpx.AsyncClient]:
    stock.source(db)
    stock.put(db, {"title": "One", "price": 1}, {"title": "Two", "price": 2})
    stock.put(db, {"title": "Disc"}, kind="disc", first=3)
    app = FastAPI(dependencies=[Depends(only_known)])
    app.state.db = db
    problems.install(app)
    app.include_router(exports.router)
    app.include_router(rows.router)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:5000") as client:
        yield client


@pytest.mark.parametrize("form", FORMATS)
async def test_a_file_of_each_format(http: httpx.AsyncClient, form: str) -> None:
    answer = await http.get("/api/export/shop", params={"format": form})
    assert answer.status_code == 200
    media, begins = FORMATS[form]
    assert answer.headers["content-type"] == media
    assert answer.headers["content-disposition"] == f'attachment; filename="export.{form}"'
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.content.startswith(begins)
    packed = await http.get("/api/export/shop", params={"format": form, "gz": "true"})
    assert packed.headers["content-type"] == "application/gzip"
    assert packed.headers["content-disposition"] == f'attachment; filename="export.{form}.gz"'
    assert "content-encoding" not in packed.headers
    assert gzip.decompress(packed.content).startswith(begins)


async def test_what_is_in_it_can_be_chosen(http: httpx.AsyncClient, db: Db) -> None:
    url = "/api/export/shop?format=csv"
    answer = await http.get(f"{url}&kind=disc&fields=data.title,key")
    assert answer.text.splitlines() == ["title,key", "Disc,3"]
    assert (await http.get(f"{url}&since=2026-01-06T10:30:02Z")).text.count("\r\n") == 3
    stock.changed(db, {"fields": {"price": [1, 2]}})
    assert '{""price"": [1, 2]}' in (await http.get(f"{url}&what=changes")).text
    assert (await http.get(f"{url}&what=pages")).text.count("\r\n") == 3
    parquet = pq.read_table(
        pa.BufferReader((await http.get("/api/export/shop?format=parquet&fields=data.price")).content)
    )
    assert parquet.to_pydict() == {"price": [1, 2, None]}


@pytest.mark.parametrize(
    ("query", "status", "words"),
    [
        ("format=xml", 422, "format"),
        ("fields=titel", 422, "no column 'titel'"),
        ("format=warc&what=items", 422, "WARC holds pages, not items"),
        ("what=pages&kind=book", 422, "pages have no kind"),
        ("since=soon", 422, "since"),
        ("since=2026", 422, "is no time; write for example 2026-01-31"),
        ("limit=1", 422, "limit: there is no such parameter"),
    ],
)
async def test_what_cannot_be_is_a_problem_and_no_file(
    http: httpx.AsyncClient, query: str, status: int, words: str
) -> None:
    answer = await http.get(f"/api/export/shop?{query}")
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert words in answer.json()["detail"]


async def test_a_source_that_is_not_there(http: httpx.AsyncClient) -> None:
    assert (await http.get("/api/export/nobody")).status_code == 404


async def test_a_missing_extra_is_said(http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "warcio"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "warcio", None)
    answer = await http.get("/api/export/shop?format=warc")
    assert answer.status_code == 501
    assert 'pip install "bowerbird[warc]"' in answer.json()["detail"]


async def test_changes_are_a_feed_that_is_sent_once(http: httpx.AsyncClient, db: Db) -> None:
    told = {"item_id": 1, "fields": {"price": [0, 1]}}
    stock.changed(db, told, told | {"change": "removed"}, told | {"kind": "disc", "item_id": 3})
    answer = await http.get("/api/changes.atom")
    assert answer.headers["content-type"] == "application/atom+xml"
    root = etree.fromstring(answer.content)
    entries = root.findall("{*}entry")
    assert [entry.findtext("{*}title") for entry in entries] == [
        "Disc: changed (price)",
        "One: removed",
        "One: changed (price)",
    ]
    assert [link.get("href") for link in root.iterfind("{*}entry/{*}link")] == [
        "http://shop.test/3",
        "http://shop.test/1",
        "http://shop.test/1",
    ]
    tag = answer.headers["etag"]
    for asked in (tag, f'"x", W/{tag}', "*"):
        again = await http.get("/api/changes.atom", headers={"If-None-Match": asked})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    stock.changed(db, told)
    assert (await http.get("/api/changes.atom", headers={"If-None-Match": tag})).status_code == 200


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("source=shop", 3),
        ("source=other", 0),
        ("change=removed", 1),
        ("kind=disc", 1),
        ("since=2026-01-06T10:31:00Z", 2),
        ("item_id=7", 1),
        ("unread=false", 0),
        ("page_id=99", 0),
    ],
)
async def test_the_feed_has_the_filters_of_the_list(http: httpx.AsyncClient, db: Db, query: str, count: int) -> None:
    stock.changed(db, {}, {"change": "removed"}, {"kind": "disc", "item_id": 7})
    root = etree.fromstring((await http.get(f"/api/changes.atom?{query}")).content)
    assert len(root.findall("{*}entry")) == count
    assert len((await http.get(f"/api/changes?{query}")).json()["items"]) == count


async def test_the_feed_refuses_what_the_list_refuses(http: httpx.AsyncClient) -> None:
    for path in ("/api/changes", "/api/changes.atom"):
        assert (await http.get(f"{path}?change=eaten")).status_code == 422


async def test_a_page_that_changed_is_told_by_its_title(http: httpx.AsyncClient, db: Db) -> None:
    stock.changed(db, {"of": "page", "kind": None, "page_id": 1, "fields": {"content_hash": ["a", "b"]}})
    (entry,) = etree.fromstring((await http.get("/api/changes.atom")).content).findall("{*}entry")
    assert entry.findtext("{*}title") == "Hi: changed"
    assert [link.get("href") for link in entry.iterfind("{*}link")] == ["http://shop.test/book"]


async def test_the_feed_has_the_newest_hundred(http: httpx.AsyncClient, db: Db) -> None:
    stock.changed(db, *({} for _ in range(120)))
    root = etree.fromstring((await http.get("/api/changes.atom")).content)
    assert len(root.findall("{*}entry")) == exports.FEED_MOST == 100


def left(folder: Path) -> list[Path]:
    return list(folder.glob("bowerbird-export-*"))


async def test_a_reader_who_leaves_leaves_nothing_behind(
    http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    app: Any = http._transport.app  # type: ignore[attr-defined]
    built: list[Path] = []

    async def send(message: Message) -> None:
        if message.get("body"):
            built.extend(left(tmp_path))
            raise OSError("the reader has gone")

    async def receive() -> Message:
        await anyio.sleep_forever()
        raise AssertionError

    scope = {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.4"}, "http_version": "1.1", "method": "GET",
        "path": "/api/export/shop", "query_string": b"format=sqlite", "headers": [(b"host", b"x")], "scheme": "http",
        "root_path": "", "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2),
    }  # fmt: skip
    with pytest.raises(ClientDisconnect):
        await app(scope, receive, send)
    assert built
    assert not left(tmp_path)


@pytest.mark.parametrize(
    "query",
    [
        "what=items&changed_since=2999-01-01",
        "what=changes&until=2000-01-01",
        "what=changes&item_id=999999",
        "what=pages&url=http://no.example/",
        "what=pages&gone=true",
    ],
)
async def test_an_export_has_the_filters_of_its_list(http: httpx.AsyncClient, kept: Db, query: str) -> None:
    told = changes.row(now(), "shop", "item", "changed", item_id=1, fields={"price": [1, 2]})
    kept.write(lambda c: changes.tell(c, [told]))
    what = query.partition("&")[0].removeprefix("what=")
    assert (await http.get(f"/api/export?what={what}")).text.strip()
    assert (await http.get(f"/api/export?{query}")).text.strip() == ""
