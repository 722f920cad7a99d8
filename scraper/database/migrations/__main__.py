"""`python -m scraper.database.migrations`: bring the tables to this version, as `bowerbird db upgrade` does."""

import runpy
import sys

sys.argv[1:1] = ["db", "upgrade"]
runpy.run_module("scraper", run_name="__main__", alter_sys=True)
