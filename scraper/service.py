"""Puts it together: settings, ownership, wishes, and a Supervisor whose target is worker.run.

One thread does all of it. In the API worker that owns the state directory it supervises; in every other one it reads
what the owner publishes, and waits to take over.
"""

import atexit
import contextlib
import logging
import os
import secrets
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from scraper import kernel, statedir
from scraper.boot import boot_of, have_family, rules_of
from scraper.channel import Message
from scraper.config.load import Loaded
from scraper.config.settings import Enrich, Settings
from scraper.config.shape import build
from scraper.database.connection import sqlite_file
from scraper.demand import Demand
from scraper.enrichment.layout import mark
from scraper.errors import BadConfig, Conflict, Problem
from scraper.journal import Journal
from scraper.records import Event, Level
from scraper.scoreboard import end_left_by
from scraper.startup import review_parsers, settings_of
from scraper.statedir import StateDir, Verb, Wish
from scraper.states import State
from scraper.supervisor.child import on_parent_death
from scraper.supervisor.loop import Supervisor
from scraper.supervisor.policy import Rules
from scraper.supervisor.status import ProcessStatus, ScraperStatus, read
from scraper.worker.start import ENRICHER, run

TICK_S = 0.2
PUBLISH_EACH_S = 1.0
STALE_S = 5.0
STUCK_S = 10.0  # a supervisor that has not come round for so long stands still
SEEN_S = 0.5
LAST_TRIES = 20
# What was settled when the service was started: sockets are bound, and others were let in.
FIXED = (("database", "url"), ("service", "state_dir"), ("server", "host"), ("server", "port"), ("server", "token"))

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Asked:
    """What became of a wish."""

    changed: bool
    status: ScraperStatus


