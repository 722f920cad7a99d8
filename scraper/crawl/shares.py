"""Which hosts this worker asks, where several crawl: an even share each, and nothing that nobody takes up."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence

LEFT_S = 2.0  # for so long a host is left to the worker whose share it is
CROWDED_S = 1.0  # for so long a worker has more than its share before it leaves some to others


class Shares:
    """The share of one worker among those that are there at the moment."""

    def __init__(self, owner: str, siblings: tuple[int, int], clock: Callable[[], float] = time.monotonic) -> None:
        """siblings: which of how many workers this is that start together: until all have shown up, each leaves the others theirs."""
        self._owner = owner
        self._siblings = siblings
        self._clock = clock
        self._began = clock()
        self._workers: Sequence[str] = ()
        self._left: dict[str, float] = {}
        self._crowded_since: float | None = None

    @property
    def alone(self) -> bool:
        """Whether no other worker is there."""
        return len(self._workers) <= 1

    def saw(self, workers: Sequence[str]) -> None:
        """Learn who crawls, this worker too, in an order that is the same for all."""
        self._workers = workers

    def to_ask(self, due: Mapping[str, bool], here: Collection[str]) -> list[str]:
        """Return which hosts to ask from now on: those at this worker's place first, and what nobody else has taken up.

        due: hosts with something to visit, and whether no other worker has them. here: those that this worker asks already.
        """
        clock = self._clock()
        place, workers = self._place()
        left: list[str] = []
        first: list[str] = []
        others: list[str] = []
        for rank, (host, free) in enumerate(due.items()):
            if not free or host in here:
                self._left.pop(host, None)
            elif clock - self._left.setdefault(host, clock) > LEFT_S:
                left.append(host)
            else:
                (first if rank % workers == place else others).append(host)
        for host in self._left.keys() - due.keys():
            del self._left[host]
        room = max(self._share(due) - sum(host in here for host in due), 0)
        return left + (first + others)[:room]

    def to_leave(self, due: Mapping[str, bool], here: Collection[str]) -> list[str]:
        """Return which hosts to leave to workers that have less than their share. Not at once: shares change all the time."""
        surplus = [host for host in due if host in here][self._share(due) :]
        clock = self._clock()
        if not surplus:
            self._crowded_since = None
            return []
        if self._crowded_since is None:
            self._crowded_since = clock
        return surplus if clock - self._crowded_since > CROWDED_S else []

    def _share(self, due: Mapping[str, bool]) -> int:
        """How many of the hosts that are due each worker should have."""
        return -(-len(due) // self._place()[1])

    def _place(self) -> tuple[int, int]:
        """Which of how many workers this is."""
        if len(self._workers) < self._siblings[1] and self._clock() - self._began < LEFT_S:
            return self._siblings
        place = self._workers.index(self._owner) if self._owner in self._workers else 0
        return place, max(len(self._workers), 1)
