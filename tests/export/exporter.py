"""Export everything and tell how much memory that took: its own process, whose peak is its own.

python -m tests.export.exporter DATABASE WHAT FORMAT
"""

import resource
import sys
from typing import cast

from scraper.config.settings import Database
from scraper.database import Db
from scraper.export import Format, Wanted, What, chunks


def main() -> None:
    """Print the bytes that were written and the peak of resident memory, in bytes."""
    url, what, form = sys.argv[1:]
    with Db(Database(url=url)) as db:
        size = sum(len(piece) for piece in chunks(db, Wanted(what=cast(What, what)), Format(form)))
    print(size, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


if __name__ == "__main__":
    main()
