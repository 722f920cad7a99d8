"""Export everything and tell how much memory that took, in a process of its own.

python -m tests.export.exporter DATABASE WHAT FORMAT
"""

import re
import sys
from pathlib import Path
from typing import cast

from scraper.config.settings import Database
from scraper.database import Db
from scraper.export import Format, Wanted, What, chunks


def own_bytes() -> int:
    """Return the memory that this process has for itself. The files of libraries that it maps are the system's, and shared."""
    (kib,) = re.findall(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    return int(kib) * 1024


def main() -> None:
    """Print the bytes that were written and the most memory of its own that it was seen to have, in bytes."""
    url, what, form = sys.argv[1:]
    size = most = 0
    with Db(Database(url=url)) as db:
        for piece in chunks(db, Wanted(what=cast(What, what)), Format(form)):
            size, most = size + len(piece), max(most, own_bytes())
    print(size, most)


if __name__ == "__main__":
    main()
