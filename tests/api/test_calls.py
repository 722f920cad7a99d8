"""Calls that change something: what is in the way of two at once, of one that is repeated, and of secrets that leak."""

import asyncio
import hashlib
import json
import tomllib
from datetime import timedelta
from functools import partial
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import Connection, Insert, delete, insert, select, update

from api.dashboard.definition import as_toml
from api.stream import Place
from scraper.config.settings import Settings, plain
from scraper.database import Db, answers, sources
from scraper.database.connection import made_id, now
from scraper.database.models import alarms, events, item_versions, page_versions, runs
from scraper.database.models import changes as change_rows
from scraper.database.models import items as item_rows
from scraper.database.models import pages as page_rows
from scraper.errors import Unavailable
from scraper.startup import checked_source
from scraper.urls import fingerprint
from tests.api.conftest import SOURCE, TOKEN, Make, client
from tests.api.test_security import token_of

NEW: dict[str, Any] = {"name": "fresh", "start": ["https://a.example/"], "every": "1h"}


# -- ETag and If-Match


async def test_who_saw_an_older_definition_changes_nothing(http: httpx.AsyncClient) -> None:
    made = await http.post("/api/sources", json=NEW)
    first = made.headers["etag"]
    assert made.headers["location"] == "/api/sources/fresh"
    assert (await http.get("/api/sources/fresh")).headers["etag"] == first
    changed = await http.put("/api/sources/fresh", json=NEW | {"every": "2h"}, headers={"If-Match": first})
    assert changed.status_code == 200
    second = changed.headers["etag"]
    assert second != first
    stale = await http.put("/api/sources/fresh", json=NEW | {"every": "3h"}, headers={"If-Match": first})
    assert (stale.status_code, stale.headers["content-type"]) == (412, "application/problem+json")
    assert (await http.delete("/api/sources/fresh", headers={"If-Match": first})).status_code == 412
    assert (await http.get("/api/sources/fresh")).json()["every"] == 7200
    for tag in (f"{first}, {second}", f"W/{second}", "*"):
        assert (
            await http.put("/api/sources/fresh", json=NEW | {"every": "2h"}, headers={"If-Match": tag})
        ).status_code == 200
    assert (await http.delete("/api/sources/fresh", headers={"If-Match": second})).status_code == 204
    assert (await http.delete("/api/sources/fresh", headers={"If-Match": "*"})).status_code == 404


async def test_of_two_who_change_the_same_one_wins(http: httpx.AsyncClient) -> None:
    tag = (await http.post("/api/sources", json=NEW)).headers["etag"]
    calls = [
        http.put("/api/sources/fresh", json=NEW | {"max_pages": n}, headers={"If-Match": tag}) for n in range(1, 9)
    ]
    statuses = sorted([answer.status_code for answer in await asyncio.gather(*calls)])
    assert statuses == [200] + [412] * 7


async def test_a_source_of_the_file_is_changed_there(http: httpx.AsyncClient) -> None:
    for answer in (
        await http.put("/api/sources/books", json=NEW | {"name": "books"}),
        await http.delete("/api/sources/books"),
        await http.post("/api/sources", json=NEW | {"name": "books"}),
        await http.post("/api/sources/actions/remove", json={"names": ["books"]}),
    ):
        assert answer.status_code == 409
        assert answer.json()["detail"]
    assert (await http.put("/api/sources/nobody", json=NEW)).status_code == 404
    assert (await http.post("/api/sources", json=NEW)).status_code == 201
    assert (await http.put("/api/sources/fresh", json=NEW | {"name": "other"})).status_code == 422


# -- secrets

SECRET = NEW | {
    "headers": {"Authorization": "Bearer hunter2", "X": "${BOWERBIRD_SECRET_X}hunter3", "Y": "${BOWERBIRD_SECRET_X}"},
    "cookies": {"sid": "hunter4"},
    "login": {"url": "https://a.example/login", "form": {"user": "me", "password": "hunter5"}},
}


