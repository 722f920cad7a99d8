"""What an observation calls for, and what follows a death. Pure: every time is an argument, in monotonic seconds."""

import signal
from dataclasses import dataclass, replace
from enum import StrEnum

from scraper.errors import Exit
from scraper.states import State

BOOT_TIMEOUT_S = 30.0
STACKS_S = 1.0  # between asking a hung process for its stacks and ending it
RETRY_FAILED_S = 300.0
BACKOFF_FIRST_S = 0.5
HALVED_FOR_S = 3600.0  # who lived this long has earned half of its concurrency back
HALVINGS_MAX = 5
DOUBLINGS_MAX = 20
STEADY_S = 10.0  # who lived this long, and did not die lately, is restarted at once
STALE_S = 5.0
OUT_OF_MEMORY_S = 5.0  # a machine that is short of memory is given a moment
YOUNG_KILLS = 5  # who is killed so often in a row before it was at work waits YOUNG_WAIT_S: no processor is burnt
YOUNG_WAIT_S = 0.5
SAME_PAGE = 10
# Signals that a process earns by what it does; all others come from somebody else.
NATIVE = {
    getattr(signal, name)
    for name in ("SIGSEGV", "SIGABRT", "SIGFPE", "SIGILL", "SIGBUS", "SIGSYS", "SIGTRAP", "SIGXCPU", "SIGXFSZ")
    if hasattr(signal, name)
}


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
    OUT_OF_MEMORY = "out of memory"  # the kernel's doing, not ours
    KILLED = "killed from outside"
    STOP_TIMEOUT = "stop timeout"
    LOST = "lost"
    LOST_WITH_SERVICE = "lost with its service"


@dataclass(frozen=True, slots=True)
class Cure:
    """What follows a cause."""

    counted: bool = False  # towards max_restarts; what is not counted is restarted at once
    slowly: bool = False  # a person has to mend something: the slow retry from the start


