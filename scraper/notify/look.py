"""What there is to tell: each rule goes on from where it looked last, in one transaction with what it finds."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from scraper.config import allowance
from scraper.config.settings import Notify
from scraper.database import Connection, alarms, changes, events, health, notices
from scraper.notify import message
from scraper.states import AT_WORK, RunState, State

AT_ONCE = 500
RUNS_SEEN = 50  # rules count to 30, and some are open
CHANGES = set(changes.KINDS)


def look(connection: Connection, rules: Sequence[Notify], at: datetime) -> bool:
    """Queue what each rule has to tell since it looked last. Returns whether there is more to look at."""
    last_change, last_event = changes.newest(connection), events.newest(connection)
    more = False
    for rule in rules:
        looked = notices.looked(connection, rule.name, last_change, last_event)
        found = changes.after(connection, looked.change_id, AT_ONCE) if CHANGES & set(rule.on) else []
        happened = events.after(looked.event_id, AT_ONCE, connection)
        told = dict(looked.told)
        _tell_changes(connection, rule, found, at)
        for name, said in _stories(connection, rule, happened, told, at):
            _tell(connection, rule, name, said, at)
        change_id = found[-1]["id"] if found else last_change if not CHANGES & set(rule.on) else looked.change_id
        event_id = happened[-1]["id"] if happened else looked.event_id
        notices.keep(connection, rule.name, notices.Looked(change_id, event_id, told))
        more = more or len(found) == AT_ONCE or len(happened) == AT_ONCE
    return more


def _kinds(change: Mapping[str, Any]) -> set[str]:
    """What happened: what moved or came back may have changed as well."""
    also = change["change"] in ("moved", "returned") and set(change["fields"]) - {"url"}
    return {change["change"], "changed"} if also else {change["change"]}


def _wants(rule: Notify, source: str) -> bool:
    return not rule.source or source in rule.source


def _tell_changes(connection: Connection, rule: Notify, found: Sequence[dict[str, Any]], at: datetime) -> None:
    wanted = [one for one in found if _kinds(one) & set(rule.on) and _wants(rule, one["source"])]
    matched = [one for one in changes.with_subjects(connection, wanted) if message.matches(rule.where, one)]
    if not matched:
        return
    waiting = notices.gathering(connection, rule.name, at)
    if waiting is not None:
        payload = message.merged(waiting.payload, matched)
        notices.rewrite(connection, waiting.id, message.subject(payload), payload)
        return
    payload = message.of_changes(rule.name, matched)
    due_at = due(rule, at + timedelta(seconds=rule.digest))
    notices.add(connection, rule.name, message.subject(payload), payload, at, due_at)


def due(rule: Notify, at: datetime) -> datetime:
    """Return when something that is ready at an instant may be told: not in the quiet hours."""
    return allowance.quiet_until(rule.quiet, rule.zone, at) or at


@dataclass(frozen=True, slots=True)
class Story:
    """What is wrong, for as long as it is."""

    name: str
    source: str
    said: str


def _stories(
    connection: Connection, rule: Notify, happened: Sequence[dict[str, Any]], told: dict[str, str], at: datetime
) -> Iterator[tuple[str, str]]:
    """Yield (type, sentence) of what began, goes on and should be repeated, or is over; notes in `told` what was told."""
    standing = {story.name: story for story in _standing(connection, rule)}
    standing |= _scraper_down(rule, happened, told)
    for name, story in standing.items():
        before = datetime.fromisoformat(told[name]) if name in told else None
        if before is None or (rule.repeat and at - before >= timedelta(seconds=rule.repeat)):
            told[name] = at.isoformat()
            yield name.partition(":")[0], story.said
    for name in [name for name in told if name not in standing]:
        del told[name]
        kind, _, of = name.partition(":")
        if _is_mended(connection, rule, kind, of):
            yield "resolved", f"{of}: {_OVER[kind]}"


def _is_mended(connection: Connection, rule: Notify, kind: str, of: str) -> bool:
    """Whether something is well again, and does not just count no more: paused, removed, accepted, or not this rule's by now."""
    if kind not in rule.on or kind == "scraper":
        return kind in rule.on
    source = of.partition(" ")[0]
    health_of = {one.name: one.health for one in health.summaries(connection)}
    if not _wants(rule, source) or source not in health_of:
        return False
    if kind == "failing":
        return health_of[source] in ("ok", "degraded")
    names = {f"{alarm['source']} {alarm['name']}".rstrip() for alarm in alarms.standing(connection)}
    return of not in names


_OVER = {"failing": "works again", "alarm": "is as it was again", "scraper": "is at work again"}


def _standing(connection: Connection, rule: Notify) -> Iterator[Story]:
    if "failing" in rule.on:
        yield from _failing(connection, rule)
    if "alarm" in rule.on:
        for alarm in alarms.standing(connection):
            if alarm["accepted_at"] is None and _wants(rule, alarm["source"]):
                name = f"alarm:{alarm['source']} {alarm['name']}".rstrip()
                yield Story(name, alarm["source"], f"{alarm['source']}: {alarm['message']}")


def _failing(connection: Connection, rule: Notify) -> Iterator[Story]:
    names = [one.name for one in health.summaries(connection) if one.health == "failing" and _wants(rule, one.name)]
    messages = health.messages(connection, names)
    for name, runs in health.outcomes(connection, names, RUNS_SEEN).items():
        ended = [run for run in reversed(runs) if run["state"] in (RunState.DONE, RunState.FAILED)]
        row = next((place for place, run in enumerate(ended) if run["state"] != RunState.FAILED), len(ended))
        if row >= rule.after:
            said = f"{name}: {row} runs in a row failed: {messages.get(name) or 'no page could be read'}"
            yield Story(f"failing:{name}", name, said)


def _scraper_down(rule: Notify, happened: Sequence[dict[str, Any]], told: dict[str, str]) -> dict[str, Story]:
    if "scraper" not in rule.on:
        return {}
    down = {
        name: Story(name, "", f"{name.partition(':')[2]} has failed") for name in told if name.startswith("scraper:")
    }
    for event in happened:
        if event["kind"] != "process" or event["event"] != "moved":
            continue
        name, state = f"scraper:{event['name']}", event["facts"].get("is")
        if state == State.FAILED:
            down[name] = Story(name, "", f"{event['name']} has failed: {event['facts'].get('cause', '')}")
        elif state in AT_WORK:
            down.pop(name, None)
        elif state == State.STOPPED and down.pop(name, None) is not None:
            told.pop(name, None)  # by a person: nothing is well again, and nothing is wrong
    return down


def _tell(connection: Connection, rule: Notify, kind: str, said: str, at: datetime) -> None:
    payload = {"type": kind, "rule": rule.name, "said": said, "at": at.isoformat()}
    notices.add(connection, rule.name, message.subject(payload), payload, at, due(rule, at))
