"""The browsers of one scraper process."""

import asyncio
from weakref import WeakValueDictionary

from scraper.config.settings import Limits
from scraper.offload.renderer import Ask, Document, Renderer
from scraper.offload.scripts import Scripts
from scraper.records import Fetched
from scraper.urls import host_of


class Browsers:
    """Renders pages, each in a browser that has no other just then. One is always left for the other hosts."""

    def __init__(self, limits: Limits) -> None:
        kept = Scripts()
        self._all = [Renderer(limits, kept) for _ in range(limits.browsers)]
        self._idle = list(self._all)
        self._places = asyncio.Semaphore(len(self._all))
        self._of_host: WeakValueDictionary[tuple[str, int], asyncio.Semaphore] = WeakValueDictionary()

    async def render(
        self,
        fetched: Fetched,
        user_agent: str,
        most: int,
        ask: Ask,
        *,
        keeps: bool = True,
        strict: bool = False,
        paced: bool = False,
    ) -> Fetched:
        """Return a page as it is after its scripts. fetched: its document. ask: fetches what the page asks for.

        most: characters. keeps: scripts may be kept for other pages, for they are asked for without cookies and credentials.
        strict: a page that does not get what it asks its own host for is a failure. paced: the host has a delay, so that two
        of its pages at once would take each other's turns, and time. Raises VisitFailed: parse_limit,
        body_too_large, extract, poison, and what happened to the documents that it went on to.
        """
        most_at_once = 1 if paced else max(1, len(self._all) - 1)
        name = host_of(fetched.final_url), most_at_once
        host = self._of_host.setdefault(name, asyncio.Semaphore(most_at_once))
        async with host, self._places:
            renderer = max(self._idle, key=lambda one: one.fits(user_agent))
            self._idle.remove(renderer)
            try:
                return await renderer.render(Document(fetched, keeps, strict), user_agent, most, ask)
            finally:
                self._idle.append(renderer)

    async def prune(self) -> None:
        """End the browsers that have had nothing to do for a while."""
        for renderer in self._all:
            await renderer.prune()

    async def close(self) -> None:
        """End them all."""
        await asyncio.gather(*(renderer.close() for renderer in self._all))
