"""Live events: none lost and none twice, over reconnects, workers and restarts; so many at once; and they end."""

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from sqlalchemy import delete, insert

from scraper.config.settings import Database
from scraper.database import Db, changes, events
from scraper.database.models import events as event_rows
from scraper.database.models import meta
from scraper.records import Event
from tests.support import Project, Running, until

AT = datetime(2026, 5, 1, tzinfo=UTC)


@dataclass
class Said:
    kind: str
    data: dict[str, Any]
    id: str


@dataclass
class Listener:
    """Somebody who listens, in a thread, and comes back with the last id that he has."""

    base: str
    params: dict[str, str] = field(default_factory=dict)
    heard: list[Said] = field(default_factory=list)
    last: str = ""
    connected: int = 0
    _stop: bool = False

    def start(self) -> "Listener":
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        self._stop = True
        self._thread.join(10)

    def _run(self) -> None:
        while not self._stop:
            headers = {"Last-Event-ID": self.last} if self.last else {}
            try:
                with httpx.stream(
                    "GET", f"{self.base}/api/events", params=self.params, headers=headers, timeout=1
                ) as answer:
                    if answer.status_code == 200:
                        self._hear(answer)
            except httpx.HTTPError:
                time.sleep(0.05)

    def _hear(self, answer: httpx.Response) -> None:
        told: dict[str, str] = {}
        for line in answer.iter_lines():
            if line.startswith("retry"):
                self.connected += 1
            if line:
                name, _, value = line.partition(": ")
                told[name] = value
            elif "data" in told:
                self.heard.append(Said(told["event"], json.loads(told["data"]), told["id"]))
                self.last = told["id"]
                told = {}
            if self._stop:
                return

    def numbers(self) -> list[int]:
        return [said.data["facts"]["n"] for said in self.heard if said.kind == "test"]

    def changed(self) -> list[int]:
        return [said.data["fields"]["n"][1] for said in self.heard if said.kind == "change"]


@contextmanager
def database(project: Project) -> Iterator[Db]:
    with Db(Database(url=f"sqlite:///{project.path / 'bowerbird.db'}")) as db:
        yield db


def tell(db: Db, number: int) -> None:
    """Have an event and a change happen."""
    event = Event(AT, "test", "x", "told", "info", {"n": number})
    row = changes.row(AT, "s", "item", "changed", fields={"n": [0, number]})
    db.write(lambda c: events.add(c, [event]))
    db.write(lambda c: changes.tell(c, [row]))


@pytest.fixture
def listen(project: Project) -> Iterator[Callable[..., Listener]]:
    made: list[Listener] = []

    def start(last: str = "", **params: str) -> Listener:
        one = Listener(f"http://127.0.0.1:{project.port}", params, last=last).start()
        made.append(one)
        until(lambda: one.connected, "it listens")
        return one

    yield start
    for one in made:
        one.stop()


def test_who_comes_back_misses_nothing_at_whichever_worker_and_after_a_restart(
    project: Project, serve: Callable[..., Running], listen: Callable[..., Listener]
) -> None:
    project.configure("")
    service = serve("--workers", "3")
    listeners = [listen(kind="test,change") for _ in range(6)]
    time_out = time.monotonic() + 60
    with database(project) as db:
        for number in range(30):
            tell(db, number)
        until(lambda: all(len(one.heard) == 60 for one in listeners), "all heard the first")
        service.process.send_signal(signal.SIGTERM)
        service.process.wait(20)
        for number in range(30, 60):
            tell(db, number)
        serve("--workers", "3")
        for number in range(60, 90):
            tell(db, number)
        until(
            lambda: all(len(one.heard) >= 180 for one in listeners),
            "all heard all",
            within_s=time_out - time.monotonic(),
        )
    for one in listeners:
        assert one.numbers() == list(range(90))
        assert one.changed() == list(range(90))
        ids = [int(said.id) for said in one.heard]
        assert ids == sorted(set(ids))


