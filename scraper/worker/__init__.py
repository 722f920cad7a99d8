"""The life of a scraper process."""
