"""Crawling a whole shop on loopback, beside what people crawl with: speed, cost, memory, and what was lost.

`python -m bench.crawl` measures, prints tables, and writes bench/results/crawl.json and docs/pictures/crawl.svg.
"""