class Service:
    """The scraper as the API sees it. Everything but start() and stop() returns at once."""

    def __init__(self, loaded: Loaded, once: Sequence[int] | None = None) -> None:
        """once: do these runs and end, instead of whatever is due. Raises Unusable for the state directory."""
        self.loaded = loaded
        self._once = once
        self._dir = StateDir(
            statedir.path_of(loaded.settings.service.state_dir, loaded.base), sqlite_file(loaded.settings.database.url)
        )
        self._enrichers = 0
        self._ending = False  # no Event: setting one is not safe in a signal handler
        self._supervisor: Supervisor | None = None
        self._thread = threading.Thread(target=self._run, name="service", daemon=True)
        self._status = ScraperStatus(
            running=True,
            state=State.STARTING,
            at=time.monotonic(),
            owner_pid=0,
            processes=tuple(ProcessStatus(name, State.STARTING) for name in self._names()),
        )
        self._told = ""
        self._journal = Journal(loaded.settings.database)
        self._demand = Demand(loaded.settings.database)
        self._family = secrets.token_hex(8)
        self._pictured = threading.Event()
        self._leader: int | None = None
        self.hears_owner = True  # whether the picture of what another process owns is of now
        self._followed: int | None = None  # how many restarts of the owner we have seen
        self._wish = Wish()
        self._message = ""
        self._published = 0.0
        self._turned = time.monotonic()

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self.loaded.settings

    @property
    def state_dir(self) -> Path:
        """Where lock, status and wish are."""
        return self._dir.path

    def start(self) -> None:
        """Start the thread. It takes ownership, or follows the owner."""
        have_family(self._family)
        atexit.register(self._last_resort)
        if on_parent_death(self._orphaned):
            kernel.wake_when_orphaned()
        self._thread.start()

    def status(self) -> ScraperStatus:
        """Return the last picture, and never wait; where nobody draws new ones, with what can be seen from here."""
        stuck_s = self.lag_s()
        if stuck_s < STUCK_S:
            return self._status
        return replace(verified(self._status), message=f"the supervisor has not moved for {stuck_s:.0f} s")

    def await_picture(self) -> None:
        """Wait until there is a picture of the processes, ours or the owner's; at most five seconds."""
        self._pictured.wait(5.0)

    def lag_s(self) -> float:
        """Return how many seconds ago the service's own thread last came round; it does so several times a second."""
        return time.monotonic() - self._turned

    @property
    def owns(self) -> bool:
        """Whether the scraper is this process's."""
        return self._supervisor is not None

    def ask(self, verb: Verb) -> Asked:
        """Keep a wish, and wait a moment until the owner has seen it. For restart the configuration is read first.

        Raises BadConfig, Unusable, Conflict.
        """
        if verb == "restart":
            self._read_settings()
        owner = self._dir.owner()
        if not self.owns and owner.get("state_dir", str(self._dir.path)) != str(self._dir.path):
            raise Conflict(f"the service of process {owner.get('pid')} owns the scraper of this database: ask that one")
        status = self._status
        self._dir.remember(status.wish)
        down = status.state in (State.FAILED, State.STOPPED)
        changed, wish = self._dir.wish_for(verb, down=down)
        self._wake()
        deadline = time.monotonic() + SEEN_S
        while changed and self._status.wish != asdict(wish) and time.monotonic() < deadline:
            time.sleep(0.01)
        return Asked(changed, self._status)

    def stop_soon(self) -> None:
        """Begin to stop. Safe in a signal handler."""
        self._ending = True
        self._wake()

    def stop(self) -> None:
        """Stop: terminate, join, kill. Waits until the processes are gone."""
        self.stop_soon()
        if self._thread.is_alive():
            self._thread.join(self.settings.supervisor.stop_timeout + 5.0)
        self._last_resort()
        atexit.unregister(self._last_resort)

    def ended(self) -> bool:
        """Say whether a once-only service has nothing left to do."""
        return self.owns and self._status.state in (State.STOPPED, State.FAILED)

    def _wake(self) -> None:
        supervisor = self._supervisor
        if supervisor is not None:
            supervisor.wake()

    def _orphaned(self) -> None:
        """In a worker of a multi-process server whose main process is gone, however it went."""
        log.error("the main process is gone; this worker ends")
        self.stop_soon()
        os.kill(os.getpid(), signal.SIGTERM)
        if self._thread.is_alive():  # it may not have begun yet
            self._thread.join(1.0)
        self._last_resort()
        os._exit(1)

    def _last_resort(self) -> None:
        """Leave no process to wait for, where nobody called stop(): at the end of the interpreter, or of the thread."""
        self.stop_soon()
        for _ in range(LAST_TRIES):
            supervisor = self._supervisor
            if supervisor is not None:
                supervisor.kill()
            if self._thread is threading.current_thread() or not self._thread.is_alive():
                return
            self._thread.join(0.1)  # it may have been about to start one more

    # -- the thread

    def _run(self) -> None:
        try:
            self._journal.start()
            while not self._ending:
                self._turned = time.monotonic()
                if self._own():
                    self._supervise()
                else:
                    self._follow()
                    self._wait_for_owner()
            self._demand.stop()
            self._journal.stop()
        except Exception:  # the top of a thread: without it nobody supervises, so the service goes too
            log.exception("the supervisor failed; the service ends")
            self._last_resort()
            os._exit(1)

    def _own(self) -> bool:
        try:
            return self._dir.own()
        except OSError as error:
            self._say(f"{self._dir.path}: the lock cannot be used: {error.strerror}")
            return False

    def _follow(self) -> None:
        owner = self._dir.owner()
        if owner.get("pid") != self._leader:
            self._leader = owner.get("pid")
            log.info("following the owner of the scraper", extra={"owner": self._leader})
        kept = self._dir.published(Path(owner["state_dir"]) if owner.get("state_dir") else None)
        try:
            found = read(kept) if kept else None
            fresh = found is not None and 0 <= time.monotonic() - found.at < STALE_S
        except (KeyError, TypeError, ValueError):
            found, fresh = None, False
        if found is not None and fresh:
            self._keep_up(found.wish)
        seen = verified(found or self._status)
        self.hears_owner = fresh
        if not fresh:
            seen = replace(seen, message=f"process {owner.get('pid')} owns the scraper and is silent")
        self._status = seen
        self._pictured.set()

    def _keep_up(self, wish: Mapping[str, Any] | None) -> None:
        """Read the configuration when the owner does: who takes over has that to fall back on."""
        restarts = (wish or {}).get("restart")
        if restarts != self._followed:
            if self._followed is not None:
                with contextlib.suppress(BadConfig):  # the owner says so
                    self.loaded = self._read_settings()
                    log.info("read the configuration, as the owner did")
            self._followed = restarts

    def _wait_for_owner(self) -> None:
        """Wait a moment, less if the owner dies meanwhile: then its locks are free."""
        if isinstance(self._leader, int):
            kernel.await_death(self._leader, TICK_S)
        else:
            time.sleep(TICK_S)

    def _supervise(self) -> None:
        """Own the scraper until the service ends, or another has taken the locks."""
        before = self._earlier() if self._once is None else None
        self._dir.sweep()
        if before is not None and not before.ended and before.family:
            end_left_by(before.family, self._dir.path)
        self._tell("owns the scraper", "warning" if self._leader else "info", before=self._leader)
        self._leader = None
        self._wish = self._dir.wish() if self._once is None else Wish()
        self._message = self._refresh()
        self._demand.use(self.settings.enrich, self._marks())
        self._status = replace(self._status, state=State.STARTING, ended=False)
        if self._once is None:
            self._demand.start()
        self._supervisor = supervisor = Supervisor(
            run,
            self._names(),
            self._rules(),
            self._boot,
            memory=self.settings.limits.memory,
            folder=self._dir.path,
            family=self._family,
            record=self._journal.add,
            before=before,
        )
        try:
            while not self._ending or supervisor.alive():
                self._turned = time.monotonic()
                if not self._keep_ownership():
                    self._tell("lost the scraper to another", "error")
                    supervisor.end()
                    return
                self._obey(supervisor)
                self._staff(supervisor)
                wanted = self._wish.running and not self._ending
                moved = supervisor.tick(wanted=wanted, paused=self._wish.paused, wait_s=TICK_S)
                self._show(supervisor, moved=moved)
        finally:
            supervisor.kill()
            self._status = replace(self._picture(supervisor), ended=True)
            if self._dir.owns:
                self._publish()
            supervisor.close()
            self._supervisor = None
            self._tell("gave the scraper back")
            self._dir.disown()

    def _obey(self, supervisor: Supervisor) -> None:
        """Do what the operator has wished since the last look."""
        found = self._dir.wish() if self._once is None else self._wish
        if found == self._wish:
            return
        if found.restart != self._wish.restart:
            self._message = self._restart(supervisor)
        elif found.retry != self._wish.retry or (found.running and not self._wish.running):
            supervisor.retry()
        self._wish = found
        self._tell("wish", **asdict(found))

    def _staff(self, supervisor: Supervisor) -> None:
        """Have as many enrichers as there is work for."""
        most = self.settings.max_workers
        wanted = self._demand.wanted if most is None else min(self._demand.wanted, most)
        if wanted != self._enrichers:
            self._enrichers = wanted
            supervisor.reconfigure(self._names(), self._rules(), self.settings.limits.memory)

    def _marks(self) -> Callable[[Mapping[str, Any]], str | None]:
        """How it is known that a task would make something else by the settings in force."""
        settings = self.settings

        def mark_of(definition: Mapping[str, Any]) -> str | None:
            task = build(Enrich, definition, (), [])
            return mark(task, settings.llm, settings.embed) if task is not None else None

        return mark_of

    def _show(self, supervisor: Supervisor, *, moved: bool) -> None:
        """Take a picture; publish it if something moved, and each second."""
        told, self._status = self._status.wish, self._picture(supervisor)
        self._pictured.set()
        if moved or time.monotonic() - self._published > PUBLISH_EACH_S or self._status.wish != told:
            self._published = time.monotonic()
            self._publish()

    def _keep_ownership(self) -> bool:
        try:
            return self._dir.keep()
        except OSError as error:
            self._say(f"{self._dir.path}: the lock cannot be made anew: {error.strerror}")
            return True

    def _picture(self, supervisor: Supervisor) -> ScraperStatus:
        status = supervisor.status(wanted=self._wish.running and not self._ending, message=self._message)
        return replace(status, owner_pid=os.getpid(), wish=asdict(self._wish))

    def _earlier(self) -> ScraperStatus | None:
        kept = self._dir.published()
        try:
            return read(kept) if kept else None
        except (KeyError, TypeError, ValueError):
            return None

    def _tell(self, event: str, level: Level = "info", **facts: Any) -> None:
        told = {"pid": os.getpid(), **{name: value for name, value in facts.items() if value is not None}}
        log.log(getattr(logging, level.upper()), f"service {event}", extra=told)
        self._journal.add(Event(datetime.now(UTC), "service", socket.gethostname(), event, level, told))

    def _publish(self) -> None:
        try:
            self._dir.publish(self._status.plain())
            self._told = ""
        except OSError as error:
            self._say(f"{self._dir.path}: status.json cannot be written: {error.strerror}")

    def _say(self, trouble: str) -> None:
        if trouble != self._told:
            self._told = trouble
            log.warning(trouble)

    def _restart(self, supervisor: Supervisor) -> str:
        """Apply the configuration as it is now, and restart. Returns what was refused."""
        message = self._refresh()
        self._demand.use(self.settings.enrich, self._marks())
        supervisor.reconfigure(self._names(), self._rules(), self.settings.limits.memory)
        supervisor.restart()
        return message

    def _refresh(self) -> str:
        """Read the configuration again. Returns what was refused; then the old one stays."""
        if self._once is not None:
            return ""
        try:
            self.loaded = self._read_settings()
        except BadConfig as error:
            self._tell("refused the configuration", "error", problems=str(error))
            return f"the configuration was refused, the old one stays: {error}"
        return ""

    def _read_settings(self) -> Loaded:
        """Return the configuration as it is now. Raises BadConfig, also for what takes more than a restart."""
        loaded = settings_of(self.loaded.path)
        review_parsers(loaded)
        for table, key in FIXED:
            if getattr(getattr(loaded.settings, table), key) != getattr(getattr(self.settings, table), key):
                place = str(loaded.path or "settings")
                raise BadConfig([Problem(place, f"[{table}] {key} has changed: end the service and start it again")])
        return loaded

    def _names(self) -> list[str]:
        scrapers = [f"scraper-{number}" for number in range(self.settings.supervisor.processes)]
        return scrapers + [f"{ENRICHER}-{number}" for number in range(self._enrichers)]

    def _rules(self) -> Rules:
        return rules_of(self.settings.supervisor, once=self._once is not None)

    def _boot(self, name: str) -> Message:
        once = list(self._once) if self._once is not None else None
        return boot_of(
            self.settings, self.loaded.base, self._dir.path, name.rpartition("-")[0], self._dir.identity(), once
        )


def verified(status: ScraperStatus) -> ScraperStatus:
    """A picture that grew old, with what can be seen from here: whether the processes that it names are there."""
    processes = []
    for process in status.processes:
        alive = process.pid is not None and process.born is not None and kernel.birth(process.pid) == process.born
        gone = process.process_alive and not alive
        state = State.RESTARTING if gone else process.state
        processes.append(replace(process, process_alive=alive, pid=process.pid if alive else None, state=state))
    return replace(status, processes=tuple(processes), state=processes[0].state if processes else status.state)
