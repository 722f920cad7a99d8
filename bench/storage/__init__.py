"""How quickly visits are stored, by one process and by several, beside bare loops over the same tables; and the frontier.

`python -m bench.storage` measures, prints tables, and writes bench/results/storage.json and docs/pictures/storage.svg.
"""
