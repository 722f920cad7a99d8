"""Who may call what: refused unless a key allows it, on every route that there is."""

import asyncio
import sqlite3
import time
from datetime import timedelta
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from anyio import to_thread
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from api import keys as keys_module
from api.app import create_app
from api.keys import COOKIE, Keys
from scraper.database import tokens
from scraper.database.connection import now, shown
from tests.api.conftest import SOURCE, TOKEN, Make, client

METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")
CHANGING = ("POST", "PUT", "PATCH", "DELETE")
OPEN = ("/healthz", "/login")
FILLED = {"verb": "stop", "action": "run", "path": "live.js"}
SCOPES: tuple[tokens.Scope, ...] = ("read", "write")
OURS = {"Origin": "http://127.0.0.1:5000"}


def paths() -> list[str]:
    """Every path that a route answers, its parameters filled in."""
    found = set()
    for context in iter_route_contexts(create_app().routes):
        path = context.path or ""
        for name in ("verb", "action", "path", "source", "name", "tab"):
            path = path.replace(f"{{{name}}}", FILLED.get(name, "books"))
        while "{" in path:
            before, _, rest = path.partition("{")
            path = f"{before}1{rest.partition('}')[2]}"
        found.add(path)
    return sorted(found)


PATHS = paths()


def test_the_walk_sees_the_routes() -> None:
    assert {
        "/",
        "/api/scraper-status",
        "/api/tokens",
        "/schedule.json",
        "/openapi.json",
        "/metrics",
        "/sources/add",
    } <= set(PATHS)
    assert "/api/sources/books/run" in PATHS
    assert "/api/scraper/stop" in PATHS
    assert len(PATHS) > 80


def is_open(path: str) -> bool:
    return path.startswith(OPEN)


@pytest.fixture
def guarded(make: Make) -> FastAPI:
    """An application with a token."""
    return make(token=TOKEN)


def token_of(app: FastAPI, scope: tokens.Scope, name: str = "", **until: float) -> str:
    """Make a token."""
    expires = now() + timedelta(**until) if until else None
    made: str = app.state.db.write(lambda c: tokens.make(c, name or scope, scope, now(), expires))[1]
    return made


async def test_without_a_key_every_route_answers_401(guarded: FastAPI) -> None:
    for headers in (
        {},
        {"Accept": "application/json"},
        {"Cookie": "bowerbird=server.9999999999.00"},
        {"Authorization": "Basic Og=="},
    ):
        async with client(guarded, **headers) as http:
            for path in PATHS:
                for method in METHODS:
                    guarded.state.keys = Keys(guarded.state.db, TOKEN)  # whoever guesses wrong has to wait: not here
                    answer = await http.request(method, path)
                    if is_open(path):
                        assert answer.status_code in (200, 303, 401, 404, 405), (method, path)
                        continue
                    assert answer.status_code == 401, (method, path, answer.status_code)
                    assert answer.headers["www-authenticate"].startswith("Bearer")
                    if method != "HEAD":
                        assert answer.headers["content-type"] == "application/problem+json"


async def test_a_browser_without_a_key_is_led_to_the_login(guarded: FastAPI) -> None:
    async with client(guarded, Accept="text/html,*/*;q=0.8") as http:
        for path in PATHS:
            if is_open(path):
                continue
            answer = await http.get(path, params={"a": "b&c"})
            assert answer.status_code == 303, path
            to = urlsplit(answer.headers["location"])
            assert (to.scheme, to.netloc, to.path) == ("", "", "/login")
            assert parse_qs(to.query)["next"] == [f"{path}?a=b%26c"]
            for method in CHANGING:
                assert (await http.request(method, path)).status_code == 401, (method, path)


