"""The crawl: politeness, fetching, and what becomes of each URL."""
