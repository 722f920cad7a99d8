"""A browser as the scraper sees it: what its pages ask for is fetched here, by the one way there is."""

import asyncio
import contextlib
import logging
import os
import shutil
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from scraper import kernel
from scraper.config.settings import Limits
from scraper.errors import Failure, VisitFailed
from scraper.offload import browser
from scraper.offload.browser import Grant, Rendered, Task, Wish
from scraper.offload.hand import Died, Hand
from scraper.offload.scripts import Scripts
from scraper.records import Fetched
from scraper.urls import host_of

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome")
IDLE_S = 60.0
PREFIX = "bowerbird-browser-"
AT_ONCE, AT_ONCE_OF_A_HOST = 24, 6  # requests of a page; the latter as browsers have it
NO_DOCUMENT = (204, 205, 301, 302, 303, 307, 308)
SHOWN = ("text/html", "application/xhtml+xml", "text/plain", "")
DATA = ("XHR", "Fetch")
# What may pass.
FOR_NOW = frozenset(
    (
        Failure.HTTP_5XX,
        Failure.RATE_LIMITED,
        Failure.TIMEOUT,
        Failure.CONNECT,
        Failure.DNS,
        Failure.PROTOCOL,
        Failure.INCOMPLETE_BODY,
    )
)
# Where a document goes on to there is no page. What is no page as such is a download: the document stays.
NO_PAGE = FOR_NOW | {Failure.HTTP_4XX, Failure.BAD_REDIRECT, Failure.BLOCKED_ADDRESS}
TOO_MANY = 429
SHORT = 40
GRACE_S = 10.0
VISITS_MOST = 200  # then a new one, however well it does

Ask = Callable[[Wish], Awaitable[Fetched]]

log = logging.getLogger(__name__)


def find() -> str | None:
    """Return the path of a browser on this machine, or None."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


def _new_home() -> Path:
    """A directory for one browser; those whose scraper was killed are removed."""
    folder = Path(tempfile.gettempdir())  # the browser keeps a socket in there, whose path may have some 100 characters
    folder = folder if len(str(folder)) < SHORT else Path("/tmp")
    for left in folder.glob(f"{PREFIX}*-*"):
        pid = left.name.removeprefix(PREFIX).partition("-")[0]
        with contextlib.suppress(OSError):
            if pid.isdecimal() and left.stat().st_uid == os.geteuid() and kernel.birth(int(pid)) is None:
                shutil.rmtree(left, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=folder))


@dataclass(slots=True)
class Document:
    """The document of a page: as it was fetched first, and the address of the one that it went on to.

    strict: what it asks its own host for, and does not get for now, makes it a failure. fault: why it is one.
    """

    first: Fetched
    keeps: bool
    strict: bool
    url: str = ""
    fault: VisitFailed | None = None
    shown: bool = False  # the browser has had the first one: what it asks for anew may be another
    _asking: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))
    _of_host: dict[str, asyncio.Semaphore] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.url = self.first.final_url

    def anew(self) -> "Document":
        """The same, to be rendered from the start."""
        return Document(self.first, self.keeps, self.strict)

    def lost(self, wish: Wish, why: VisitFailed) -> None:
        """Note that a request of the page failed: the document that it goes on to, or data of its own that it would show."""
        data = self.strict and wish.method == "GET" and wish.kind in DATA and why.failure in FOR_NOW
        if (wish.main and why.failure in NO_PAGE) or (data and host_of(wish.url) == host_of(self.first.final_url)):
            said = f"{why.message} (asked for by the page: {wish.url[:200]})"
            self.fault = self.fault or VisitFailed(why.failure, said, retry_after_s=why.retry_after_s, answered=True)

    @contextlib.asynccontextmanager
    async def turn(self, wish: Wish) -> AsyncGenerator[None]:
        """Wait until a request may be made; the page's own document need not. Raises ValueError for what is no URL."""
        if wish.main:
            yield
            return
        host = self._of_host.setdefault(host_of(wish.url), asyncio.Semaphore(AT_ONCE_OF_A_HOST))
        async with host, self._asking:
            yield


class NotStarted(Died):
    """The browser ended before it could be used: it was killed, or cannot run here."""