def test_who_was_away_for_too_long_is_told_to_look_again_and_goes_on(
    project: Project, serve: Callable[..., Running], listen: Callable[..., Listener]
) -> None:
    project.configure("")
    serve()
    with database(project) as db:
        tell(db, 1)

        def prune(c: Any) -> None:
            c.execute(delete(event_rows))
            c.execute(insert(meta).values(name="events_pruned_to", value=str(10**6)))

        db.write(prune)
        db.write(
            lambda c: c.execute(
                insert(event_rows).values(id=10**6, at=AT, kind="x", name="x", event="x", level="info", facts={})
            )
        )
        one = listen(str(10**12), kind="test")
        until(lambda: one.heard, "it is told")
        assert one.heard[0].kind == "resync"
        tell(db, 2)
        until(lambda: one.numbers() == [2], "it goes on")


def test_a_pulse_says_that_something_moved_and_only_to_who_asks(
    project: Project, serve: Callable[..., Running], listen: Callable[..., Listener]
) -> None:
    project.configure("")
    serve()
    asked, others = listen(kind="pulse"), listen()
    until(lambda: asked.heard, "a first pulse")
    with database(project) as db:
        before = len(asked.heard)
        tell(db, 1)
        until(lambda: len(asked.heard) > before, "another pulse")
    assert {said.kind for said in asked.heard} == {"pulse"}
    until(lambda: asked.heard[-1].data["changes"] > asked.heard[0].data["changes"], "it says how far the changes are")
    until(lambda: others.numbers() == [1], "the others hear the event")
    assert "pulse" not in {said.kind for said in others.heard}


def test_there_are_a_hundred_streams_and_they_end_with_the_service(
    project: Project, serve: Callable[..., Running]
) -> None:
    project.configure("")
    service = serve()
    base = f"http://127.0.0.1:{project.port}"
    found: list[httpx.Response] = []
    with ExitStack() as stack:
        limits = httpx.Limits(max_connections=200)
        http = stack.enter_context(httpx.Client(base_url=base, limits=limits, timeout=20, trust_env=False))
        lock = threading.Lock()

        def ask() -> None:
            answer = http.send(http.build_request("GET", "/api/events"), stream=True)
            with lock:
                found.append(answer)

        threads = [threading.Thread(target=ask) for _ in range(130)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        statuses = [answer.status_code for answer in found]
        assert (statuses.count(200), statuses.count(503)) == (100, 30)
        refused = next(answer for answer in found if answer.status_code == 503)
        assert refused.headers["content-type"] == "application/problem+json"
        assert refused.headers["retry-after"]
        assert service.http.get("/api/events", headers={"Accept": "application/json"}).status_code == 200
        assert service.http.get("/healthz").status_code == 200
        for answer in found[:]:
            if answer.status_code == 200:
                answer.close()
                found.remove(answer)
                break

        def room() -> bool:
            with service.http.stream("GET", "/api/events") as again:
                return again.status_code == 200

        until(room, "a place is free again")
        began = time.monotonic()
        service.process.send_signal(signal.SIGTERM)
        service.process.wait(15)
        assert time.monotonic() - began < 10
        for answer in found:
            answer.close()
    assert "Traceback" not in project.output()


def test_a_stream_ends_with_the_key_of_who_listens(project: Project, serve: Callable[..., Running]) -> None:
    project.configure("")
    toml = project.path / "bowerbird.toml"
    toml.write_text(toml.read_text().replace("[server]\n", '[server]\ntoken = "t"\n'))
    service = serve()
    admin = {"Authorization": "Bearer t"}
    token = service.http.post("/api/tokens", json={"name": "one"}, headers=admin).json()["token"]
    base = f"http://127.0.0.1:{project.port}"
    with (
        httpx.stream("GET", f"{base}/api/events", headers={"Authorization": f"Bearer {token}"}, timeout=20) as answer,
        database(project) as db,
    ):
        assert answer.status_code == 200
        assert service.http.delete("/api/tokens/one", headers=admin).status_code == 204
        done = threading.Event()

        def disturb() -> None:
            number = 0
            while not done.wait(0.2):
                tell(db, number := number + 1)

        thread = threading.Thread(target=disturb)
        thread.start()
        began = time.monotonic()
        list(answer.iter_lines())
        done.set()
        thread.join()
        assert time.monotonic() - began < 4
