"""bowerbird export: where it goes, and what is left when it fails."""

import gzip
import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import delete
from warcio.archiveiterator import ArchiveIterator

from scraper.config.settings import Database
from scraper.database import Db, schema
from scraper.database.models import items
from tests.export import stock
from tests.support import Project, until


@pytest.fixture
def stored(project: Project) -> Iterator[Db]:
    """A project whose database has two items and a page."""
    project.configure('[[source]]\nname = "shop"\nstart = ["http://shop.test/"]')
    with Db(Database(url=f"sqlite:///{project.path / 'bowerbird.db'}")) as db:
        schema.upgrade(db)
        stock.put(db, {"title": "One", "price": 1}, {"title": "Two", "price": 2})
        yield db


def said(done: "subprocess.CompletedProcess[str]", *words: str, code: int = 2) -> None:
    """The command failed with one line that has these words."""
    assert done.returncode == code, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    for word in words:
        assert word in done.stderr


@pytest.mark.parametrize(
    ("name", "begins"),
    [
        ("out.jsonl", b'{"id": 1'),
        ("out.jl", b'{"id": 1'),
        ("OUT.CSV", b"id,source"),
        ("out.parquet", b"PAR1"),
        ("out.sqlite", b"SQLite format 3"),
        ("out.db", b"SQLite format 3"),
        ("out.warc", b"WARC/1.1"),
        ("out.jsonl.gz", b"\x1f\x8b"),
        ("out.warc.gz", b"\x1f\x8b"),
    ],
)
def test_the_ending_of_the_file_tells_the_format(project: Project, stored: Db, name: str, begins: bytes) -> None:
    done = project.run("export", "shop", "-O", name)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (project.path / name).read_bytes().startswith(begins)


def test_an_ending_that_tells_nothing_is_said(project: Project, stored: Db) -> None:
    said(project.run("export", "-O", "out.txt"), "out.txt: its ending tells no format; name one with --format: jsonl")
    assert project.run("export", "-O", "out.txt", "--format", "csv").returncode == 0


def test_what_is_compressed_is_not_mixed_with_what_is_not(project: Project, stored: Db) -> None:
    (project.path / "plain.jsonl").write_text("{}\n")
    (project.path / "odd.jsonl").write_bytes(gzip.compress(b"{}\n"))
    said(project.run("export", "-o", "plain.jsonl", "--gz"), "plain.jsonl: is not compressed")
    said(project.run("export", "-o", "odd.jsonl"), "odd.jsonl: is compressed: append with --gz")
    assert project.run("export", "-o", "odd.jsonl", "--gz").returncode == 0
    assert gzip.decompress((project.path / "odd.jsonl").read_bytes()).count(b"\n") == 3


def test_a_field_that_no_item_has_is_said(project: Project, stored: Db) -> None:
    done = project.run("export", "--fields", "id,data.prcie,data.price")
    assert (done.returncode, done.stderr) == (0, "none of these items has the field prcie\n")


def test_o_appends_lines(project: Project, stored: Db) -> None:
    for _ in range(2):
        assert project.run("export", "-o", "out.jsonl").returncode == 0
        assert project.run("export", "-o", "out.jsonl.gz").returncode == 0
    assert len((project.path / "out.jsonl").read_text().splitlines()) == 4
    assert gzip.decompress((project.path / "out.jsonl.gz").read_bytes()) == (project.path / "out.jsonl").read_bytes()


def test_a_line_that_was_cut_off_is_ended_first(project: Project, stored: Db) -> None:
    (project.path / "out.jsonl").write_text('{"half": ')
    project.run("export", "-o", "out.jsonl")
    assert [line[:9] for line in (project.path / "out.jsonl").read_text().splitlines()] == [
        '{"half": ',
        '{"id": 1,',
        '{"id": 2,',
    ]


@pytest.mark.parametrize("name", ["out.csv", "out.csv.gz"])
def test_o_appends_rows_without_a_second_header(project: Project, stored: Db, name: str) -> None:
    for _ in range(2):
        done = project.run("export", "-o", name, "--bom", "--fields", "data.title,id")
        assert done.returncode == 0, done.stderr
    data = (project.path / name).read_bytes()
    text = (gzip.decompress(data) if name.endswith("gz") else data).decode("utf-8-sig")
    assert text.splitlines() == ["title,id", "One,1", "Two,2", "One,1", "Two,2"]


def test_o_keeps_to_the_columns_of_the_file(project: Project, stored: Db) -> None:
    project.run("export", "-o", "out.csv")
    stored.write(lambda c: c.execute(delete(items).where(items.c.key == "1")))
    stock.put(stored, {"price": 3}, kind="disc", first=3)
    assert project.run("export", "-o", "out.csv", "--item", "disc").returncode == 0
    rows = (project.path / "out.csv").read_text().splitlines()
    assert (rows[0].count(","), rows[-1].count(",")) == (10, 10)
    before = (project.path / "out.csv").read_bytes()
    stock.put(stored, {"new": 1}, kind="other", first=4)
    said(project.run("export", "-o", "out.csv"), "out.csv: cannot be appended to: it has no column 'new'", "-O")
    said(
        project.run("export", "-o", "out.csv", "--fields", "id"), "out.csv: cannot be appended to: its columns are id,"
    )
    assert (project.path / "out.csv").read_bytes() == before


@pytest.mark.parametrize("name", ["out.parquet", "out.sqlite"])
def test_what_cannot_be_appended_to_says_so(project: Project, stored: Db, name: str) -> None:
    assert project.run("export", "-o", name).returncode == 0
    before = (project.path / name).read_bytes()
    said(project.run("export", "-o", name), f"{name}: is there already", "cannot be appended to; -O writes it anew")
    assert (project.path / name).read_bytes() == before


