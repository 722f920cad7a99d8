"""What a route may ask for: the service, the database, one page of a list."""

import base64
import binascii
import difflib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from urllib.parse import parse_qs

from fastapi import Depends, HTTPException, Path, Query, Request
from fastapi.dependencies.models import Dependant
from fastapi.responses import StreamingResponse
from fastapi.routing import APIRoute
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, StringConstraints

from api.keys import Keys
from api.noting import Noter
from api.searching import Searching
from api.stream import Streams
from scraper.database import Db, listing
from scraper.service import Service

PAGING = {"limit", "cursor", "fields"}


async def only_known(request: Request) -> None:
    """See that a call of the API has no parameter that means nothing: of "sorce=shop" nobody wants all. Raises HTTPException."""
    route = request.scope.get("route") if request.scope["query_string"] else None
    if not isinstance(route, APIRoute) or not route.path.startswith("/api/"):
        return
    known = _parameters(route.dependant)
    if route.response_class is not StreamingResponse:
        known |= PAGING  # a short list has one page, and may be asked as all are
    for name in request.query_params:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            said = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(sorted(known)) or 'none'}"
            raise HTTPException(422, f"{name}: there is no such parameter; {said}")


def _parameters(dependant: Dependant) -> set[str]:
    """The names of the query parameters that a route knows."""
    return {field.alias for field in dependant.query_params}.union(*map(_parameters, dependant.dependencies))


async def service_of(request: Request) -> Service:
    """Return the service of this process."""
    service: Service = request.app.state.service
    return service


async def db_of(request: Request) -> Db:
    """Return the database of this process. Only for routes that run in a thread."""
    db: Db = request.app.state.db
    return db


async def streams_of(request: Request) -> Streams:
    """Return the live streams of this process."""
    streams: Streams = request.app.state.streams
    return streams


async def keys_of(request: Request) -> Keys:
    """Return the keys of this process."""
    keys: Keys = request.app.state.keys
    return keys


async def search_of(request: Request) -> Searching:
    """Return the searches of this process."""
    search: Searching = request.app.state.search
    return search


async def noter_of(request: Request) -> Noter:
    """Return the one who has notes made."""
    noter: Noter = request.app.state.noter
    return noter


TheNoter = Annotated[Noter, Depends(noter_of)]
TheSearch = Annotated[Searching, Depends(search_of)]
TheStreams = Annotated[Streams, Depends(streams_of)]
TheService = Annotated[Service, Depends(service_of)]
TheDb = Annotated[Db, Depends(db_of)]


NEWEST = 2**63 - 1  # stands for the id of what is so now, which has none

Limit = Annotated[int, Query(ge=1, le=500)]
Cursor = Annotated[str | None, Query(max_length=512)]


def pointer(place: object) -> str:
    """Return a place in a list as a cursor."""
    return base64.urlsafe_b64encode(str(place).encode()).decode()


def after_text(cursor: str | None) -> str | None:
    """Return the place that a cursor points to. Raises HTTPException for a cursor that is none of ours."""
    if cursor is None:
        return None
    try:
        return base64.urlsafe_b64decode(cursor.encode()).decode()
    except (binascii.Error, ValueError, UnicodeError):
        raise HTTPException(422, _FOREIGN) from None


def before_of(cursor: str | None) -> int | None:
    """Return the id that the rows after a cursor are older than. Raises HTTPException for a cursor that is none of ours."""
    text = after_text(cursor)
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 19 or not int(text) < 2**63:
        raise HTTPException(422, _FOREIGN)
    return int(text)


_FOREIGN = "cursor: is none that this API gave; leave it out to start from the beginning"


