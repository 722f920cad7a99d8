"""The browser's process: an address and its document come in, what the browser made of it goes out.

No request leaves the browser by itself. Every one is paused, told to the scraper, and answered with what that fetched by
its own way: addresses, robots, delays and sizes are looked at in one place. Each redirect hop, worker and preflight is
seen by one session of the DevTools protocol at the browser itself; a page's own routes would miss some. What no session
sees (WebSockets, WebRTC, look-ups of names, what is fetched ahead) ends in a network namespace without a network, or,
where there is none to be had, at a proxy that is not there.
"""

import asyncio
import base64
import contextlib
import os
import socket
import stat
import subprocess
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scraper import kernel
from scraper.offload import frames
from scraper.offload.process import begin

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from playwright.async_api import Browser as Chromium
    from playwright.async_api import CDPSession, Page, Playwright

START_S = 30.0
CLOSE_S = 3.0
LOOK_EACH_S = 0.1
SETTLE_SHARE = 0.6  # of the time, after which the document is taken as it is
QUIET_S = 1.0  # nothing in flight and nothing changed for so long: the page is done
REQUESTS_MOST = 300
ENDED = "the browser ended"
NAVIGATIONS_MOST = 16  # with their redirects
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE") if kernel.LINUX else 4096
OTHERS_BYTES = 300 * 2**20  # what the browser takes that is no page's
WANTED = {"Document", "Script", "XHR", "Fetch", "Preflight"}

FLAGS = [
    "--proxy-server=http://127.0.0.1:9",
    "--proxy-bypass-list=<-loopback>",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--force-webrtc-ip-handling-policy=disable_non_proxied_udp",
    "--webrtc-ip-handling-policy=disable_non_proxied_udp",
    "--dns-prefetch-disable",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-domain-reliability",
    "--disable-sync",
    "--no-pings",
    "--no-first-run",
    "--disable-breakpad",
    "--disable-extensions",
    "--block-new-web-contents",
    "--mute-audio",
    "--disable-gpu",
    "--js-flags=--max-old-space-size=512",
]
# In a namespace without a network the browser would tell every page that it is offline.
INIT = "Object.defineProperty(Navigator.prototype, 'onLine', {get: () => true, configurable: true});"
DROPPED = {
    "content-encoding",
    "content-length",
    "transfer-encoding",
    "connection",
    "content-disposition",
    "link",
    "refresh",
    "strict-transport-security",
}
SAMPLE = "[document.readyState, document.getElementsByTagName('*').length, (document.body||{}).textContent?.length]"
TAKE = """(most => { const d = document;
  const type = d.doctype ? new XMLSerializer().serializeToString(d.doctype) + '\\n' : '';
  const html = type + (d.documentElement ? d.documentElement.outerHTML : '');
  return {length: html.length, html: html.slice(0, most)} })(%d)"""


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be rendered, and within what. Times in seconds, sizes in bytes or characters."""

    url: str
    timeout_s: float
    most: int
    memory: int


@dataclass(frozen=True, slots=True)
class Wish:
    """A request that the page makes. headers: as the browser would send them, cookies of this visit included.

    main: for the document of the page itself. top: by that document, or for it, and by none in a frame.
    """

    number: int
    url: str
    method: str
    headers: dict[str, str]
    body: bytes
    kind: str
    main: bool
    top: bool


@dataclass(frozen=True, slots=True)
class Grant:
    """What a request of the page gets; status 0: nothing."""

    number: int
    status: int = 0
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Rendered:
    """What the browser made of a page. fault: why it made nothing of it. spent: the browser is of no more use; died: it has ended."""

    html: str = ""
    too_long: bool = False
    fault: str | None = None
    spent: bool = False
    died: bool = False


@dataclass(slots=True)
class Visit:
    """What goes on in the browser for one task."""

    task: Task
    frame: str = ""
    in_flight: int = 0
    requests: int = 0
    navigations: int = 0
    active_at: float = field(default_factory=time.monotonic)
    fault: str | None = None
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def end(self, fault: str) -> None:
        """Give up."""
        self.fault = self.fault or fault
        self.over.set()


def run(end: socket.socket, told: "Connection", parent: int, binary: str, user_agent: str, home: str) -> None:
    """Render pages until the socket closes. binary: the browser. user_agent: what it calls itself. home: where it keeps its files."""
    if not begin(parent, told):
        return
    os.environ.pop("NODE_OPTIONS", None)
    os.environ["TMPDIR"] = home  # of Playwright's own process: who is killed leaves its files
    asyncio.run(_serve(end, binary, user_agent, home))


async def _serve(end: socket.socket, binary: str, user_agent: str, home: str) -> None:
    reader, writer = await asyncio.open_connection(sock=end)
    browser = Browser(binary, user_agent, Path(home), lambda value: writer.write(frames.packed(value)))
    rendering: asyncio.Task[None] | None = None

    async def render(task: Task) -> None:
        rendered = await browser.render(task)
        writer.write(frames.packed(replace(rendered, spent=not await browser.clean())))

    try:
        try:
            await browser.start()
        except Exception as error:  # noqa: BLE001  there are many reasons, and all are told
            writer.write(frames.packed(_said(error)))
            await writer.drain()
            return
        writer.write(frames.packed(None))
        while True:
            message = await frames.read(reader)
            if isinstance(message, Grant):
                browser.grant(message)
            else:
                rendering = asyncio.create_task(render(message))
    except EOFError:
        if rendering is not None:
            rendering.cancel()
    finally:
        await browser.close()


def _said(error: Exception) -> str:
    """What matters of a browser's long story."""
    lines = [line.strip() for line in str(error).splitlines() if "FATAL" in line or "rror" in line]
    lines += [line for line in lines if "loading shared libraries" in line]
    return (lines[-1] if lines else str(error).partition("\n")[0])[:300] or type(error).__name__


