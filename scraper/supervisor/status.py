"""ScraperStatus: replaced whole, read without waiting."""

from dataclasses import asdict, dataclass, field
from typing import Any

from scraper.states import State


@dataclass(frozen=True, slots=True)
class LastExit:
    """How a process ended last."""

    pid: int | None
    exit_code: int | None
    signal: str | None
    reason: str
    at: str
    message: str = ""
    url: str | None = None  # the page that it was reading, or the first one in flight
    stacks: str = ""  # where its threads stood
    uptime_s: float | None = None


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """One scraper process. beat: when its last heartbeat came, in seconds of the monotonic clock."""

    name: str
    state: State
    pid: int | None = None
    process_alive: bool = False
    beat: float | None = None
    started_at: str | None = None
    restarts: int = 0
    rss_bytes: int | None = None
    cpu_percent: float | None = None
    sources: tuple[str, ...] = ()
    last_check: str | None = None
    last_exit: LastExit | None = None
    next_start_in_s: float | None = None
    trouble: str | None = None
    stale: bool = False
    note: str | None = None
    born: str | None = None

    @property
    def role(self) -> str:
        """What it does: "scraper", or "enricher"."""
        return self.name.rpartition("-")[0]

    def answer(self, now: float) -> dict[str, Any]:
        """Return what the API tells of it. now: of the monotonic clock."""
        told = asdict(self) | {"role": self.role}
        del told["beat"], told["born"]
        told["heartbeat_age_s"] = round(max(0.0, now - self.beat), 3) if self.beat is not None else None
        return told


@dataclass(frozen=True, slots=True)
class SharedState:
    """How the shared dict fares: its manager's pid, how often it was started anew, and what the scrapers put there."""

    alive: bool = False
    pid: int | None = None
    restarts: int = 0
    board: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ScraperStatus:
    """All scraper processes of a service. at: when this was published, in seconds of the monotonic clock."""

    running: bool
    state: State
    at: float
    owner_pid: int
    processes: tuple[ProcessStatus, ...] = ()
    last_check: str | None = None
    shared_state: SharedState = field(default_factory=SharedState)
    message: str = ""
    ended: bool = False
    wish: dict[str, Any] = field(default_factory=dict)
    family: str = ""

    def answer(self, now: float) -> dict[str, Any]:
        """Return what `GET /api/scraper-status` answers. now: of the monotonic clock."""
        processes = [process.answer(now) for process in self.processes]
        first = processes[0] if processes else {}
        return {
            "running": self.running,
            "state": self.state,
            "last_check": self.last_check,
            "process_alive": first.get("process_alive", False),
            "pid": first.get("pid"),
            "restarts": first.get("restarts", 0),
            "heartbeat_age_s": first.get("heartbeat_age_s"),
            "started_at": first.get("started_at"),
            "last_exit": first.get("last_exit"),
            "processes": processes,
            "owner_pid": self.owner_pid,
            "published_age_s": round(max(0.0, now - self.at), 3),
            "shared_state": asdict(self.shared_state),
            "message": self.message,
            "wish": self.wish,
        }

    def plain(self) -> dict[str, Any]:
        """Return this as JSON keeps it; read() takes it back."""
        return asdict(self)


def read(kept: dict[str, Any]) -> ScraperStatus:
    """Return the status that plain() kept. Raises KeyError, TypeError or ValueError for anything else."""
    processes = []
    for process in kept["processes"]:
        last = process["last_exit"]
        processes.append(
            ProcessStatus(
                **{
                    **process,
                    "state": State(process["state"]),
                    "sources": tuple(process["sources"]),
                    "last_exit": LastExit(**last) if last else None,
                }
            )
        )
    shared = SharedState(**kept["shared_state"])
    return ScraperStatus(
        **{**kept, "state": State(kept["state"]), "processes": tuple(processes), "shared_state": shared}
    )