class Renderer:
    """One browser, a process of its own: started when a page is to be rendered, ended when it had nothing to do for a while."""

    def __init__(self, limits: Limits, kept: Scripts) -> None:
        self._limits = limits
        self._turn = asyncio.Lock()
        self._hand: Hand | None = None
        self._home: Path | None = None
        self._agent = ""
        self._visits = 0
        self._kept = kept
        self._ending: set[asyncio.Task[None]] = set()

    def fits(self, user_agent: str) -> int:
        """How well it would do for a page, more is better: 2 it runs under that name, 1 it has to be started, 0 ended before."""
        return 1 if self._hand is None else 2 * (self._agent == user_agent)

    async def render(self, document: Document, user_agent: str, most: int, ask: Ask) -> Fetched:
        """Return a page as it is after its scripts. What is given and raised: as `Browsers.render()` has it."""
        async with self._turn:
            for last in (False, True):
                try:
                    return await self._render(document.anew(), user_agent, most, ask)
                except Died as died:
                    log.warning("the browser's process died", extra={"url": document.first.final_url, "how": str(died)})
                    await self._drop()
                    if last and isinstance(died, NotStarted):
                        raise VisitFailed(Failure.EXTRACT, f"{died}") from None
                    if last:
                        raise VisitFailed(Failure.POISON, f"the browser died twice on this page: {died}") from None
        raise AssertionError("unreachable")

    async def _render(self, document: Document, user_agent: str, most: int, ask: Ask) -> Fetched:
        limits, fetched = self._limits, document.first
        try:
            async with asyncio.timeout(limits.render_timeout + GRACE_S):
                hand = await self._ready(user_agent)
                await hand.send(Task(fetched.final_url, limits.render_timeout, most, limits.memory))
                rendered = await self._converse(hand, document, ask)
        except TimeoutError:
            await self._drop()
            raise VisitFailed(Failure.PARSE_LIMIT, f"rendering took longer than {limits.render_timeout:g} s") from None
        except BaseException:
            await self._drop()
            raise
        hand.idle_since = time.monotonic()
        self._visits += 1
        if self._visits >= VISITS_MOST or rendered.spent:
            await self._drop()
        if rendered.died:
            raise Died(rendered.fault or "it ended")
        if document.fault is not None:
            raise document.fault
        if rendered.fault is not None:
            raise VisitFailed(Failure.PARSE_LIMIT, f"rendering: {rendered.fault}")
        if rendered.too_long:
            raise VisitFailed(Failure.BODY_TOO_LARGE, f"rendered, the page is longer than {most} characters")
        return self._page(fetched, rendered, document.url)

    @staticmethod
    def _page(fetched: Fetched, rendered: Rendered, url: str) -> Fetched:
        """url: of the document that was fetched last. What scripts make of the address is not looked at: it may be anything."""
        headers = {**fetched.headers, "content-type": "text/html; charset=utf-8"}
        headers.pop("content-encoding", None)
        return Fetched(
            fetched.url,
            url,
            fetched.status,
            headers,
            rendered.html.encode("utf-8", "replace"),
            fetched.wire_bytes,
            fetched.elapsed_s,
            fetched.latency_s,
        )

    async def _ready(self, user_agent: str) -> Hand:
        """The browser, started if need be. Raises VisitFailed, Died."""
        if self._hand is not None and self._agent != user_agent:
            await self._drop()
        if self._hand is None:
            binary = find()
            if binary is None:
                raise VisitFailed(Failure.EXTRACT, "render = true needs Chromium: apt-get install chromium")
            self._agent, self._visits = user_agent, 0
            self._home = await asyncio.to_thread(_new_home)
            self._hand = Hand("browser", browser.run, os.getpid(), binary, user_agent, str(self._home))
            if (fault := await self._hand.receive()) is not None:
                raise NotStarted(f"the browser {binary} cannot be started: {fault}")
        return self._hand

    async def _converse(self, hand: Hand, document: Document, ask: Ask) -> Rendered:
        """Fetch what the page asks for until it is done."""
        under_way: set[asyncio.Task[None]] = set()
        try:
            while True:
                message = await hand.receive()
                if isinstance(message, Rendered):
                    return message
                task = asyncio.create_task(self._grant(hand, message, document, ask))
                under_way.add(task)
                task.add_done_callback(under_way.discard)
        finally:
            for task in list(under_way):
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)

    async def _grant(self, hand: Hand, wish: Wish, document: Document, ask: Ask) -> None:
        given = Grant(wish.number)
        with contextlib.suppress(ValueError):
            try:
                async with document.turn(wish):
                    given = await self._given(wish, document, ask)
            except VisitFailed as error:
                document.lost(wish, error)
        with contextlib.suppress(Died):
            await hand.send(given)

    async def _given(self, wish: Wish, document: Document, ask: Ask) -> Grant:
        """What a request of the page gets. Raises VisitFailed."""
        url = wish.url.partition("#")[0]
        if wish.main and wish.method == "GET" and url == document.first.final_url and not document.shown:
            document.shown = True
            given = _answer(wish, document.first)
        else:
            keeps = document.keeps and "cookie" not in {name.lower() for name in wish.headers}
            held = self._kept.get(document.first.url, wish) if keeps else None
            answer = held or await ask(wish)
            if answer.status == TOO_MANY or answer.status >= 500:
                kind = Failure.RATE_LIMITED if answer.status == TOO_MANY else Failure.HTTP_5XX
                document.lost(wish, VisitFailed(kind, f"{answer.status} from the server"))
            if held is None and keeps:
                self._kept.put(document.first.url, wish, answer)
            given = _answer(wish, answer)
            if wish.main and answer.status not in NO_DOCUMENT and answer.content_type in SHOWN:
                document.url = url
        return given

    async def _drop(self) -> None:
        """End the browser, though who waits for it be cancelled meanwhile."""
        hand, self._hand = self._hand, None
        home, self._home = self._home, None
        task = asyncio.create_task(self._end(hand, home))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
        await asyncio.shield(task)

    @staticmethod
    async def _end(hand: Hand | None, home: Path | None) -> None:
        if hand is not None:
            await hand.end()
        if home is not None:
            if leader := browser.pid_in(home):  # of a group of its own, which may outlive who started it
                await asyncio.to_thread(kernel.end_tree, leader)
            await asyncio.to_thread(shutil.rmtree, home, ignore_errors=True)

    async def prune(self) -> None:
        """End a browser that has had nothing to do for a while."""
        hand = self._hand
        if hand is not None and not self._turn.locked() and time.monotonic() - hand.idle_since > IDLE_S:
            await self._drop()

    async def close(self) -> None:
        """End it."""
        await self._drop()
        await asyncio.gather(*self._ending)


def _answer(wish: Wish, fetched: Fetched) -> Grant:
    """What the browser gets. Where it is sent elsewhere, it asks there by its own rules of origins."""
    headers = [*fetched.headers.items(), *(("set-cookie", value) for value in fetched.set_cookies)]
    return Grant(wish.number, fetched.status, tuple(headers), fetched.body)
