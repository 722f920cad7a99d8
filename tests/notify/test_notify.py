"""Notifications: what is told, when, to whom, signed, again and again until it is taken; never by nobody and rarely twice."""

import asyncio
import base64
import hashlib
import hmac
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from scraper import template as template_of
from scraper.config.settings import Database, Http, Notify, Source
from scraper.config.shape import build
from scraper.crawl.fetcher import Fetcher
from scraper.database import Db, alarms, changes, events, notices, schema, sources
from scraper.database.connection import made_id
from scraper.database.models import alarms as alarm_rows
from scraper.database.models import deliveries
from scraper.database.models import items as item_rows
from scraper.database.models import pages as page_rows
from scraper.database.models import runs as run_rows
from scraper.database.models import sources as source_rows
from scraper.notify import message
from scraper.notify.look import look
from scraper.notify.notifier import Notifier
from scraper.records import Event
from scraper.states import RunState
from tests.support import PATIENCE_S, Project, free_port, until

LOOPBACK = Http(allow_networks=("127.0.0.0/8",), timeout=1.0)
START = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
apprise = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what it imports
everywhere = pytest.mark.databases("sqlite", "postgresql")


@dataclass
class Receiver:
    """Somebody who is told: what came, and what he answers."""

    url: str = ""
    came: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    wait_s: float = 0.0
    asks_s: int = 0  # for so long to be left alone

    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.came]

    def ids(self) -> list[str]:
        return [headers["webhook-id"] for headers, _ in self.came]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            made.came.append(({name.lower(): value for name, value in self.headers.items()}, body))
            time.sleep(made.wait_s)
            status = made.statuses.pop(0) if made.statuses else 204
            self.send_response(status)
            self.send_header("Content-Length", "0")
            if made.asks_s and status >= 400:
                self.send_header("Retry-After", str(made.asks_s))
            if 300 <= status < 400:
                self.send_header("Location", "/elsewhere")
            self.end_headers()

        def do_GET(self) -> None:
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        request_queue_size = 128

    server = Server(("127.0.0.1", 0), Handler)
    made.url = f"http://127.0.0.1:{server.server_port}/hook"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield made
    server.shutdown()
    server.server_close()


def rule(url: str = "http://127.0.0.1:9/", **more: Any) -> Notify:
    """A rule as the configuration would make it."""
    faults: list[Any] = []
    made = build(Notify, {"name": "team", "url": url, "on": ["changed", "created", "removed"], **more}, (), faults)
    assert made is not None, faults
    return made


def change(db: Db, *titles: str, source: str = "books", kind: str = "changed", price: str = "2") -> None:
    """Have an item change."""

    def unit(c: Any) -> None:
        for title in titles:
            named = {"source": source, "kind": "book", "key": title, "url": f"https://a.example/{title}"}
            at = {"first_seen": START, "last_seen": START, "changed_at": START}
            found = c.execute(select(item_rows.c.id).where(item_rows.c.key == title)).scalar()
            if found is None:
                page = {
                    "source": source,
                    "fingerprint": title.encode()[:16].ljust(16),
                    "run_id": 1,
                    "url": named["url"],
                }
                page |= {
                    "final_url": named["url"],
                    "status": 200,
                    "content_type": "text/html",
                    "depth": 0,
                    "headers": {},
                }
                page |= {"content_hash": "", "bytes": 0, "body": b"", "stored_bytes": 0}
                made = c.execute(insert(page_rows).values(**page, fetched_at=START, changed_at=START))
                data = {"title": title, "price": price}
                values = {**named, **at, "page_id": made_id(made), "run_id": 1, "data": data}
                found = made_id(c.execute(insert(item_rows).values(**values)))
            row = changes.row(START, source, "item", kind, item_id=found, kind="book", fields={"price": ["1", price]})
            changes.tell(c, [row])

    db.write(unit)


