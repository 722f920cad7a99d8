"""What was stored, as files that other tools read."""

import csv
import gzip
import io
import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import update
from warcio.archiveiterator import ArchiveIterator

from scraper import export
from scraper.database import Db
from scraper.database.models import items
from scraper.errors import Conflict
from scraper.export import Format, Style, Unfit, Wanted, chunks
from scraper.export.sheet import guarded
from tests.export import stock
from tests.export.stock import AT

BOTH = pytest.mark.databases("sqlite", "postgresql")
CALC = ("=1+1", "+1+1", "-1+1", "@SUM(1)", "\t=1", "\r=1", "＝1+1", "＋1", "－1+1", "＠SUM(1)")


def whole(db: Db, form: Format, style: Style = export.PLAIN, **wanted: Any) -> bytes:
    return b"".join(chunks(db, Wanted(**wanted), form, style))


def table(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline="")))


def lines(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in data.splitlines()]


@BOTH
def test_jsonl_loses_nothing(db: Db) -> None:
    told = {"title": "a\u2028b ü \U0001f600", "price": 1.5, "tags": ["x", {"y": None}], "none": None, "n": 2**62}
    stock.put(db, told)
    exported = whole(db, Format.JSONL)
    assert "\u2028".encode() not in exported  # what takes it for the end of a line must not see it
    (row,) = lines(exported)
    assert row["data"] == told
    assert row["first_seen"] == "2026-01-06T10:30:01Z"


@BOTH
@pytest.mark.parametrize("form", [Format.JSONL, Format.CSV, Format.PARQUET, Format.SQLITE])
def test_every_row_is_there_once_and_in_order(db: Db, form: Format, tmp_path: Path) -> None:
    stock.put(db, *({"n": n} for n in range(1203)))  # more than are read at once, and no multiple of that
    data = whole(db, form)
    if form is Format.JSONL:
        found = [row["data"]["n"] for row in lines(data)]
    elif form is Format.CSV:
        found = [int(row["n"]) for row in table(data)]
    elif form is Format.PARQUET:
        found = pq.read_table(pa.BufferReader(data))["n"].to_pylist()
    else:
        found = [n for (n,) in in_sqlite(tmp_path, data, "SELECT n FROM book ORDER BY id")]
    assert found == list(range(1203))


def in_sqlite(folder: Path, data: bytes, query: str) -> list[tuple[Any, ...]]:
    file = folder / "read.sqlite"
    file.write_bytes(data)
    with closing(sqlite3.connect(file)) as made:
        assert made.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return made.execute(query).fetchall()


@BOTH
@pytest.mark.parametrize("what", ["pages", "changes", "failures", "runs"])
@pytest.mark.parametrize("form", [Format.JSONL, Format.CSV, Format.PARQUET, Format.SQLITE])
def test_every_list_can_be_exported(db: Db, what: export.What, form: Format) -> None:
    assert whole(db, form, what=what) or form is Format.JSONL
    stock.page(db)
    stock.changed(db, {"fields": {"price": [1, 2]}})
    exported = whole(db, form, what=what)
    if form is Format.JSONL:
        assert len(lines(exported)) == (what in ("pages", "changes"))


def test_fields_choose_and_order_the_columns(db: Db) -> None:
    stock.put(db, {"title": "T", "url": "own", "price": 3})
    fields = ("data.price", "url", "data.url", "key", "data.missing")
    head, row = whole(db, Format.CSV, fields=fields).decode().splitlines()
    assert head == "price,url,data.url,key,missing"
    assert row == "3,http://shop.test/1,own,1,"
    (told,) = lines(whole(db, Format.JSONL, fields=fields))
    assert list(told.items())[:3] == [("price", 3), ("url", "http://shop.test/1"), ("data.url", "own")]
    assert pq.read_table(pa.BufferReader(whole(db, Format.PARQUET, fields=fields))).column_names == head.split(",")


def test_a_column_that_is_not_there_is_refused_before_anything_is_written(db: Db) -> None:
    with pytest.raises(Unfit, match=r"no column 'titel'; there are: id, source, .*a field of the item is data\.titel"):
        Wanted(fields=("titel",))
    with pytest.raises(Unfit, match="no column 'data.x'"):
        Wanted(what="pages", fields=("data.x",))


