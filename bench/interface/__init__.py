"""How long the pages and the lists of a full database take, while the scraper works at full speed; and what live streams cost.

`python -m bench.interface` measures, prints tables, and writes bench/results/interface.json and docs/pictures/interface.svg.
"""