@dataclass
class Desk:
    """A notifier whose clock is ours, and who looks when he is told to."""

    db: Db
    rules: tuple[Notify, ...]
    at: datetime = START
    variables: dict[str, str] = field(default_factory=dict)
    http: Http = LOOPBACK
    notifier: Notifier | None = None

    def look(self, after_s: float = 0.0) -> None:
        self.at += timedelta(seconds=after_s)
        self.db.write(lambda c: look(c, self.rules, self.at))

    def send(self, after_s: float = 0.0) -> None:
        """Deliver what is due, once."""
        self.at += timedelta(seconds=after_s)

        async def once() -> None:
            desk = self.notifier = self.notifier or Notifier(self.db, lambda: None)
            fetcher = Fetcher()
            try:
                while await desk._send(fetcher, self.rules, self.http, self.variables):
                    await desk.settle()
            finally:
                await fetcher.close()

        self.db.now = lambda: self.at  # type: ignore[method-assign]
        asyncio.run(once())

    def rows(self) -> list[Any]:
        return self.db.read(lambda c: list(c.execute(select(deliveries).order_by(deliveries.c.id))))

    def payloads(self) -> list[dict[str, Any]]:
        return [row.payload for row in self.rows()]


def desk(db: Db, *rules: Notify, **more: Any) -> Desk:
    made = Desk(db, rules, **more)
    made.look()  # a new rule begins here
    return made


# -- a webhook


@pytest.mark.parametrize(
    "secret", ["whsec_" + base64.b64encode(b"a secret of many bytes").decode(), "plain words, no base64", ""]
)
def test_a_message_is_signed_as_standard_webhooks_says(db: Db, receiver: Receiver, secret: str) -> None:
    made = desk(db, rule(receiver.url, secret=secret))
    change(db, "Emma")
    made.look()
    made.send()
    [(headers, body)] = receiver.came
    assert headers["content-type"] == "application/json"
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60
    if not secret:
        assert "webhook-signature" not in headers
        return
    key = base64.b64decode(secret[6:]) if secret.startswith("whsec_") else secret.encode()
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    told = json.loads(body)
    assert (told["type"], told["rule"], told["count"]) == ("changes", "team", 1)
    assert told["changes"][0]["fields"] == {"price": ["1", "2"]}
    assert told["changes"][0]["url"] == "https://a.example/Emma"
    assert "Emma" in told["text"]
    assert "books" in told["subject"]


def test_a_secret_may_be_a_variable(db: Db, receiver: Receiver) -> None:
    made = desk(db, rule("${HOOK}", secret="${KEY}"), variables={"HOOK": receiver.url, "KEY": "k"})
    change(db, "Emma")
    made.look()
    made.send()
    [(headers, body)] = receiver.came
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    assert headers["webhook-signature"].endswith(
        base64.b64encode(hmac.new(b"k", signed, hashlib.sha256).digest()).decode()
    )


def test_who_asks_to_be_left_alone_gets_nothing_for_so_long(db: Db, receiver: Receiver) -> None:
    receiver.statuses, receiver.asks_s = [429], 600
    made = desk(db, rule(receiver.url))
    change(db, "Emma")
    made.look()
    made.send()
    change(db, "Anna")
    made.look()
    made.send(after_s=590)
    assert len(receiver.came) == 1
    made.send(after_s=20)
    assert {row.state for row in made.rows()} == {"sent"}


def test_what_is_not_taken_is_sent_again_with_the_same_id_later_and_later(db: Db, receiver: Receiver) -> None:
    receiver.statuses = [500, 503, 429, 302]
    made = desk(db, rule(receiver.url))
    change(db, "Emma")
    made.look()
    made.send()
    waits = []
    for number in range(4):
        [row] = made.rows()
        assert (row.state, row.attempts) == ("queued", number + 1)
        waits.append((row.due_at - made.at).total_seconds())
        made.send(after_s=waits[-1] - 0.1)
        assert len(receiver.came) == number + 1
        made.send(after_s=0.2)
    [row] = made.rows()
    assert (row.state, row.answer) == ("sent", "204")
    assert len(set(receiver.ids())) == 1
    assert len(receiver.came) == 5
    assert waits == sorted(waits)
    assert waits[0] >= 5
    assert len(set(waits)) == len(waits)


