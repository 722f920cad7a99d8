"""What nobody should send: every answer is a problem document below 500, and nothing of it stays."""

import base64
import gzip
import json
from itertools import product
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from fastapi import FastAPI

BASE: dict[str, Any] = {"name": "evil", "start": ["https://example.com/"]}
MUCH = "x" * 1_000_000


def is_problem(answer: httpx.Response, *statuses: int) -> None:
    """Fail unless an answer is a problem document, with one of these statuses."""
    asked = f"{answer.request.method} {answer.request.url!s:.200}"
    assert answer.status_code in (statuses or range(400, 500)), (asked, answer.status_code, answer.text[:500])
    assert answer.headers["content-type"] == "application/problem+json"
    told = answer.json()
    assert told["status"] == answer.status_code
    assert told["title"]
    assert told["detail"]
    assert "Traceback" not in answer.text


STARTS: list[Any] = [
    "file:///etc/passwd", "source:file:///etc/passwd", "javascript:alert(1)", "data:text/html,x", "gopher://h/", "ftp://h/",
    "http://user:pw@example.com/", "https://:pw@example.com/", "http://", "http:///path", "//example.com/", "example.com",
    "", " ", "http://exa mple.com/", "http://example.com:99999/", "http://[::1", "http://%00/", "http://a\x00b/",
    f"http://example.com/{MUCH}", "http://" + "a." * 5000 + "com/", "\ud800", "http://\udfff.example/", None, 1, True, {}, [],
]  # fmt: skip


def each(key: str, *values: Any) -> list[dict[str, Any]]:
    """Definitions that are wrong in one key."""
    return [{key: value} for value in values]


def item(**rule: Any) -> dict[str, Any]:
    return {"item": [{"fields": {"t": "h1"}} | rule]}


FIELDS: list[dict[str, Any]] = [
    *each("name", "../../x", "<script>", "=1+1", MUCH, "", ".", "..", "a/b", "a\nb", "A", "é", "a\x00", "\ud800", None, 1, []),
    *each("start", *([url] for url in STARTS), [], "https://a.example/", {}, None, 1, ["https://a.example/"] * 20_000),
    *each("every", 0, -1, 0.5, "-1s", "0", "1e400", "soon", "", [], {}, True, 10**400, "9" * 5000 + "d"),
    *each("cron", "", "* *", "61 * * * *", "* * * * * * * *", "@reboot", MUCH, "\x00", 1, "*/0 * * * *"),
    *each("sitemaps", ["file:///etc/passwd"]),
    *({"every": "1h", "cron": "* * * * *"}, {"unknown": 1}, {"\ud800": 1}, {"a\x00": 1}, {MUCH: 1}),
    *each("max_pages", 0, -1, 1.5, "1", 10**30),
    *each("max_depth", -1),
    *each("pages_per_day", 10**400),
    *each("bytes_per_day", -1, 10**400, "1e9", "9" * 400 + " GiB"),
    *each("include", ["("], ["(" * 5000], ["a{99999999999}"], ["\x00"]),
    *each("follow", ["\ud800"], ["a\x00"], ["<<<"], 1),
    *each("headers", {"a b": "x"}, {"X": "a\r\nb"}, {"Host": "evil"}, {"X\x00": "y"}, {"": "x"}, {"X": 1}),
    *each("headers", {"X": "${HOME}"}, {"X": "a${DATABASE_URL}b"}, {"X": "${BOWERBIRD_SECRET_NOT_SET}"}),
    *each("cookies", {"c": "${HOME}"}, {"\ud800": "x"}),
    *each("login", {"url": "https://a.example/", "form": {"p": "${PATH}"}}, {"url": "https://a.example/", "form": {}}),
    *each("login", {"url": "file:///x", "form": {"a": "b"}}),
    *each("http", {"proxy": "http://127.0.0.1:3128"}, {"allow_networks": ["127.0.0.0/8"]}, {"proxy": ""}),
    *each("http", {"allow_networks": []}, {"delay": -1}, {"nonsense": 1}),
    *each("parser", "os:system", "subprocess:run", "../x", ""),
    *(item(fields={"t": given}) for given in ("\x00", {"xpath": "///"}, {"css": "a", "re": "("}, {"css": ">>>"}, {}, 1)),
    *(item(fields=given) for given in ({"a\x00b": "h1"}, {"\ud800": "h1"}, {})),
    *(item(fields={"t": {"css": "h1"} | field}) for field in each("default", float("nan"), float("inf"), {}, "a\x00", ["\ud800"])),
    *(item(kind="<b>"), item(key=["u"])),
    *({"noise": {"patterns": ["("]}}, {"tags": ["a b"]}, {"zone": "../../etc/passwd"}, {"window": ["25:00-26:00"]}),
]  # fmt: skip


