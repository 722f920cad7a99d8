"""Export everything and tell how much memory that took: its own process, whose peak is its own.

python -m tests.export.exporter DATABASE WHAT FORMAT
"""

import re
import sys
from pathlib import Path
from typing import cast

from scraper.config.settings import Database
from scraper.database import Db
from scraper.export import Format, Wanted, What, chunks


def main() -> None:
    """Print the bytes that were written and the peak of resident memory, in bytes."""
    url, what, form = sys.argv[1:]
    with Db(Database(url=url)) as db:
        size = sum(len(piece) for piece in chunks(db, Wanted(what=cast(What, what)), Format(form)))
    # Not getrusage(): what the process that started us had counts there too.
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    print(size, int(peak) * 1024)


if __name__ == "__main__":
    main()
