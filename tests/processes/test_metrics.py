"""/metrics, read as Prometheus does; and what is said of a PostgreSQL before and when it is used."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.engine import make_url

from scraper.config.settings import Database
from scraper.database import Db, postgres
from tests.postgres import PASSWORD, Address
from tests.support import Project, Running

Serve = Callable[..., Running]
# https://prometheus.io/docs/instrumenting/exposition_formats/#text-format-details
NAME = "[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*"'
SAMPLE = re.compile(rf"({NAME})(?:\{{({LABEL}(?:,{LABEL})*)\}})? (-?\d+(?:\.\d+)?(?:e[+-]?\d+)?|NaN|[+-]Inf)")
URL = "postgresql+psycopg://u:secret@{host}:{port}/db{query}"
SHARED, DIRECT = "aws-0-eu-central-1.pooler.supabase.com", "db.abcdefgh.supabase.co"


def parsed(text: str) -> dict[str, dict[str, float]]:
    """Return the samples of each metric, by their labels. Fails for what is not the format."""
    assert text.endswith("\n")
    found: dict[str, dict[str, float]] = {}
    told: dict[str, set[str]] = {}
    current = ""
    for line in text.splitlines():
        if comment := re.fullmatch(rf"# (HELP|TYPE) ({NAME}) (.+)", line):
            what, current, said = comment.groups()
            assert what not in told.setdefault(current, set())
            assert current not in found  # it comes before the samples
            told[current].add(what)
            assert what == "HELP" or said in ("counter", "gauge")
            assert what == "HELP" or (said == "counter") == current.endswith("_total")
            continue
        sample = SAMPLE.fullmatch(line)
        assert sample is not None, line
        name, labels, value = sample.groups()
        assert name == current  # those of one metric stand together
        assert labels not in found.setdefault(name, {})
        found[name][labels or ""] = float(value)
    assert told.keys() == found.keys()
    assert all(what == {"HELP", "TYPE"} for what in told.values())
    return found


def test_the_metrics_are_what_prometheus_reads(serve: Serve, project: Project) -> None:
    project.configure("", supervisor="processes = 2")
    service = serve()
    service.until_state("idle")
    answer = service.http.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    found = parsed(answer.text)
    assert found["bowerbird_running"] == {"": 1}
    assert found["bowerbird_process_alive"] == {'process="scraper-0"': 1, 'process="scraper-1"': 1}
    assert found["bowerbird_process_restarts_total"] == {'process="scraper-0"': 0, 'process="scraper-1"': 0}
    assert set(found["bowerbird_process_resident_memory_bytes"]) == {'process="scraper-0"', 'process="scraper-1"'}
    assert 'process="scraper-0",state="idle"' in found["bowerbird_process_state"]
    uses = {labels.partition(",")[2] for labels in found["bowerbird_database_connections"]}
    assert uses == {'use="open"', 'use="in_use"'}
    log = project.path / "bowerbird.db-wal"
    before = log.stat().st_size
    told = parsed(service.http.get("/metrics").text)["bowerbird_database_wal_bytes"][""]
    assert before * 0.999 <= told <= log.stat().st_size * 1.001  # of so many digits


def test_the_metrics_are_not_for_everybody(serve: Serve, project: Project) -> None:
    project.configure("")
    service = serve(BOWERBIRD_SERVER__TOKEN="a-token-of-ours")
    assert service.http.get("/metrics").status_code == 401
    assert "bowerbird_" not in service.http.get("/metrics").text
    assert service.http.get("/metrics", headers={"Authorization": "Bearer wrong"}).status_code == 401
    answer = service.http.get("/metrics", headers={"Authorization": "Bearer a-token-of-ours"})
    assert answer.status_code == 200
    assert "bowerbird_running" in parsed(answer.text)
    assert "a-token-of-ours" not in answer.text


@pytest.mark.databases("postgresql", "pgbouncer")
def test_the_metrics_of_a_server(serve: Serve, project: Project, database: Database) -> None:
    project.configure("")
    pooler = str(database.transaction_pooler).lower()
    service = serve(DATABASE_URL=database.url, BOWERBIRD_DATABASE__TRANSACTION_POOLER=pooler)
    service.until_state("idle")
    answer = service.http.get("/metrics").text
    found = parsed(answer)
    assert "bowerbird_database_wal_bytes" not in found
    assert ("bowerbird_database_connections" in found) is not database.transaction_pooler  # there it keeps none
    assert PASSWORD not in answer


# -- advice


@pytest.mark.parametrize(
    ("host", "port", "query", "pooler", "words"),
    [
        (SHARED, 6543, "?sslmode=require", False, ["transaction_pooler = true"]),
        (SHARED, 6543, "?sslmode=require", True, []),
        (SHARED, 5432, "?sslmode=require", False, []),
        (SHARED, 5432, "?sslmode=require", True, ["only costs speed"]),
        (SHARED, 6543, "", False, ["transaction_pooler = true", "sslmode=require"]),
        (DIRECT, 5432, "", False, ["sslmode=require"]),
        (DIRECT, 5432, "?sslmode=verify-full", False, []),
        ("db.example.org", 6543, "", False, []),
        ("pooler.supabase.com.example.org", 6543, "", False, []),
    ],
)
def test_what_is_said_of_a_url(host: str, port: int, query: str, words: list[str], *, pooler: bool) -> None:
    url = URL.format(host=host, port=port, query=query)
    told = list(postgres.advice(Database(url=url, transaction_pooler=pooler), make_url(url)))
    assert len(told) == len(words)
    for text, word in zip(told, words, strict=True):
        assert word in text
        assert "secret" not in text


@pytest.mark.parametrize(
    ("pool", "overflow", "scrapers", "workers", "fits"),
    [(5, 20, 1, 1, True), (5, 20, 1, 3, True), (5, 20, 1, 4, False), (1, 0, 47, 1, True), (1, 0, 48, 1, False)],
)
def test_who_finds_a_seat(
    address: Address, pool: int, overflow: int, scrapers: int, workers: int, *, fits: bool
) -> None:
    """The server of the tests takes 100, of which 3 are its owner's."""
    settings = Database(url=address.url(), pool_size=pool, max_overflow=overflow)
    with Db(settings) as db:
        told = db.read(lambda c: postgres.seats(c, settings, scrapers, workers))
        assert (told is None) is fits
        if told is not None:
            assert "takes 97" in told
            assert f"{workers} API workers" in told
    behind = Database(url=address.url(pooled=True), pool_size=99, max_overflow=99, transaction_pooler=True)
    with Db(behind) as db:
        assert db.read(lambda c: postgres.seats(c, behind, scrapers, workers)) is None


