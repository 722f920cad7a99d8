"""Try a source on one page, by the crawl's own path, and store nothing."""

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from scraper.config.settings import Http, Limits, Source
from scraper.crawl.fetcher import Fetcher
from scraper.crawl.politeness import Place, Politeness
from scraper.crawl.robots import Robots
from scraper.crawl.short import is_short
from scraper.crawl.visit import Visitor, fetch_robots
from scraper.crawl.work import Work
from scraper.database import Db, hosts
from scraper.database.connection import now
from scraper.errors import Unavailable
from scraper.extract import propose
from scraper.offload import Browsers, Readers
from scraper.records import Claim, HostTimes
from scraper.urls import canonical, host_of


class Forgetful:
    """Keeps nothing: each check asks anew. What hosts have asked of those who crawl, they have asked of it too."""

    def __init__(self, db: Db | None) -> None:
        self._db = db

    async def lease(self, host: str) -> HostTimes | None:
        """Every host is free, when it may be asked again."""
        times = None
        if self._db is not None:
            with contextlib.suppress(Unavailable):
                times = await asyncio.to_thread(self._db.read, lambda c: hosts.known(c, host))
        return times or HostTimes(host, None, 0.0)

    async def robots_of(self, origin: str) -> tuple[Robots, datetime] | None:
        """None is kept."""
        return None

    async def keep_times(self, times: HostTimes) -> None:
        """Keep nothing."""

    async def keep_robots(self, origin: str, robots: Robots) -> None:
        """Keep nothing."""

    def now(self) -> datetime:
        """Return this instant."""
        return self._db.now() if self._db is not None else now()


async def check(
    source: Source,
    base: Http,
    url: str | None = None,
    limits: Limits | None = None,
    variables: Mapping[str, str] | None = None,
    *,
    db: Db | None = None,
    proposals: bool = False,
) -> dict[str, Any]:
    """Return what one page of a source yields: its items, the links it follows, why it is not more, or its failure.

    url: which page; None: the first start address. db: where it is kept which hosts want to be left alone. proposals: also rules for items that might suit it. Raises ValueError if
    there is no such URL.
    """
    target = canonical(url or (source.start or source.sitemaps)[0])
    if target is None:
        raise ValueError(f"{url!r} is no URL")
    fetcher = Fetcher()

    async def ask_robots(origin: str, settings: Http, place: Place) -> Robots:
        return await fetch_robots(fetcher, origin, settings, place)

    async def no_body(*page: object) -> None:
        """Nothing is stored."""

    politeness = Politeness(Forgetful(db), 1, ask_robots)
    politeness.renewed_at = float("inf")  # nobody else takes a host over
    readers, browsers = Readers(limits or Limits()), Browsers(limits or Limits())
    work = Work.of(source, base, variables or {})
    work.explains = True
    work.starts |= {target}  # asked for by a person, whatever the source includes
    works = {source.name: work}
    visitor = Visitor(fetcher, politeness, works, no_body, no_body, now, readers, browsers)
    kind = "page" if url or source.start else "sitemap"
    claim = Claim(0, 0, source.name, target, host_of(target), 0, "sitemap" if kind == "sitemap" else "page", 0)
    try:
        visit = await visitor.visit(claim)
    finally:
        await fetcher.close()
        await readers.close()
        await browsers.close()
    fetched, reading = visit.fetched, visit.reading
    shown = propose.of_page(fetched) if proposals and fetched is not None and is_short(fetched.body) else None
    return {
        **({"proposals": shown.rules, "texts": shown.texts, "lists": shown.lists} if shown is not None else {}),
        "url": target,
        "final_url": fetched.final_url if fetched else None,
        "status": fetched.status if fetched else None,
        "content_type": fetched.content_type if fetched else None,
        "bytes": len(fetched.body) if fetched else 0,
        "title": reading.title,
        "items": [asdict(item) for item in reading.items],
        "links": [link.url for link in reading.links],
        "notes": list(reading.notes),
        "failure": {"reason": str(visit.failure), "message": visit.message} if visit.failure else None,
    }
