"""Every state of a scraper process and every legal move between them; the states of runs and URLs."""

from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum, StrEnum


class State(StrEnum):
    """What a scraper process is doing, as the status tells it."""

    STARTING = "starting"  # spawned, no heartbeat yet
    IDLE = "idle"  # nothing is due
    SCRAPING = "scraping"
    ENRICHING = "enriching"
    PAUSED = "paused"
    STOPPING = "stopping"  # asked to end
    STOPPED = "stopped"  # the operator wants it so
    RESTARTING = "restarting"  # gone, its next start is waiting
    HUNG = "hung"  # there, silent for too long
    FAILED = "failed"  # died too often, or cannot start: a slow retry or a person is needed


AT_WORK = {State.IDLE, State.SCRAPING, State.ENRICHING, State.PAUSED}
DEAD = {State.STOPPED, State.RESTARTING, State.FAILED}

MOVES: dict[State, set[State]] = {
    State.STARTING: {*AT_WORK, State.STOPPING, State.HUNG, *DEAD},
    State.IDLE: {State.SCRAPING, State.ENRICHING, State.PAUSED, State.STOPPING, State.HUNG, *DEAD},
    State.SCRAPING: {State.IDLE, State.PAUSED, State.STOPPING, State.HUNG, *DEAD},
    State.ENRICHING: {State.IDLE, State.PAUSED, State.STOPPING, State.HUNG, *DEAD},
    State.PAUSED: {State.IDLE, State.SCRAPING, State.ENRICHING, State.STOPPING, State.HUNG, *DEAD},
    State.STOPPING: {State.HUNG, *DEAD},
    State.HUNG: {State.STARTING, *AT_WORK, State.STOPPING, *DEAD},
    State.STOPPED: {State.STARTING, State.RESTARTING, State.FAILED},
    State.RESTARTING: {State.STARTING, State.STOPPED, State.FAILED},
    State.FAILED: {State.STARTING, State.STOPPED, State.RESTARTING},
}


class RunState(StrEnum):
    """The life of one crawl of one source."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"


class RunKind(StrEnum):
    """What a run is for."""

    CRAWL = "crawl"  # the whole source, from its start pages on
    RETRY = "retry"  # URLs that failed, and what they lead to that nobody knew
    IMPORT = "import"  # items that another program scraped


class LastLook(IntEnum):
    """Whether a page to which nothing leads any more was asked for once more, only to see whether it is gone.

    Between the two: how often it was asked for, by as many runs, and nobody said.
    """

    NONE = 0
    HAD = 3


class UrlState(StrEnum):
    """What is to become of a URL in the run that it belongs to."""

    QUEUED = "queued"
    CLAIMED = "claimed"
    DONE = "done"
    FAILED = "failed"


class JobState(StrEnum):
    """What is to become of one thing that a task makes."""

    QUEUED = "queued"
    CLAIMED = "claimed"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Progress:
    """What a worker is doing, for the heartbeat and the scoreboard. silent_s: for how long nothing has moved, in seconds."""

    state: State
    sources: tuple[str, ...]
    last_check: datetime | None
    visiting: tuple[str, ...]
    pages: int
    failures: int
    trouble: str | None
    silent_s: float  # since anything last moved, though something should
