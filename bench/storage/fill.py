"""A frontier as a long crawl leaves it: filled by the driver alone, with the fingerprints of the URLs that are in it."""

from collections.abc import Iterator
from typing import Any

from bench.storage.places import plain, prepare
from bench.storage.site import NEW, Sites, depth_of
from scraper.config.settings import Database
from scraper.database import Db
from scraper.urls import fingerprint

_COLUMNS = ("source", "fingerprint", "url", "host", "kind", "rank", "depth", "run_id", "state", "attempts", "crashes")


def visited(known: int, sites: Sites) -> int:
    """How many pages of each host were visited when so many URLs are known: they lead to the others."""
    return known // sites.hosts // NEW


def fill(url: str, sites: Sites, known: int) -> float:
    """Make a database that knows so many URLs. Returns bytes per URL, with its share of the indexes."""
    runs = prepare(url, sites)
    with Db(Database(url=url)) as db:
        (_into_sqlite if db.is_sqlite else _into_postgres)(db, _rows(sites, known, runs))
        done = visited(known, sites) * sites.hosts // sites.sources
        each = known // sites.sources
        counted = f"UPDATE runs SET pages = {done}, known = {each}"
        db.write(lambda connection: connection.exec_driver_sql(counted))
        return db.read(_sqlite_bytes if db.is_sqlite else _postgres_bytes) / known


def _rows(sites: Sites, known: int, runs: dict[str, int]) -> Iterator[tuple[Any, ...]]:
    """The rows that are not there yet, in the order in which a crawl of all hosts gets to know them."""
    done = visited(known, sites)
    for number in range(1, known // sites.hosts):
        depth, state = depth_of(number), "done" if number < done else "queued"
        for place in range(sites.hosts):
            source, url = sites.source(place), sites.url(place, number)
            row = (source, fingerprint(url), url, sites.host(place), "page", 0, depth, runs[source])
            yield (*row, state, 1 if number < done else 0, 0)


def _into_sqlite(db: Db, rows: Iterator[tuple[Any, ...]]) -> None:
    marks = ", ".join("?" for _ in _COLUMNS)
    lent = db.engine.raw_connection()
    connection: Any = lent.driver_connection
    for pragma in ("synchronous=off", "cache_size=-4000000", "journal_mode=off"):
        connection.execute(f"PRAGMA {pragma}")
    connection.execute("BEGIN")
    connection.executemany(f"INSERT INTO urls ({', '.join(_COLUMNS)}) VALUES ({marks})", rows)
    connection.execute("UPDATE urls SET state = 'done', attempts = 1 WHERE depth = 0")
    connection.execute("COMMIT")
    connection.execute("PRAGMA journal_mode=wal")
    lent.invalidate()


def _into_postgres(db: Db, rows: Iterator[tuple[Any, ...]]) -> None:
    import psycopg

    with psycopg.connect(plain(db.url.render_as_string(hide_password=False)), autocommit=True) as connection:
        with connection.cursor().copy(f"COPY urls ({', '.join(_COLUMNS)}) FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
        connection.execute("UPDATE urls SET state = 'done', attempts = 1 WHERE depth = 0")
        connection.execute("VACUUM ANALYZE urls")
        connection.execute("CHECKPOINT")


def _sqlite_bytes(connection: Any) -> int:
    pages, size = (connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("page_count", "page_size"))
    return int(pages * size)


def _postgres_bytes(connection: Any) -> int:
    return int(connection.exec_driver_sql("SELECT pg_total_relation_size('urls')").scalar())
