"""One generation of a process: what it says, what was asked of it, and what is known when it is over."""

import re
import time
from dataclasses import dataclass, field
from pathlib import Path

from scraper import kernel
from scraper.channel import Message
from scraper.marker import last_mark
from scraper.states import AT_WORK, State
from scraper.supervisor.child import Child
from scraper.supervisor.policy import Cause

LOOK_EACH_S = 1.0
STACKS_CHARS = 8000
SAID_CHARS = 200_000
WORDS_CHARS = 4000


@dataclass(slots=True)
class Life:
    """All times are monotonic seconds. mark: the file in which it notes which page it reads."""

    child: Child
    mark: Path
    told_paused: bool
    told_ticket: str | None
    last_beat: float | None = None
    at_work: bool = False
    stop_asked: float | None = None
    shown: float | None = None  # when it was asked for its stacks
    our_kill: Cause | None = None
    said: str = ""  # by its fault handler
    leaving: Message = field(default_factory=dict)
    exit_code: int | None = None  # as it said itself
    doing: str | None = None
    looked: float = 0.0
    forgiven_s: float = 0.0
    sampled: float = 0.0
    cpu_s: float = 0.0
    over_soft: bool = False
    over_hard: int = 0

    @property
    def started(self) -> float:
        """When it began, for deadlines: later by what was forgiven."""
        return self.child.started + self.forgiven_s

    def hear(self, message: Message) -> State | None:
        """Take a line from the process. Returns its state, if it tells one that can be believed."""
        if "exit" in message:
            self.exit_code = int(message["exit"])
        if "leaving" in message:
            self.leaving = message
        elif "beat" in message:
            # A beat may say that nothing has moved for a while: then it is a sign of life of that moment, and no later one.
            moved_at = time.monotonic() - float(message.get("silent_s") or 0.0)
            self.last_beat = max(moved_at, self.last_beat or 0.0)
            state = State(message["state"])
            self.at_work = self.at_work or state in AT_WORK
            return None if self.shown is not None and self.last_beat < self.shown else state
        return None

    def listen(self) -> None:
        """Take what its fault handler writes, whoever asked it to: a full pipe would stop it."""
        self.said = (self.said + self.child.read_stacks())[-SAID_CHARS:]

    def forget_stacks(self) -> None:
        """What was said so far belongs to something that is over."""
        self.child.read_stacks()
        self.said = ""

    def forgive(self, lag_s: float) -> None:
        """Move all deadlines: for so long the machine slept, or starved us."""
        now = time.monotonic()
        self.forgiven_s += lag_s
        self.last_beat = min(self.last_beat + lag_s, now) if self.last_beat is not None else None
        self.stop_asked = min(self.stop_asked + lag_s, now) if self.stop_asked is not None else None
        self.shown = min(self.shown + lag_s, now) if self.shown is not None else None

    def why_kill(self) -> Cause:
        """Say what it would be killed for now."""
        if self.stop_asked is not None:
            return Cause.STOP_TIMEOUT
        if self.over_hard >= 2:
            return Cause.MEMORY
        return Cause.HANG if self.last_beat is not None or self.doing == kernel.STOPPED else Cause.BOOT_FAILURE

    # -- evidence

    def look(self) -> str | None:
        """See what the kernel has it do, and remember that."""
        self.doing = kernel.doing(self.child.pid)
        return self.doing

    def is_stopped(self, now: float) -> bool:
        """Say whether a signal has stopped it. Looked at seldom: a process that boots says nothing for a moment."""
        if now - self.looked >= LOOK_EACH_S:
            self.looked = now
            self.look()
        return self.doing == kernel.STOPPED

    def page(self) -> int:
        """The number of the page that it is reading, 0 for none."""
        return last_mark(self.mark).number

    def url(self) -> str | None:
        """The URL that it is at: the page that it reads, or else the visit that it began last."""
        return last_mark(self.mark).url or None

    def stacks(self) -> str:
        """What the fault handler said, the main thread first: that is where the loop is. Else how its exception came about."""
        self.listen()
        threads = re.split(r"(?m)^(?=(?:Thread|Current thread) 0x)", self.said)
        parts = [part.strip() for part in (*threads[:1], *reversed(threads[1:]))]
        text = "\n\n".join(part for part in parts if part)[:STACKS_CHARS]
        return text or str(self.leaving.get("traceback", ""))[-STACKS_CHARS:]

    def last_words(self) -> str:
        """What it said of its own end, or else what it was seen at."""
        if self.leaving:
            return str(self.leaving.get("leaving", ""))[:WORDS_CHARS]
        if self.our_kill is Cause.HANG and self.doing:
            return f"its process was {self.doing}"
        return ""
