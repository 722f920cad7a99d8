"""Logging in: a key becomes a cookie, which holds until it is given back or the configuration's token is another."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from api.dashboard.views import is_ours, templates
from api.deps import Form
from api.keys import COOKIE, SESSION_S, Keys

router = APIRouter(include_in_schema=False)


def _page(to: str, problem: str | None, status: int = 200) -> HTMLResponse:
    shown = templates.get_template("login.html").render(to=to if is_ours(to) else "/", problem=problem)
    return HTMLResponse(shown, status_code=status)


@router.get("/login")
def login(next: Annotated[str, Query(max_length=2000)] = "/") -> HTMLResponse:
    """The form that asks for a key."""
    return _page(next, None)


@router.post("/login")
async def log_in(request: Request, form: Form) -> Response:
    """Give a cookie to who has a key."""
    keys: Keys = request.app.state.keys
    to = form.get("next", ["/"])[0]
    client = request.client.host if request.client is not None else "unknown"
    if not keys.needed:
        return RedirectResponse("/", status_code=303)
    if wait_s := keys.wait_s(client):
        return _page(to, f"Too many wrong keys; wait {wait_s} seconds.", 429)
    token = form.get("token", [""])[0].strip()
    caller = await keys.of_token(token)
    if caller is None:
        keys.guessed_wrong(client, token)
        return _page(to, "That is no key of this service.", 401)
    answer = RedirectResponse(to if is_ours(to) else "/", status_code=303)
    secure = request.url.scheme == "https"
    answer.set_cookie(COOKIE, keys.session(caller), max_age=SESSION_S, httponly=True, secure=secure, samesite="lax")
    return answer


@router.post("/logout")
async def log_out() -> Response:
    """Take the cookie back."""
    answer = RedirectResponse("/login", status_code=303)
    answer.delete_cookie(COOKIE)
    return answer