def test_a_receiver_who_is_away_or_slow_is_tried_again_and_given_up_in_the_end(db: Db, receiver: Receiver) -> None:
    away = desk(db, rule(f"http://127.0.0.1:{free_port()}/"))
    change(db, "Emma")
    away.look()
    for _ in range(notices.ATTEMPTS):
        assert away.rows()[0].state == "queued"
        away.send(after_s=notices.LONGEST_WAIT_S + 1)
    assert away.rows()[0].state == "dead"
    assert away.rows()[0].answer
    away.send(after_s=1e6)
    assert away.rows()[0].attempts == notices.ATTEMPTS
    receiver.wait_s = 0.5
    slow = Desk(db, (rule(receiver.url),), http=Http(allow_networks=("127.0.0.0/8",), timeout=0.1), at=away.at)
    [dead] = away.rows()
    db.write(lambda c: notices.again(c, dead.id, slow.at))
    slow.send()
    [row] = slow.rows()
    assert (row.state, row.attempts) == ("queued", 1)
    assert "timeout" in row.answer


async def test_a_receiver_who_hangs_keeps_no_other_waiting(db: Db, receiver: Receiver) -> None:
    with socket.create_server(("127.0.0.1", 0)) as hangs:  # takes connections, and says nothing
        slow = rule(f"http://127.0.0.1:{hangs.getsockname()[1]}/", name="slow", source=["slow"])
        made = desk(db, slow, rule(receiver.url, name="quick", source=["quick"]))
        for number in range(30):
            change(db, f"{number}", source="slow")
            made.look()
        change(db, "Emma", source="quick")
        made.look()
        db.now = lambda: made.at  # type: ignore[method-assign]
        notifier, fetcher = Notifier(db, lambda: None), Fetcher()
        async with asyncio.timeout(PATIENCE_S):
            while not receiver.came:
                await notifier._send(fetcher, made.rules, replace(LOOPBACK, timeout=1000.0), {})
        await notifier.settle(cancel=True)
        await fetcher.close()


def test_who_is_gone_is_told_no_more(db: Db, receiver: Receiver) -> None:
    receiver.statuses = [410]
    made = desk(db, rule(receiver.url))
    change(db, "Emma")
    made.look()
    made.send()
    made.send(after_s=1e5)
    [row] = made.rows()
    assert (row.state, row.attempts, len(receiver.came)) == ("dead", 1, 1)


def test_a_message_of_a_rule_that_is_no_more_is_given_up(db: Db, receiver: Receiver) -> None:
    made = desk(db, rule(receiver.url))
    change(db, "Emma")
    made.look()
    made.rules = ()
    made.send()
    assert made.rows()[0].state == "dead"
    assert receiver.came == []


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://[::ffff:169.254.169.254]/",
        "http://127.0.0.1:{port}/",
        "http://10.0.0.1/",
    ],
)
def test_no_address_of_this_network_is_told_unless_it_is_allowed(db: Db, receiver: Receiver, url: str) -> None:
    port = receiver.url.split(":")[2].partition("/")[0]
    made = desk(db, rule(url.replace("{port}", port)), http=Http(timeout=1.0))
    change(db, "Emma")
    made.look()
    made.send()
    assert "blocked_address" in made.rows()[0].answer
    assert receiver.came == []