@pytest.mark.parametrize(
    "path",
    [
        "//", "//api/sources", "/api//sources", "/static/../api/sources", "/static/%2e%2e/api/sources", "/%2e%2e/api/sources",
        "/healthz/../api/sources", "/healthz/", "/login/../api/tokens", "/login/x", "/healthz%2f..%2fapi/sources", "/API/SOURCES",
        "/api/sources/", "/static", "/static%2f..%2f..%2fapp.py", "/static/..%2fapp.py", "/static//etc/passwd",
    ],
)  # fmt: skip
async def test_no_way_of_writing_a_path_opens_a_door(guarded: FastAPI, path: str) -> None:
    transport = httpx.ASGITransport(guarded, raise_app_exceptions=False)
    request = httpx.Request("GET", "http://127.0.0.1:5000/", headers={"Host": "127.0.0.1:5000"})
    request.url = httpx.URL("http://127.0.0.1:5000/").copy_with(raw_path=path.encode())
    answer = await transport.handle_async_request(request)
    await answer.aread()
    assert answer.status_code in (401, 404, 405, 307), path
    assert b"books" not in answer.content
    assert b"create_app" not in answer.content
    assert b"root:" not in answer.content


async def test_who_may_read_changes_nothing(guarded: FastAPI) -> None:
    async with client(guarded, token_of(guarded, "read")) as http:
        for path in PATHS:
            if is_open(path):
                continue
            for method in CHANGING:
                if path == "/logout":
                    continue
                answer = await http.request(method, path)
                assert answer.status_code == 403, (method, path)
            answer = await http.head(path)
            assert answer.status_code != 401, path
        assert (await http.get("/api/sources")).status_code == 200


async def test_tokens_are_for_admins_alone(guarded: FastAPI) -> None:
    for scope, status in (("read", 403), ("write", 403), ("admin", 200)):
        async with client(guarded, token_of(guarded, scope)) as http:  # type: ignore[arg-type]
            for path in ("/api/tokens", "/tokens", "/tokens.json"):
                assert (await http.get(path)).status_code == status, (scope, path)
            made = await http.post("/api/tokens", json={"name": f"by-{scope}", "scope": "admin"})
            assert made.status_code == (201 if scope == "admin" else 403)
            form = await http.post("/tokens", data={"name": f"form-{scope}", "scope": "admin"})
            assert form.status_code == status
            assert (await http.delete("/api/tokens/nobody")).status_code == (404 if scope == "admin" else 403)
            assert (await http.post("/tokens/nobody/revoke")).status_code == (404 if scope == "admin" else 403)


async def test_who_may_write_changes_sources(guarded: FastAPI) -> None:
    async with client(guarded, token_of(guarded, "write")) as http:
        assert (
            await http.post("/api/sources", json={"name": "fresh", "start": ["https://a.example/"]})
        ).status_code == 201


async def test_a_revoked_token_works_no_longer_than_three_seconds(guarded: FastAPI) -> None:
    async with client(guarded, token_of(guarded, "read")) as http, client(guarded, TOKEN) as admin:
        assert (await http.get("/api/sources")).status_code == 200
        began = time.monotonic()
        assert (await admin.delete("/api/tokens/read")).status_code == 204
        while (await http.get("/api/sources")).status_code == 200:
            assert time.monotonic() - began < 3
        assert (await http.get("/api/sources")).status_code == 401


async def test_an_expired_token_works_no_longer_than_three_seconds(guarded: FastAPI) -> None:
    began = time.monotonic()
    async with client(guarded, token_of(guarded, "read", seconds=0.5)) as http:
        assert (await http.get("/api/sources")).status_code == 200
        while (await http.get("/api/sources")).status_code == 200:
            assert time.monotonic() - began < 3.5
    async with client(guarded, token_of(guarded, "read", "old", seconds=-1)) as http:
        assert (await http.get("/api/sources")).status_code == 401


async def test_only_a_digest_of_a_token_is_kept(guarded: FastAPI) -> None:
    async with client(guarded, TOKEN) as http:
        made = await http.post("/api/tokens", json={"name": "once"}, headers={"Idempotency-Key": "make-once"})
        again = await http.post("/api/tokens", json={"name": "once"}, headers={"Idempotency-Key": "make-once"})
    token = made.json()["token"]
    assert again.status_code == 409
    assert token not in again.text
    guarded.state.db.close()
    kept = b"".join(file.read_bytes() for file in guarded.state.service.loaded.base.glob("test.db*"))
    assert token.encode() not in kept
    assert tokens.digest_of(token).encode() in kept