def alone() -> str:
    """Return how a command is run without a network, or nothing where that cannot be had."""
    ways = ("unshare --net --",) if os.geteuid() == 0 else ("unshare --user --map-current-user --net --",)
    for way in ways:
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            if subprocess.run([*way.split(), "true"], capture_output=True, timeout=5, check=False).returncode == 0:
                return way
    return ""


class Browser:
    """A Chromium that asks nobody but us."""

    def __init__(self, binary: str, user_agent: str, home: Path, tell: Callable[[Any], None]) -> None:
        """home: a directory of its own, which the scraper removes. tell: sends a Wish to the scraper."""
        self._binary = binary
        self._user_agent = user_agent
        self._tell = tell
        self._home = home
        self._playwright: Playwright | None = None
        self._chromium: Chromium | None = None
        self._session: CDPSession | None = None
        self._visit: Visit | None = None
        self._granted: dict[int, asyncio.Future[Grant]] = {}
        self._count = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Start the browser. Raises playwright's Error."""
        from playwright.async_api import async_playwright  # noqa: PLC0415  an extra

        wrapper = self._home / "browser"
        way = await asyncio.to_thread(alone)
        wrapper.write_text(f'#!/bin/sh\necho $$ > "{self._home}/pid"\nulimit -c 0\nexec {way} "{self._binary}" "$@"\n')
        wrapper.chmod(stat.S_IRWXU)
        own = {name: str(self._home) for name in ("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "TMPDIR")}
        self._playwright = await async_playwright().start()
        self._chromium = await self._playwright.chromium.launch(
            executable_path=str(wrapper),
            chromium_sandbox=os.geteuid() != 0,
            args=[*FLAGS, f"--user-agent={self._user_agent}"],
            ignore_default_args=["--disable-popup-blocking"],
            env={"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LANG": "C.UTF-8", **own},
            handle_sigint=False,
            handle_sigterm=False,
            handle_sighup=False,
            timeout=START_S * 1000,
        )
        self._chromium.on("disconnected", self._lost)
        self._session = await self._chromium.new_browser_cdp_session()
        self._session.on("Fetch.requestPaused", self._paused)
        await self._session.send("Fetch.enable", {"patterns": [{"urlPattern": "*"}]})

    def _lost(self, chromium: "Chromium") -> None:
        if self._visit is not None:
            self._visit.end(ENDED)

    async def close(self) -> None:
        """End the browser and whatever belongs to it."""
        with contextlib.suppress(Exception):
            async with asyncio.timeout(CLOSE_S):
                if self._chromium is not None:
                    await self._chromium.close()
                if self._playwright is not None:
                    await self._playwright.stop()
        self._kill()

    def _kill(self) -> None:
        if pid := pid_in(self._home):  # it leads a group of its own
            kernel.end_tree(pid)

    # -- requests

    def _paused(self, event: dict[str, Any]) -> None:
        self._keep(self._answer(event, self._visit))

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send(self, method: str, values: dict[str, Any]) -> None:
        with contextlib.suppress(Exception):  # the page is gone: nobody waits for it
            if self._session is not None:
                await self._session.send(method, values)

    async def _answer(self, event: dict[str, Any], visit: Visit | None) -> None:
        wish = self._wish(event, visit) if visit is not None and visit is self._visit else None
        if wish is None or visit is None:
            # Any other reason than "Aborted" would show an error page in place of the document.
            await self._send("Fetch.failRequest", {"requestId": event["requestId"], "errorReason": "Aborted"})
            return
        visit.in_flight += 1
        try:
            future = self._granted[wish.number] = asyncio.get_running_loop().create_future()
            self._tell(wish)
            await self._fulfil(event["requestId"], await future)
        finally:
            self._granted.pop(wish.number, None)
            visit.in_flight -= 1
            visit.active_at = time.monotonic()

    def _wish(self, event: dict[str, Any], visit: Visit) -> Wish | None:
        """What the page asks for, or None if it does not get it."""
        asked = event["request"]
        kind = event.get("resourceType", "Other")
        if kind not in WANTED or not asked["url"].startswith(("http://", "https://")):
            return None
        top = event.get("frameId") == visit.frame
        main = kind == "Document" and top
        visit.requests += 1
        visit.navigations += main
        if visit.requests > REQUESTS_MOST or visit.navigations > NAVIGATIONS_MOST:
            return None
        entries = asked.get("postDataEntries") or []
        if asked.get("hasPostData") and not all("bytes" in entry for entry in entries):
            return None
        if dict(asked["headers"]).get("Accept") == "text/event-stream":
            return None
        body = b"".join(base64.b64decode(entry["bytes"]) for entry in entries)
        self._count += 1
        return Wish(self._count, asked["url"], asked["method"], dict(asked["headers"]), body, kind, main, top)

    def grant(self, given: Grant) -> None:
        """Answer a request of the page."""
        future = self._granted.get(given.number)
        if future is not None and not future.done():
            future.set_result(given)

    async def _fulfil(self, request: str, given: Grant) -> None:
        if not given.status:
            await self._send("Fetch.failRequest", {"requestId": request, "errorReason": "Aborted"})
            return
        headers = [{"name": name, "value": value} for name, value in given.headers if name.lower() not in DROPPED]
        body = base64.b64encode(given.body).decode()
        values = {"requestId": request, "responseCode": given.status, "responseHeaders": headers, "body": body}
        await self._send("Fetch.fulfillRequest", values)

    # -- visits

    async def render(self, task: Task) -> Rendered:
        """Return what becomes of a page."""
        visit = self._visit = Visit(task)
        work = asyncio.create_task(self._work(visit))
        over = asyncio.create_task(visit.over.wait())
        watch = asyncio.create_task(self._watch(visit))
        try:
            await asyncio.wait({work, over}, timeout=task.timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if visit.over.is_set() or not work.done():
                return self._nothing(visit, f"it was not done after {task.timeout_s:g} s")
            return work.result()
        except Exception as error:  # noqa: BLE001  the browser has many ways to say that a page is nothing
            return self._nothing(visit, str(error).partition("\n")[0][:300] or type(error).__name__)
        finally:
            self._visit = None
            for task_left in (work, over, watch):
                task_left.cancel()

    def _nothing(self, visit: Visit, fault: str) -> Rendered:
        """fault: why, unless the visit knows better."""
        gone = self._chromium is None or not self._chromium.is_connected()
        return Rendered(fault=visit.fault or fault, died=gone and visit.fault in (None, ENDED))

    async def clean(self) -> bool:
        """Close what the last page opened; say whether that could be done. If not, the browser is of no more use."""
        try:
            async with asyncio.timeout(CLOSE_S):
                for context in self._chromium.contexts if self._chromium is not None else []:
                    await context.close()
            return self._chromium is not None and self._chromium.is_connected()
        except Exception:  # noqa: BLE001  whatever it is
            return False

    async def _watch(self, visit: Visit) -> None:
        while True:
            await asyncio.sleep(0.25)
            if await asyncio.to_thread(_takes_more, pid_in(self._home), visit.task.memory):
                visit.end("it took more memory than [limits] memory allows")
                self._kill()

    async def _page(self, visit: Visit) -> "Page":
        assert self._chromium is not None
        context = await self._chromium.new_context(
            accept_downloads=False,
            service_workers="block",
            permissions=[],
            viewport={"width": 1280, "height": 1024},
            reduced_motion="reduce",
        )
        await context.add_init_script(INIT)
        await context.route_web_socket("**/*", lambda route: route.close(code=1008))
        page = await context.new_page()
        page.on("dialog", lambda dialog: self._keep(_quietly(dialog.dismiss())))
        page.on("crash", lambda _: visit.end("the page crashed the browser"))
        context.on("page", lambda other: self._keep(_quietly(other.close())) if other is not page else None)
        return page

    async def _work(self, visit: Visit) -> Rendered:
        page = await self._page(visit)
        session = await page.context.new_cdp_session(page)
        visit.frame = (await session.send("Page.getFrameTree"))["frameTree"]["frame"]["id"]
        await page.goto(visit.task.url, wait_until="commit", timeout=visit.task.timeout_s * 1000)
        await self._settle(visit, session)
        return await self._take(session, visit)

    async def _settle(self, visit: Visit, session: "CDPSession") -> None:
        """Wait until the page is complete, has asked for all, and stays as it is; not for ever."""
        deadline = time.monotonic() + visit.task.timeout_s * SETTLE_SHARE
        before: Any = None
        changed_at = time.monotonic()
        while (now := time.monotonic()) < deadline:
            sample = None
            with contextlib.suppress(Exception):  # it is on its way elsewhere, or busy
                async with asyncio.timeout(max(LOOK_EACH_S, deadline - now)):
                    sample = await _evaluate(session, visit.frame, SAMPLE)
            now = time.monotonic()
            if sample is None or sample != before:
                before, changed_at = sample, now
            complete = sample is not None and sample[0] == "complete" and not visit.in_flight
            if complete and now - max(changed_at, visit.active_at) >= QUIET_S:
                return
            await asyncio.sleep(LOOK_EACH_S)

    async def _take(self, session: "CDPSession", visit: Visit) -> Rendered:
        for _ in range(4):
            try:
                async with asyncio.timeout(1):
                    taken = await _evaluate(session, visit.frame, TAKE % visit.task.most)
                return Rendered(taken["html"], taken["length"] > visit.task.most)
            except TimeoutError:  # a script without end: stopped, it leaves the document to us
                with contextlib.suppress(Exception):
                    async with asyncio.timeout(0.5):
                        await session.send("Runtime.terminateExecution")
            except Exception:  # noqa: BLE001  on its way elsewhere
                await asyncio.sleep(LOOK_EACH_S)
        return Rendered(fault="its document cannot be had: a script is busy without end")


async def _evaluate(session: "CDPSession", frame: str, expression: str) -> Any:
    """In a world apart: what the page redefines does not count there."""
    world = await session.send("Page.createIsolatedWorld", {"frameId": frame, "worldName": "bowerbird"})
    values = {"expression": expression, "returnByValue": True, "contextId": world["executionContextId"]}
    answer = await session.send("Runtime.evaluate", values)
    return answer["result"]["value"]


async def _quietly(work: Any) -> None:
    with contextlib.suppress(Exception):
        await work


def pid_in(home: Path) -> int:
    """Return the process of the browser whose home this is, which leads a group of its own; 0 if there is none."""
    try:
        return int((home / "pid").read_text())
    except (OSError, ValueError):
        return 0


def _takes_more(group: int, most: int) -> bool:
    """Whether the browser's renderers have more resident bytes than they may, or all of it far more (Linux only)."""
    renderers = all_of_it = 0
    for entry in Path("/proc").iterdir() if kernel.LINUX and group else ():
        with contextlib.suppress(OSError, ValueError, IndexError):
            mine = entry.name.isdigit() and os.getpgid(int(entry.name)) == group
            if mine:
                resident, shared = map(int, (entry / "statm").read_text().split()[1:3])
                renderer = b"--type=renderer" in (entry / "cmdline").read_bytes()
                renderers += resident * PAGE_BYTES * renderer
                all_of_it += (resident - shared) * PAGE_BYTES
    return renderers > most or all_of_it > most + OTHERS_BYTES
