"""What an observation calls for, and what follows a death. Pure: every time is an argument, in monotonic seconds."""

import signal
from dataclasses import dataclass
from enum import StrEnum

from scraper.errors import Exit
from scraper.states import State

BOOT_TIMEOUT_S = 30.0
STACKS_S = 1.0  # between asking a hung process for its stacks and ending it
RETRY_FAILED_S = 300.0
BACKOFF_FIRST_S = 0.5
STEADY_S = 10.0  # who lived this long is restarted at once
NATIVE = {signal.SIGSEGV, signal.SIGABRT, signal.SIGFPE, signal.SIGILL} | (
    {signal.SIGBUS} if hasattr(signal, "SIGBUS") else set()
)


class Action(StrEnum):
    """What to do about one process now."""

    WAIT = "wait"
    START = "start"
    STOP = "stop"  # ask it to end
    SHOW = "show"  # have it print its stacks, for it is hung
    KILL = "kill"


class Cause(StrEnum):
    """Why a process ended."""

    REQUESTED = "requested"
    CLEAN = "clean"  # by itself, all done
    RECYCLED = "recycled"
    CONFIG_ERROR = "config error"
    BOOT_FAILURE = "boot failure"
    CRASH = "crash"
    NATIVE_CRASH = "native crash"
    HANG = "hang"
    MEMORY = "memory"
    KILLED = "killed from outside"
    STOP_TIMEOUT = "stop timeout"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Cure:
    """What follows a cause."""

    restarts: bool
    counted: bool = False
    at_once: bool = False


CURES: dict[Cause, Cure] = {
    Cause.REQUESTED: Cure(restarts=True, at_once=True),
    Cause.CLEAN: Cure(restarts=True, counted=True),
    Cause.RECYCLED: Cure(restarts=True, at_once=True),
    Cause.CONFIG_ERROR: Cure(restarts=False),
    Cause.BOOT_FAILURE: Cure(restarts=True, counted=True),
    Cause.CRASH: Cure(restarts=True, counted=True),
    Cause.NATIVE_CRASH: Cure(restarts=True, counted=True),
    Cause.HANG: Cure(restarts=True, counted=True),
    Cause.MEMORY: Cure(restarts=True, counted=True),
    Cause.KILLED: Cure(restarts=True, at_once=True),
    Cause.STOP_TIMEOUT: Cure(restarts=True, at_once=True),
    Cause.LOST: Cure(restarts=True, counted=True),
}


@dataclass(frozen=True, slots=True)
class Rules:
    """The supervisor's settings. Times in seconds."""

    heartbeat_timeout: float = 30.0
    stop_timeout: float = 5.0
    backoff_max: float = 60.0
    max_restarts: int = 10
    restart_window: float = 60.0
    restart: str = "always"


@dataclass(frozen=True, slots=True)
class Observation:
    """One process at one moment."""

    now: float
    wanted: bool
    alive: bool
    next_start: float | None = None  # None: not before a person asks for it
    started: float = 0.0
    last_beat: float | None = None  # None: none yet
    stop_asked: float | None = None
    shown: float | None = None  # when it was asked for its stacks
    too_big: bool = False


def decide(seen: Observation, rules: Rules) -> Action:
    """Say what this tick calls for."""
    if not seen.alive:
        due = seen.next_start is not None and seen.now >= seen.next_start
        return Action.START if seen.wanted and due else Action.WAIT
    if seen.stop_asked is not None:
        return Action.KILL if seen.now >= seen.stop_asked + rules.stop_timeout else Action.WAIT
    if not seen.wanted:
        return Action.STOP
    if seen.too_big:
        return Action.KILL
    if seen.last_beat is None:
        return Action.KILL if seen.now > seen.started + max(BOOT_TIMEOUT_S, rules.heartbeat_timeout) else Action.WAIT
    if seen.shown is not None and seen.last_beat < seen.shown:
        return Action.KILL if seen.now > seen.shown + STACKS_S else Action.WAIT
    return Action.SHOW if seen.now - seen.last_beat > rules.heartbeat_timeout else Action.WAIT


@dataclass(frozen=True, slots=True)
class Ended:
    """What is known of a death. exit_code: as multiprocessing tells it, negative for a signal; None: nobody knows."""

    exit_code: int | None
    asked: bool  # we had asked it to end
    our_kill: Cause | None  # why we killed it, noted before we did
    booted: bool


def classify(ended: Ended) -> Cause:
    """Say why a process ended."""
    code = ended.exit_code
    if ended.our_kill is not None:
        return ended.our_kill
    if ended.asked:
        return Cause.REQUESTED
    known = {Exit.DONE: Cause.CLEAN, Exit.RECYCLE: Cause.RECYCLED, Exit.BAD_CONFIG: Cause.CONFIG_ERROR}
    if code is None or code in (255, Exit.PARENT_LOST):
        return Cause.LOST
    if code in known:
        return known[Exit(code)]
    if code < 0:
        return Cause.NATIVE_CRASH if -code in NATIVE else Cause.KILLED
    return Cause.CRASH if ended.booted else Cause.BOOT_FAILURE


@dataclass(frozen=True, slots=True)
class Plan:
    """What follows a death. next_start None: not before a person asks for it. deaths: those that count still."""

    state: State
    next_start: float | None
    deaths: tuple[float, ...]


def plan(
    cause: Cause, *, now: float, started: float, wanted: bool, deaths: tuple[float, ...], rules: Rules, jitter: float
) -> Plan:
    """Say what follows a death. jitter: a random number from 0 to 1, for a fifth more or less of the wait.

    A process that dies more than max_restarts times within restart_window is failed: it is tried again each five
    minutes, so that nothing is given up for good and nothing is restarted hot. A kill from outside never counts.
    """
    cure = CURES[cause]
    deaths = tuple(at for at in deaths if at > now - rules.restart_window)
    if not wanted:
        return Plan(State.STOPPED, now, deaths)
    if cause is Cause.CLEAN and rules.restart == "on-failure":
        return Plan(State.STOPPED, None, deaths)
    if not cure.restarts or (rules.restart == "never" and cause is not Cause.REQUESTED):
        return Plan(State.FAILED, None, deaths)
    hot = cause is Cause.RECYCLED and now - started < STEADY_S
    if not cure.counted and not hot:
        return Plan(State.RESTARTING, now, deaths)
    deaths = (*deaths, now)
    spread = 0.8 + 0.4 * jitter
    if len(deaths) > rules.max_restarts:
        return Plan(State.FAILED, now + max(RETRY_FAILED_S, rules.restart_window) * spread, deaths)
    if now - started >= STEADY_S:
        return Plan(State.RESTARTING, now, deaths)
    wait = min(BACKOFF_FIRST_S * 2 ** (len(deaths) - 1), rules.backoff_max)
    return Plan(State.RESTARTING, now + wait * spread, deaths)