def written(body: object) -> bytes:
    """JSON as a hostile caller writes it: NaN, huge numbers and lone surrogates too."""
    return json.dumps(body).encode()


JSON = {"Content-Type": "application/json"}


async def test_a_definition_that_is_none_is_refused_and_nothing_of_it_stays(http: httpx.AsyncClient) -> None:
    for field in FIELDS:
        body = written(BASE | field)
        is_problem(await http.post("/api/sources", content=body, headers=JSON), 422)
        is_problem(await http.post("/api/sources/check", content=body, headers=JSON), 422)
    names = [row["name"] for row in (await http.get("/api/sources")).json()["items"]]
    assert names == ["books"]


async def test_a_change_that_is_none_is_refused_and_the_old_definition_stays(http: httpx.AsyncClient) -> None:
    assert (await http.post("/api/sources", json=BASE)).status_code == 201
    before = (await http.get("/api/sources/evil")).json()
    for field in FIELDS:
        is_problem(await http.put("/api/sources/evil", content=written(BASE | field), headers=JSON), 422)
    assert (await http.get("/api/sources/evil")).json()["definition"] == before["definition"]


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.9/", "http://[::ffff:127.0.0.9]/", "http://2130706433/", "http://0x7f000001/", "http://0177.1/",
        "http://[::1]/", "http://10.0.0.1/", "http://169.254.169.254/latest/meta-data/", "http://localhost/", "http://0/",
        "http://[64:ff9b::7f00:1]/", "http://[fe80::1]/", "http://100.64.0.1/",
    ],
)  # fmt: skip
async def test_a_check_asks_no_address_of_this_network(http: httpx.AsyncClient, url: str) -> None:
    answer = await http.post("/api/sources/check", json={"start": [url]})
    if answer.status_code == 200:
        assert answer.json()["failure"]["reason"] == "blocked_address"
        assert answer.json()["status"] is None
    else:
        is_problem(answer, 422)
    other = await http.post("/api/sources/check", params={"url": url}, json={"start": ["https://example.com/"]})
    if other.status_code == 200:
        assert other.json()["failure"] is not None
    else:
        is_problem(other, 422)


BODIES = {
    "nothing": b"",
    "no JSON": b"{",
    "a list": b"[]",
    "a number": b"1",
    "null": b"null",
    "deep lists": b'{"name": "evil", "start": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep tables": b'{"name": "evil", "start": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}",
    "rather deep": b'{"name": "evil", "start": ' + b"[" * 900 + b"]" * 900 + b"}",
    "rather deep default": b'{"name": "evil", "start": ["https://a.example/"], "item": [{"fields": {"a": {"css": "b", "default": '
    + b"[" * 900
    + b"]" * 900
    + b"}}}]}",
    "a huge number": b'{"name": "evil", "start": ["https://a.example/"], "every": ' + b"9" * 4000 + b"}",
    "a number beyond all": b'{"name": "evil", "start": ["https://a.example/"], "every": ' + b"9" * 100_000 + b"}",
    "an infinite number": b'{"name": "evil", "start": ["https://a.example/"], "every": 1e400}',
    "NaN": b'{"name": "evil", "start": ["https://a.example/"], "every": NaN}',
    "broken UTF-8": b'{"name": "\xff\xfe", "start": ["https://a.example/"]}',
    "UTF-16": '["x"]'.encode("utf-16"),
}


BODIED = ["/api/sources", "/api/sources/check", "/api/sources/actions/run", "/api/failures/retry", "/api/tokens"]


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
async def test_a_body_that_is_none_is_refused(http: httpx.AsyncClient, body: bytes) -> None:
    for path in BODIED:
        is_problem(await http.post(path, content=body, headers=JSON), 400, 422)


async def test_of_a_name_that_is_there_twice_one_counts(http: httpx.AsyncClient) -> None:
    body = b'{"name": "a", "start": ["https://a.example/"], "name": "b"}'
    answer = await http.post("/api/sources", content=body, headers=JSON)
    assert (answer.status_code, answer.json()["name"]) == (201, "b")


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""]
)
async def test_json_under_a_content_type_that_a_page_elsewhere_may_send_is_refused(
    http: httpx.AsyncClient, kind: str
) -> None:
    for path in BODIED:
        answer = await http.post(path, content=written(BASE), headers={"Content-Type": kind} if kind else {})
        is_problem(answer, 400, 415, 422)
    assert [row["name"] for row in (await http.get("/api/sources")).json()["items"]] == ["books"]