def test_o_appends_records_of_warc(project: Project, stored: Db) -> None:
    for _ in range(2):
        assert project.run("export", "-o", "out.warc.gz").returncode == 0
    data = io.BytesIO((project.path / "out.warc.gz").read_bytes())
    kinds = [record.rec_type for record in ArchiveIterator(data, check_digests="raise")]
    assert kinds == ["warcinfo", "response", "metadata"] * 2


def test_capital_o_writes_anew_and_keeps_the_mode(project: Project, stored: Db) -> None:
    file = project.path / "out.csv"
    file.write_text("old")
    file.chmod(0o640)
    (project.path / "link.csv").symlink_to(file)
    assert project.run("export", "-O", "link.csv").returncode == 0
    assert file.read_text().startswith("id,")
    assert file.stat().st_mode & 0o777 == 0o640
    assert (project.path / "link.csv").is_symlink()


FAILS = """
import sys
from scraper import export
def broken(db, wanted, style, told):
    yield b"half"
    raise OSError(28, "No space left on device")
for form, spec in export.FORMATS.items():
    object.__setattr__(spec, "write", broken)
from scraper.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("how", ["-o", "-O"])
def test_an_export_that_fails_leaves_what_was_there(project: Project, stored: Db, how: str) -> None:
    (project.path / "out.jsonl").write_text("old\n")
    for name in ("out.jsonl", "new.jsonl"):
        done = subprocess.run(
            [sys.executable, "-c", FAILS, "export", how, name],
            cwd=project.path,
            capture_output=True,
            text=True,
            check=False,
        )
        said(done, f"{name}: cannot be written: No space left on device", code=1)
    assert (project.path / "out.jsonl").read_text() == "old\n"
    assert not list(project.path.glob("*new*")) + list(project.path.glob(".*part"))


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 128 + signal.SIGTERM), (signal.SIGHUP, 128 + signal.SIGHUP)],
)
def test_a_command_that_is_ended_leaves_what_was_there(
    project: Project, stored: Db, number: signal.Signals, code: int
) -> None:
    stock.many(stored, 20_000)
    (project.path / "out.jsonl").write_text("old\n")
    heard = ["env", "--default-signal=HUP"]  # whoever started the tests may ignore it
    slowly = [*heard, "nice", "-n", "19"]  # on a busy machine too, we look more often than it writes
    process = subprocess.Popen(
        [*slowly, sys.executable, "-m", "scraper", "export", "-o", "out.jsonl"], cwd=project.path
    )
    until(lambda: (project.path / "out.jsonl").stat().st_size > 4 or process.poll() is not None, "it writes")
    process.send_signal(number)
    assert process.wait(20) == code
    assert (project.path / "out.jsonl").read_text() == "old\n"


@pytest.mark.parametrize("command", [["export"], ["export", "--format", "csv"], ["sources", "list"], ["doctor"]])
def test_a_full_disk_behind_standard_output_is_said(project: Project, stored: Db, command: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "scraper", *command],
            cwd=project.path, stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    said(done, "standard output: cannot be written: No space left on device", code=1)


@pytest.mark.parametrize("form", ["jsonl", "csv", "sqlite"])
def test_a_reader_that_has_seen_enough_is_no_error(project: Project, stored: Db, form: str) -> None:
    stock.many(stored, 5000)
    command = [sys.executable, "-m", "scraper", "export", "--format", form]
    with subprocess.Popen(command, cwd=project.path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(100)
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_a_pipe_or_a_device_is_written_to_and_not_replaced(project: Project, stored: Db) -> None:
    os.mkfifo(project.path / "pipe.jsonl")
    with subprocess.Popen(["cat", "pipe.jsonl"], cwd=project.path, stdout=subprocess.PIPE) as reader:
        assert project.run("export", "-O", "pipe.jsonl").returncode == 0
        assert reader.communicate()[0].count(b"\n") == 2
    assert (project.path / "pipe.jsonl").is_fifo()


def test_options_that_exclude_each_other_are_said(project: Project, stored: Db) -> None:
    said(project.run("export", "-o", "a.csv", "-O", "b.csv"), "name one of them")
    said(project.run("export", "--pages", "--item", "book"), "pages have no kind")
    said(project.run("export", "--format", "warc", "--what", "items"), "WARC holds pages, not items")
    said(project.run("export", "--fields", "titel"), "no column 'titel'", "data.titel")
    said(project.run("export", "--since", "yesterday"), "'yesterday' is no time", "7d")
    said(project.run("export", "nobody"), "no source 'nobody'", code=1)
    said(project.run("export", "-O", "missing/out.csv"), "missing/out.csv: cannot be written: No such file", code=1)


def test_raw_and_since_and_what(project: Project, stored: Db) -> None:
    stock.put(stored, {"title": "=1+1"}, kind="odd", first=3)
    assert ",'=1+1" in project.run("export", "--format", "csv").stdout
    assert ",=1+1" in project.run("export", "--format", "csv", "--raw").stdout
    assert project.run("export", "--since", "2026-01-06T10:30:03").stdout.count("\n") == 1
    assert project.run("export", "--since", "1d").stdout == ""
    stock.changed(stored, {"fields": {"price": [1, 2]}})
    (told,) = project.run("export", "--what", "changes").stdout.splitlines()
    assert json.loads(told)["fields"] == {"price": [1, 2]}


def test_items_that_are_gone_are_left_out(project: Project, stored: Db) -> None:
    connection = sqlite3.connect(project.path / "bowerbird.db")
    connection.execute("UPDATE items SET removed_at = changed_at WHERE key = '1'")
    connection.commit()
    connection.close()
    assert project.run("export").stdout.count("\n") == 1
