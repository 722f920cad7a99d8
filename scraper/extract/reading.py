"""From a page of a source to its title, items and links, by the source's rules."""

from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import urlsplit

from scraper.config.settings import Source
from scraper.extract import items, sitemaps
from scraper.extract.explain import notes
from scraper.extract.links import Linker, Refused
from scraper.extract.page import Page
from scraper.extract.similar import simhash
from scraper.extract.visible import difference
from scraper.records import Before, Fetched, Item, Kind, Link, Manners, Reading
from scraper.urls import Scope, canonical, host_of


class Reader:
    """Reads the pages of one source."""

    def __init__(self, source: Source, manners: Manners) -> None:
        self._source = source
        self._agent, self._explains = manners.agent, manners.explains
        self._scope = Scope.around((*source.start, *source.sitemaps), source.include, source.exclude)
        # A feed that is a start page too is read as both.
        self._both = {canonical(url) for url in source.start} & {canonical(url) for url in source.sitemaps}
        self._today = manners.today
        polite, chosen = manners.agent is not None, isinstance(source.follow, tuple) or source.parser is not None
        self._linker = Linker(self._scope, manners.today.year, polite=polite, chosen=chosen)
        self._parser: items.Parser | None = None

    def read(self, fetched: Fetched, kind: Kind, before: Before | None = None) -> Reading:
        """Return what a page, or a sitemap, holds. before: the page as it is stored, if this one is another.

        Raises VisitFailed: extract, decode, parse_limit, decoded_too_large.
        """
        page = Page.of(fetched)
        if kind == "sitemap":
            listing = sitemaps.listing(page, self._today)
            return Reading(links=tuple(self._listed(listing, page)), fault=listing.fault)
        asked = page.robots(self._agent, self._today) if self._agent is not None else set()
        reading = self._by_parser(page) if self._source.parser else self._by_rules(page)
        reading = self._with_refresh(page, reading)
        if fetched.url in self._both:
            listing = sitemaps.listing(page, self._today)
            listed = [link for link in self._listed(listing, page) if link.kind == "page"]
            links = tuple(dict.fromkeys((*reading.links, *listed)))
            reading = replace(reading, links=links, fault=listing.fault)
        if self._explains:
            reading = replace(reading, notes=notes(page, self._source))
        if "nofollow" in asked:
            reading = replace(reading, links=(), refused=())
        if "noindex" in asked:
            return Reading(
                links=reading.links,
                refused=reading.refused,
                noindex="the page asks not to be stored (noindex)",
                notes=reading.notes,
            )
        return reading if before is None else replace(reading, difference=difference(before, page, self._source.noise))

    def _by_rules(self, page: Page) -> Reading:
        found = items.by_rules(page, self._source.item)
        links, refused = self._linker.followed(page, self._source.follow)
        return self._reading(page, found, links, refused)

    def _by_parser(self, page: Page) -> Reading:
        assert self._source.parser is not None
        if self._parser is None:
            self._parser = items.load_parser(self._source.parser)
        found, asked = items.by_parser(page, self._parser)
        links, refused = self._linker.resolve([link.url for link in asked], page)
        wanted = {link.priority for link in asked}
        if wanted - {0}:
            priority = {self._linker.resolve([link.url], page)[0]: link.priority for link in asked}
            links = tuple(replace(link, priority=priority.get((link,), 0)) for link in links)
        return self._reading(page, found, links, refused)

    def _reading(self, page: Page, found: tuple[Item, ...], links: tuple[Link, ...], refused: Refused) -> Reading:
        own = page.canonical if not page.is_json else None
        if own is not None and own != page.url and self._source.follow is True:
            links = (*links, *(link for link in self._linker.resolve([own], page)[0] if link not in links))
        alike = simhash(page.words) if not found else None
        return Reading(page.title, found, links, alike, own, refused=refused)

    def _with_refresh(self, page: Page, reading: Reading) -> Reading:
        target = None if page.is_json else page.refresh
        if target is None or target == page.url:
            return reading
        return replace(reading, links=(*self._linker.resolve([target], page)[0], *reading.links))

    def _listed(self, listing: sitemaps.Listing, page: Page) -> Iterator[Link]:
        """The links of a sitemap that belong to the source. Where its robots.txt says that a sitemap is, it may be.

        And what is an index there (sitemaps.org, "Sitemaps & Cross Submits").
        """
        is_said_by_robots = urlsplit(page.url).path == "/robots.txt"
        for link in listing.links:
            try:
                if link.kind == "page":
                    belongs = self._scope.admits(link.url)
                else:
                    host = host_of(link.url)
                    belongs = is_said_by_robots or host in self._scope.hosts or host == host_of(page.url)
            except ValueError:
                continue
            if belongs:
                yield link