@pytest.mark.parametrize("name", ["a/b", "..", ".", "", "a\nb", "a?b", "a#b", "x" * 101, "é"])
async def test_a_token_has_a_name_that_an_address_can_hold(guarded: FastAPI, name: str) -> None:
    async with client(guarded, TOKEN) as http:
        assert (await http.post("/api/tokens", json={"name": name})).status_code == 422
        assert (await http.post("/tokens", data={"name": name, "scope": "read"})).status_code == 422
        assert (await http.get("/api/tokens")).json()["items"] == []


# -- the session of a browser


async def log_in(http: httpx.AsyncClient, token: str, to: str = "/", **headers: str) -> httpx.Response:
    return await http.post("/login", data={"token": token, "next": to}, headers=headers)


async def test_a_session_is_a_cookie_that_no_script_reads_and_no_other_site_sends(guarded: FastAPI) -> None:
    async with client(guarded) as http:
        answer = await log_in(http, TOKEN, "/sources")
        assert (answer.status_code, answer.headers["location"]) == (303, "/sources")
        morsel = SimpleCookie(answer.headers["set-cookie"])[COOKIE]
        assert morsel["httponly"]
        assert morsel["samesite"] in ("lax", "strict")
        assert TOKEN not in answer.headers["set-cookie"]
        assert (await http.get("/api/sources")).status_code == 200
        assert (await http.post("/logout", headers=OURS)).status_code == 303
        assert (await http.get("/api/sources")).status_code == 401


async def test_over_https_the_cookie_is_for_https_alone(guarded: FastAPI) -> None:
    transport = httpx.ASGITransport(guarded)
    async with httpx.AsyncClient(transport=transport, base_url="https://127.0.0.1:5000") as http:
        assert SimpleCookie((await log_in(http, TOKEN)).headers["set-cookie"])[COOKIE]["secure"]


