"""WARC 1.1 (ISO 28500): pages as a site answered them, for the tools of web archives."""

import io
import re
from collections.abc import Generator, Iterator, Mapping
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

from scraper.database import Db, pages
from scraper.errors import NotFound
from scraper.export.extras import needed
from scraper.export.style import Style
from scraper.export.wanted import Row, Told, Unfit, Wanted
from scraper.export.words import text

# Of the message as it was sent; what is stored is its content, decoded.
_OF_THE_WIRE = {"content-encoding", "transfer-encoding", "content-length", "trailer", "connection", "keep-alive"}
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_LINE_ENDS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]+")


def library() -> Any:
    """Return warcio. Raises Lacking."""
    needed("warcio.warcwriter", "warc")
    needed("warcio.statusandheaders", "warc")
    return needed("warcio", "warc")


def write(db: Db, wanted: Wanted, style: Style, told: Told) -> Generator[bytes, None, None]:
    """Yield the file record by record; with gz each is a member of its own. Raises Unavailable.

    A page whose body is kept no more is left out.
    """
    warcio = library()
    sink = io.BytesIO()
    writer = warcio.warcwriter.WARCWriter(sink, gzip=style.gz, warc_version="1.1")
    writer.write_record(
        writer.create_warcinfo_record(
            None, {"software": f"bowerbird/{version('bowerbird')}", "format": "WARC File Format 1.1"}
        )
    )
    for row in wanted.rows(db, told, "writing"):
        body = _body(db, row)
        if body is not None:
            for record in _records(warcio, writer, row, body):
                writer.write_record(record)
        yield sink.getvalue()
        sink.seek(0)
        sink.truncate()
    yield sink.getvalue()


def check(wanted: Wanted) -> None:
    """Say what WARC cannot hold. Raises Unfit."""
    if wanted.what != "pages":
        raise Unfit(f"WARC holds pages, not {wanted.what}")
    if wanted.fields:
        raise Unfit("WARC holds whole pages; leave the fields out")


def _body(db: Db, row: Row) -> bytes | None:
    try:
        return db.read(lambda c: pages.content(c, row["id"]))[1]
    except NotFound:  # kept no more
        return None


def _records(warcio: Any, writer: Any, row: Row, body: bytes) -> Iterator[Any]:
    at = {"WARC-Date": row["fetched_at"].strftime("%Y-%m-%dT%H:%M:%S.%fZ")}
    url = _one_line(row["final_url"])
    head = warcio.statusandheaders.StatusAndHeaders(
        _status(row["status"]), _headers(row["headers"] or {}, len(body)), protocol="HTTP/1.1"
    )
    response = writer.create_warc_record(
        url, "response", payload=io.BytesIO(body), length=len(body), http_headers=head, warc_headers_dict=at
    )
    yield response
    facts = "".join(f"{name}: {_one_line(value)}\r\n" for name, value in _facts(row).items()).encode()
    about = {"WARC-Concurrent-To": response.rec_headers.get_header("WARC-Record-ID")}
    yield writer.create_warc_record(
        url, "metadata", payload=io.BytesIO(facts), length=len(facts), warc_headers_dict=at | about
    )


def _status(code: int) -> str:
    try:
        return f"{code} {HTTPStatus(code).phrase}"
    except ValueError:
        return f"{code} "


def _headers(stored: Mapping[str, Any], length: int) -> list[tuple[str, str]]:
    """The headers of the page, such as agree with its body as it is stored."""
    kept = [
        (name, _one_line(value))
        for name, value in stored.items()
        if name.lower() not in _OF_THE_WIRE and _HEADER_NAME.fullmatch(name)
    ]
    return [*kept, ("Content-Length", str(length))]


def _facts(row: Row) -> dict[str, Any]:
    facts = {
        "source": row["source"],
        "page": row["id"],
        "hopsFromSeed": row["depth"],
        "askedFor": row["url"] if row["url"] != row["final_url"] else None,
        "title": row["title"],
        "changedAt": text(row["changed_at"]),
    }
    return {name: value for name, value in facts.items() if value is not None}


def _one_line(value: Any) -> str:
    return _LINE_ENDS.sub(" ", str(value)).strip()
