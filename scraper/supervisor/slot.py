"""The place of one process in the supervisor: its living generation, and what is known over generations."""

import json
import logging
import random
import re
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from scraper import kernel
from scraper.channel import Message
from scraper.marker import last_mark
from scraper.records import Event, Level
from scraper.states import AT_WORK, MOVES, State
from scraper.supervisor.child import Child, Target, signal_name
from scraper.supervisor.policy import Cause, Ended, Observation, Record, Rules, classify, plan, stale
from scraper.supervisor.status import LastExit, ProcessStatus

VITALS_EACH_S = 1.0
NO_ROOM_S = 2.0
SAID_LINES = 600
STACKS_CHARS = 8000
EXPECTED = (Cause.REQUESTED, Cause.CLEAN, Cause.RECYCLED)

log = logging.getLogger(__name__)


def stamp() -> str:
    """Return this instant as JSON tells it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(slots=True)
class Terms:
    """What holds for all processes at present.

    target: what a process runs, importable. boot: gives the first message of a new process: its config dict.
    memory: bytes above which a process makes way for a fresh one. folder: the state directory. wake: ends a tick that waits.
    family: the mark that all our processes carry. record: takes what happens, in the words of an Event.
    """

    target: Target
    boot: Callable[[str], Message]
    rules: Rules
    memory: int
    folder: Path
    wake: Callable[[], None]
    family: str
    record: Callable[[Event], None]
    paused: bool = False
    ticket: str | None = None
    oom_kills: int = 0


@dataclass(slots=True)
class Slot:
    """One place. All times are monotonic seconds."""

    name: str
    terms: Terms
    status: ProcessStatus
    child: Child | None = None
    surplus: bool = False
    starts: int = 0
    next_start: float | None = 0.0
    record: Record = field(default_factory=Record)
    died_at: str | None = None
    died_of: str | None = None
    # of the living generation
    last_beat: float | None = None
    at_work: bool = False
    stop_asked: float | None = None
    shown: float | None = None
    our_kill: Cause | None = None
    said: deque[str] = field(default_factory=lambda: deque[str](maxlen=SAID_LINES))
    leaving: Message = field(default_factory=dict)
    in_flight: str | None = None
    doing: str | None = None
    oom_kills: int = 0
    told_paused: bool = False
    told_ticket: str | None = None
    sampled: float = 0.0
    cpu_s: float = 0.0
    over_soft: bool = False
    over_hard: int = 0

    # -- telling

    def tell(self, event: str, level: Level = "info", **facts: Any) -> None:
        """Record and log something that happened to this process."""
        told = {name: value for name, value in facts.items() if value not in (None, "")}
        log.log(
            getattr(logging, level.upper()),
            f"process {event}",
            extra={"scraper": self.name, **{k: _flat(v) for k, v in told.items()}},
        )
        self.terms.record(Event(datetime.now(UTC), "process", self.name, event, level, told))

    def move(self, state: State, cause: str, level: Level = "info", **facts: Any) -> None:
        """Go to another state, by a legal move."""
        was = self.status.state
        if state is not was:
            assert state in MOVES[was], f"{self.name}: {was} to {state}"
            self.status = replace(self.status, state=state)
            pid = self.child.pid if self.child is not None else None
            self.tell("moved", level, was=str(was), **{"is": str(state)}, cause=cause, pid=pid, **facts)

    def set(self, **facts: Any) -> None:
        """Change what the status tells of this process."""
        self.status = replace(self.status, **facts)

    # -- observing

    def forget(self) -> None:
        """Forget earlier deaths: it may start at once, and with all its concurrency."""
        self.record = Record()
        self.next_start = 0.0
        if self.child is None:
            self.set(note=None)

    def observation(self, wanted: bool, now: float) -> Observation:
        """Return what policy decides on."""
        return Observation(
            now=now,
            wanted=wanted,
            alive=self.child is not None,
            next_start=self.next_start,
            started=self.child.started if self.child else 0.0,
            last_beat=self.last_beat,
            stop_asked=self.stop_asked,
            shown=self.shown,
            too_big=self.over_hard >= 2,
        )

    def hear(self, message: Message) -> None:
        """Take a line from the process."""
        if "beat" in message:
            self._beat(message)
        elif "leaving" in message:
            self.leaving = message
        elif "text" in message:
            self.said.append(str(message["text"]))

    def _beat(self, message: Message) -> None:
        # A beat may say that nothing has moved for a while: then it is a sign of life of that moment, and no later one.
        alive_at = time.monotonic() - float(message.get("silent_s") or 0.0)
        self.last_beat = max(alive_at, self.last_beat or 0.0)
        self.in_flight = next(iter(message.get("at") or ()), None)
        self.set(
            beat=self.last_beat,
            sources=tuple(message.get("sources") or ()),
            last_check=message.get("last_check") or self.status.last_check,
            trouble=message.get("trouble"),
        )
        if self.shown is not None:
            if self.last_beat < self.shown:
                return
            self.shown = None
            self.tell("recovered", "warning", stacks=self._stacks())
            self.said.clear()
        state = State.STOPPING if self.stop_asked is not None else State(message["state"])
        self.at_work = self.at_work or state in AT_WORK
        self.move(state, "its heartbeat")

    def forgive(self, lag_s: float) -> None:
        """Move all deadlines: for so long the machine slept, or starved us."""
        if self.child is not None:
            self.child.started += lag_s
            self.last_beat = self.last_beat + lag_s if self.last_beat is not None else None
            self.stop_asked = self.stop_asked + lag_s if self.stop_asked is not None else None
            self.shown = self.shown + lag_s if self.shown is not None else None

    # -- acting

    def start(self) -> Child | None:
        """Start another generation, if the system has room for one."""
        terms = self.terms
        boot = {
            **terms.boot(self.name),
            "name": self.name,
            "died_at": self.died_at,
            "died_of": self.died_of,
            "paused": terms.paused,
            "board": terms.ticket,
            "halvings": self.record.halvings,
        }
        try:
            child = Child(self.name, terms.target, boot, terms.wake)
        except OSError as error:
            self.next_start = time.monotonic() + NO_ROOM_S
            trouble = f"no process can be started: {error.strerror}"
            if self.status.trouble != trouble:
                self.tell("not started", "error", cause=trouble)
            self.set(trouble=trouble)
            return None
        self.child = child
        self.starts += 1
        self.told_paused, self.told_ticket, self.oom_kills = terms.paused, terms.ticket, terms.oom_kills
        self.last_beat = self.stop_asked = self.shown = self.our_kill = self.in_flight = self.doing = None
        self.at_work = self.over_soft = False
        self.leaving = {}
        self.said.clear()
        self.sampled = self.cpu_s = 0.0
        self.over_hard = 0
        self.set(
            pid=child.pid,
            born=child.born,
            process_alive=True,
            beat=None,
            stale=False,
            started_at=stamp(),
            restarts=self.status.restarts + (self.starts > 1),
            next_start_in_s=None,
            trouble=None,
            note=_halved(self.record.halvings),
        )
        self.move(State.STARTING, f"after {self.died_of}" if self.died_of else "first start")
        return child

    def look_after(self, now: float) -> None:
        """Tell the living process what it has to know, and see how it is."""
        child, terms = self.child, self.terms
        if child is None:
            return
        if self.told_paused != terms.paused:
            self.told_paused = terms.paused
            child.channel.send({"paused": terms.paused}, must=True)
        if self.told_ticket != terms.ticket and terms.ticket is not None:
            self.told_ticket = terms.ticket
            child.channel.send({"board": terms.ticket}, must=True)
        child.channel.flush()
        self._watch_silence(now)
        if now - self.sampled >= VITALS_EACH_S:
            self._sample(child, now)

    def _watch_silence(self, now: float) -> None:
        quiet = self.last_beat is not None and stale(now - self.last_beat, self.terms.rules)
        if quiet != self.status.stale:
            self.set(stale=quiet)
            if quiet and self.last_beat is not None and self.child is not None:
                self.doing = kernel.doing(self.child.pid)
                silence = round(now - self.last_beat, 1)
                self.tell("silent", "warning", heartbeat_age_s=silence, process_is=self.doing, pid=self.child.pid)

    def _sample(self, child: Child, now: float) -> None:
        found = child.vitals()
        if found is None:
            return
        percent = round(100 * (found.cpu_s - self.cpu_s) / (now - self.sampled), 1) if self.sampled else None
        self.sampled, self.cpu_s = now, found.cpu_s
        self.oom_kills = self.terms.oom_kills
        self.set(rss_bytes=found.rss_bytes, cpu_percent=percent)
        self.over_hard = self.over_hard + 1 if found.rss_bytes > 1.5 * self.terms.memory else 0
        if found.rss_bytes > self.terms.memory and not self.over_soft:
            self.over_soft = True
            self.tell(
                "over its memory limit", "warning", rss_bytes=found.rss_bytes, pid=child.pid, cause="recycling it"
            )
            child.channel.send({"recycle": True}, must=True)

    def ask_to_end(self, cause: str) -> None:
        """Terminate it, once."""
        if self.child is not None and self.stop_asked is None:
            self.stop_asked = time.monotonic()
            self.move(State.STOPPING, cause)
            self.child.ask_to_end()

    def show(self, now: float) -> None:
        """It is hung: have it leave its stacks."""
        assert self.child is not None
        assert self.last_beat is not None
        self.shown = now
        self.said.clear()
        self.doing = kernel.doing(self.child.pid)
        silence = f"silent for {now - self.last_beat:.1f} s"
        self.move(State.HUNG, silence, "error", url=self._url(), process_is=self.doing)
        self.child.show_stacks()

    def kill(self, cause: Cause | None = None) -> None:
        """Kill it and what it started. cause: None if that is seen from what went before."""
        if self.child is None:
            return
        if self.our_kill is None:
            self.our_kill = cause or self._why_kill()
        self.child.kill()

    def _why_kill(self) -> Cause:
        if self.stop_asked is not None:
            return Cause.STOP_TIMEOUT
        if self.over_hard >= 2:
            return Cause.MEMORY
        return Cause.HANG if self.last_beat is not None else Cause.BOOT_FAILURE

    def bury(self, wanted: bool, now: float) -> None:
        """Take the exit of the dead generation: say why it died, and what follows."""
        child, terms = self.child, self.terms
        assert child is not None
        url = self._url()
        code, left = child.reap(terms.family)
        ended = Ended(code, self.stop_asked is not None, self.our_kill, self.at_work, terms.oom_kills > self.oom_kills)
        cause = classify(ended)
        found = plan(
            cause,
            now=now,
            started=child.started,
            at_work=self.at_work,
            wanted=wanted,
            record=self.record,
            rules=terms.rules,
            jitter=random.random(),
        )
        self.died_at, self.died_of = stamp(), str(cause)
        last = LastExit(
            child.pid,
            code,
            signal_name(code),
            str(cause),
            self.died_at,
            self._last_words(),
            url if cause not in EXPECTED else None,
            self._stacks() or str(self.leaving.get("traceback", ""))[-STACKS_CHARS:],
            round(now - child.started, 1),
        )
        rss = self.status.rss_bytes
        self.child = None
        self.next_start, self.record = found.next_start, found.record
        self.stop_asked = self.shown = self.last_beat = None
        self.set(
            pid=None,
            born=None,
            process_alive=False,
            beat=None,
            stale=False,
            started_at=None,
            rss_bytes=None,
            cpu_percent=None,
            sources=(),
            note=_halved(found.record.halvings),
            last_exit=last,
        )
        level: Level = "info" if cause in EXPECTED else "warning"
        evidence = {k: v for k, v in asdict(last).items() if k not in ("at", "reason", "message")}
        counted = len(found.record.deaths) or None
        self.tell(
            "ended",
            level,
            cause=str(cause),
            said=last.message,
            **evidence,
            rss_bytes=rss,
            left=left or None,
            counted=counted,
        )
        self.move(
            found.state, str(cause), "error" if found.state is State.FAILED else "info", next_start_in_s=self.wait(now)
        )

    def wait(self, now: float) -> float | None:
        """Return in how many seconds it starts again, or None if a person has to ask."""
        return round(max(0.0, self.next_start - now), 1) if self.next_start is not None else None

    # -- evidence

    def _url(self) -> str | None:
        """The page that it is reading, or else the first of those that are in flight."""
        return last_mark(self.terms.folder / f"{self.name}.at").url or self.in_flight

    def _stacks(self) -> str:
        """What the fault handler said, the main thread first: that is where the loop is."""
        text = "\n".join(self.said)
        threads = re.split(r"(?m)^(?=(?:Thread|Current thread) 0x)", text)
        return "".join([*threads[:1], *reversed(threads[1:])]).strip()[:STACKS_CHARS]

    def _last_words(self) -> str:
        if self.leaving:
            return str(self.leaving.get("leaving", ""))[:4000]
        if self.our_kill is Cause.HANG and self.doing:
            return f"its process was {self.doing}"
        return ""


def _halved(halvings: int) -> str | None:
    if not halvings:
        return None
    return f"memory ran out: it runs with 1/{2**halvings} of the concurrency"


def _flat(value: Any) -> Any:
    return json.dumps(value, default=str) if isinstance(value, dict | list) else value
