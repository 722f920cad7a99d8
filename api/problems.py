"""Errors as problem details (RFC 9457), and for a person as a page. One table."""

import json
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from http import HTTPStatus
from typing import Any

from anyio import to_thread
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import compile_path
from starlette.types import Scope

from scraper.enrichment.question import NoVector
from scraper.errors import BadConfig, BowerbirdError, Conflict, NotFound, Outdated, Unavailable, Unusable
from scraper.search.semantic import NoVectors

STATUS: dict[type[BowerbirdError], int] = {
    BadConfig: 422,
    NotFound: 404,
    Outdated: 412,
    Conflict: 409,
    Unavailable: 503,
    Unusable: 503,
    NoVectors: 409,
    NoVector: 503,
    BowerbirdError: 500,
}

# What any call may answer, for the OpenAPI description.
SAID = {
    400: "no JSON",
    401: "no key, or one that is none",
    403: "a key that may not do that, another origin, or a Host that is not this machine",
    404: "there is none",
    409: "it contradicts what is there",
    412: "it was changed since you read it",
    413: "too long",
    415: "another content type than what is wanted",
    422: "something in it is not as it should be",
    429: "too many wrong keys",
    500: "a fault of ours",
    501: "it needs an extra that is not installed",
    503: "the database is away; try again",
}
SCHEMA = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {name: {"type": "string"} for name in ("type", "title", "detail")}
    | {"status": {"type": "integer"}, "errors": {"type": "array", "items": {"type": "object"}}},
}
DESCRIBED: dict[int | str, dict[str, Any]] = {
    status: {"description": said, "content": {"application/problem+json": {"schema": SCHEMA}}}
    for status, said in SAID.items()
}

DETAIL_MOST = 4000
ERRORS_MOST = 100
HALF = re.compile("[\ud800-\udfff]")
Handler = Callable[[Request, Exception], Awaitable[JSONResponse]]
Page = Callable[[Request, Mapping[str, Any]], Response]

log = logging.getLogger(__name__)


def problem(status: int, detail: str, headers: dict[str, str] | None = None, **more: Any) -> JSONResponse:
    """Return a problem document. What a caller sent and is told again is cut short, and has no half characters."""
    headers = ({"Retry-After": "5"} if status == 503 else {}) | (headers or {})
    return JSONResponse(
        {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": _short(detail), **more},
        status_code=status,
        media_type="application/problem+json",
        headers=headers,
    )


def _short(text: str) -> str:
    text = text if len(text) <= DETAIL_MOST else text[: DETAIL_MOST - 1] + "…"
    return text if text.isascii() else HALF.sub("\N{REPLACEMENT CHARACTER}", text)


async def _ours(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, BowerbirdError)
    return of_error(error)


def of_error(error: BowerbirdError) -> JSONResponse:
    """Return the problem document of one of our errors."""
    kind = next(kind for kind in type(error).__mro__ if kind in STATUS)
    more: dict[str, Any] = {}
    if isinstance(error, BadConfig):
        more = {
            "errors": [{"place": _short(p.place), "detail": _short(p.message)} for p in error.problems[:ERRORS_MOST]]
        }
    return problem(STATUS[kind], str(error), **more)


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    detail = error.detail if error.detail != HTTPStatus(error.status_code).phrase else _hint(request, error.status_code)
    answer = problem(error.status_code, str(detail))
    answer.headers.update(error.headers or {})
    if error.status_code == 405 and (methods := _methods(request)):
        answer.headers["allow"] = ", ".join(sorted(methods))
    return answer


def path_of(scope: Scope) -> str:
    """Return the path by which a route is found: without the one under which a proxy shows us."""
    root: str = scope.get("root_path", "").rstrip("/")
    path: str = scope["path"]
    return path.removeprefix(root) if path == root or path.startswith(f"{root}/") else path


def _methods(request: Request) -> set[str]:
    """What may be asked of a path, by all its routes (RFC 9110 section 15.5.6); Starlette names those of the first alone."""
    path = path_of(request.scope)
    routes = [route for route in iter_route_contexts(request.app.routes) if _pattern(route.path or "").match(path)]
    methods = {method for route in routes for method in route.methods or ()}
    return methods | {"HEAD"} if "GET" in methods else methods


@cache
def _pattern(path: str) -> re.Pattern[str]:
    return compile_path(path)[0]


def _hint(request: Request, status: int) -> str:
    if status == 404:
        return f"there is nothing at {request.url.path}; /docs lists what there is"
    if status == 405:
        return f"{request.method} is not for {request.url.path}; /docs lists what is"
    return HTTPStatus(status).phrase


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    told = error.errors()[:ERRORS_MOST]
    errors = [{"pointer": _short("/" + "/".join(map(str, e["loc"]))), "detail": _short(e["msg"])} for e in told]
    return problem(422, "; ".join(f"{e['pointer']}: {e['detail']}" for e in errors), errors=errors)


async def _unforeseen(request: Request, error: Exception) -> JSONResponse:
    log.error("a request failed", exc_info=error, extra={"path": request.url.path})
    return problem(500, "this is a fault of ours; the log of the service has the details")


async def shown(request: Request, found: JSONResponse, page: Page | None) -> Response:
    """Return a problem document; as a page, where there are pages and a browser asks for one."""
    person = "text/html" in request.headers.get("accept", "") and not request.url.path.startswith("/api/")
    if page is None or not person:
        return found
    made = await to_thread.run_sync(page, request, json.loads(bytes(found.body)))
    made.headers.update({name: found.headers[name] for name in ("allow", "retry-after") if name in found.headers})
    return made


def install(app: FastAPI, page: Page | None = None) -> None:
    """Have every error answered as a problem document, or as a page."""

    def answered(handler: Handler) -> Callable[[Request, Exception], Awaitable[Response]]:
        async def answer(request: Request, error: Exception) -> Response:
            return await shown(request, await handler(request, error), page)

        return answer

    app.add_exception_handler(BowerbirdError, answered(_ours))
    app.add_exception_handler(HTTPException, answered(_http))
    app.add_exception_handler(RequestValidationError, answered(_invalid))
    app.add_exception_handler(Exception, _unforeseen)
