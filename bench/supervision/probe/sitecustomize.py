"""Notes when a process of Bowerbird runs the first line of its own code. On PYTHONPATH of the benchmark alone."""

import os
import sys
import time

LOG = os.environ.get("PROBE_LOG")


class Probe:
    """Finds no module; sees the first one of ours being looked for."""

    @staticmethod
    def find_spec(name: str, *_: object) -> None:
        if name == "scraper":
            sys.meta_path.remove(Probe)
            with open(str(LOG), "a") as log:  # noqa: PTH123
                log.write(f"{time.monotonic()} {os.getpid()}\n")


if LOG and "--multiprocessing-fork" in sys.argv:
    sys.meta_path.insert(0, Probe)
