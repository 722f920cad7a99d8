"""create_app(): the lifespan starts and stops the Service; routers; error handlers."""

import asyncio
import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Any

from anyio import to_thread
from fastapi import Depends, FastAPI
from fastapi.staticfiles import StaticFiles
from starlette.types import Message, Receive, Scope, Send

from api import dashboard, head, problems
from api.dashboard.views import problem_page
from api.deps import only_known
from api.idempotency import Idempotency
from api.keys import Keys
from api.noting import Noter
from api.routes import (
    asking,
    control,
    events,
    exports,
    health,
    metrics,
    notifications,
    rows,
    scrapyd,
    search,
    sources,
    status,
    tasks,
    tokens,
)
from api.searching import Searching
from api.security import BODY_MOST, Guard, too_long, with_headers
from api.stream import Streams
from scraper import garbage, logs
from scraper.config.load import Loaded
from scraper.config.secrets import environment
from scraper.config.settings import Http, Notify
from scraper.database import Db
from scraper.errors import BadConfig, BowerbirdError, Exit
from scraper.notify.notifier import Notifier
from scraper.service import Service
from scraper.startup import api_workers, preflight, settings_of
from scraper.supervisor import systemd

LAG_S = 10.0
MENDED_EACH_S = 2.0
PAGE_PATIENCE_S = 1.5  # somebody looks at an empty page meanwhile
UNTRACED = {"/healthz", "/readyz", "/metrics", "/api/events"}

log = logging.getLogger(__name__)


