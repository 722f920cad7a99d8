"""The place of one process in the supervisor: its living generation, and what is known over generations."""

import logging
from dataclasses import dataclass, replace
from typing import Any

from scraper.states import MOVES, State
from scraper.supervisor.child import Child
from scraper.supervisor.policy import Cause
from scraper.supervisor.status import ProcessStatus

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Slot:
    """The place of one process: its living generation, and what is known over generations."""

    name: str
    status: ProcessStatus
    child: Child | None = None
    starts: int = 0
    next_start: float | None = 0.0
    deaths: tuple[float, ...] = ()
    last_beat: float | None = None
    stop_asked: float | None = None
    shown: float | None = None
    our_kill: Cause | None = None
    reason: str = ""  # what the process said of its own end
    sampled: float = 0.0
    cpu_s: float = 0.0
    over_soft: int = 0
    over_hard: int = 0
    ticket: str | None = None
    paused: bool = False
    died_at: str | None = None
    died_of: str | None = None
    surplus: bool = False

    def move(self, state: State, **facts: Any) -> None:
        """Go to another state, by a legal move."""
        if state is not self.status.state:
            assert state in MOVES[self.status.state], f"{self.name}: {self.status.state} to {state}"
            log.info("process moved", extra={"scraper": self.name, "was": str(self.status.state), "is": str(state)})
        self.status = replace(self.status, state=state, **facts)
