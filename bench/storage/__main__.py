"""Run it all, print tables, write JSON and a picture."""

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.storage import frontier, picture, race, server, targets
from bench.storage.places import Files, Place, Server
from bench.support import directory, keep, with_known
from bench.targets import judged, show

QUICK_PAGES = 200


@dataclass(frozen=True)
class Job:
    """What is to be measured, and where. each: pages of each host."""

    folder: Path
    each: int
    rounds: int
    sizes: tuple[int, ...]

    def files(self) -> "contextlib.AbstractContextManager[Place]":
        """SQLite."""
        return contextlib.nullcontext(Files(self.folder))

    @contextlib.contextmanager
    def served(self) -> Iterator[Place]:
        """PostgreSQL. Raises Missing."""
        with tempfile.TemporaryDirectory(prefix="postgres-", dir=self.folder) as place:
            Path(place).chmod(0o755)
            with server.postgres(Path(place) / "server") as address:
                yield Server(address)


def _race(job: Job, where: "contextlib.AbstractContextManager[Place]") -> dict[str, Any]:
    with where as place:
        found = race.run(place, job.each, job.rounds)
    race.show(found)
    return found


def _frontier(job: Job, where: "contextlib.AbstractContextManager[Place]") -> dict[str, Any]:
    with where as place:
        found = frontier.run(place, job.sizes, job.rounds)
    frontier.show(found)
    return found


PARTS: dict[str, Callable[[Job], dict[str, Any]]] = {
    "sqlite": lambda job: _race(job, job.files()),
    "postgresql": lambda job: _race(job, job.served()) | {"settings": server.SETTINGS},
    "frontier": lambda job: _frontier(job, job.files()),
    "frontier-postgresql": lambda job: _frontier(job, job.served()) | {"settings": server.SETTINGS},
}
ON_DEMAND = ("frontier-postgresql",)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.storage", description="Storing, beside bare loops.")
    parser.add_argument("--pages", type=int, default=1000, help=f"of each of {race.HOSTS} hosts")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", type=lambda text: text.split(","), metavar="NAME,...", help=", ".join(PARTS))
    quick = f"{QUICK_PAGES} pages, {frontier.QUICK_SIZES[-1]:,} known URLs, one round; writes nothing"
    parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument(
        "--folder", type=directory, help="where there is room, on a real disk; otherwise the temporary one"
    )
    given = parser.parse_args()
    if unknown := set(given.only or ()) - set(PARTS):
        parser.error(f"--only knows no {', '.join(sorted(unknown))}; it knows {', '.join(PARTS)}")
    if given.quick:
        given.pages, given.rounds = QUICK_PAGES, 1
    return given


def _write(results: dict[str, Any]) -> None:
    """Put what was measured in place of what was known of the same parts."""
    whole = with_known("storage", results)
    print(f"\nWritten to {keep('storage', whole | {'targets': judged(targets.ALL, whole)})}")
    if "sqlite" in whole or "postgresql" in whole:
        print(f"Drawn in {picture.draw(whole)}")


def main() -> int:
    """Run the benchmark."""
    given = arguments()
    parts = [name for name in PARTS if name in (given.only or PARTS) and (given.only or name not in ON_DEMAND)]
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="bench-storage-", dir=given.folder) as place:
        Path(place).chmod(0o755)  # PostgreSQL's server may be another user
        sizes = frontier.QUICK_SIZES if given.quick else frontier.SIZES
        job = Job(Path(place), given.pages, given.rounds, sizes)
        for part in parts:
            print(f"\n{part} ...", flush=True)
            try:
                results[part.replace("-", "_")] = PARTS[part](job)
            except (server.Missing, RuntimeError) as error:
                print(f"{part} failed: {error}", file=sys.stderr)
    show(judged(targets.ALL, results))
    if given.quick:
        print("\nA part only: nothing was written.")
    else:
        _write(results)
    return 0 if len(results) == len(parts) else 1


if __name__ == "__main__":
    sys.exit(main())
