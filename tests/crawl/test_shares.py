"""How several workers divide the hosts: a simulation of them, with a clock of its own."""

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from scraper.crawl.shares import CROWDED_S, LEFT_S, Shares

STEP_S = 0.5
SETTLED_S = 4 * (LEFT_S + CROWDED_S)


@dataclass
class World:
    """Workers at one database, each of which looks at it in turn. `has`: which hosts each one asks."""

    hosts: list[str]
    now: float = 0.0
    shares: dict[str, Shares] = field(default_factory=dict)
    has: dict[str, set[str]] = field(default_factory=dict)

    def join(self, name: str, siblings: tuple[int, int] = (0, 1)) -> None:
        """A worker comes."""
        self.shares[name] = Shares(name, siblings, lambda: self.now)
        self.has[name] = set()

    def part(self, name: str) -> None:
        """A worker goes, and gives back what it has."""
        del self.shares[name], self.has[name]

    def look(self, name: str) -> None:
        """One look of a worker: it leaves what it has too much of, and takes what is its own and free."""
        mine = self.has[name]
        taken = {host for other, theirs in self.has.items() if other != name for host in theirs}
        due = {host: host not in taken for host in self.hosts}
        share = self.shares[name]
        share.saw(sorted(self.shares))
        mine -= set(share.to_leave(due, mine))
        wanted = set(share.to_ask(due, mine))
        assert not wanted & taken
        mine |= wanted

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        while self.now < end:
            for name in sorted(self.shares):
                self.look(name)
            self.now += STEP_S


def names(count: int) -> list[str]:
    return [f"host-{n}" for n in range(count)]


def even(world: World) -> bool:
    """Say whether every host has its worker, and no worker more than its share."""
    most = -(-len(world.hosts) // len(world.shares))
    counts = [len(theirs) for theirs in world.has.values()]
    return sum(counts) == len(world.hosts) and max(counts) <= most


def test_who_is_alone_has_everything_at_once() -> None:
    world = World(names(7))
    world.join("a")
    world.look("a")
    assert world.has["a"] == set(world.hosts)


def test_siblings_leave_each_other_their_share_before_they_have_seen_each_other() -> None:
    world = World(names(6))
    world.join("a", siblings=(0, 2))
    world.look("a")
    assert len(world.has["a"]) == 3
    world.join("b", siblings=(1, 2))
    world.look("b")
    assert len(world.has["b"]) == 3


def test_a_sibling_that_never_comes_is_not_waited_for_long() -> None:
    world = World(names(6))
    world.join("a", siblings=(0, 2))
    world.run(LEFT_S + STEP_S * 2)
    assert world.has["a"] == set(world.hosts)


def test_what_another_worker_does_not_take_up_is_taken() -> None:
    world = World(names(4))
    world.join("a")
    world.join("b")
    end = LEFT_S + STEP_S * 2
    while world.now < end:  # b is there, and stands still
        world.look("a")
        world.now += STEP_S
    assert world.has["a"] == set(world.hosts)


@given(st.integers(1, 40), st.lists(st.sampled_from(["join", "part"]), max_size=6))
def test_shares_become_even_whoever_comes_and_goes(count: int, events: list[str]) -> None:
    world = World(names(count))
    world.join("w0")
    world.run(SETTLED_S)
    for number, event in enumerate(events, 1):
        if event == "join":
            world.join(f"w{number}")
        elif len(world.shares) > 1:
            world.part(max(world.shares))
        world.run(SETTLED_S)
        assert even(world), world.has