CURES: dict[Cause, Cure] = {
    Cause.REQUESTED: Cure(),
    Cause.CLEAN: Cure(counted=True),
    Cause.RECYCLED: Cure(),
    Cause.CONFIG_ERROR: Cure(slowly=True),
    Cause.BOOT_FAILURE: Cure(counted=True),
    Cause.CRASH: Cure(counted=True),
    Cause.NATIVE_CRASH: Cure(counted=True),
    Cause.HANG: Cure(counted=True),
    Cause.MEMORY: Cure(counted=True),
    Cause.OUT_OF_MEMORY: Cure(counted=True),
    Cause.KILLED: Cure(),
    Cause.STOP_TIMEOUT: Cure(),
    Cause.LOST: Cure(counted=True),
    Cause.LOST_WITH_SERVICE: Cure(),
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
    stopped: bool = False  # by a signal, before its first beat
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
        patience = rules.heartbeat_timeout if seen.stopped else max(BOOT_TIMEOUT_S, rules.heartbeat_timeout)
        return Action.KILL if seen.now > seen.started + patience else Action.WAIT
    if seen.shown is not None and seen.last_beat < seen.shown:
        return Action.KILL if seen.now > seen.shown + STACKS_S else Action.WAIT
    return Action.SHOW if seen.now - seen.last_beat > rules.heartbeat_timeout else Action.WAIT


def stale(silence_s: float, rules: Rules) -> bool:
    """Say whether a silence is worth mentioning: nothing is done about it yet."""
    return silence_s > min(STALE_S, rules.heartbeat_timeout / 2)


@dataclass(frozen=True, slots=True)
class Ended:
    """What is known of a death. exit_code: as multiprocessing tells it, negative for a signal; None: nobody knows."""

    exit_code: int | None
    asked: bool  # we had asked it to end
    our_kill: Cause | None  # why we killed it, noted before we did
    at_work: bool  # it had come so far
    told: bool = True  # it said itself that it would end with this code
    oom: bool = False  # the kernel killed somebody for memory just before
    same_page: int = 0  # how often in a row it ended while it read one and the same page


def classify(ended: Ended) -> Cause:
    """Say why a process ended."""
    code = ended.exit_code
    if ended.our_kill is not None:
        return ended.our_kill
    if ended.asked:
        return Cause.REQUESTED
    known = {Exit.DONE: Cause.CLEAN, Exit.RECYCLE: Cause.RECYCLED, Exit.BAD_CONFIG: Cause.CONFIG_ERROR}
    if code is None:
        return Cause.LOST
    if code in known and ended.told:
        return known[Exit(code)]
    if code < 0:
        if code == -9 and ended.oom:
            return Cause.OUT_OF_MEMORY
        itself = -code in NATIVE or ended.same_page >= SAME_PAGE  # nobody else is so precise
        return Cause.NATIVE_CRASH if itself else Cause.KILLED
    return Cause.CRASH if ended.at_work else Cause.BOOT_FAILURE


@dataclass(frozen=True, slots=True)
class Record:
    """What of earlier deaths counts still.

    deaths: when those were that count. young: kills in a row that came before it was at work. open: it had failed, and
    was tried again: until it has proved itself, the next counted death is a failure at once (a half-open circuit).
    halvings: how often the concurrency is to be halved, for want of memory.
    """

    deaths: tuple[float, ...] = ()
    young: int = 0
    open: bool = False
    halvings: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """What follows a death. next_start None: not before a person asks for it."""

    state: State
    next_start: float | None
    record: Record


def plan(
    cause: Cause,
    *,
    now: float,
    started: float,
    at_work: bool,
    wanted: bool,
    record: Record,
    rules: Rules,
    jitter: float,
) -> Plan:
    """Say what follows a death. jitter: a random number from 0 to 1, for a fifth more or less of the wait.

    A process that dies more than max_restarts times within restart_window is failed: it is tried again each five
    minutes, so that nothing is given up for good and nothing is restarted hot. A kill from outside never counts.
    """
    cure = CURES[cause]
    record = _carried(record, cause, now=now, started=started, at_work=at_work, rules=rules)
    spread = 0.8 + 0.4 * jitter
    slow = now + max(RETRY_FAILED_S, rules.restart_window) * spread
    if not wanted:
        return Plan(State.STOPPED, now, record)
    if cause is Cause.CLEAN and rules.restart == "on-failure":
        return Plan(State.STOPPED, None, record)
    if rules.restart == "never" and cause not in (Cause.REQUESTED, Cause.RECYCLED):
        return Plan(State.FAILED, None, record)
    if cure.slowly:
        return Plan(State.FAILED, slow, replace(record, open=True))
    hot = cause is Cause.RECYCLED and now - started < STEADY_S
    if not cure.counted and not hot:
        return Plan(State.RESTARTING, now + (YOUNG_WAIT_S if record.young > YOUNG_KILLS else 0.0), record)
    record = replace(record, deaths=(*record.deaths, now))
    if record.open or len(record.deaths) > rules.max_restarts:
        return Plan(State.FAILED, slow, replace(record, open=True))
    steady = now - started >= STEADY_S and len(record.deaths) == 1
    doublings = min(len(record.deaths) - 1, DOUBLINGS_MAX)
    wait = 0.0 if steady else min(BACKOFF_FIRST_S * 2**doublings, rules.backoff_max)
    if cause is Cause.OUT_OF_MEMORY:
        wait = max(wait, OUT_OF_MEMORY_S)
    return Plan(State.RESTARTING, now + wait * spread, record)


def _carried(record: Record, cause: Cause, *, now: float, started: float, at_work: bool, rules: Rules) -> Record:
    """What of earlier deaths counts still after a life of this length."""
    lived = now - started
    halvings = record.halvings - (lived >= HALVED_FOR_S and record.halvings > 0)
    return Record(
        deaths=tuple(at for at in record.deaths if at > now - rules.restart_window),
        young=record.young + 1 if cause is Cause.KILLED and not at_work else 0,
        open=record.open and not (at_work and lived >= rules.restart_window),
        halvings=min(halvings + 1, HALVINGS_MAX) if cause is Cause.OUT_OF_MEMORY else halvings,
    )