def test_the_doctor_and_the_start_say_so(serve: Serve, project: Project, address: Address) -> None:
    project.configure('[[source]]\nname = "a"\nstart = ["http://127.0.0.1:9/"]\n')
    many: Any = {"WEB_CONCURRENCY": "4", "DATABASE_URL": address.url()}
    few: Any = many | {"WEB_CONCURRENCY": "1"}
    told = project.run("doctor", **many).stdout
    assert "note  database: 4 API workers may open 25 connections each" in told
    assert "ok    database: postgresql+psycopg://bowerbird:***@" in told
    assert PASSWORD not in told
    told = project.run("doctor", **few).stdout
    assert "note  database" not in told
    assert "write-ahead log" not in told
    # Nobody is asked but this machine.
    supabase = URL.format(host=SHARED, port=6543, query="?hostaddr=127.0.0.1")
    elsewhere: Any = {"DATABASE_URL": supabase, "BOWERBIRD_DATABASE__TIMEOUT": "2"}
    ended = project.run("doctor", **elsewhere)
    notes = [line for line in ended.stdout.splitlines() if line.startswith("note  database:")]
    assert len(notes) == 2
    assert "transaction_pooler = true" in notes[0]
    assert "sslmode=require" in notes[1]
    assert "secret" not in ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr
    serve(**few, BOWERBIRD_DATABASE__MAX_OVERFLOW="99")
    assert "1 API workers may open 104 connections each" in project.output()


def test_the_doctor_names_a_parser_that_is_not_there_as_what_it_is(project: Project) -> None:
    (project.path / "bowerbird.toml").write_text(
        "[[source]]\nname = 'a'\nstart = ['http://a.org/']\nparser = 'no_such:parse'"
    )
    told = project.run("doctor")
    assert told.returncode == 1
    (failed,) = (line for line in told.stdout.splitlines() if line.startswith("FAIL"))
    assert failed.startswith("FAIL  config: ")
    assert "no_such:parse" in failed


def test_the_doctor_of_a_file(project: Project) -> None:
    project.configure("")
    assert project.run("db", "upgrade").returncode == 0
    told = project.run("doctor").stdout
    assert re.search(r"^ok    write-ahead log: \d+\.\d MiB$", told, re.MULTILINE)
    assert re.search(r"^(ok  |note)  sqlite: 3\.", told, re.MULTILINE)


def test_a_source_that_is_named_and_not_there_is_told(project: Project) -> None:
    project.configure(
        '[[notify]]\nname = "me"\nurl = "http://127.0.0.1:9/"\nsource = ["shop", "shpo"]\n'
        '[[source]]\nname = "shop"\nstart = ["http://127.0.0.1:9/"]\n'
    )
    told = project.run("doctor")
    assert "note  config: [[notify]] me names the source 'shpo', which is not there" in told.stdout
    assert "'shop'" not in told.stdout