async def test_a_forged_or_expired_session_is_none(guarded: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    async with client(guarded) as http:
        await log_in(http, TOKEN)
        good = http.cookies[COOKIE]
    key, until, mac = good.split(".")
    other = Keys(guarded.state.db, "another token").session(keys_module.Caller("x", "admin", keys_module.SERVER))
    short = Keys(guarded.state.db, TOKEN)
    monkeypatch.setattr(keys_module, "SESSION_S", -1)
    expired = short.session(keys_module.Caller("x", "admin", keys_module.SERVER))
    forged = [
        f"{key}.{int(until) + 9}.{mac}",
        f"1.{until}.{mac}",
        f"{key}.{until}.",
        f"{key}.{until}",
        "",
        "a.b.c",
        other,
        expired,
    ]
    forged += [good + "0", good.upper(), f"{key}.{'9' * 5000}.{mac}", f"{key}.٣.{mac}", "é", good.replace(".", "%2e")]
    for cookie in forged:
        async with client(guarded) as http:
            answer = await http.get("/api/sources", headers={b"Cookie": f"{COOKIE}={cookie}".encode()})
            assert answer.status_code == 401, cookie
    async with client(guarded) as http:
        assert (await http.get("/api/sources", headers={"Cookie": f"{COOKIE}={good}"})).status_code == 200
        guarded.state.keys = Keys(guarded.state.db, "the token is another one now")
        assert (await http.get("/api/sources", headers={"Cookie": f"{COOKIE}={good}"})).status_code == 401


async def test_the_session_of_a_token_ends_with_it(guarded: FastAPI) -> None:
    token = token_of(guarded, "read")
    async with client(guarded) as http, client(guarded, TOKEN) as admin:
        assert (await log_in(http, token)).status_code == 303
        assert (await http.get("/api/sources")).status_code == 200
        assert (await http.post("/api/scraper/pause", headers=OURS)).status_code == 403
        await admin.delete("/api/tokens/read")
        began = time.monotonic()
        while (await http.get("/api/sources")).status_code == 200:
            assert time.monotonic() - began < 3


async def test_a_session_is_no_other_tokens_though_that_be_the_next(guarded: FastAPI) -> None:
    old = token_of(guarded, "read", "guest")
    async with client(guarded) as http, client(guarded, TOKEN) as admin:
        assert (await log_in(http, old)).status_code == 303
        await admin.delete("/api/tokens/guest")
        token_of(guarded, "admin", "boss")
        guarded.state.keys = Keys(guarded.state.db, TOKEN)  # another process, which has looked at neither
        assert (await http.get("/api/tokens")).status_code == 401


async def test_a_prefix_that_a_proxy_takes_away_opens_no_door(guarded: FastAPI) -> None:
    for scope in SCOPES:
        token = token_of(guarded, scope)
        transport = httpx.ASGITransport(guarded, raise_app_exceptions=False, root_path="/bb")
        shown = {"Authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:5000/bb", headers=shown) as http:
            assert (await http.get("/api/sources")).status_code == 200
            assert (await http.get("/api/tokens")).status_code == 403
            answer = await http.post("/api/tokens", json={"name": "mine", "scope": "admin"})
            assert answer.status_code == 403
            assert (await http.get("/healthz", headers={"Authorization": ""})).status_code == 200


FOREIGN = [
    {"Origin": "http://evil.example"}, {"Origin": "null"}, {"Origin": "http://127.0.0.1:5001"}, {"Origin": "http://127.0.0.1"},
    {"Origin": "http://127.0.0.1:5000.evil.example"}, {"Origin": ""}, {"Origin": "http://[::1"}, {"Origin": "http://evil@127.0.0.1:5000"},
    {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "http://evil.example", "Sec-Fetch-Site": "none"},
]  # fmt: skip


async def test_a_session_changes_nothing_for_another_site(guarded: FastAPI) -> None:
    async with client(guarded) as http:
        await log_in(http, TOKEN)
        for headers in [*FOREIGN, {}]:
            for path in PATHS:
                if is_open(path):
                    continue
                for method in CHANGING:
                    answer = await http.request(method, path, headers=headers)
                    assert answer.status_code == 403, (headers, method, path)
        assert (await http.post("/api/scraper/pause", headers=OURS)).status_code in (200, 202)


@pytest.mark.parametrize(
    "to",
    [
        "//evil.example", "/\\evil.example", "\\\\evil", "https://evil.example", "https:evil", "javascript:alert(1)", "evil", "",
        "/\tevil", "/\n/evil", "\t//evil", "/x\r\nSet-Cookie: a=b", "/\x00", "/\u2028", " //evil", "/a\\b", "/\x7f",
    ],
)  # fmt: skip
async def test_a_login_leads_to_pages_of_ours_alone(guarded: FastAPI, to: str) -> None:
    async with client(guarded) as http:
        answer = await log_in(http, TOKEN, to)
        if answer.status_code == 303:
            assert answer.headers["location"] == "/"
            assert "a" not in SimpleCookie(answer.headers["set-cookie"])
        else:
            assert answer.status_code == 422
        shown = await http.get("/login", params={"next": to})
        assert shown.status_code == 422 or 'name="next" value="/"' in shown.text


async def test_a_form_of_another_site_logs_nobody_in(guarded: FastAPI) -> None:
    for headers in FOREIGN:
        async with client(guarded) as http:
            answer = await log_in(http, TOKEN, **headers)
            assert answer.status_code == 403
            assert "set-cookie" not in answer.headers


# -- guessing


@pytest.fixture
def addresses(guarded: FastAPI) -> Any:
    """Callers at other addresses."""

    def at(host: str, token: str = "") -> httpx.AsyncClient:
        transport = httpx.ASGITransport(guarded, client=(host, 1), raise_app_exceptions=False)
        given = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:5000", headers=given)

    return at


async def test_who_guesses_has_to_wait_and_nobody_else(guarded: FastAPI, addresses: Any) -> None:
    async with addresses("10.0.0.1") as guesser:
        statuses = [
            (await guesser.get("/api/sources", headers={"Authorization": f"Bearer guess-{n}"})).status_code
            for n in range(40)
        ]
        assert statuses[:10] == [401] * 10
        assert statuses[-1] == 429
        answer = await guesser.get("/api/sources", headers={"Authorization": "Bearer another"})
        assert int(answer.headers["retry-after"]) > 0
        assert (await guesser.get("/healthz")).status_code == 200
        assert (await log_in(guesser, "another")).status_code == 429
    async with addresses("10.0.0.2", TOKEN) as other:
        assert (await other.get("/api/sources")).status_code == 200


async def test_behind_one_address_a_guesser_does_not_lock_out_tokens_and_sessions(
    guarded: FastAPI, addresses: Any
) -> None:
    token = token_of(guarded, "read")
    async with addresses("10.0.0.1") as http:
        await log_in(http, token)
        for number in range(40):
            await http.get("/api/sources", headers={"Authorization": f"Bearer guess-{number}"})
        assert (await http.get("/api/sources")).status_code == 200
    async with addresses("10.0.0.1", token) as http:
        assert (await http.get("/api/sources")).status_code == 200
    async with addresses("10.0.0.1", "bb_wrong") as http:
        assert (await http.get("/api/sources")).status_code in (401, 429)


async def test_a_program_with_an_old_key_does_not_guess(guarded: FastAPI, addresses: Any) -> None:
    async with addresses("10.0.0.1", "the-token-of-last-year") as old:
        for _ in range(60):
            assert (await old.get("/api/sources")).status_code == 401
    async with addresses("10.0.0.1", TOKEN) as http:
        assert (await http.get("/api/sources")).status_code == 200


async def test_the_login_counts_guesses_too(guarded: FastAPI, addresses: Any) -> None:
    async with addresses("10.0.0.9") as http:
        statuses = [(await log_in(http, f"guess-{number}")).status_code for number in range(30)]
        assert statuses[0] == 401
        assert statuses[-1] == 429
        assert (await log_in(http, TOKEN)).status_code == 429


# -- the database is away


async def test_with_the_database_locked_the_configurations_token_reaches_the_status(guarded: FastAPI) -> None:
    token = token_of(guarded, "read")
    base = guarded.state.service.loaded.base
    other = sqlite3.connect(base / "test.db", isolation_level=None)
    guarded.state.db.close()
    other.execute("PRAGMA journal_mode=DELETE")
    other.execute("BEGIN EXCLUSIVE")
    try:
        async with client(guarded, TOKEN) as http:
            answer = await http.get("/api/scraper-status")
            assert answer.status_code == 200
            assert answer.json()["state"] == "starting"
            away = await http.get("/api/sources")
            assert away.status_code == 503
            assert away.headers["content-type"] == "application/problem+json"
            assert away.headers["retry-after"]
        async with client(guarded, token) as http:
            assert (await http.get("/api/scraper-status")).status_code == 503
        async with client(guarded) as http:
            assert (await http.get("/api/scraper-status")).status_code == 401
    finally:
        other.close()


async def test_who_was_let_in_before_still_is_while_the_database_is_away(
    guarded: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with client(guarded, token_of(guarded, "read")) as http:
        assert (await http.get("/api/scraper-status")).status_code == 200
        monkeypatch.setattr(keys_module, "FRESH_S", 0.0)
        (guarded.state.service.loaded.base / "test.db").rename(guarded.state.service.loaded.base / "away.db")
        (guarded.state.service.loaded.base / "test.db").mkdir()
        assert (await http.get("/api/scraper-status")).status_code == 200


# -- without a token


async def test_without_a_token_only_names_of_this_machine_are_hosts(make: Make) -> None:
    app = make()
    async with client(app) as http:
        for host in ("127.0.0.1:5000", "localhost", "LOCALHOST:5000", "[::1]:5000", "127.9.9.9", "bowerbird.localhost"):
            assert (await http.get("/api/sources", headers={"Host": host})).status_code == 200, host
        for host in (
            "evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "", "0.0.0.0", "10.0.0.1", "[::", "localhost.",
            "evil.example:5000", "2130706433", "[::ffff:10.0.0.1]", "localhost@evil.example", "127.0.0.1,evil.example", "é",
        ):  # fmt: skip
            answer = await http.get("/api/sources", headers={b"Host": host.encode()})
            assert answer.status_code == 403, host
            assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("address", "status"),
    [("127.0.0.1", 200), ("::1", 200), ("::ffff:127.0.0.1", 200), ("192.0.2.2", 403), ("::ffff:192.0.2.2", 403)],
)
async def test_without_a_token_nobody_else_is_served_whatever_he_calls_us(
    make: Make, address: str, status: int
) -> None:
    transport = httpx.ASGITransport(make(), client=(address, 1234))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        assert (await http.get("/api/sources")).status_code == status


async def test_without_a_token_another_site_changes_nothing_and_takes_no_streams(make: Make) -> None:
    app = make()
    async with client(app) as http:
        for headers in FOREIGN:
            for path in PATHS:
                for method in CHANGING:
                    if path.startswith("/static"):
                        continue
                    assert (await http.request(method, path, headers=headers)).status_code == 403, (
                        headers,
                        method,
                        path,
                    )
            assert (await http.get("/api/events", headers=headers)).status_code == 403
        assert (
            await http.post("/api/sources/books/pause", headers={"Sec-Fetch-Site": "same-origin"})
        ).status_code == 200


async def test_no_answer_lets_another_site_read_it(make: Make) -> None:
    async with client(make(SOURCE)) as http:
        for path in ("/", "/api/sources", "/nothing", "/healthz", "/static/live.js"):
            answer = await http.get(path, headers={"Origin": "http://evil.example"})
            assert not [name for name in answer.headers if name.startswith("access-control-")]
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
            assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        for method, asked in (("X-HTTP-Method-Override", "DELETE"), ("X-Method-Override", "POST")):
            assert (await http.get("/api/sources/books", headers={method: asked})).status_code == 200


@pytest.mark.parametrize(
    "foreign", ['prefs={"theme": "dark"}', "x=a b", "foo[bar]=1", "flag", "path=/x", 'q="open', "=", ";;"]
)
async def test_cookies_of_other_programs_do_no_harm(guarded: FastAPI, foreign: str) -> None:
    async with client(guarded) as http:
        await log_in(http, TOKEN)
        good = http.cookies[COOKIE]
    for cookie in (f"{foreign}; {COOKIE}={good}", f"{COOKIE}={good}; {foreign}"):
        async with client(guarded) as http:
            assert (await http.get("/api/sources", headers={"Cookie": cookie})).status_code == 200, cookie


async def test_a_password_in_the_query_of_a_databases_address_is_hidden() -> None:
    url = "postgresql+psycopg:///db?host=127.0.0.1&user=u&password=hunter2&sslpassword=hunter2"
    assert "hunter2" not in shown(url)
    assert "hunter2" not in shown("postgresql://u:hunter2@h/db")


async def test_the_status_answers_while_all_threads_wait(guarded: FastAPI) -> None:
    """Its dependencies need none of them."""
    limiter = to_thread.current_default_thread_limiter()
    borrowers = [object() for _ in range(int(limiter.total_tokens))]
    for borrower in borrowers:
        await limiter.acquire_on_behalf_of(borrower)
    try:
        async with client(guarded, TOKEN) as http, asyncio.timeout(5):
            assert (await http.get("/api/scraper-status")).status_code == 200
    finally:
        for borrower in borrowers:
            limiter.release_on_behalf_of(borrower)