async def test_a_body_that_is_too_large_is_refused(http: httpx.AsyncClient) -> None:
    large = written(BASE | {"cron": "x" * 3_000_000})
    is_problem(await http.post("/api/sources", content=large, headers=JSON), 413)

    async def pieces() -> Any:
        for start in range(0, len(large), 65536):
            yield large[start : start + 65536]

    is_problem(await http.post("/api/sources", content=pieces(), headers=JSON), 413)
    is_problem(await http.post("/api/sources", content=large, headers=JSON | {"Idempotency-Key": "large"}), 413)
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    is_problem(await http.post("/sources/add", content=b"name=" + b"x" * 3_000_000, headers=form), 413)
    is_problem(await http.post("/schedule.json", content=b"spider=" + b"x" * 3_000_000, headers=form), 413)


async def test_a_compressed_body_is_not_inflated(http: httpx.AsyncClient) -> None:
    bomb = gzip.compress(written(BASE | {"tags": ["a"] * 400_000}))
    assert len(bomb) < 2**20
    is_problem(
        await http.post("/api/sources", content=bomb, headers=JSON | {"Content-Encoding": "gzip"}), 400, 415, 422
    )


async def test_two_hundred_thousand_addresses_are_refused_in_time(http: httpx.AsyncClient) -> None:
    many = [f"http://a{number}.b/" for number in range(100_000)]
    is_problem(
        await http.post("/api/sources", content=written({"name": "evil", "start": many})[: 2**21 - 2], headers=JSON)
    )


def forged(text: str | bytes) -> str:
    return base64.urlsafe_b64encode(text.encode() if isinstance(text, str) else text).decode()


CURSORS = [
    "x", "\x00", "é", "a" * 513, forged("-1"), forged("x"), forged("1;drop"), forged(b"\xff"), forged("9" * 30),
    forged("0" * 19 + "1" + "9" * 40), forged("٣"), forged("1" * 370),
]  # fmt: skip
LISTS = [
    "/api/runs", "/api/pages", "/api/items", "/api/changes", "/api/failures", "/api/deliveries", "/queue", "/changes", "/events",
    "/items", "/pages", "/notifications",
]  # fmt: skip


async def test_a_forged_cursor_is_refused(http: httpx.AsyncClient) -> None:
    for path, cursor in product(LISTS, CURSORS):
        is_problem(await http.get(path, params={"cursor": cursor}), 422)


async def test_a_limit_out_of_range_is_refused(http: httpx.AsyncClient) -> None:
    for path in (*LISTS[:6], "/api/sources"):
        for limit in ("-1", "0", "501", "1000000000", "x", "", "1e3", "9" * 5000):
            is_problem(await http.get(path, params={"limit": limit}), 422)


@pytest.mark.parametrize("given", ["abc", "-1", "9" * 31, "9" * 100, "1e3", "\t", "0x10", "1.5", "٣"])
async def test_an_id_of_an_event_that_is_none_begins_now(app: FastAPI, http: httpx.AsyncClient, given: str) -> None:
    app.state.streams.close()  # so that the stream ends by itself
    answer = await http.get("/api/events", headers={b"Last-Event-ID": given.encode()})
    assert answer.status_code == 200
    assert "event:" not in answer.text


NUMBERS = [
    "-1",
    "0",
    "9223372036854775807",
    "9223372036854775808",
    "9" * 40,
    "9" * 5000,
    "x",
    "1.5",
    "%00",
    "1%00",
    "٣",
]
OF_NUMBERS = [
    "GET /api/runs/{}", "POST /api/runs/{}/stop", "GET /api/pages/{}", "GET /api/pages/{}/content", "GET /api/pages/{}/versions",
    "GET /api/items/{}", "GET /api/items/{}/history", "GET /api/changes/{}", "POST /api/alarms/{}/accept",
    "POST /api/failures/{}/retry", "POST /api/deliveries/{}/retry", "POST /runs/{}/stop", "POST /alarms/{}/accept",
    "POST /deliveries/{}/retry", "GET /items/{}", "GET /changes/{}", "GET /pages/{}", "GET /api/pages/1/content?version={}",
    "GET /api/changes?item_id={}&cursor=x",
]  # fmt: skip


