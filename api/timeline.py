"""What each process was at lately, as stretches of a bar. Pure: the instant is an argument."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar

from scraper.states import State

SPAN = timedelta(minutes=15)
WIDTH = 900  # of the picture: one second a unit


@dataclass(frozen=True, slots=True)
class Stretch:
    """A state that lasted: from x on, so wide."""

    state: str
    x: float
    width: float
    title: str


@dataclass(frozen=True, slots=True)
class Death:
    """An end that nobody asked for, at x."""

    x: float
    title: str


@dataclass(frozen=True, slots=True)
class Lane:
    """One process."""

    name: str
    stretches: tuple[Stretch, ...]
    deaths: tuple[Death, ...]


class Told(Protocol):
    """An event, as far as it says whether it is in the picture."""

    at: Any
    name: Any
    event: Any


AnyTold = TypeVar("AnyTold", bound=Told)


def in_sight(told: Iterable[AnyTold], names: Sequence[str], now: datetime) -> list[AnyTold]:
    """Return the events that the picture shows: the last quarter of an hour, and the move before that of each process.

    told: the newest first; no more of them are taken than it needs.
    """
    left = set(names)
    found = []
    for one in told:
        if one.at < now - SPAN:
            if one.event == "moved" and one.name in left:
                found.append(one)
                left.remove(one.name)
            if not left:
                break
        else:
            found.append(one)
    return found


def lanes(names: Sequence[str], events: Sequence[dict[str, Any]], now: datetime) -> list[Lane]:
    """Return the last quarter of an hour of these processes. events: the newest first."""
    return [_lane(name, [e for e in reversed(events) if e["name"] == name], now) for name in names]


def _lane(name: str, told: Sequence[dict[str, Any]], now: datetime) -> Lane:
    moves = [(e["at"], str(e["facts"]["is"])) for e in told if e["event"] == "moved" and "is" in e["facts"]]
    ends = [*(at for at, _ in moves), now][1:]
    stretches = []
    for (at, state), end in zip(moves, ends, strict=True):
        x, until = _x(at, now), _x(end, now)
        if until > 0 and (until - max(x, 0.0) >= 1 or state in (State.HUNG, State.FAILED)):
            stretches.append(Stretch(state, max(x, 0.0), max(until - max(x, 0.0), 1.0), f"{state} from {at:%H:%M:%S}"))
    deaths = [
        Death(_x(e["at"], now), f"{e['at']:%H:%M:%S} {e['facts'].get('cause', '')}")
        for e in told
        if e["event"] == "ended" and e["level"] != "info" and _x(e["at"], now) >= 0
    ]
    return Lane(name, tuple(stretches), tuple(deaths))


def _x(at: datetime, now: datetime) -> float:
    return round(WIDTH * (1 - (now - at) / SPAN), 1)
