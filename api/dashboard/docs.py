"""GET /docs: the calls of the API, from its OpenAPI description, without a file from elsewhere."""

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from api.dashboard.views import render

router = APIRouter(include_in_schema=False)


@router.get("/docs")
def docs(request: Request) -> HTMLResponse:
    """The calls of the API, from its OpenAPI description at /openapi.json."""
    return HTMLResponse(render(request, "docs.html", {"api": request.app.openapi()}))