def test_since_and_kind_choose_rows(db: Db) -> None:
    stock.put(db, {"n": 1}, {"n": 2}, {"n": 3})
    stock.put(db, {"n": 4}, kind="disc", first=4)
    since = datetime(2026, 1, 6, 10, 30, 3, tzinfo=UTC)
    assert [row["data"]["n"] for row in lines(whole(db, Format.JSONL, filters={"since": since}))] == [3, 4]
    assert [row["data"]["n"] for row in lines(whole(db, Format.JSONL, filters={"kind": "disc"}))] == [4]


def test_csv_is_that_of_rfc_4180(db: Db) -> None:
    stock.put(db, {"title": 'a "quoted", one\nin two lines', "tags": [1, "ü"], "none": None})
    exported = whole(db, Format.CSV)
    assert b"\r\n" in exported
    (row,) = table(exported)
    assert row["title"] == 'a "quoted", one\nin two lines'
    assert json.loads(row["tags"]) == [1, "ü"]
    assert row["none"] == ""


def test_a_field_that_is_called_as_a_column_is_told_from_it(db: Db) -> None:
    stock.put(db, {"url": "inner", "data.url": "odd", "key": "k"})
    (row,) = table(whole(db, Format.CSV))
    assert (row["url"], row["data.key"]) == ("http://shop.test/1", "k")
    assert {row["data.url"], row["data.data.url"]} == {"inner", "odd"}


@pytest.mark.parametrize("cell", CALC)
def test_no_cell_is_a_formula_unless_that_is_asked_for(db: Db, cell: str) -> None:
    stock.put(db, {"title": cell, cell: "a field's name is a site's word too"})
    (row,) = table(whole(db, Format.CSV))
    assert row["title"] == "'" + cell
    assert "'" + cell in row
    (row,) = table(whole(db, Format.CSV, Style(guard=False)))
    assert row["title"] == cell


@pytest.mark.parametrize("cell", ["x;=1+1;y", "x\t=1+1", "x; @now", "x;y"])
def test_where_a_spreadsheet_separates_too_there_is_no_formula(db: Db, cell: str) -> None:
    stock.put(db, {"title": cell})
    data = whole(db, Format.CSV)
    assert table(data)[0]["title"] == cell
    assert (f'"{cell}"'.encode() in data) == (cell != "x;y")


def test_numbers_stay_numbers(db: Db) -> None:
    stock.put(db, {"a": -1, "b": "-2.5", "c": "+49 30 1234", "d": -1e-7})
    (row,) = table(whole(db, Format.CSV))
    assert (row["a"], row["b"], row["c"], row["d"]) == ("-1", "-2.5", "'+49 30 1234", "-1e-07")


@given(st.text())
def test_a_guarded_cell_is_what_it_was_or_begins_with_an_apostrophe(cell: str) -> None:
    shown = guarded(cell)
    assert shown in (cell, "'" + cell)
    if shown == cell and cell[:1] in tuple("=+-@\t\r\n＝＋－＠"):
        float(cell)


def test_a_mark_for_old_spreadsheets(db: Db) -> None:
    stock.put(db, {"title": "ü"})
    assert whole(db, Format.CSV, Style(bom=True)).startswith(b"\xef\xbb\xbfid,")
    assert whole(db, Format.CSV).startswith(b"id,")


@pytest.mark.parametrize("form", [Format.JSONL, Format.CSV, Format.PARQUET, Format.SQLITE])
def test_gz_holds_the_same(db: Db, form: Format) -> None:
    stock.put(db, {"title": "x"})
    assert gzip.decompress(whole(db, form, Style(gz=True))) == whole(db, form)


@BOTH
def test_parquet_has_the_types_that_the_values_have(db: Db) -> None:
    stock.put(
        db,
        {"n": 1, "f": 1, "b": True, "t": "x", "l": [1], "mixed": 1, "some": None, "big": 2**70, "exact": 2**60},
        {"n": 2, "f": 1.5, "b": False, "t": "y", "l": {"a": "ü"}, "mixed": "007", "some": 5, "big": 1, "exact": 0.5},
    )
    read = pq.read_table(pa.BufferReader(whole(db, Format.PARQUET)))
    types = {field.name: field.type for field in read.schema}
    assert (types["n"], types["f"], types["b"], types["t"]) == (pa.int64(), pa.float64(), pa.bool_(), pa.string())
    assert types["first_seen"] == pa.timestamp("us", tz="UTC")
    assert (types["mixed"], types["some"], types["big"], types["exact"]) == (
        pa.string(),
        pa.int64(),
        pa.string(),
        pa.string(),
    )
    rows = read.to_pylist()
    assert rows[0]["first_seen"].timestamp() == AT.timestamp() + 1
    assert [json.loads(row["l"]) for row in rows] == [[1], {"a": "ü"}]
    assert [row["mixed"] for row in rows] == ["1", "007"]
    assert [row["some"] for row in rows] == [None, 5]
    assert [row["big"] for row in rows] == [str(2**70), "1"]
    assert [row["exact"] for row in rows] == [str(2**60), "0.5"]