@dataclass(frozen=True, slots=True)
class Listing:
    """Which part of a list: how many rows, older than the cursor, and what of each (for example fields=id,data.title)."""

    limit: Limit = 50
    cursor: Cursor = None
    fields: Annotated[str | None, Query(max_length=2000, pattern=r"^[^\x00]*$")] = None

    def picked(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return of a row what was asked for, all of it if nothing was."""
        if not self.fields:
            return row
        made: dict[str, Any] = {}
        for name in (name.strip() for name in self.fields.split(",")):
            outer, _, inner = name.partition(".")
            if not inner:
                if outer in row:
                    made[outer] = row[outer]
            elif isinstance(row.get(outer), dict) and inner in row[outer]:
                made.setdefault(outer, {})[inner] = row[outer][inner]
        return made

    def answer(self, db: Db, name: str, **filters: Any) -> dict[str, Any]:
        """Return a page of a list, and the cursor of the next."""
        before = before_of(self.cursor)
        return self.cut(db.read(lambda c: listing.rows(c, name, filters, before, self.limit + 1)))

    def cut(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """Return a page of a list of which one row more was asked for than there is room, and the cursor of the next."""
        more = len(rows) > self.limit
        rows = rows[: self.limit]
        if self.fields and rows:
            named = {name.strip().partition(".")[0] for name in self.fields.split(",")} - {""}
            if unknown := sorted(named - rows[0].keys()):
                raise HTTPException(422, f"fields: there is no {unknown[0]!r}; there are: {', '.join(rows[0])}")
        last = pointer(rows[-1]["id"] or NEWEST) if more else None
        return {"items": [self.picked(row) for row in rows], "next": last}


Change = Literal["created", "changed", "removed", "returned", "moved"]
Of = Literal["item", "page"]


class Given(BaseModel):
    """What a caller gives as JSON. A name that is none of ours is refused: "dryrun" must not do what dry_run would not."""

    model_config = ConfigDict(extra="forbid")


FIELDS_MOST = 1000


async def form_of(request: Request) -> dict[str, list[str]]:
    """Return the fields of a form. Raises HTTPException for what is none."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() not in ("", FORM):
        raise HTTPException(415, f"wants a form: {FORM}")
    body = (await request.body()).decode("utf-8", "replace")
    if "%00" in body or "\0" in body:
        raise HTTPException(422, "the form has a NUL character")
    try:
        return parse_qs(body, keep_blank_values=True, max_num_fields=FIELDS_MOST)
    except ValueError:
        raise HTTPException(422, f"a form has at most {FIELDS_MOST} fields") from None


FORM = "application/x-www-form-urlencoded"
Form = Annotated[dict[str, list[str]], Depends(form_of)]
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


def _plus(given: object) -> object:
    """A plus sign in a query is a blank to those who read it (application/x-www-form-urlencoded), and was none to who wrote it."""
    if not isinstance(given, str):
        return given
    if _NUMBER.fullmatch(given.strip()):  # 2026 would be a moment of 1970
        raise ValueError("is no time; write for example 2026-01-31 or 2026-01-31T10:00Z")
    return _ZONE.sub(r"+\1", given)


_NUMBER = re.compile(r"[-+]?[0-9.]+")
_ZONE = re.compile(r" ([0-9]{2}:?[0-9]{2})$")
Since = Annotated[datetime | None, BeforeValidator(_plus), AfterValidator(_instant)]
Text = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$")]
Word = Annotated[str | None, Query(max_length=2048, pattern=r"^[^\x00]*$")]
Number = Annotated[int | None, Query(ge=0, lt=2**63)]


def change_filters(
    source: Word = None,
    change: Change | None = None,
    of: Of | None = None,
    kind: Word = None,
    item_id: Number = None,
    page_id: Number = None,
    since: Since = None,
    until: Since = None,
    unread: bool | None = None,
) -> dict[str, Any]:
    """Return which changes are meant: of the list, and of the feed."""
    named = {"source": source, "change": change, "of": of, "kind": kind, "item_id": item_id, "page_id": page_id}
    return named | {"since": since, "until": until, "unread": unread}


OfChanges = Annotated[dict[str, Any], Depends(change_filters)]
