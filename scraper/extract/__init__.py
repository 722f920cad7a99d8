"""From a fetched page to items and links. A parser function gets a Page and yields items and Links."""

from scraper.extract.page import Page
from scraper.records import Item, Link

__all__ = ["Item", "Link", "Page"]