def test_one_message_that_cannot_be_sent_keeps_no_other_back(
    db: Db, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A secret that is none, out of a variable; a service that raises what nobody foresaw."""
    bad, odd, good = rule(receiver.url, secret="${KEY}"), rule("odd://x", name="odd"), rule(receiver.url, name="good")

    def explode(*_: object) -> str:
        raise ZeroDivisionError

    monkeypatch.setattr("scraper.notify.send._apprise", explode)
    made = desk(db, bad, odd, good, variables={"KEY": "whsec_x"})
    change(db, "Emma")
    made.look()
    made.send()
    states = {row.rule: (row.state, row.answer) for row in made.rows()}
    assert states["good"] == ("sent", "204")
    assert "base64" in states["team"][1]
    assert "ZeroDivisionError" in states["odd"][1]
    assert states["odd"][0] == "queued"


@apprise
def test_variables_that_are_not_set_and_addresses_that_are_none_are_told(db: Db) -> None:
    made = desk(db, rule("${NOT_SET}"), rule("http://[::1", name="odd"), rule("nonsense://x", name="unknown"))
    change(db, "Emma")
    made.look()
    made.send()
    answers = {row.rule: row.answer for row in made.rows()}
    assert "NOT_SET" in answers["team"]
    assert "invalid_url" in answers["odd"]
    assert "Apprise does not know" in answers["unknown"]


# -- what is told, and when


def test_a_rule_tells_of_its_sources_and_kinds_and_what_its_condition_holds_of(db: Db) -> None:
    made = desk(
        db,
        rule(name="all"),
        rule(name="toys", source=["toys"]),
        rule(name="gone", on=["removed"]),
        rule(name="cheap", where="to_number(new.price) < `5`"),
        rule(name="emma", where="data.title == 'Emma'"),
        rule(name="odd", where="abs(data.title) > `1`"),
    )
    change(db, "Emma", price="9")
    change(db, "Ulysses", price="3")
    change(db, "Bear", source="toys", price="7")
    change(db, "Lolita", kind="removed", price="8")
    made.look()
    told = {row.rule: [one["key"] for one in row.payload["changes"]] for row in made.rows()}
    assert told == {
        "all": ["Emma", "Ulysses", "Bear", "Lolita"],
        "toys": ["Bear"],
        "gone": ["Lolita"],
        "cheap": ["Ulysses"],
        "emma": ["Emma"],
    }
    made.look()
    assert len(made.rows()) == 5


def test_a_digest_gathers_what_changes_meanwhile(db: Db, receiver: Receiver) -> None:
    made = desk(db, rule(receiver.url, digest="1h"))
    change(db, "Emma")
    made.look()
    change(db, "Ulysses", "Lolita")
    made.look(after_s=1800)
    made.send()
    assert receiver.came == []
    made.send(after_s=1801)
    [told] = receiver.bodies()
    assert (told["count"], [one["key"] for one in told["changes"]]) == (3, ["Emma", "Ulysses", "Lolita"])
    change(db, "Dune")
    made.look()
    made.send(after_s=3601)
    assert [body["count"] for body in receiver.bodies()] == [3, 1]


def test_a_message_of_very_much_says_how_much(db: Db, receiver: Receiver) -> None:
    made = desk(db, rule(receiver.url, digest="1h"))
    change(db, *(f"book {number}" for number in range(message.CHANGES_MOST + 20)))
    for _ in range(3):
        made.look()
    made.send(after_s=3601)
    [told] = receiver.bodies()
    assert (told["count"], len(told["changes"])) == (message.CHANGES_MOST + 20, message.CHANGES_MOST)


def test_in_quiet_hours_nothing_is_told_and_afterwards_all_at_once(db: Db, receiver: Receiver) -> None:
    made = desk(db, rule(receiver.url, quiet=["11:00-13:00"], zone="UTC"))
    change(db, "Emma")
    made.look()
    change(db, "Ulysses")
    made.look(after_s=600)
    made.send(after_s=600)
    assert receiver.came == []
    made.send(after_s=3600)
    assert [body["count"] for body in receiver.bodies()] == [2]


def fail(db: Db, *states: RunState, kind: str = "crawl") -> None:
    """Have runs of the source books end so, one after the other."""

    def unit(c: Any) -> None:
        for state in states:
            ended = None if state is RunState.RUNNING else START
            values = {"source": "books", "state": state, "queued_at": START, "started_at": START, "finished_at": ended}
            c.execute(insert(run_rows).values(**values, kind=kind, message="no page"))
        c.execute(update(source_rows).values(last_run_at=START))

    db.write(unit)


def test_failing_is_told_after_so_many_runs_repeated_until_it_is_mended_and_then_resolved(db: Db) -> None:
    found: list[Any] = []
    source = build(Source, {"name": "books", "start": ["https://a.example/"]}, (), found)
    assert source is not None
    db.write(lambda c: sources.add(c, source, lambda *_: None))
    made = desk(db, rule(on=["failing"], after=3, repeat="1h"))
    fail(db, RunState.DONE, RunState.FAILED, RunState.FAILED)
    made.look()
    assert made.rows() == []
    fail(db, RunState.FAILED)
    made.look()
    made.look(after_s=60)
    [told] = made.payloads()
    assert told["type"] == "failing"
    assert "3 runs in a row" in told["said"]
    made.look(after_s=3600)
    assert [one["type"] for one in made.payloads()] == ["failing", "failing"]
    fail(db, RunState.DONE)
    made.look()
    made.look(after_s=9999)
    assert [one["type"] for one in made.payloads()] == ["failing", "failing", "resolved"]
    fail(db, RunState.FAILED, RunState.FAILED, RunState.FAILED)
    made.look()
    assert [one["type"] for one in made.payloads()][3:] == ["failing"]


def test_a_rule_of_thirty_runs_counts_past_open_ones_and_retries(db: Db) -> None:
    db.write(lambda c: sources.add(c, Source(name="books", start=("https://a.example/",)), lambda *_: None))
    made = desk(db, rule(on=["failing"], after=30))
    fail(db, *[RunState.FAILED] * 29)
    fail(db, RunState.DONE, kind="retry")
    made.look()
    assert made.rows() == []
    fail(db, RunState.FAILED, RunState.RUNNING)
    made.look()
    [told] = made.payloads()
    assert "30 runs in a row" in told["said"]


def watch(db: Db, name: str = "books") -> None:
    db.write(lambda c: sources.add(c, Source(name=name, start=("https://a.example/",)), lambda *_: None))


@pytest.mark.parametrize("then", ["paused", "removed", "stopped by hand", "tried again", "of no rule"])
def test_what_counts_no_more_does_not_work_again(then: str, db: Db) -> None:
    watch(db)
    made = desk(db, rule(on=["failing"], after=1))
    fail(db, RunState.FAILED)
    made.look()
    if then == "paused":
        db.write(lambda c: sources.pause(c, ["books"], START))
    elif then == "removed":
        db.write(lambda c: sources.remove(c, "books"))
    elif then == "stopped by hand":
        fail(db, RunState.STOPPED)
    elif then == "tried again":
        fail(db, RunState.DONE, kind="retry")
    else:
        made.rules = (rule(on=["failing"], after=1, source=["toys"]),)
    made.look()
    made.look()
    assert [one["type"] for one in made.payloads()] == ["failing"]


@pytest.mark.parametrize("then", ["accepted", "removed"])
def test_an_alarm_that_is_accepted_or_whose_source_is_gone_is_not_as_it_was(then: str, db: Db) -> None:
    watch(db)
    made = desk(db, rule(on=["alarm"]))
    values = {"source": "books", "kind": "book", "name": "price", "at": START, "last_at": START}
    number = db.write(lambda c: made_id(c.execute(insert(alarm_rows).values(**values, message="price is gone"))))
    made.look()
    if then == "accepted":
        db.write(lambda c: alarms.accept(c, number, START))
    else:
        db.write(lambda c: sources.remove(c, "books"))
        assert db.read(alarms.standing) == []
    made.look()
    assert [one["type"] for one in made.payloads()] == ["alarm"]


@pytest.mark.parametrize(("state", "told"), [("paused", ["scraper", "resolved"]), ("stopped", ["scraper"])])
def test_a_scraper_that_is_paused_or_stopped_has_failed_no_more(state: str, told: list[str], db: Db) -> None:
    made = desk(db, rule(on=["scraper"], repeat="1h"))
    for now_is in ("failed", state):
        event = Event(START, "process", "scraper-0", "moved", "error", {"is": now_is, "cause": "killed"})
        db.write(lambda c, event=event: events.add(c, [event]))  # type: ignore[misc]
        made.look()
    made.look(after_s=1e6)
    assert [one["type"] for one in made.payloads()] == told


def test_what_was_not_taken_is_not_sent_again_in_quiet_hours(db: Db, receiver: Receiver) -> None:
    made = desk(db, rule(receiver.url, quiet=["12:01-14:00"], zone="UTC"))
    receiver.statuses = [503]
    change(db, "Emma")
    made.look()
    made.send()
    assert len(receiver.came) == 1
    made.send(after_s=1800)
    assert len(receiver.came) == 1
    made.send(after_s=3 * 3600)
    assert (len(receiver.came), made.rows()[0].attempts) == (2, 2)


def test_a_rule_that_was_the_only_one_begins_anew_when_it_is_back(db: Db) -> None:
    made = desk(db, rule())
    notifier = Notifier(db, lambda: ((), LOOPBACK, {}))
    asyncio.run(notifier._turn(Fetcher()))
    change(db, "Emma")
    made.look()
    made.look()
    assert made.rows() == []


def test_an_alarm_is_told_once_and_when_it_is_over(db: Db) -> None:
    watch(db)
    made = desk(db, rule(on=["alarm"]), rule(name="others", on=["alarm"], source=["toys"]))
    values = {"source": "books", "kind": "book", "name": "price", "at": START, "last_at": START}
    db.write(lambda c: c.execute(insert(alarm_rows).values(**values, message="price is gone")))
    made.look()
    made.look(after_s=1e6)
    assert [(one["type"], one["said"]) for one in made.payloads()] == [("alarm", "books: price is gone")]
    db.write(lambda c: c.execute(update(alarm_rows).values(resolved_at=START)))
    made.look()
    assert [one["type"] for one in made.payloads()] == ["alarm", "resolved"]


def test_a_scraper_that_failed_is_told_and_that_it_is_back(db: Db) -> None:
    made = desk(db, rule(on=["scraper"]))

    def moved(state: str) -> None:
        event = Event(START, "process", "scraper-0", "moved", "error", {"is": state, "cause": "killed"})
        db.write(lambda c: events.add(c, [event]))
        made.look()

    for state in ("restarting", "failed", "failed", "starting", "idle", "scraping"):
        moved(state)
    assert [one["type"] for one in made.payloads()] == ["scraper", "resolved"]


# -- the template


@pytest.mark.parametrize(
    "template",
    [
        "{{ 7**(10**9) }}", "{{ 'x' * 10**9 }}", "{{ 10**9 * [1] }}", "{{ '%0999999999d' % 1 }}", "{{ '%*d' % (10**9, 1) }}",
        "{% if x %}" * 3000 + "{% endif %}" * 3000, "{{ " + "(" * 3000 + "x" + ")" * 3000 + " }}", "{{ x }}" * 200_000,
    ],
)  # fmt: skip
def test_no_template_takes_for_ever_nor_fills_the_memory(template: str) -> None:
    began = time.process_time()
    if template_of.fault(template) is None:
        with pytest.raises(template_of.BadTemplate, match="would make too much"):
            template_of.filled(template, {"x": 1}, 1000)
    assert time.process_time() - began < 5


def test_a_template_says_what_it_is_told(db: Db, receiver: Receiver) -> None:
    made = desk(db, rule(receiver.url, template="{{ count }}: {% for c in changes %}{{ c.title }}{% endfor %}"))
    change(db, "Emma <b>")
    made.look()
    made.send()
    assert receiver.bodies()[0]["text"] == "1: Emma <b>"


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}", "{{ changes.__class__ }}", "{{ self.__init__.__globals__ }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}", "{{ lipsum.__globals__['os'] }}", "{{ ''|attr('__class__') }}",
        "{{ changes.append(1) }}", "{{ range(10**9)|list }}", "{{ '{0.__class__}'.format(1) }}", "{{ missing }}", "{{ 1 / 0 }}",
        "{% include '/etc/passwd' %}", "{{ changes[0].update({'a': 1}) }}",
    ],
)  # fmt: skip
def test_a_template_reaches_nothing_else_and_keeps_no_message_back(db: Db, receiver: Receiver, template: str) -> None:
    made = desk(db, rule(receiver.url, template=template))
    change(db, "Emma")
    made.look()
    made.send()
    text = receiver.bodies()[0]["text"]
    assert "Emma" in text
    assert "the template cannot be filled in" in text
    for word in ("subclasses", "uid=", "<module", "root:"):
        assert word not in text.partition("(the template")[0]


# -- two of them


@everywhere
def test_two_who_look_at_once_queue_each_thing_once(database: Database) -> None:
    with Db(database) as one, Db(database) as two:
        schema.upgrade(one)
        desks = [desk(db, rule(on=["changed"])) for db in (one, two)]
        for number in range(10):
            change(one, f"book {number}")
            with ThreadPoolExecutor(2) as pool:
                for done in [pool.submit(made.look) for made in desks]:
                    done.result()
        told = [change["key"] for payload in desks[0].payloads() for change in payload["changes"]]
        assert told == [f"book {number}" for number in range(10)]


@everywhere
def test_two_who_send_at_once_send_each_message_once(database: Database, receiver: Receiver) -> None:
    with Db(database) as one, Db(database) as two:
        schema.upgrade(one)
        desks = [desk(db, rule(receiver.url)) for db in (one, two)]
        for number in range(20):
            change(one, f"book {number}")
            desks[0].look()
        with ThreadPoolExecutor(2) as pool:
            for done in [pool.submit(made.send) for made in desks]:
                done.result()
        assert len(receiver.came) == len(set(receiver.ids())) == 20


def test_who_dies_while_he_sends_is_followed_by_one_who_sends_it_again(db: Db, receiver: Receiver) -> None:
    made = desk(db, rule(receiver.url))
    change(db, "Emma")
    made.look()
    [row] = db.write(lambda c: notices.claim(c, made.at, 8))  # and dies
    made.send(after_s=60)
    assert receiver.came == []
    made.send(after_s=notices.CLAIM.total_seconds())
    assert receiver.ids() == [f"msg_team_{row.id}_{row.made_at:%Y%m%d%H%M%S%f}"]


# -- Apprise


@apprise
def test_a_service_of_apprise_is_told(db: Db, receiver: Receiver) -> None:
    made = desk(db, rule(receiver.url.replace("http://", "json://"), template="{{ count }} of them"))
    change(db, "Emma")
    made.look()
    made.send()
    [told] = receiver.bodies()
    assert told["message"] == "1 of them"
    assert "books" in told["title"]
    receiver.statuses = [500]
    change(db, "Ulysses")
    made.look()
    made.send()
    assert [row.state for row in made.rows()] == ["sent", "queued"]


# -- the service


def test_a_service_tells_and_one_that_was_killed_meanwhile_tells_the_same_again(
    project: Project, serve: Any, receiver: Receiver
) -> None:
    hook = f'[[notify]]\nname = "team"\nurl = "{receiver.url}"\nsecret = "s"\n'
    project.configure(hook, http="timeout = 30")
    service = serve()
    assert service.http.post("/api/notifications/nobody/test").status_code == 404
    assert service.http.post("/api/notifications/team/test").status_code == 202
    until(lambda: receiver.came, "the test came")
    [body] = receiver.bodies()
    assert (body["type"], body["rule"]) == ("test", "team")
    until(lambda: service.http.get("/api/deliveries").json()["items"][0]["state"] == "sent", "it is noted")
    shown = service.http.get("/api/notifications").json()["items"][0]
    assert shown["deliveries"] == {"sent": 1}
    assert shown["to"] == "http://127.0.0.1/…"

    receiver.wait_s = 20.0
    number = service.http.post("/api/notifications/team/test").json()["delivery"]
    until(lambda: len(receiver.came) == 2, "the second one came")
    service.process.kill()
    service.process.wait()
    receiver.wait_s = 0.0
    with Db(Database(url=f"sqlite:///{project.path / 'bowerbird.db'}")) as db:  # so that nobody waits for two minutes
        db.write(lambda c: c.execute(update(deliveries).where(deliveries.c.id == number).values(claimed_until=START)))
    service = serve()
    until(lambda: len(receiver.came) == 3, "it came again")
    assert receiver.ids()[1] == receiver.ids()[2]
    assert receiver.ids()[1].startswith(f"msg_team_{number}_")
    until(lambda: service.http.get("/api/deliveries").json()["items"][0]["state"] == "sent", "it is noted")
    assert service.http.post(f"/api/deliveries/{number}/retry").status_code == 202
    until(lambda: len(receiver.came) == 4, "it came once more")