class Bowerbird(FastAPI):
    """FastAPI, but a start that fails for a reason that a person can mend says that reason and nothing else.

    And every answer has the headers that a browser goes by, that to a fault of ours too.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            send = self._plainly(send)
        elif scope["type"] == "http":
            send = with_headers(send)
            if refused := too_long(scope):
                await refused(scope, receive, send)
                return
            if scope["method"] == "HEAD":
                await head.answer(super().__call__, scope, receive, send)
                return
        await super().__call__(scope, receive, send)

    def _plainly(self, send: Send) -> Send:
        async def plainly(message: Message) -> None:
            error = getattr(self.state, "cannot_start", None)
            if message["type"] == "lifespan.startup.failed" and error is not None:
                message = {**message, "message": f"{error}"}
            await send(message)

        return plainly


def _ready() -> tuple[Loaded, Db]:
    loaded = settings_of()
    logs.set_up(production=loaded.settings.production)
    return loaded, preflight(loaded, brings=True, waits=True)


async def _when_mended(error: BadConfig) -> tuple[Loaded, Db]:
    """Wait for the configuration to be right again, as it was when the service began; the other workers go on.

    To uvicorn one worker whose startup fails says that all will fail, and one that ends instead may be waited for.
    """
    said = ""
    with _ended_by_signals():
        while True:
            if str(error) != said:
                said = str(error)
                log.error("a worker cannot start before the configuration is mended: %s", said)
            await asyncio.sleep(MENDED_EACH_S)
            try:
                return await to_thread.run_sync(_ready)
            except BadConfig as again:
                error = again


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Have signals end this process at once: the server hears them only when the start is over."""
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            before[number] = signal.signal(number, lambda number, frame: os._exit(Exit.DONE))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Start the scraper with the application, and stop it with it."""
    try:
        try:
            loaded, db = await to_thread.run_sync(_ready)
        except BadConfig as error:
            if api_workers() == 1:
                raise
            loaded, db = await _when_mended(error)
        service = Service(loaded)
    except BowerbirdError as error:
        app.state.cannot_start = error
        raise
    db.read_patience_s = min(db.read_patience_s, PAGE_PATIENCE_S)
    app.state.settings, app.state.db, app.state.service = loaded.settings, db, service
    app.state.streams = streams = Streams(db)
    app.state.keys = Keys(db, loaded.settings.server.token)
    app.state.search = search = Searching(loaded.settings, loaded.base, environment(loaded.base))
    app.state.noter = noter = Noter(db, search)
    _hear_signals(service, streams)
    service.start()
    notifier = asyncio.create_task(Notifier(db, partial(_orders, service)).run(), name="notifier")
    noting = asyncio.create_task(noter.run(), name="noter")
    feeding = asyncio.create_task(_tell_systemd(service), name="systemd")
    garbage.settle()
    try:
        yield
    finally:
        systemd.notify(STOPPING=1)
        streams.close()
        beside = (feeding, notifier, noting)
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
        await search.close()
        await to_thread.run_sync(service.stop)
        await to_thread.run_sync(db.close)


def _orders(service: Service) -> tuple[tuple[Notify, ...], Http, dict[str, str]] | None:
    """What the notifier goes by; nothing where another process owns the scraper, and does it."""
    if not service.owns:
        return None
    settings = service.settings
    return settings.notify, settings.http, environment(service.loaded.base) if settings.notify else {}


def _hear_signals(service: Service, streams: Streams) -> None:
    """Stop the scraper and end the streams as soon as the signal comes: the server first waits for open connections."""
    loop = asyncio.get_running_loop()
    if threading.current_thread() is not threading.main_thread():
        return

    def chained(before: Any) -> Any:
        def handle(number: int, frame: FrameType | None) -> None:
            service.stop_soon()
            with contextlib.suppress(RuntimeError):  # the loop has ended already
                loop.call_soon_threadsafe(streams.close)
            if callable(before):
                before(number, frame)
            elif before is signal.SIG_DFL:  # a server that does not hear this signal: it ends as it would without us
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)

        return handle

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, chained(signal.getsignal(number)))
    if hasattr(signal, "SIGHUP"):
        loop.add_signal_handler(signal.SIGHUP, lambda: _reload(service))


def _reload(service: Service) -> None:
    def ask() -> None:
        systemd.notify(RELOADING=1, MONOTONIC_USEC=int(time.monotonic() * 1e6))
        try:
            service.ask("restart")
        except BowerbirdError as error:
            log.error("the configuration was refused, the old one stays", extra={"problems": str(error)})
        finally:
            systemd.notify(READY=1)

    threading.Thread(target=ask, name="reload", daemon=True).start()


async def _tell_systemd(service: Service) -> None:
    """READY once there is a first picture, then a STATUS line, and the watchdog as long as this loop and the supervisor's run freely."""
    if not systemd.listens():
        return
    loop = asyncio.get_running_loop()
    each = min((systemd.watchdog_s() or 30.0) / 3, 5.0)
    await to_thread.run_sync(service.await_picture)
    while True:
        status = service.status()
        pids = ", ".join(f"{process.name} pid {process.pid or 'none'}" for process in status.processes[:4])
        systemd.notify(READY=1, STATUS=f"{status.state}: {pids}")
        before = loop.time()
        await asyncio.sleep(each)
        if loop.time() - before - each < LAG_S and service.lag_s() < LAG_S:
            systemd.notify(WATCHDOG=1)


def create_app() -> FastAPI:
    """Return the application. Nothing is read or started before its lifespan begins."""
    app = Bowerbird(
        title="Bowerbird",
        description="A supervised scraper daemon.",
        version=version("bowerbird"),
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        max_body_size=BODY_MOST,
        dependencies=[Depends(only_known)],
        responses=problems.DESCRIBED,
        telemetry={"auto_configure": True, "exclude": lambda scope: scope["path"] in UNTRACED},
    )
    app.add_middleware(Idempotency)
    app.add_middleware(Guard, page=problem_page)
    problems.install(app, problem_page)
    for module in (
        status,
        control,
        events,
        health,
        metrics,
        sources,
        rows,
        exports,
        tokens,
        notifications,
        search,
        asking,
        tasks,
        scrapyd,
        dashboard,
    ):
        app.include_router(module.router)
    app.mount("/static", StaticFiles(directory=Path(__file__).parent / "static"), name="static")
    return app
