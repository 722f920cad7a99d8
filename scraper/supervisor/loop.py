"""The supervisor: each tick it observes, decides, acts and publishes. Runs in the thread that calls tick()."""

import contextlib
import selectors
import socket
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from scraper import kernel, spawning
from scraper.channel import Channel, Message
from scraper.records import Event
from scraper.scoreboard import Scoreboard
from scraper.states import AT_WORK, State
from scraper.supervisor.child import Child, Target
from scraper.supervisor.policy import Action, Cause, Rules, decide
from scraper.supervisor.slot import Slot, Terms, stamp
from scraper.supervisor.status import LastExit, ProcessStatus, ScraperStatus, SharedState

LAG_S = 2.0
END_S = 2.0
LOOK_EACH_S = 1.0
SENDING_S = 0.01


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
    """Keeps one process under each name alive as long as it is wanted."""

    def __init__(
        self,
        target: Target,
        names: Sequence[str],
        rules: Rules,
        boot: Callable[[str], Message],
        *,
        memory: int,
        folder: Path,
        family: str,
        record: Callable[[Event], None],
        before: ScraperStatus | None = None,
    ) -> None:
        """The arguments are those of Terms. before: the last picture of an earlier owner."""
        self._terms = Terms(target, boot, rules, memory, folder, self.wake, family, record)
        self._selector = selectors.DefaultSelector()
        self._ours, self._theirs = socket.socketpair()
        self._ours.setblocking(False)
        self._theirs.setblocking(False)
        self._selector.register(self._ours, selectors.EVENT_READ, None)
        self._ticked = time.monotonic()
        self._last_check = before.last_check if before else None
        self._slots = [self._slot(name, before) for name in names]
        self._boards = 0
        self._oom_kills = kernel.oom_kills()
        self._looked = 0.0
        self.scoreboard = Scoreboard(family, folder)
        self.scoreboard.start()

    def _slot(self, name: str, before: ScraperStatus | None) -> Slot:
        """A place; if an earlier owner died, its count and its last exit live on here."""
        slot = Slot(name, self._terms, ProcessStatus(name=name, state=State.STOPPED))
        for old in before.processes if before else ():
            if old.name == name:
                slot.set(restarts=old.restarts, last_exit=old.last_exit)
                if before and not before.ended and old.pid is not None:
                    last = LastExit(old.pid, None, None, str(Cause.LOST_WITH_SERVICE), stamp())
                    slot.set(restarts=old.restarts + 1, last_exit=last)
                    slot.died_at, slot.died_of = last.at, last.reason
                    slot.tell("ended", "warning", cause=last.reason, pid=old.pid)
        return slot

    def wake(self) -> None:
        """Have the tick under way end now. May be called from any thread and from a signal handler."""
        with contextlib.suppress(BlockingIOError, OSError):
            self._theirs.send(b"!")

    def reconfigure(self, names: Sequence[str], rules: Rules, memory: int) -> None:
        """Use other settings from now on. A process whose name is gone is ended, and forgotten when it is."""
        self._terms.rules, self._terms.memory = rules, memory
        there = {slot.name for slot in self._slots}
        self._slots += [self._slot(name, None) for name in names if name not in there]
        for slot in self._slots:
            slot.surplus = slot.name not in names

    def retry(self) -> None:
        """Forget what failed: start again at once what is wanted and not alive."""
        for slot in self._slots:
            slot.forget()

    def restart(self) -> None:
        """End all processes; those that are wanted start again."""
        self.retry()
        for slot in self._slots:
            slot.ask_to_end("restart was asked for")

    def tick(self, *, wanted: bool, paused: bool, wait_s: float) -> bool:
        """Observe, decide, act. Waits up to wait_s for something to happen. Returns whether anything moved."""
        before = [slot.status for slot in self._slots]
        wait_s = 0.0 if self._due(wanted) else min(wait_s, SENDING_S) if self._sending() else wait_s
        ready = self._selector.select(wait_s)
        now = time.monotonic()
        self._forgive(now - self._ticked - wait_s)
        self._ticked = now
        self._listen(ready)
        self._count_oom_kills(now)
        self._terms.paused, self._terms.ticket = paused, self.scoreboard.ticket
        for slot in self._slots:
            self._attend(slot, wanted, now)
        self._slots = [slot for slot in self._slots if slot.life is not None or not slot.surplus]
        self._sweep(now)
        self._mend()
        return before != [slot.status for slot in self._slots]

    def alive(self) -> bool:
        """Say whether any process lives."""
        return any(slot.life is not None for slot in self._slots)

    def kill(self) -> None:
        """Kill everything now."""
        for slot in self._slots:
            slot.kill(Cause.REQUESTED)

    def end(self) -> None:
        """Kill everything, and bury it. Waits a moment at the most."""
        deadline = time.monotonic() + END_S
        self.kill()
        while self.alive() and time.monotonic() < deadline:
            self.tick(wanted=False, paused=False, wait_s=0.05)

    def close(self) -> None:
        """Let go of everything. Processes must be gone."""
        self.scoreboard.stop()
        self._selector.close()
        self._ours.close()
        self._theirs.close()

    def status(self, *, wanted: bool, message: str = "") -> ScraperStatus:
        """Return the picture of this moment."""
        processes = tuple(slot.status for slot in self._slots)
        role = processes[0].role  # what they make of what was scraped is told of those processes alone
        state = overall([process.state for process in processes if process.role == role])
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
            family=self._terms.family,
        )

    # -- observing

    def _due(self, wanted: bool) -> bool:
        now = time.monotonic()
        return wanted and any(s.life is None and s.next_start is not None and s.next_start <= now for s in self._slots)

    def _sending(self) -> bool:
        """Whether a process has not taken all that was sent to it, a large configuration for example."""
        return any(slot.life is not None and slot.life.child.channel.unsent for slot in self._slots)

    def _listen(self, ready: list[tuple[selectors.SelectorKey, int]]) -> None:
        for key, _ in ready:
            if key.data is None:
                with contextlib.suppress(BlockingIOError):
                    while self._ours.recv(4096):
                        pass
            elif key.data.life is not None and key.fileobj == key.data.life.child.channel.socket:
                self._hear(key.data, key.data.life.child.channel)

    def _hear(self, slot: Slot, channel: Channel) -> None:
        messages, open_still = channel.receive()
        for message in messages:
            slot.hear(message)
        if not open_still:
            self._unregister(channel.socket)

    def _forgive(self, lag_s: float) -> None:
        """A machine that slept, or starved us, is no fault of the processes: move their deadlines by as much."""
        if lag_s > LAG_S:
            self.scoreboard.forgive(lag_s)
            for slot in self._slots:
                if slot.life is not None:
                    slot.life.forgive(lag_s)

    def _count_oom_kills(self, now: float) -> None:
        count = kernel.oom_kills()
        if count > self._oom_kills:
            self._terms.oom_at = now
        self._oom_kills = count

    def _sweep(self, now: float) -> None:
        """Remember which children are nobody's leftovers; end those that could not be looked for."""
        if spawning.swept():
            dying = any(slot.life is not None and slot.life.child.ended() for slot in self._slots)
            if now - self._looked >= LOOK_EACH_S and not dying:
                self._looked = now
                spawning.look()
        else:
            spawning.end_adopted()

    def _mend(self) -> None:
        """See that there is a shared dict; tell when there had to be another."""
        self.scoreboard.mend()
        if self.scoreboard.restarts > self._boards:
            self._boards = self.scoreboard.restarts
            facts = {"restarts": self._boards, "cause": self.scoreboard.fault}
            self._terms.record(Event(datetime.now(UTC), "shared_state", "manager", "replaced", "warning", facts))

    # -- acting

    def _attend(self, slot: Slot, wanted: bool, now: float) -> None:
        wanted_here = wanted and not slot.surplus
        life = slot.life
        if life is not None and life.child.ended():
            self._hear(slot, life.child.channel)
            self._unwatch(life.child)
            self._count_oom_kills(now)
            slot.bury(life, wanted_here, now)
        if slot.life is not None:
            slot.look_after(slot.life, now)
        elif not wanted_here and slot.status.state is not State.STOPPED:
            slot.move(State.STOPPED, "it is not wanted")
            slot.set(next_start_in_s=None)
            slot.forget()
        elif wanted_here:
            slot.set(next_start_in_s=slot.wait(now))
        action = decide(slot.observation(wanted_here, now), self._terms.rules)
        if action is Action.START:
            child = slot.start()
            if child is not None:
                self._watch(slot, child)
        elif action is Action.STOP:
            slot.ask_to_end("it is not wanted")
        elif action is Action.SHOW:
            slot.show(now)
        elif action is Action.KILL:
            slot.kill()

    def _watch(self, slot: Slot, child: Child) -> None:
        if child.pidfd is not None:
            self._selector.register(child.pidfd, selectors.EVENT_READ, slot)
        self._selector.register(child.channel.socket, selectors.EVENT_READ, slot)

    def _unwatch(self, child: Child) -> None:
        if child.pidfd is not None:
            self._unregister(child.pidfd)
        self._unregister(child.channel.socket)

    def _unregister(self, end: int | socket.socket) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(end)
