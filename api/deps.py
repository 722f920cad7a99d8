"""What a route may ask for: the service, the database, one page of a list."""

import base64
import binascii
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Depends, HTTPException, Path, Query, Request
from pydantic import AfterValidator

from api.stream import Streams
from scraper.database import Db, listing
from scraper.service import Service


def service_of(request: Request) -> Service:
    """Return the service of this process."""
    service: Service = request.app.state.service
    return service


def db_of(request: Request) -> Db:
    """Return the database of this process. Only for routes that run in a thread."""
    db: Db = request.app.state.db
    return db


def streams_of(request: Request) -> Streams:
    """Return the live streams of this process."""
    streams: Streams = request.app.state.streams
    return streams


TheStreams = Annotated[Streams, Depends(streams_of)]
TheService = Annotated[Service, Depends(service_of)]
TheDb = Annotated[Db, Depends(db_of)]


@dataclass(frozen=True, slots=True)
class Listing:
    """Which part of a list: how many rows, older than the cursor."""

    limit: Annotated[int, Query(ge=1, le=500)] = 50
    cursor: Annotated[str | None, Query(max_length=64)] = None

    def before(self) -> int | None:
        """Return the id that the rows are older than. Raises HTTPException for a cursor that is none of ours."""
        if self.cursor is None:
            return None
        try:
            before = int(base64.urlsafe_b64decode(self.cursor.encode()).decode())
        except (binascii.Error, ValueError, UnicodeError):
            before = -1
        if not 0 <= before < 2**63:
            raise HTTPException(422, "cursor: is none that this API gave; leave it out to start from the newest")
        return before

    def answer(self, db: Db, name: str, **filters: Any) -> dict[str, Any]:
        """Return a page of a list, and the cursor of the next."""
        before = self.before()
        rows = db.read(lambda c: listing.rows(c, name, filters, before, self.limit + 1))
        more = len(rows) > self.limit
        rows = rows[: self.limit]
        last = base64.urlsafe_b64encode(str(rows[-1]["id"]).encode()).decode() if more else None
        return {"items": rows, "next": last}


Paging = Annotated[Listing, Depends()]


def _instant(given: datetime | None) -> datetime | None:
    """An instant that every database can compare with; without a time zone it is UTC."""
    if given is None:
        return None
    try:
        return (given if given.tzinfo else given.replace(tzinfo=UTC)).astimezone(UTC)
    except (OverflowError, ValueError):
        raise ValueError("is out of range") from None


RowId = Annotated[int, Path(ge=0, lt=2**63)]
Since = Annotated[datetime | None, AfterValidator(_instant)]
Word = Annotated[str | None, Query(max_length=2048, pattern=r"^[^\x00]*$")]