async def test_a_number_of_nothing_is_a_problem(http: httpx.AsyncClient) -> None:
    for call, number in product(OF_NUMBERS, NUMBERS):
        method, _, path = call.format(number).partition(" ")
        form = {"Content-Type": "application/x-www-form-urlencoded"} if not path.startswith("/api/") else {}
        is_problem(await http.request(method, path, headers=form), 404, 405, 422)


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/api/sources", {"GET", "POST"}),
        ("/api/sources/books", {"GET", "PUT", "DELETE"}),
        ("/api/scraper-status", {"GET"}),
        ("/api/runs/1/stop", {"POST"}),
    ],
)
async def test_what_is_not_for_a_path_is_told_what_is(http: httpx.AsyncClient, path: str, allowed: set[str]) -> None:
    answer = await http.patch(path)
    is_problem(answer, 405)
    assert set(answer.headers["allow"].split(", ")) - {"HEAD"} == allowed


async def test_the_plus_sign_of_a_zone_may_be_written_as_it_is(http: httpx.AsyncClient) -> None:
    for zone in ("+00:00", "%2B00:00", "Z", "+0130"):
        answer = await http.get(f"/api/items?changed_since=2026-11-29T14:15:00{zone}")
        assert answer.status_code == 200, answer.text
    is_problem(await http.get("/api/items?changed_since=2026-11-29T14:15:00 x"), 422)


async def test_content_of_no_page_says_so(http: httpx.AsyncClient) -> None:
    answer = await http.get("/api/pages/99999/content")
    is_problem(answer, 404)
    assert "there is no page 99999" in answer.text


NAMES = [
    "x",
    "%00",
    "a%00b",
    "..",
    "%2e%2e",
    "%2e%2e%2f",
    "a%2fb",
    "%ff%fe",
    "%F0%9F%92%A9",
    "x" * 5000,
    "<script>",
    "'; drop--",
]
OF_NAMES = [
    "GET /api/sources/{}", "PUT /api/sources/{}", "DELETE /api/sources/{}", "POST /api/sources/{}/run",
    "POST /api/sources/{}/pause", "POST /api/sources/{}/resume", "GET /api/sources/{}/robots", "GET /api/export/{}",
    "DELETE /api/tokens/{}", "POST /api/notifications/{}/test", "GET /sources/{}", "POST /sources/{}/do/run",
    "POST /sources/{}/do/remove", "POST /sources/{}/ignore", "POST /tokens/{}/revoke",
    "POST /notifications/{}/test", "POST /api/scraper/{}", "GET /static/{}", "GET /{}", "POST /sources/{}/settings",
]  # fmt: skip


@pytest.mark.databases("sqlite", "postgresql")
async def test_a_name_of_nothing_is_a_problem(http: httpx.AsyncClient) -> None:
    for call, name in product(OF_NAMES, NAMES):
        method, _, path = call.format(name).partition(" ")
        if path.startswith("/api/"):
            answer = await http.request(method, path, json=BASE | {"name": "x"})
        elif method == "POST":
            answer = await http.request(method, path, data={"text": "x", "definition": ""})
        else:
            answer = await http.request(method, path)
        if not (name.strip(".%2e") == "" or "2e" in name):  # a client goes up by itself
            is_problem(answer, 404, 405, 422)
        assert answer.status_code < 500, (name, answer.text)


TEXTS = [
    "\x00",
    "a\x00b",
    "'; drop table runs; --",
    "%",
    "_",
    "\\",
    "x" * 2049,
    "(a+)+$",
    "\N{PILE OF POO}",
    "\r\n",
    "${HOME}",
]
OF_TEXTS = [
    "/api/sources?q={}", "/api/sources?tag={}", "/api/runs?source={}", "/api/runs?state={}", "/api/pages?url={}", "/api/items?q={}",
    "/api/items?kind={}", "/api/changes?kind={}", "/api/changes?since={}", "/api/changes.atom?source={}", "/api/failures?source={}",
    "/api/failures?reason={}", "/api/items?fields={}", "/api/items?source=books&fields=data.{}", "/api/deliveries?rule={}",
    "/api/export/books?format={}", "/api/export/books?fields={}", "/api/export/books?kind={}", "/api/alarms?source={}",
    "/listjobs.json?spider={}", "/listjobs.json?project={}", "/status.json?job={}", "/sources?q={}", "/queue?source={}",
    "/changes?source={}", "/items?q={}", "/events?kind={}", "/login?next={}", "/sources/new?url={}", "/api/sources?sort={}",
]  # fmt: skip


