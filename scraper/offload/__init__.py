"""Work that leaves the scraper's process: reading a page that may take long, or by a user's own code.

A process that does not come back in time, takes too much or dies costs that page, and nobody else: it is replaced.
"""

from scraper.offload.browser import Wish
from scraper.offload.browsers import Browsers
from scraper.offload.readers import Readers
from scraper.offload.renderer import NO_DOCUMENT

__all__ = ["NO_DOCUMENT", "Browsers", "Readers", "Wish"]
