"""The supervisor: each tick it observes, decides, acts and publishes. Runs in the thread that calls tick()."""

import contextlib
import logging
import random
import selectors
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from scraper.channel import Message
from scraper.scoreboard import Scoreboard
from scraper.states import AT_WORK, State
from scraper.supervisor.child import Child, Target, signal_name, without_main
from scraper.supervisor.policy import Action, Cause, Ended, Observation, Rules, classify, decide, plan
from scraper.supervisor.slot import Slot
from scraper.supervisor.status import LastExit, ProcessStatus, ScraperStatus, SharedState

VITALS_EACH_S = 1.0
LAG_S = 2.0
NO_ROOM_S = 2.0

log = logging.getLogger(__name__)

Boot = Callable[[str], Message]


def stamp() -> str:
    """Return this instant as JSON tells it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def overall(states: Sequence[State]) -> State:
    """Return the state of all processes together: that of the first one, unless others say more.

    Scraping if any scrapes; stopped or failed only if none is there any more.
    """
    if State.SCRAPING in states and states[0] in AT_WORK:
        return State.SCRAPING
    if states[0] in (State.STOPPED, State.FAILED):
        return next((state for state in states if state not in (State.STOPPED, State.FAILED)), states[0])
    return states[0]


class Supervisor:
    """Keeps one process under each name alive as long as it is wanted.

    target: what a process runs, importable. boot: gives the first message of a new process: its config dict.
    memory: bytes above which a process is asked to make way for a fresh one; above 1.5 times it is killed.
    """

    def __init__(
        self,
        target: Target,
        names: Sequence[str],
        rules: Rules,
        boot: Boot,
        *,
        memory: int,
        before: ScraperStatus | None = None,
    ) -> None:
        self._target = target
        self._rules = rules
        self._boot = boot
        self._memory = memory
        self._selector = selectors.DefaultSelector()
        self._ours, self._theirs = socket.socketpair()
        self._ours.setblocking(False)
        self._theirs.setblocking(False)
        self._selector.register(self._ours, selectors.EVENT_READ, None)
        self._ticked = time.monotonic()
        self._last_check = before.last_check if before else None
        self._slots = [self._slot(name, before) for name in names]
        self._paused = False
        self.scoreboard = Scoreboard(without_main)
        self.scoreboard.start()

    @staticmethod
    def _slot(name: str, before: ScraperStatus | None) -> Slot:
        """A place; if an earlier owner died, its count and its last exit live on here."""
        status = ProcessStatus(name=name, state=State.STOPPED)
        for old in before.processes if before else ():
            if old.name == name:
                last = old.last_exit
                restarts = old.restarts
                if before and not before.ended and old.pid is not None:
                    last = LastExit(old.pid, None, None, "lost with its service", stamp())
                    restarts += 1
                status = replace(status, restarts=restarts, last_exit=last)
        return Slot(name, status)

    def wake(self) -> None:
        """Have the tick under way end now. May be called from any thread and from a signal handler."""
        with contextlib.suppress(BlockingIOError, OSError):
            self._theirs.send(b"!")

    def reconfigure(self, names: Sequence[str], rules: Rules, memory: int) -> None:
        """Use other settings from now on. A process whose name is gone is ended, and forgotten when it is."""
        self._rules, self._memory = rules, memory
        there = {slot.name for slot in self._slots}
        self._slots += [self._slot(name, None) for name in names if name not in there]
        for slot in self._slots:
            slot.surplus = slot.name not in names

    def retry(self) -> None:
        """Forget what failed: start again at once what is wanted and not alive."""
        for slot in self._slots:
            slot.deaths = ()
            slot.next_start = 0.0

    def restart(self) -> None:
        """End all processes; those that are wanted start again."""
        self.retry()
        now = time.monotonic()
        for slot in self._slots:
            self._ask_to_end(slot, now)

    def tick(self, *, wanted: bool, paused: bool, wait_s: float) -> bool:
        """Observe, decide, act. Waits up to wait_s for something to happen. Returns whether anything moved."""
        before = [slot.status for slot in self._slots]
        self._listen(0.0 if self._due(wanted) else wait_s)
        now = time.monotonic()
        self._forgive(now - self._ticked - wait_s)
        self._ticked = now
        self._paused = paused
        for slot in self._slots:
            self._attend(slot, wanted and not slot.surplus, now)
        self._slots = [slot for slot in self._slots if slot.child is not None or not slot.surplus]
        self.scoreboard.mend()
        return before != [slot.status for slot in self._slots]

    def alive(self) -> bool:
        """Say whether any process lives."""
        return any(slot.child is not None for slot in self._slots)

    def kill(self) -> None:
        """Kill everything now."""
        for slot in self._slots:
            if slot.child is not None:
                slot.our_kill = slot.our_kill or Cause.REQUESTED
                slot.child.kill()

    def close(self) -> None:
        """Let go of everything. Processes must be gone."""
        self.scoreboard.stop()
        self._selector.close()
        self._ours.close()
        self._theirs.close()

    def status(self, *, wanted: bool, message: str = "", ended: bool = False) -> ScraperStatus:
        """Return the picture of this moment."""
        processes = tuple(slot.status for slot in self._slots)
        state = overall([process.state for process in processes])
        board = self.scoreboard
        return ScraperStatus(
            running=wanted and state is not State.FAILED,
            state=state,
            at=time.monotonic(),
            owner_pid=0,
            processes=processes,
            last_check=max((p.last_check for p in processes if p.last_check), default=self._last_check),
            shared_state=SharedState(board.alive, board.pid, board.restarts, board.copied),
            message=message,
            ended=ended,
        )

    # -- observing

    def _due(self, wanted: bool) -> bool:
        now = time.monotonic()
        return wanted and any(s.child is None and s.next_start is not None and s.next_start <= now for s in self._slots)

    def _listen(self, wait_s: float) -> None:
        for key, _ in self._selector.select(wait_s):
            if key.data is None:
                try:
                    while self._ours.recv(4096):
                        pass
                except BlockingIOError:
                    pass
            elif key.fileobj == key.data.channel.socket:
                self._hear(key.data)

    def _hear(self, child: Child) -> None:
        slot = next(slot for slot in self._slots if slot.child is child)
        messages, open_still = child.channel.receive()
        for message in messages:
            if "beat" in message:
                self._beat(slot, message)
            elif "leaving" in message:
                slot.reason = str(message["leaving"])[:4000]
        if not open_still:
            self._unregister(child.channel.socket)

    def _beat(self, slot: Slot, message: Message) -> None:
        slot.last_beat = time.monotonic()
        slot.shown = None
        state = State.STOPPING if slot.stop_asked is not None else State(message["state"])
        slot.move(
            state,
            beat=slot.last_beat,
            sources=tuple(message.get("sources") or ()),
            last_check=message.get("last_check") or slot.status.last_check,
            trouble=message.get("trouble"),
        )

    def _forgive(self, lag_s: float) -> None:
        """A machine that slept, or starved us, is no fault of the processes: move their deadlines by as much."""
        if lag_s <= LAG_S:
            return
        for slot in self._slots:
            if slot.child is not None:
                slot.child.started += lag_s
                slot.last_beat = slot.last_beat + lag_s if slot.last_beat is not None else None
                slot.stop_asked = slot.stop_asked + lag_s if slot.stop_asked is not None else None

    def _observe(self, slot: Slot, wanted: bool, now: float) -> Observation:
        child = slot.child
        return Observation(
            now=now,
            wanted=wanted,
            alive=child is not None,
            next_start=slot.next_start,
            started=child.started if child else 0.0,
            last_beat=slot.last_beat,
            stop_asked=slot.stop_asked,
            shown=slot.shown,
            too_big=slot.over_hard >= 2,
        )

    # -- acting

    def _attend(self, slot: Slot, wanted: bool, now: float) -> None:
        if slot.child is not None and slot.child.ended():
            self._bury(slot, slot.child, wanted, now)
        if slot.child is not None:
            self._look_after(slot, slot.child, now)
        elif not wanted and slot.status.state is not State.STOPPED:
            slot.move(State.STOPPED, next_start_in_s=None)
            slot.next_start, slot.deaths = 0.0, ()
        elif slot.next_start is not None and wanted:
            slot.status = replace(slot.status, next_start_in_s=round(max(0.0, slot.next_start - now), 1))
        action = decide(self._observe(slot, wanted, now), self._rules)
        if action is Action.START:
            self._start(slot)
        elif action is Action.STOP:
            self._ask_to_end(slot, now)
        elif action is Action.SHOW and slot.child is not None:
            slot.shown = now
            slot.move(State.HUNG)
            log.error("process is hung", extra={"scraper": slot.name, "pid": slot.child.pid})
            slot.child.show_stacks()
        elif action is Action.KILL and slot.child is not None:
            if slot.our_kill is None:
                slot.our_kill = self._why_kill(slot)
                log.error("killing", extra={"scraper": slot.name, "pid": slot.child.pid, "cause": str(slot.our_kill)})
            slot.child.kill()

    @staticmethod
    def _why_kill(slot: Slot) -> Cause:
        if slot.stop_asked is not None:
            return Cause.STOP_TIMEOUT
        if slot.over_hard >= 2:
            return Cause.MEMORY
        return Cause.HANG if slot.last_beat is not None else Cause.BOOT_FAILURE

    def _start(self, slot: Slot) -> None:
        boot = {
            **self._boot(slot.name),
            "name": slot.name,
            "died_at": slot.died_at,
            "died_of": slot.died_of,
            "paused": self._paused,
        }
        slot.paused = self._paused
        slot.ticket = boot["board"] = self.scoreboard.ticket
        try:
            child = Child(slot.name, self._target, boot, self.wake)
        except OSError as error:
            slot.next_start = time.monotonic() + NO_ROOM_S
            slot.status = replace(slot.status, trouble=f"no process can be started: {error.strerror}")
            log.warning("no process can be started", extra={"scraper": slot.name, "reason": str(error)})
            return
        slot.child = child
        slot.starts += 1
        slot.last_beat = slot.stop_asked = slot.shown = slot.our_kill = None
        slot.reason = ""
        slot.cpu_s = slot.over_soft = slot.over_hard = 0
        slot.sampled = 0.0
        if child.pidfd is not None:
            self._selector.register(child.pidfd, selectors.EVENT_READ, child)
        self._selector.register(child.channel.socket, selectors.EVENT_READ, child)
        slot.move(
            State.STARTING,
            pid=child.pid,
            born=child.born,
            process_alive=True,
            beat=None,
            started_at=stamp(),
            restarts=slot.status.restarts + (slot.starts > 1),
            next_start_in_s=None,
            trouble=None,
        )

    def _look_after(self, slot: Slot, child: Child, now: float) -> None:
        if slot.paused != self._paused:
            slot.paused = self._paused
            child.channel.send({"paused": self._paused}, must=True)
        if slot.ticket != self.scoreboard.ticket and self.scoreboard.ticket is not None:
            slot.ticket = self.scoreboard.ticket
            child.channel.send({"board": slot.ticket}, must=True)
        child.channel.flush()
        if now - slot.sampled < VITALS_EACH_S:
            return
        found = child.vitals()
        if found is None:
            return
        span = now - slot.sampled
        percent = 100 * (found.cpu_s - slot.cpu_s) / span if slot.sampled else None
        slot.sampled, slot.cpu_s = now, found.cpu_s
        slot.status = replace(
            slot.status, rss_bytes=found.rss_bytes, cpu_percent=round(percent, 1) if percent is not None else None
        )
        slot.over_hard = slot.over_hard + 1 if found.rss_bytes > 1.5 * self._memory else 0
        if found.rss_bytes > self._memory and not slot.over_soft:
            slot.over_soft = 1
            log.warning("over the memory limit, recycling", extra={"scraper": slot.name, "rss_bytes": found.rss_bytes})
            child.channel.send({"recycle": True}, must=True)

    def _ask_to_end(self, slot: Slot, now: float) -> None:
        if slot.child is not None and slot.stop_asked is None:
            slot.stop_asked = now
            slot.move(State.STOPPING)
            slot.child.ask_to_end()

    def _bury(self, slot: Slot, child: Child, wanted: bool, now: float) -> None:
        self._hear(child)
        if child.pidfd is not None:
            self._unregister(child.pidfd)
        self._unregister(child.channel.socket)
        code = child.reap()
        cause = classify(Ended(code, slot.stop_asked is not None, slot.our_kill, slot.last_beat is not None))
        found = plan(
            cause,
            now=now,
            started=child.started,
            wanted=wanted,
            deaths=slot.deaths,
            rules=self._rules,
            jitter=random.random(),
        )
        slot.died_at, slot.died_of = stamp(), str(cause)
        last = LastExit(child.pid, code, signal_name(code), str(cause), slot.died_at, slot.reason)
        log.log(
            logging.INFO if cause in (Cause.REQUESTED, Cause.CLEAN, Cause.RECYCLED) else logging.WARNING,
            "process ended",
            extra={
                "scraper": slot.name,
                "pid": child.pid,
                "exit_code": code,
                "cause": str(cause),
                **({"said": slot.reason} if slot.reason else {}),
            },
        )
        slot.child = None
        slot.next_start, slot.deaths = found.next_start, found.deaths
        slot.stop_asked = slot.shown = slot.last_beat = None
        slot.move(
            found.state,
            pid=None,
            born=None,
            process_alive=False,
            beat=None,
            started_at=None,
            rss_bytes=None,
            cpu_percent=None,
            sources=(),
            last_exit=last,
        )

    def _unregister(self, end: int | socket.socket) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(end)