@pytest.mark.databases("sqlite", "postgresql")
async def test_no_text_of_a_question_is_a_fault_of_ours(http: httpx.AsyncClient) -> None:
    for path, text in product(OF_TEXTS, TEXTS):
        name, _, _ = path.rpartition("{}")
        answer = await http.get(name + str(httpx.QueryParams({"": text}))[1:])
        assert answer.status_code < 500, (text[:20], answer.text)
        if answer.status_code >= 400:
            is_problem(answer)


INSTANTS = ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "1e400", "2026-13-01", "NaN", "soon", "9" * 400]


async def test_no_instant_is_a_fault_of_ours(http: httpx.AsyncClient) -> None:
    for path in (
        "/api/changes?since=",
        "/api/items?changed_since=",
        "/api/export/books?since=",
        "/api/changes.atom?since=",
    ):
        for instant in INSTANTS:
            is_problem(await http.get(path + str(httpx.QueryParams({"": instant}))[1:]), 422)


FORMS: list[tuple[str, dict[str, Any]]] = [
    *[("/sources/add", {"url": url}) for url in STARTS[:22] if isinstance(url, str) and url.strip() and "example.com" not in (url[:13], url[2:13])],
    *[("/sources/add", {"url": "https://a.example/", "name": name}) for name in ("../x", "<script>", "=1+1", "x" * 200)],
    ("/sources/add", {"url": "https://a.example/", "every": "9" * 5000}),
    ("/sources/add", {"url": "https://a.example/", "every": "", "cron": "\x00"}),
    ("/sources/add", {"url": "https://a.example/", "follow": "<<<"}),
    ("/sources/add", {"url": "https://a.example/", "field_name": "a\x00", "field_place": "h1"}),
    ("/sources/add", {"url": "https://a.example/", "field_name": "a", "field_place": "xpath:///"}),
    ("/sources/add", {"url": "https://a.example/", "field_name": "a", "field_place": "css:" + ">" * 100_000}),
    ("/sources/add", {"url": "https://a.example/", "field_name": "a", "field_place": "h1", "kind": "../.."}),
    *[
        ("/sources/mine/settings", {"definition": text})
        for text in (
            "start = " + "[" * 100_000, "start = " + "[" * 500 + "]" * 500, "start = ['file:///etc/passwd']", "\x00", "= =",
            "start = ['https://a.example/']\nevery = " + "9" * 5000, "start = ['https://a.example/']\nevery = " + "9" * 4000,
            "start = ['https://a.example/']\nevery = nan", "start = ['https://a.example/']\nevery = 1979-05-27",
            "start = ['https://a.example/']\nparser = 'os:system'", "start = ['https://a.example/']\n[http]\nproxy = 'http://h'",
            "start = ['https://a.example/']\n[headers]\nX = '${HOME}'", "[a]\n[a]", "a." * 5000 + "b = 1",
        )
    ],
    ("/sources/mine/ignore", {"text": ""}),
    ("/sources/actions", {"action": "explode", "name": "mine"}),
    ("/sources/actions", {"action": "run"}),
    ("/queue/retry", {"id": "x"}),
    ("/queue/retry", {"id": "9" * 40}),
    ("/queue/retry", {"all": "1", "reason": "\x00"}),
    ("/queue/retry", {"all": "1", "source": "a\x00b"}),
    *[("/tokens", {"name": "x", "scope": "read", "days": days}) for days in ("9" * 5000, "x", "-1", "0", "1.5", "٣")],
    *[("/tokens", {"name": name, "scope": "read"}) for name in ("", "a\x00", "a\nb", "a/b", "..", "<script>", "x" * 200)],
    ("/tokens", {"name": "x", "scope": "root"}),
]  # fmt: skip


@pytest.mark.databases("sqlite", "postgresql")
async def test_no_form_is_a_fault_of_ours(http: httpx.AsyncClient) -> None:
    assert (await http.post("/api/sources", json=BASE | {"name": "mine"})).status_code == 201
    for path, form in FORMS:
        body = urlencode(form, errors="surrogatepass")
        answer = await http.post(path, content=body, headers={"Content-Type": "application/x-www-form-urlencoded"})
        assert 400 <= answer.status_code < 500, (path, repr(form)[:100], answer.status_code)
        assert "Traceback" not in answer.text
        assert "<script>" not in answer.text.replace("<script src", "")
    assert len((await http.get("/api/sources")).json()["items"]) == 2
    assert (await http.get("/api/tokens")).json()["items"] == []


async def test_what_a_fault_of_ours_says_tells_nothing(app: FastAPI, http: httpx.AsyncClient) -> None:
    del app.state.service
    answer = await http.get("/api/scraper-status")
    is_problem(answer, 500)
    assert "AttributeError" not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"
