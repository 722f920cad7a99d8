"""Run it all, print tables, write JSON and a picture."""

import argparse
import json
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.enrichment import extraction, nearness, pooler, race, recall, targets, vectors
from bench.enrichment.place import Place
from bench.storage import server
from bench.support import keep, table, with_known
from bench.targets import judged, show

PARTS = ("parallel", "kills", "vectors", "search", "index", "recall", "extraction")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.enrichment", description="What is made of what was stored.")
    parser.add_argument("--only", type=lambda text: text.split(","), metavar="NAME,...", help=", ".join(PARTS))
    parser.add_argument("--quick", action="store_true", help="a tenth of the work; writes nothing")
    given = parser.parse_args()
    if unknown := set(given.only or ()) - set(PARTS):
        parser.error(f"--only knows no {', '.join(sorted(unknown))}; it knows {', '.join(PARTS)}")
    return given


def _parallel(folder: Path, share: float) -> dict[str, Any]:
    calls = int(300 * share)
    found = {"sqlite": race.parallel(_sqlite(folder, "parallel"), calls), **race.by_locks(folder, max(12, calls // 5))}
    with ExitStack() as stack:
        try:
            url = stack.enter_context(pooler.pgbouncer(folder))
        except server.Missing as error:
            print(f"PgBouncer is left out: {error}")
            return found
        place = Place(_made(folder / "pooled"), url, pooled=True)
        return found | {"pgbouncer": race.parallel(place, calls)}


def _index(folder: Path, count: int) -> dict[str, Any]:
    with nearness.postgres(folder) as url:
        return vectors.by_index(Place(folder, url), count, 200)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _sqlite(folder: Path, name: str) -> Place:
    return Place(_made(folder / name), f"sqlite:///{folder / name / 'bowerbird.db'}")


def main() -> None:
    """Do what is asked for."""
    given = arguments()
    share = 0.1 if given.quick else 1.0
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="bowerbird-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        ways: dict[str, Callable[[], dict[str, Any]]] = {
            "parallel": lambda: _parallel(folder, share),
            "kills": lambda: race.kills(_sqlite(folder, "kills"), int(10_000 * share), 3),
            "vectors": lambda: vectors.throughput(_sqlite(folder, "vectors"), int(400 * share)),
            "search": lambda: vectors.search(_sqlite(folder, "search"), int(100_000 * share), 200),
            "index": lambda: _index(folder, int(100_000 * share)),
            "extraction": lambda: extraction.measured(int(200 * share)),
            "recall": lambda: recall.measured(_sqlite(folder, "recall"), int(120 * share), int(300 * share)),
        }
        for part in given.only or PARTS:
            results[part] = ways[part]()
            print(json.dumps({part: results[part]}, indent=1))
    if "parallel" in results:
        rows = [
            [k, f"{v['efficiency']:.2f}", f"{v['seconds']:.1f}", v["faults"]] for k, v in results["parallel"].items()
        ]
        table("Three at once, a model that answers in 0.15 s", ["", "of perfect", "s", "faults"], rows)
    show(judged(targets.TARGETS, results))
    if not given.quick:
        whole = with_known("enrichment", results)
        print(f"\nWritten to {keep('enrichment', whole | {'targets': judged(targets.TARGETS, whole)})}")


if __name__ == "__main__":
    main()