async def test_secrets_are_told_nobody_and_kept_where_they_are_given_back_hidden(
    http: httpx.AsyncClient, kept: Db, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOWERBIRD_SECRET_X", "hunter6")
    added = await http.post("/api/sources", json=SECRET)
    assert added.status_code == 201
    for answer in [
        added,
        *[await http.get(path) for path in ("/api/sources/fresh", "/api/sources", "/sources/new?tab=settings")],
    ]:
        assert "hunter" not in answer.text
    shown = added.json()["definition"]
    assert shown["headers"] == {"Authorization": "***", "X": "***", "Y": "${BOWERBIRD_SECRET_X}"}
    page = await http.get("/sources/new?tab=settings")
    assert "hunter" not in page.text
    changed = await http.put("/api/sources/fresh", json=shown | {"every": "2h"})
    assert changed.status_code == 200, changed.text
    stored = kept.read(lambda c: sources.definition(c, "fresh"))
    for key in ("headers", "cookies"):
        assert stored[key] == SECRET[key]
    assert stored["login"]["form"] == SECRET["login"]["form"]
    given = shown | {"headers": {"Authorization": "Bearer other"}}
    assert (await http.put("/api/sources/fresh", json=given)).status_code == 200
    assert kept.read(lambda c: sources.definition(c, "fresh"))["headers"] == {"Authorization": "Bearer other"}


@pytest.mark.parametrize(
    "elsewhere",
    [
        {"start": ["https://evil.example/"]},
        {"start": ["https://a.example/", "https://evil.example/"]},
        {"start": ["http://a.example/"]},
        {"start": ["https://a.example:444/"]},
        {"sitemaps": ["https://evil.example/map.xml"]},
        {"login": {"url": "https://evil.example/", "form": {"user": "***", "password": "***"}}},
    ],
    ids=str,
)
async def test_who_may_not_read_a_secret_sends_it_nowhere_else(
    http: httpx.AsyncClient, kept: Db, monkeypatch: pytest.MonkeyPatch, elsewhere: dict[str, Any]
) -> None:
    monkeypatch.setenv("BOWERBIRD_SECRET_X", "hunter6")
    shown = (await http.post("/api/sources", json=SECRET)).json()["definition"]
    before = kept.read(lambda c: sources.definition(c, "fresh"))
    answer = await http.put("/api/sources/fresh", json=shown | elsewhere)
    assert answer.status_code == 422
    assert "hidden" in answer.json()["detail"]
    assert kept.read(lambda c: sources.definition(c, "fresh")) == before
    whole = (
        SECRET
        | elsewhere
        | ({"login": SECRET["login"] | {"url": "https://evil.example/"}} if "login" in elsewhere else {})
    )
    assert (await http.put("/api/sources/fresh", json=whole)).status_code == 200


async def test_the_password_of_a_proxy_is_told_nobody(make: Make) -> None:
    text = (
        SOURCE
        + '[source.http]\nproxy = "http://me:hunter2@127.0.0.9:3128"\n[http]\nproxy = "http://you:hunter3@127.0.0.9:1"\n'
    )
    async with client(make(text)) as http:
        for path in (
            "/api/sources/books",
            "/api/sources",
            "/sources/books?tab=settings",
            "/sources.json",
            "/system",
            "/system.json",
        ):
            answer = await http.get(path)
            assert answer.status_code == 200
            assert "hunter" not in answer.text, path


# -- Idempotency-Key

KEY = {"Idempotency-Key": "a-key"}


async def test_a_call_that_is_repeated_is_answered_as_it_was_and_done_once(http: httpx.AsyncClient, kept: Db) -> None:
    first = await http.post("/api/sources", json=NEW, headers=KEY)
    await http.delete("/api/sources/fresh")
    again = await http.post("/api/sources", json=NEW, headers=KEY)
    assert (again.status_code, again.content) == (201, first.content)
    assert again.headers["idempotency-replayed"] == "true"
    for name in ("location", "etag", "content-type"):
        assert again.headers[name] == first.headers[name]
    assert "idempotency-replayed" not in first.headers
    assert (await http.get("/api/sources/fresh")).status_code == 404
    for body, path in ((NEW | {"every": "9h"}, "/api/sources"), (NEW, "/api/sources/check"), (NEW, "/api/sources?x=1")):
        other = await http.post(path, json=body, headers=KEY)
        assert (other.status_code, other.headers["content-type"]) == (422, "application/problem+json")
    refused = await http.post("/api/sources", json={"name": "x"}, headers={"Idempotency-Key": "bad"})
    assert refused.status_code == 422
    assert (
        await http.post("/api/sources", json={"name": "x"}, headers={"Idempotency-Key": "bad"})
    ).content == refused.content
    for key in ("", "x" * 201):
        assert (await http.post("/api/sources", json=NEW, headers={"Idempotency-Key": key})).status_code == 422
    assert (await http.post("/api/sources", json=NEW)).status_code == 201


async def test_of_calls_at_once_one_is_done(http: httpx.AsyncClient, kept: Db) -> None:
    found = await asyncio.gather(*(http.post("/api/sources", json=NEW, headers=KEY) for _ in range(8)))
    statuses = {answer.status_code for answer in found}
    assert 201 in statuses
    assert statuses <= {201, 409}
    done = [answer for answer in found if answer.status_code == 201]
    assert len({answer.content for answer in done}) == 1
    assert len([answer for answer in done if "idempotency-replayed" not in answer.headers]) == 1


async def test_a_key_belongs_to_who_uses_it(make: Make) -> None:
    app = make(token=TOKEN)
    async with client(app, token_of(app, "write", "one")) as one, client(app, token_of(app, "write", "two")) as two:
        assert (await one.post("/api/sources", json=NEW, headers=KEY)).status_code == 201
        other = await two.post("/api/sources", json=NEW | {"name": "other"}, headers=KEY)
        assert (other.status_code, other.json()["name"]) == (201, "other")


async def test_a_fault_of_ours_may_be_tried_again(
    app: FastAPI, http: httpx.AsyncClient, kept: Db, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = app.state.service
    del app.state.service
    assert (await http.post("/api/sources", json=NEW, headers=KEY)).status_code == 500
    app.state.service = service
    write = kept.write
    monkeypatch.setattr("api.routes.sources.sources.add", lambda *_: (_ for _ in ()).throw(Unavailable("away")))
    assert (await http.post("/api/sources", json=NEW, headers=KEY)).status_code == 503
    monkeypatch.undo()
    assert kept.write == write
    assert (await http.post("/api/sources", json=NEW, headers=KEY)).status_code == 201


async def test_a_call_whose_worker_died_is_free_again_after_a_while(http: httpx.AsyncClient, kept: Db) -> None:
    kept.write(lambda c: answers.begin(c, "server:a-key", "digest", now()))
    other = await http.post("/api/sources", json=NEW, headers=KEY)
    assert other.status_code == 422  # of another body
    body = json.dumps(NEW).encode()
    digest = hashlib.sha256(b"\0".join([b"/api/sources", b"", body])).hexdigest()
    for age, status in ((timedelta(), 409), (answers.ABANDONED + timedelta(seconds=1), 201)):
        at = now() - age
        kept.write(lambda c: answers.forget(c, "server:a-key"))
        kept.write(lambda c, at=at: answers.begin(c, "server:a-key", digest, at))  # type: ignore[misc]
        headers = KEY | {"Content-Type": "application/json"}
        assert (await http.post("/api/sources", content=body, headers=headers)).status_code == status


# -- several at once


async def test_an_action_on_several_does_what_a_dry_run_says(http: httpx.AsyncClient, kept: Db) -> None:
    for number in range(3):
        await http.post("/api/sources", json=NEW | {"name": f"s{number}", "tags": ["mine"] if number else []})
    asked = {"tag": "mine", "dry_run": True}
    dry = await http.post("/api/sources/actions/pause", json=asked)
    assert dry.json() == {"names": ["s1", "s2"], "dry_run": True}
    assert (await http.get("/api/sources", params={"state": "paused"})).json()["items"] == []
    done = await http.post("/api/sources/actions/pause", json=asked | {"dry_run": False})
    assert done.json()["names"] == ["s1", "s2"]
    assert [one["name"] for one in (await http.get("/api/sources?state=paused")).json()["items"]] == ["s1", "s2"]
    assert (await http.post("/api/sources/actions/pause", json=asked | {"dry_run": False})).json()["names"] == []
    run = {"names": ["s1", "s2"], "dry_run": False}
    assert (await http.post("/api/sources/actions/run", json=run)).status_code == 409
    assert (await http.post("/api/sources/s2/resume")).status_code == 200
    for dry_run in (True, False):
        assert (await http.post("/api/sources/actions/run", json=run | {"dry_run": dry_run})).json()["names"] == ["s2"]
    kept.write(lambda c: c.execute(delete(runs)))
    assert (await http.post("/api/sources/s2/pause")).status_code == 200
    assert (await http.post("/api/sources/actions/resume", json={"state": "paused"})).json()["names"] == ["s1", "s2"]
    assert (await http.post("/api/sources/actions/remove", json={"names": ["s1", "books"]})).status_code == 409
    assert (await http.get("/api/sources/s1")).status_code == 200
    assert (await http.post("/api/sources/actions/remove", json={"names": ["s1", "nobody"]})).json()["names"] == ["s1"]
    assert (await http.post("/api/sources/actions/run", json={"names": ["s2"], "dryrun": True})).status_code == 422
    assert (await http.get("/api/runs")).json()["items"] == []
    assert (await http.post("/api/sources/actions/run", json={})).status_code == 422


async def test_only_the_fields_that_are_asked_for_are_told(http: httpx.AsyncClient, kept: Db) -> None:
    facts = {"pid": 7, "is": "idle"}
    row = {"at": now(), "kind": "process", "name": "scraper-0", "event": "moved", "level": "info", "facts": facts}
    kept.write(lambda c: c.execute(insert(events).values(**row)))
    kept.write(lambda c: c.execute(insert(runs).values(source="books", state="queued", kind="crawl", queued_at=now())))
    assert (await http.get("/api/runs?fields=source, state,id.x")).json()["items"] == [
        {"source": "books", "state": "queued"}
    ]
    refused = await http.get("/api/runs?fields=source,stat")
    assert refused.status_code == 422
    assert "there is no 'stat'" in refused.text
    answer = await http.get("/api/events?fields=facts.pid", headers={"Accept": "application/json"})
    assert answer.json()["items"] == [{"facts": {"pid": 7}}]


async def test_the_list_of_events_has_the_filters_of_the_stream(http: httpx.AsyncClient, kept: Db) -> None:
    row = {"at": now(), "name": "x", "event": "moved", "level": "info", "facts": {}}
    kept.write(lambda c: c.execute(insert(events), [row | {"kind": kind} for kind in ("process", "run", "service")]))

    async def kinds(query: str) -> list[str]:
        answer = await http.get(f"/api/events?{query}", headers={"Accept": "application/json"})
        return [event["kind"] for event in answer.json()["items"]]

    assert await kinds("kind=run, process") == ["run", "process"]
    assert await kinds("kind=run&level=error") == []
    (first, *_) = (await http.get("/api/events?kind=process", headers={"Accept": "application/json"})).json()["items"]
    for place in (first["id"], Place(first["id"], 7)):
        assert await kinds(f"since={place}") == ["service", "run"]


async def test_an_alarm_is_accepted_once_and_a_run_is_stopped(http: httpx.AsyncClient, kept: Db) -> None:
    values = {"source": "books", "kind": "book", "name": "", "at": now(), "last_at": now(), "message": "they are gone"}
    number = kept.write(lambda c: made_id(c.execute(insert(alarms).values(**values))))
    assert [one["id"] for one in (await http.get("/api/alarms")).json()["items"]] == [number]
    assert (await http.post(f"/api/alarms/{number}/accept")).json()["accepted_at"]
    assert (await http.post(f"/api/alarms/{number + 1}/accept")).status_code == 404
    run = (await http.post("/api/sources/books/run")).json()["run"]
    for _ in range(2):
        stopped = await http.post(f"/api/runs/{run}/stop")
        assert (stopped.status_code, stopped.json()["state"]) == (200, "stopped")
    assert (await http.post("/api/runs/99/stop")).status_code == 404
    assert kept.read(lambda c: c.execute(select(runs.c.state)).scalars().all()) == ["stopped"]


# -- Pages as JSON


def _put(statement: Insert, connection: Connection) -> None:
    connection.execute(statement)


async def test_a_page_as_json_holds_instants_and_numbers_of_any_size(http: httpx.AsyncClient, kept: Db) -> None:
    at = now().replace(microsecond=120_000)
    for number in (7, 2**70):
        row = {"at": at, "kind": "process", "name": "x", "event": "ended", "level": "error", "facts": {"n": number}}
        kept.write(partial(_put, insert(events).values(**row)))
        answer = await http.get("/events.json?kind=process")
        assert answer.headers["content-type"] == "application/json"
        first = answer.json()["rows"][0]
        assert (first["facts"], first["at"]) == ({"n": number}, at.isoformat())
    happened = (await http.get("/overview.json")).json()["happened"]
    assert [event["facts"]["n"] for event in happened] == [2**70, 7]


async def test_changes_are_read_by_number_and_up_to_one(http: httpx.AsyncClient, kept: Db) -> None:
    row = {"at": now(), "source": "books", "of": "item", "change": "changed", "fields": {}}
    kept.write(lambda c: c.execute(insert(change_rows), [row] * 6))
    numbers = sorted(row["id"] for row in (await http.get("/api/changes")).json()["items"])
    both = await http.post("/api/changes/read", json={"ids": [numbers[5]], "up_to": numbers[2]})
    assert both.json() == {"marked": 4}
    assert (await http.post("/api/changes/read", json={})).json() == {"marked": 0}
    assert (await http.post("/api/changes/read", json={"ids": numbers})).json() == {"marked": 2}


async def test_monitors_may_ask_for_the_head_alone(http: httpx.AsyncClient) -> None:
    answer = await http.head("/healthz")
    assert (answer.status_code, answer.content) == (200, b"")


SAID = {
    "enabled": False,
    "max_depth": 0,
    "http": {"delay": 0, "obey_robots": False, "retries": 0},
    "recheck": {},
    "item": [{"kind": "book", "fields": {"a": {"css": "a", "default": ""}, "b": {"css": "b", "default": 0}}}],
}


async def test_settings_that_are_saved_as_they_are_shown_stay_as_they_are(http: httpx.AsyncClient, kept: Db) -> None:
    assert (await http.post("/api/sources", json=NEW | SAID)).status_code == 201
    before = kept.read(lambda c: sources.definition(c, "fresh"))
    shown = as_toml(before)
    made = checked_source({**tomllib.loads(shown), "name": "fresh"}, Settings(), {}, trusted=True)
    assert plain(made) == before
    assert all(word in shown for word in ("enabled = false", "max_depth = 0", "obey_robots = false", "recheck"))


@pytest.mark.parametrize("name", ["new", "actions"])
async def test_no_source_takes_an_address_of_ours(http: httpx.AsyncClient, name: str) -> None:
    refused = await http.post("/api/sources", json=NEW | {"name": name})
    assert (refused.status_code, "take another one" in refused.text) == (422, True)


async def test_a_secret_that_is_hidden_is_none(http: httpx.AsyncClient) -> None:
    refused = await http.post("/api/sources", json=NEW | {"headers": {"X-Key": "***"}})
    assert (refused.status_code, "give the value itself" in refused.text) == (422, True)


# -- HEAD


@pytest.mark.parametrize(
    "path",
    ["/", "/healthz", "/api/sources", "/api/sources/books", "/api/export/books", "/metrics", "/static/icon.svg"],
)
async def test_head_is_answered_as_get_without_the_body(http: httpx.AsyncClient, path: str) -> None:
    whole, head = await http.get(path), await http.head(path)
    assert (head.status_code, head.content) == (whole.status_code, b"") == (200, b"")
    for name in ("content-type", "etag", *(["content-length"] if path in ("/healthz", "/static/icon.svg") else [])):
        assert head.headers.get(name) == whole.headers.get(name)


async def test_head_of_what_has_no_end_ends(http: httpx.AsyncClient) -> None:
    async with asyncio.timeout(20):
        answer = await http.head("/api/events")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-type"].startswith("text/event-stream")


@pytest.mark.parametrize(
    ("path", "status"), [("/api/nothing", 404), ("/api/runs/1/stop", 405), ("/api/sources/x", 404)]
)
async def test_head_of_what_is_not_there_is_refused(http: httpx.AsyncClient, path: str, status: int) -> None:
    answer = await http.head(path)
    assert (answer.status_code, answer.content) == (status, b"")


async def test_head_needs_the_key_that_get_needs(make: Make) -> None:
    app = make(token=TOKEN)
    async with client(app) as stranger, client(app, TOKEN) as known:
        assert (await stranger.head("/api/sources")).status_code == 401
        assert (await known.head("/api/sources")).status_code == 200


# -- versions


def _with_past(db: Db, count: int) -> None:
    """A page and an item that were otherwise so often before."""
    values = {"source": "books", "run_id": 1, "url": "http://a.example/", "first_seen": now(), "last_seen": now()}
    page = {name: values[name] for name in ("source", "run_id", "url")} | {"final_url": values["url"], "status": 200}
    page |= {
        "fingerprint": b"f",
        "content_type": "text/html",
        "depth": 0,
        "content_hash": "",
        "bytes": 0,
        "headers": {},
    }
    page |= {"body": b"", "stored_bytes": 0, "fetched_at": now(), "changed_at": now()}
    item = values | {"kind": "item", "key": "k", "data": {"n": count}, "page_id": 1, "changed_at": now()}

    def unit(c: Connection) -> None:
        c.execute(insert(page_rows).values(**page))
        c.execute(insert(item_rows).values(**item))
        was = {"at": now(), "until": now()}
        c.execute(
            insert(item_versions), [was | {"item_id": 1, "source": "books", "data": {"n": n}} for n in range(count)]
        )
        kept = {"page_id": 1, "source": "books", "status": 200, "content_hash": "", "bytes": 0, "headers": {}}
        kept |= {"body": b"", "stored_bytes": 0}
        c.execute(insert(page_versions), [was | kept | {"title": str(n)} for n in range(count)])

    db.write(unit)


@pytest.mark.parametrize("path", ["/api/items/1/history", "/api/pages/1/versions"])
@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8, 9])
async def test_versions_are_listed_page_by_page(http: httpx.AsyncClient, kept: Db, path: str, limit: int) -> None:
    _with_past(kept, 7)
    found: list[Any] = []
    cursor: str | None = ""
    while cursor is not None:
        answer = (await http.get(path, params={"limit": limit} | ({"cursor": cursor} if cursor else {}))).json()
        assert len(answer["items"]) <= limit
        found += answer["items"]
        cursor = answer["next"]
    assert [row["id"] for row in found] == [None, 7, 6, 5, 4, 3, 2, 1]


