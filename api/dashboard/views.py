"""How the dashboard shows things: the templates, their filters, and each page as HTML or as JSON."""

import importlib.util
import inspect
import time
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import orjson
from fastapi import APIRouter, Request
from fastapi.encoders import jsonable_encoder
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from jinja2 import Environment, FileSystemLoader

from api.dashboard import charts, words
from scraper import differ
from scraper.database import Connection, changes, health
from scraper.errors import BowerbirdError
from scraper.records import called
from scraper.states import State

DIFF_MOST = 20_000
NAVIGATION_S = 2.0

Filled = Mapping[str, Any]


def _is_web(url: object) -> bool:
    """Whether a scraped address may be a link."""
    try:
        return isinstance(url, str) and urlsplit(url).scheme in ("http", "https")
    except ValueError:
        return False


def _named(row: Filled) -> str:
    """What a person calls an item or a page."""
    return words.short(called(row.get("data"), row.get("title"), row.get("key"), row.get("url")))


def _pieces(old: Any, new: Any) -> list[differ.Piece]:
    """A value and its successor as one, word by word; a number or another single word as a whole."""
    if old is not None and new is not None and not any(" " in str(value).strip() for value in (old, new)):
        return [differ.Piece("went", _text(old)), differ.Piece("same", " "), differ.Piece("came", _text(new))]
    return differ.words(_text(old)[:DIFF_MOST], _text(new)[:DIFF_MOST])


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def with_query(request: Request, **changed: Any) -> str:
    """The address of this page with other filters: the address holds all of them."""
    kept = {name: value for name, value in request.query_params.items() if name not in changed and name != "cursor"}
    kept |= {name: str(value) for name, value in changed.items() if value not in (None, "")}
    path = request.url.path.removesuffix(".json")
    return f"{path}?{urlencode(kept)}" if kept else path


# What lists are asked for over the API too; the rest of an address is of a page's own look.
FILTERS = (
    "source", "kind", "q", "changed_since", "removed", "reason", "unresolved", "state", "url", "status", "fetched_since", "gone",
    "change", "of", "item_id", "page_id", "since", "until", "unread",
)  # fmt: skip


def _filters(request: Request) -> str:
    """The filters that a page was asked with, as the query of a call for the same list."""
    return urlencode([(name, value) for name, value in request.query_params.multi_items() if name in FILTERS])


templates = Environment(
    loader=FileSystemLoader(Path(__file__).parent.parent / "templates"),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
)
templates.filters.update(
    ago=words.ago,
    amount=words.amount,
    every=words.every,
    exact=words.exact,
    named=_named,
    number=words.number,
    short=words.short,
    span=words.span,
)
templates.tests["web"] = _is_web
# What this installation can write: a link to what it cannot would lead to an error.
_FORMS = ("jsonl", "csv", *(("parquet",) if importlib.util.find_spec("pyarrow") else ()))
templates.globals.update(
    export_forms=_FORMS, pieces=_pieces, when=words.when, badge=words.badge, outcome_bars=charts.outcomes
)


def page(router: APIRouter, path: str, template: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Have a function that gives a page's values answered as a page, and under the same address with .json as JSON."""

    def register(values: Callable[..., Any]) -> Callable[..., Any]:
        # The first that matches answers, and {name} would match what ends in .json too.
        router.get("/overview.json" if path == "/" else f"{path}.json", name=f"{template} as JSON")(_plain(values))
        router.get(path, name=template, response_class=HTMLResponse)(_rendered(values, template))
        return values

    return register


def _rendered(values: Callable[..., Any], template: str) -> Callable[..., Any]:
    def show(**given: Any) -> Response:
        found = values(**given)
        if isinstance(found, Response):
            return found
        request: Request = given["request"]
        return HTMLResponse(render(request, template, found))

    return _like(show, values)


def _plain(values: Callable[..., Any]) -> Callable[..., Any]:
    def show(**given: Any) -> Response:
        found = values(**given)
        return found if isinstance(found, Response) else _json(found)

    return _like(show, values)


def _json(values: Filled) -> Response:
    try:
        return Response(orjson.dumps(values), media_type="application/json")
    except TypeError:  # a whole number of more than 64 bits
        return JSONResponse(jsonable_encoder(values))


def _like(show: Callable[..., Any], values: Callable[..., Any]) -> Callable[..., Any]:
    """Give a function the signature of another: what FastAPI fills in is read from it."""
    show.__signature__ = inspect.signature(values)  # type: ignore[attr-defined]
    show.__name__, show.__doc__ = values.__name__, values.__doc__
    return show


def _navigation(request: Request) -> dict[str, Any]:
    """The counts of trouble beside the names of the pages; looked up anew each two seconds."""
    kept = getattr(request.app.state, "navigation", None)
    if kept is not None and time.monotonic() - kept[0] < NAVIGATION_S:
        return dict(kept[1])
    try:
        counts, unread = request.app.state.db.read(_trouble)
    except BowerbirdError:
        return remember(request, {}, 0, trouble=True)
    return remember(request, counts, unread)


def _trouble(c: Connection) -> tuple[dict[str, int], int]:
    return health.counts(health.summaries(c)), changes.unread(c)


def remember(request: Request, counts: Mapping[str, int], unread: int, *, trouble: bool = False) -> dict[str, Any]:
    """Keep for the next pages what one of them has just counted: sources by their health, and unread changes."""
    failing = counts.get("failing", 0)
    down = request.app.state.service.status().state in (State.FAILED, State.HUNG)
    found = {
        "failing": failing,
        "sick": failing + counts.get("degraded", 0),
        "unread": f"{unread}+" if unread >= changes.COUNTED_MOST else unread,
        "trouble": trouble or failing > 0 or down,
    }
    request.app.state.navigation = time.monotonic(), found
    return dict(found)


def render(request: Request, template: str, values: Filled) -> str:
    """Return a page."""
    caller = request.state.caller
    keys = request.app.state.keys
    return templates.get_template(template).render(
        request=request,
        filters=_filters(request),
        link=cache(partial(with_query, request)),  # in a list the same ones come again and again
        caller=caller if keys.needed else None,
        live=request.method == "GET" and request.query_params.get("live") != "0" and "told" not in values,
        nav=_navigation(request),
        **values,
    )


def problem_page(request: Request, told: Filled) -> HTMLResponse:
    """What went wrong, for a person: the same words as in the problem document."""
    return HTMLResponse(render(request, "problem.html", {"told": told}), status_code=told["status"])


def back(request: Request, to: str) -> RedirectResponse:
    """Go on to a page after a form; only to one of ours."""
    return RedirectResponse(to if is_ours(to) else "/", status_code=303)


def is_ours(path: str) -> bool:
    """Whether an address is a path of this service, and nothing that a browser takes for another host."""
    return path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable() and "\\" not in path
