"""Run it all, print tables, write JSON and a picture."""

import argparse
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from bench.interface import picture, place, race, targets
from bench.storage import server
from bench.support import keep, with_known
from bench.targets import judged, show

PARTS = ("sqlite", "postgresql")
QUICK = {
    "sources": 100,
    "pages": 6000,
    "items": 20_000,
    "created_pages": 4000,
    "news": 2000,
    "failing": 400,
    "mended": 600,
}


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.interface", description="Pages of a full database.")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--times", type=int, default=200, help="each page is asked for")
    parser.add_argument("--only", type=lambda text: text.split(","), metavar="NAME,...", help=", ".join(PARTS))
    parser.add_argument("--quick", action="store_true", help="a fiftieth of the rows, some requests; writes nothing")
    kept = "where there is room; full databases stay there, and are used again on the same day"
    parser.add_argument("--folder", type=Path, help=kept)
    given = parser.parse_args()
    if unknown := set(given.only or ()) - set(PARTS):
        parser.error(f"--only knows no {', '.join(sorted(unknown))}; it knows {', '.join(PARTS)}")
    return given


def _job(given: argparse.Namespace, folder: Path) -> race.Job:
    if given.quick:
        return race.Job(folder, QUICK, shop=500, rounds=1, times=10, status_times=100, seconds=2, pairs=1)
    return race.Job(folder, {}, 5000, given.rounds, given.times, status_times=1000, seconds=10, pairs=3)


def _measured(part: str, job: race.Job) -> dict[str, Any]:
    """Raises Missing."""
    where = (
        place.served(job.folder, job.sizes) if part == "postgresql" else nullcontext(place.Files(job.folder, job.sizes))
    )
    with where as found:
        done = race.run(found, job)
    race.show(done)
    return done


def _write(results: dict[str, Any]) -> None:
    """Put what was measured in place of what was known of the same parts."""
    whole = with_known("interface", results)
    print(f"\nWritten to {keep('interface', whole | {'targets': judged(targets.ALL, whole)})}")
    print(f"Drawn in {picture.draw(whole)}")


def main() -> int:
    """Run the benchmark."""
    given = arguments()
    parts = [name for name in PARTS if name in (given.only or PARTS)]
    results: dict[str, Any] = {}
    if given.folder:
        given.folder.mkdir(parents=True, exist_ok=True)
    lasting = nullcontext(given.folder) if given.folder else tempfile.TemporaryDirectory(prefix="bench-interface-")
    with lasting as folder:
        Path(folder).chmod(0o755)  # the servers may be other users
        for part in parts:
            try:
                results[part] = _measured(part, _job(given, Path(folder).absolute()))
            except server.Missing as error:
                print(f"{part} failed: {error}", file=sys.stderr)
    show(judged(targets.ALL, results))
    if given.quick:
        print("\nA part only: nothing was written.")
    elif results:
        _write(results)
    return 0 if len(results) == len(parts) else 1


if __name__ == "__main__":
    sys.exit(main())