async def test_a_change_is_listed_with_what_it_is_of(http: httpx.AsyncClient, kept: Db) -> None:
    _with_past(kept, 1)
    told = {
        "at": now(),
        "source": "books",
        "of": "item",
        "kind": "item",
        "change": "changed",
        "item_id": 1,
        "fields": {},
    }
    kept.write(lambda c: c.execute(insert(change_rows).values(**told)))
    [row] = (await http.get("/api/changes")).json()["items"]
    assert (row["key"], row["url"], row["data"]) == ("k", "http://a.example/", {"n": 1})
    [row] = (await http.get("/api/changes?fields=id,key")).json()["items"]
    assert row == {"id": 1, "key": "k"}


async def test_the_token_may_be_the_password_of_basic(make: Make) -> None:
    app = make(token=TOKEN)
    async with client(app) as http:
        for user, password, status in (("", TOKEN, 200), ("me", TOKEN, 200), (TOKEN, "", 401), ("me", "other", 401)):
            assert (await http.get("/daemonstatus.json", auth=(user, password))).status_code == status


async def test_a_parameter_that_means_nothing_is_a_problem(http: httpx.AsyncClient) -> None:
    for path, said in (
        ("/api/items?sorce=books", "did you mean 'source'?"),
        ("/api/sources/books?x=1", "there are: cursor, fields, limit"),
        ("/api/runs?limit=1&bogus=2", "bogus: there is no such parameter"),
    ):
        answer = await http.get(path)
        assert answer.status_code == 422
        assert said in answer.json()["detail"]
    assert (await http.get("/api/items?source=books&limit=3&fields=id")).status_code == 200
    assert (await http.get("/api/alarms?limit=3")).status_code == 200
    assert (await http.get("/items?anything=1")).status_code == 200  # a page may be called as somebody's link has it


async def test_a_page_is_found_by_where_it_lives_and_by_where_it_was_asked_for(
    http: httpx.AsyncClient, kept: Db
) -> None:
    _with_past(kept, 1)
    lives, asked = "http://a.example/lives", "http://a.example/asked"
    values = {"final_url": lives, "url": asked, "fingerprint": fingerprint(lives)}
    kept.write(lambda c: c.execute(update(page_rows).values(**values)))
    for url in (lives, asked, lives + "#part", asked + "#part"):
        assert [row["id"] for row in (await http.get("/api/pages", params={"url": url})).json()["items"]] == [1]
    assert (await http.get("/api/pages", params={"url": "http://a.example/other"})).json()["items"] == []