def test_parquet_has_groups_of_rows(db: Db, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scraper.export.parquet.GROUP_ROWS", 1000)
    stock.put(db, *({"n": n} for n in range(2500)))
    file = pq.ParquetFile(pa.BufferReader(whole(db, Format.PARQUET)))
    assert [file.metadata.row_group(n).num_rows for n in range(file.metadata.num_row_groups)] == [1000, 1000, 500]


@pytest.mark.parametrize("form", [Format.PARQUET, Format.SQLITE])
def test_a_value_that_changes_its_type_meanwhile_is_no_wrong_value(db: Db, form: Format) -> None:
    stock.put(db, {"n": 1})

    def told(part: str, count: int) -> None:
        if part == "looking":
            db.write(lambda c: c.execute(update(items).values(data={"n": "one"})))

    with pytest.raises(Conflict, match=r"row 1 changed while it was exported: n is no int now; export again"):
        b"".join(chunks(db, Wanted(), form, told=told))


def test_what_is_stored_while_lines_are_written_is_left_to_the_next_export(db: Db) -> None:
    stock.many(db, 1200)
    pieces = chunks(db, Wanted(), Format.JSONL)
    first = next(pieces)
    stock.put(db, {"n": 1}, kind="late", first=5000)
    assert (first + b"".join(pieces)).count(b"\n") == 1200


def test_an_item_that_comes_into_the_filter_meanwhile_is_left_to_the_next_export(db: Db, tmp_path: Path) -> None:
    stock.put(db, {"n": 1}, kind="small")
    stock.put(db, {"n": 2}, kind="thing", first=2)
    since = stock.AT + timedelta(days=9)
    db.write(lambda c: c.execute(update(items).where(items.c.kind == "thing").values(changed_at=since)))

    def told(part: str, count: int) -> None:
        if part == "looking":
            db.write(lambda c: c.execute(update(items).values(changed_at=since)))

    data = b"".join(chunks(db, Wanted(filters={"changed_since": since}), Format.SQLITE, told=told))
    assert in_sqlite(tmp_path, data, "SELECT n FROM thing") == [(2,)]


@pytest.mark.parametrize("form", [Format.CSV, Format.PARQUET, Format.SQLITE])
def test_what_is_stored_meanwhile_is_left_to_the_next_export(db: Db, form: Format, tmp_path: Path) -> None:
    stock.put(db, {"n": 1})

    def told(part: str, count: int) -> None:
        if part == "looking":
            stock.put(db, {"other": "x"}, kind="disc", first=2)

    data = b"".join(chunks(db, Wanted(), form, told=told))
    if form is Format.CSV:
        assert len(table(data)) == 1
    elif form is Format.PARQUET:
        assert pq.read_table(pa.BufferReader(data)).num_rows == 1
    else:
        assert in_sqlite(tmp_path, data, "SELECT count(*) FROM sqlite_master") == [(1,)]


def test_sqlite_has_a_table_for_each_kind_and_takes_any_name(db: Db, tmp_path: Path) -> None:
    stock.put(db, {"n": 7, "code": "007", "N": 1.5, 'a"b': True, "tags": [1], "mixed": "07"}, {"mixed": 7})
    stock.put(db, {"x": 1}, kind="sqlite_master", first=3)
    stock.put(db, {"x": 1}, kind='x"; DROP TABLE book; --', first=4)
    data = whole(db, Format.SQLITE)
    names = {name for (name,) in in_sqlite(tmp_path, data, "SELECT name FROM sqlite_master")}
    assert names == {"book", "_sqlite_master", 'x"; DROP TABLE book; --'}
    assert in_sqlite(tmp_path, data, 'SELECT id, n, code, N_, "a""b", tags, mixed FROM book') == [
        (1, 7, "007", 1.5, 1, "[1]", "07"),
        (2, None, None, None, None, None, 7),
    ]
    assert in_sqlite(tmp_path, data, "SELECT typeof(mixed) FROM book") == [("text",), ("integer",)]


def test_too_many_columns_for_sqlite_are_said(db: Db) -> None:
    stock.put(db, {f"f{n}": n for n in range(2001)})
    with pytest.raises(Unfit, match="SQLite takes 2000; choose some by fields"):
        whole(db, Format.SQLITE)


def test_nothing_stored_is_an_empty_table_not_an_error(db: Db, tmp_path: Path) -> None:
    assert whole(db, Format.CSV).decode().splitlines() == [
        "id,source,kind,key,url,first_seen,last_seen,changed_at,removed_at"
    ]
    assert pq.read_table(pa.BufferReader(whole(db, Format.PARQUET))).num_rows == 0
    assert in_sqlite(tmp_path, whole(db, Format.SQLITE), "SELECT count(*) FROM items") == [(0,)]


def records(data: bytes) -> list[tuple[str, dict[str, str], dict[str, str], bytes]]:
    return [
        (
            record.rec_type,
            dict(record.rec_headers.headers),
            dict(record.http_headers.headers) if record.http_headers else {},
            record.content_stream().read(),
        )
        for record in ArchiveIterator(io.BytesIO(data), check_digests="raise")
    ]


@BOTH
def test_warc_holds_pages_as_they_were_answered(db: Db) -> None:
    headers = {"content-type": "text/html", "content-encoding": "gzip", "transfer-encoding": "chunked", "etag": '"ü"'}
    stock.page(db, "http://shop.test/a", b"<p>One</p>", headers=headers | {"content-length": "3"}, title="A\r\nB: c")
    stock.page(db, "http://shop.test/gone", b"")
    stock.page(db, "http://shop.test/odd", b"x", status=299, headers={"bad name": "x", "evil": "a\r\n\r\nb"})
    info, one, about, odd, _ = records(whole(db, Format.WARC, what="pages"))
    assert info[0] == "warcinfo"
    assert b"software: bowerbird/" in info[3]
    assert (one[0], one[1]["WARC-Target-URI"], one[3]) == ("response", "http://shop.test/a", b"<p>One</p>")
    assert one[1]["WARC-Date"] == "2026-01-06T10:30:00.000000Z"
    assert one[1]["WARC-Payload-Digest"].startswith("sha1:")
    assert set(one[2]) == {"content-type", "etag", "Content-Length"}
    assert one[2]["Content-Length"] == "10"
    assert about[1]["WARC-Concurrent-To"] == one[1]["WARC-Record-ID"]
    assert b"title: A B: c\r\n" in about[3]
    assert odd[2] == {"evil": "a b", "Content-Length": "1"}


@pytest.mark.parametrize("gz", [False, True])
def test_warc_passes_the_checker_of_its_library(db: Db, gz: bool, tmp_path: Path) -> None:
    for number in range(3):
        stock.page(db, f"http://shop.test/{number}", b"x" * number * 1000)
    file = tmp_path / ("out.warc.gz" if gz else "out.warc")
    data = whole(db, Format.WARC, Style(gz=gz), what="pages")
    file.write_bytes(data)
    checked = subprocess.run(
        [sys.executable, "-m", "warcio.cli", "check", "-v", str(file)], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout
    assert checked.stdout.count("digest pass") == 2 + 2 + 1  # two pages have a body; warcinfo has a block digest
    assert data.count(b"\x1f\x8b\x08") == (5 if gz else 0)  # a member each


@pytest.mark.parametrize("what", ["items", "changes"])
def test_warc_is_for_pages(db: Db, what: export.What) -> None:
    with pytest.raises(Unfit, match=f"WARC holds pages, not {what}"):
        chunks(db, Wanted(what=what), Format.WARC)


@pytest.mark.parametrize(("form", "module"), [(Format.PARQUET, "pyarrow"), (Format.WARC, "warcio")])
def test_an_extra_that_is_missing_is_named(db: Db, form: Format, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(export.Lacking, match=rf'pip install "bowerbird\[{form}\]"'):
        chunks(db, Wanted(what="pages"), form)
