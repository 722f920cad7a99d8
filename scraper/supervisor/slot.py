"""The place of one process in the supervisor: its living generation, and what is known over generations."""

import json
import logging
import random
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from scraper.channel import Message
from scraper.records import Event, Level
from scraper.states import MOVES, State
from scraper.supervisor.child import Child, Target, signal_name
from scraper.supervisor.life import Life
from scraper.supervisor.policy import Cause, Ended, Observation, Record, Rules, classify, plan, stale
from scraper.supervisor.status import LastExit, ProcessStatus

VITALS_EACH_S = 1.0
NO_ROOM_S = 2.0
OOM_RECENT_S = 10.0  # the kernel counts, then kills, and a big process takes its time to go
EXPECTED = (Cause.REQUESTED, Cause.CLEAN, Cause.RECYCLED)
GONE: dict[str, Any] = {
    "pid": None,
    "born": None,
    "process_alive": False,
    "beat": None,
    "stale": False,
    "started_at": None,
    "rss_bytes": None,
    "cpu_percent": None,
    "sources": (),
}

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
    oom_at: when the kernel last killed somebody for memory, in monotonic seconds.
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
    oom_at: float | None = None


@dataclass(slots=True)
class Slot:
    """One place. All times are monotonic seconds."""

    name: str
    terms: Terms
    status: ProcessStatus
    life: Life | None = None
    surplus: bool = False
    starts: int = 0
    next_start: float | None = 0.0
    record: Record = field(default_factory=Record)
    died_at: str | None = None
    died_of: str | None = None
    last_page: int = 0
    same_page: int = 0

    # -- telling

    def tell(self, event: str, level: Level = "info", **facts: Any) -> None:
        """Record and log something that happened to this process."""
        told = {name: value for name, value in facts.items() if value not in (None, "")}
        shown = {name: json.dumps(v, default=str) if isinstance(v, dict | list) else v for name, v in told.items()}
        log.log(getattr(logging, level.upper()), f"process {event}", extra={"scraper": self.name, **shown})
        self.terms.record(Event(datetime.now(UTC), "process", self.name, event, level, told))

    def move(self, state: State, cause: str, level: Level = "info", **facts: Any) -> None:
        """Go to another state."""
        was = self.status.state
        if state is was:
            return
        if state not in MOVES[was]:  # a fault of ours; the supervisor goes on all the same
            log.error("no legal move", extra={"scraper": self.name, "was": str(was), "is": str(state)})
        self.set(state=state)
        pid = self.life.child.pid if self.life is not None else None
        self.tell("moved", level, was=str(was), **{"is": str(state)}, cause=cause, pid=pid, **facts)

    def set(self, **facts: Any) -> None:
        """Change what the status tells of this process."""
        self.status = replace(self.status, **facts)

    # -- observing

    def observation(self, wanted: bool, now: float) -> Observation:
        """Return what policy decides on."""
        life = self.life
        if life is None:
            return Observation(now=now, wanted=wanted, alive=False, next_start=self.next_start)
        return Observation(
            now=now,
            wanted=wanted,
            alive=True,
            started=life.started,
            last_beat=life.last_beat,
            stop_asked=life.stop_asked,
            shown=life.shown,
            stopped=life.last_beat is None and life.is_stopped(now),
            too_big=life.over_hard >= 2,
        )

    def hear(self, message: Message) -> None:
        """Take a line from the process."""
        life = self.life
        if life is None:
            return
        try:
            state = life.hear(message)
        except (KeyError, TypeError, ValueError):
            log.warning("a line of a process makes no sense", extra={"scraper": self.name, "line": str(message)[:200]})
            return
        if "beat" in message:
            self.set(
                beat=life.last_beat,
                sources=tuple(message.get("sources") or ()),
                last_check=message.get("last_check") or self.status.last_check,
                trouble=message.get("trouble"),
            )
        if state is None:
            return
        if life.shown is not None:
            life.shown = None
            self.tell("recovered", "warning", stacks=life.stacks())
            life.forget_stacks()
        self.move(State.STOPPING if life.stop_asked is not None else state, "its heartbeat")

    def look_after(self, life: Life, now: float) -> None:
        """Tell the living process what it has to know, and see how it is."""
        terms = self.terms
        if life.told_paused != terms.paused:
            life.told_paused = terms.paused
            life.child.channel.send({"paused": terms.paused}, must=True)
        if life.told_ticket != terms.ticket and terms.ticket is not None:
            life.told_ticket = terms.ticket
            life.child.channel.send({"board": terms.ticket}, must=True)
        life.child.channel.flush()
        life.listen()
        self._watch_silence(life, now)
        if now - life.sampled >= VITALS_EACH_S:
            self._sample(life, now)

    def _watch_silence(self, life: Life, now: float) -> None:
        silence = now - life.last_beat if life.last_beat is not None else 0.0
        quiet = stale(silence, self.terms.rules)
        if quiet == self.status.stale:
            return
        self.set(stale=quiet)
        if quiet:
            facts = {"heartbeat_age_s": round(silence, 1), "process_is": life.look(), "pid": life.child.pid}
            self.tell("silent", "warning", **facts)

    def _sample(self, life: Life, now: float) -> None:
        found = life.child.vitals()
        if found is None:
            return
        percent = round(100 * (found.cpu_s - life.cpu_s) / (now - life.sampled), 1) if life.sampled else None
        life.sampled, life.cpu_s = now, found.cpu_s
        self.set(rss_bytes=found.rss_bytes, cpu_percent=percent)
        life.over_hard = life.over_hard + 1 if found.rss_bytes > 1.5 * self.terms.memory else 0
        if found.rss_bytes > self.terms.memory and not life.over_soft:
            life.over_soft = True
            facts = {"rss_bytes": found.rss_bytes, "pid": life.child.pid, "cause": "recycling it"}
            self.tell("over its memory limit", "warning", **facts)
            life.child.channel.send({"recycle": True}, must=True)

    # -- acting

    def forget(self) -> None:
        """Forget earlier deaths: it may start at once, and with all its concurrency."""
        self.record = Record()
        self.next_start = 0.0
        if self.life is None:
            self.set(note=None)

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
            trouble = f"no process can be started: {error.strerror or error}"
            if self.status.trouble != trouble:
                self.tell("not started", "error", cause=trouble)
            self.set(trouble=trouble)
            self.move(State.RESTARTING, trouble)
            return None
        self.life = Life(child, terms.folder / f"{self.name}.at", terms.paused, terms.ticket)
        self.starts += 1
        self.set(
            **GONE
            | {"pid": child.pid, "born": child.born, "process_alive": True, "started_at": stamp()}
            | {"restarts": self.status.restarts + (self.starts > 1), "next_start_in_s": None, "trouble": None},
            note=_halved(self.record.halvings),
        )
        self.move(State.STARTING, f"after {self.died_of}" if self.died_of else "first start")
        return child

    def ask_to_end(self, cause: str) -> None:
        """Terminate it, once."""
        life = self.life
        if life is not None and life.stop_asked is None:
            life.stop_asked = time.monotonic()
            self.move(State.STOPPING, cause)
            life.child.ask_to_end()

    def show(self, now: float) -> None:
        """It is hung: have it leave its stacks."""
        life = self.life
        assert life is not None
        assert life.last_beat is not None
        life.shown = now
        life.forget_stacks()
        silence = f"silent for {now - life.last_beat:.1f} s"
        self.move(State.HUNG, silence, "error", url=life.url(), process_is=life.look())
        life.child.show_stacks()

    def kill(self, cause: Cause | None = None) -> None:
        """Kill it and what it started. cause: None if that is seen from what went before. From any thread."""
        life = self.life
        if life is not None:
            life.our_kill = life.our_kill or cause or life.why_kill()
            life.child.kill()

    def bury(self, life: Life, wanted: bool, now: float) -> None:
        """Take the exit of the dead generation: say why it died, and what follows."""
        terms, child = self.terms, life.child
        url, stacks = life.url(), life.stacks()
        code, left = child.reap()
        oom = terms.oom_at is not None and terms.oom_at > max(child.started, now - OOM_RECENT_S)
        self._count_same_page(life)
        told = life.exit_code is not None and life.exit_code == code
        asked = life.stop_asked is not None
        kill = life.our_kill or (
            Cause.HANG if life.shown is not None and not asked else None
        )  # showing stacks can crash
        cause = classify(Ended(code, asked, kill, life.at_work, told, oom, self.same_page))
        found = plan(
            cause,
            now=now,
            started=child.started,
            at_work=life.at_work,
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
            life.last_words(),
            url if cause not in EXPECTED else None,
            stacks,
            round(now - child.started, 1),
        )
        rss = self.status.rss_bytes
        self.life = None
        self.next_start, self.record = found.next_start, found.record
        self.set(**GONE, note=_halved(found.record.halvings), last_exit=last)
        evidence = {k: v for k, v in asdict(last).items() if k not in ("at", "reason", "message")}
        counted = len(found.record.deaths) or None
        level: Level = "info" if cause in EXPECTED else "warning"
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
        level = "error" if found.state is State.FAILED else "info"
        self.move(found.state, str(cause), level, next_start_in_s=self.wait(now))

    def _count_same_page(self, life: Life) -> None:
        """Count deaths in a row while it read one and the same page."""
        number = life.page()
        self.same_page = self.same_page + 1 if number and number == self.last_page else int(number > 0)
        self.last_page = number

    def wait(self, now: float) -> float | None:
        """Return in how many seconds it starts again, or None if a person has to ask."""
        return round(max(0.0, self.next_start - now), 1) if self.next_start is not None else None


def _halved(halvings: int) -> str | None:
    return f"memory ran out: it runs with 1/{2**halvings} of the concurrency" if halvings else None
