"""A storm of faults over a running service, and what must be true in it and after it.

    python -m tests.storm --minutes 30 --seed 1

Each fault is drawn from a seeded generator: processes killed, stopped, continued, starved, and wishes, in any order. All
that is judged is seen from outside: the kernel's list of processes, the site's own log, the API, the database's rows.
"""

import argparse
import collections
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import psutil

from scraper import kernel
from tests.site import Request, Site, html, running
from tests.support import Project, rows, until

PAGES = 400
DELAY_S = 0.02
SPAN = 50
LOOK_EACH_S = 0.03
WRONG_FOR_S = 1.0
HOG = "import os\nwhile True: pass"
VERBS = ("stop", "start", "pause", "resume", "restart")
SIGNALS = ("SIGKILL", "SIGKILL", "SIGSTOP", "SIGTERM", "SIGSEGV")


def shop(site: Site) -> str:
    """A finite site: each page leads to two others."""

    def page(request: Request) -> bytes:
        if not request.path.strip("/").isdigit():
            return html("", status="404 Not Found")
        number = int(request.path.strip("/"))
        links = "".join(f'<a href="/{n}">{n}</a>' for n in (number * 2 + 1, number * 2 + 2) if n < PAGES)
        return html(f"<title>{number}</title><p class=number>{number}</p>{links}")

    site.raw("*", page, close=False)
    return (
        f'[[source]]\nname = "s"\nstart = ["{site.url}/0"]\nfollow = true\nevery = "1s"\nmax_depth = 99\n'
        '[[source.item]]\nkind = "n"\nfields = { number = { css = "p.number::text", type = "int" } }\n'
    )


def scrapers(folder: Path) -> list[int]:
    """The processes that scrape into this directory: those that hold the mark of the page they read in their memory."""
    mark = str(folder / ".bowerbird" / "scraper-0.at")
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if mark in Path(entry.path, "maps").read_text():
                    found.append(int(entry.name))
    return found


def stopped(pid: int) -> bool:
    """Say whether a signal has stopped a process."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    return False


class Storm:
    """One service in a storm."""

    def __init__(self, folder: Path, site: Site, seed: int) -> None:
        self.random = random.Random(seed)
        self.site = site
        self.project = Project(folder)
        self.project.configure(
            shop(site),
            http=f"delay = {DELAY_S}\nobey_robots = false\nauto_throttle = false",
            supervisor="heartbeat_timeout = 3.0\nstop_timeout = 2.0\nmax_restarts = 1000\nbackoff_max = 0.5",
        )
        self.service: subprocess.Popen[bytes] | None = None
        self.faults: collections.Counter[str] = collections.Counter()
        self.deeds: list[str] = []
        self.wrong: list[str] = []
        self.looks = self.answers = 0
        self.last: dict[str, Any] = {}
        self._since: dict[str, float] = {}
        self._paused: dict[int, float] = {}
        self._hogs: list[tuple[subprocess.Popen[bytes], float]] = []
        self._over = threading.Event()
        self._restarted = threading.Lock()
        self._began = time.monotonic()

    # -- what goes wrong

    def serve(self) -> None:
        """Start the service, with two API workers."""
        self.service = self.project.start("serve", "--workers", "2")
        self.answer = None

    def note(self, deed: str) -> None:
        """Keep what was done, for whoever has to understand it."""
        self.faults[deed.partition(" ")[0]] += 1
        self.deeds.append(f"{time.monotonic() - self._began:8.2f} {deed}")

    def send(self, what: str, pid: int | None, name: str) -> None:
        """Send a signal to a process that is ours."""
        if pid is None or kernel.birth(pid) is None:
            return
        number = getattr(signal, name)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
            self.note(f"{what}:{name} {pid}")
            if number == signal.SIGSTOP:
                self._paused[pid] = time.monotonic() + self.random.choice((0.2, 1.0, 4.5))

    def mend(self, *, all_of_it: bool = False) -> None:
        """Continue what was stopped for long enough, end hogs that had their time."""
        now = time.monotonic()
        for pid, until_ in list(self._paused.items()):
            if all_of_it or now > until_:
                del self._paused[pid]
                if stopped(pid):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGCONT)
        for hog, until_ in list(self._hogs):
            if all_of_it or now > until_:
                self._hogs.remove((hog, until_))
                hog.kill()
                hog.wait()

    def fault(self) -> None:
        """Do one bad thing."""
        draw = self.random.random()
        last = self.last
        if draw < 0.45:
            self.send("scraper", last.get("pid"), self.random.choice(SIGNALS))
        elif draw < 0.60:
            shared = last.get("shared_state") or {}
            self.send("manager", shared.get("pid"), self.random.choice(("SIGKILL", "SIGSTOP", "SIGTERM")))
        elif draw < 0.72:
            self.send("worker", last.get("owner_pid"), self.random.choice(("SIGKILL", "SIGSTOP")))
        elif draw < 0.78:
            self.starve()
        elif draw < 0.94:
            self.ask(self.random.choice(VERBS))
        else:
            self.kill_service()

    def starve(self) -> None:
        """Take the processors away for a while."""
        self.note("starve")
        until_ = time.monotonic() + self.random.choice((0.5, 2.0))
        for _ in range(2 * (os.cpu_count() or 1)):
            self._hogs.append((subprocess.Popen([sys.executable, "-S", "-c", HOG]), until_))

    def ask(self, verb: str) -> None:
        """Ask for something over the API."""
        with contextlib.suppress(httpx.HTTPError), self.client(2.0) as client:
            client.post(f"/api/scraper/{verb}")
            self.note(f"wish:{verb}")

    def kill_service(self) -> None:
        """Kill the main process; all that is its must go; start another."""
        assert self.service is not None
        with self._restarted:
            family = [psutil.Process(self.service.pid)]
            with contextlib.suppress(psutil.NoSuchProcess):
                family += family[0].children(recursive=True)
            self.note("service:SIGKILL")
            self.service.kill()
            self.service.wait()
            self.mend(all_of_it=True)
            deadline = time.monotonic() + 4.0
            while (left := [p.pid for p in family if kernel.birth(p.pid) is not None]) and time.monotonic() < deadline:
                time.sleep(0.02)
            if left:
                self.wrong.append(f"left behind after the service was killed: {left}")
            self.serve()

    # -- what is seen

    def client(self, timeout: float) -> httpx.Client:
        """A new connection each time, so that every API worker is asked."""
        return httpx.Client(base_url=f"http://127.0.0.1:{self.project.port}", timeout=timeout, trust_env=False)

    def watch(self) -> None:
        """Look from outside, all the time: processes."""
        while not self._over.is_set():
            found = scrapers(self.project.path)
            self.looks += 1
            if len(found) > 1:
                again = scrapers(self.project.path)  # the list is not read in one instant
                if len(set(found) & set(again)) > 1:
                    self.wrong.append(f"two scrapers at once: {found}")
            self._over.wait(LOOK_EACH_S)

    def follow(self) -> None:
        """Ask for the status, all the time, and see whether it is true."""
        while not self._over.is_set():
            with self._restarted, contextlib.suppress(httpx.HTTPError), self.client(0.5) as client:
                told = client.get("/api/scraper-status").json()
                self.last = told
                self.answers += 1
                self._judge(told)
            self._over.wait(LOOK_EACH_S)

    def _judge(self, told: dict[str, Any]) -> None:
        there = told["pid"] is not None and kernel.birth(told["pid"]) is not None
        found = scrapers(self.project.path)
        wished = told["wish"].get("running", True)
        self._hold("a dead process is told to be alive", told["process_alive"] and not there)
        self._hold("a living one is told to be dead", bool(found) and not told["process_alive"])
        self._hold("running without a wish", told["running"] and not wished)
        self._hold("at work without a process", told["state"] in ("idle", "scraping", "paused") and not there)
        self._hold("stopped with a process", told["state"] == "stopped" and bool(found))

    def _hold(self, what: str, wrong: bool) -> None:
        """Something may be wrong for a moment, and no longer; while the owner is stopped it cannot be put right."""
        owner = self.last.get("owner_pid")
        if not wrong or self._hogs or (owner and (stopped(owner) or kernel.birth(owner) is None)):
            self._since.pop(what, None)
            return
        since = self._since.setdefault(what, time.monotonic())
        if time.monotonic() - since > WRONG_FOR_S:
            self.wrong.append(f"for {time.monotonic() - since:.1f} s: {what}: {self.last}")
            self._since.pop(what)

    # -- the whole of it

    def run(self, seconds: float, *, talk: bool = False) -> None:
        """Storm for so long, then see whether all is as it should be."""
        self.serve()
        watchers = [threading.Thread(target=work, daemon=True) for work in (self.watch, self.follow)]
        for watcher in watchers:
            watcher.start()
        until(lambda: self.last.get("state") == "scraping", "it scrapes")
        end = time.monotonic() + seconds
        told = 0.0
        while time.monotonic() < end and not self.wrong:
            self.fault()
            calm = time.monotonic() + self.random.expovariate(1 / 0.6)
            while time.monotonic() < calm:
                self.mend()
                time.sleep(0.02)
            if talk and time.monotonic() - told > 30:
                told = time.monotonic()
                print(
                    f"{told - self._began:6.0f} s: {sum(self.faults.values())} faults, {self.answers} answers",
                    flush=True,
                )
        self.mend(all_of_it=True)
        try:
            self.calm_down()
        finally:
            self._over.set()
            for watcher in watchers:
                watcher.join(5)
        self.end()
        assert not self.wrong, "\n".join([*self.wrong, "after", *self.deeds[-30:]])

    def calm_down(self) -> None:
        """Have it want to run, and wait until a run that began afterwards has seen the whole site."""
        for verb in ("start", "resume", "restart"):
            until(lambda verb=verb: self._asked(verb), f"{verb} is taken")  # type: ignore[misc]
        began = rows(self.project, "SELECT max(id) FROM runs")[0][0]
        query = f"SELECT pages FROM runs WHERE state = 'done' AND id > {began}"
        found = until(lambda: rows(self.project, query), "a run ends", within_s=60 + PAGES * DELAY_S * 5)
        if found[0][0] != PAGES:
            self.wrong.append(f"a whole run saw {found[0][0]} pages")

    def _asked(self, verb: str) -> bool:
        with contextlib.suppress(httpx.HTTPError), self.client(2.0) as client:
            return client.post(f"/api/scraper/{verb}").status_code in (200, 202)
        return False

    def end(self) -> None:
        """Stop the service, and judge what is left."""
        assert self.service is not None
        family = [psutil.Process(self.service.pid), *psutil.Process(self.service.pid).children(recursive=True)]
        self.service.send_signal(signal.SIGTERM)
        self.service.wait(15)
        until(lambda: not [p for p in family if kernel.birth(p.pid) is not None], "all gone", within_s=3)
        project = self.project
        facts = {
            "damage": rows(project, "PRAGMA integrity_check") != [("ok",)],
            "pages stored twice": rows(project, "SELECT count(*) - count(DISTINCT final_url) FROM pages")[0][0],
            "items stored twice": rows(project, "SELECT count(*) - count(DISTINCT url) FROM items")[0][0],
            "pages missing": PAGES - rows(project, "SELECT count(*) FROM pages")[0][0],
            "items changed though nothing did": rows(project, "SELECT count(*) FROM changes WHERE change != 'created'")[
                0
            ][0],
            "requests too soon": self.too_soon(),
        }
        self.wrong += [f"{what}: {count}" for what, count in facts.items() if count]
        ends = rows(project, "SELECT count(*) FROM events WHERE event = 'ended'")[0][0]
        deserved = sum(n for deed, n in self.faults.items() if not deed.startswith("manager"))
        if ends > 2 * deserved + 10:
            self.wrong.append(f"a restart storm: {ends} ends after {deserved} faults")

    def too_soon(self) -> int:
        """Count the spans of so many requests that took less time than the delay between them allows.

        A starved site notes the two that are in flight late, and so the next ones too soon after them: hence spans.
        """
        times = [request.at for request in self.site.log]
        least = (SPAN - 5) * DELAY_S
        return sum(b - a < least for a, b in zip(times, times[SPAN:], strict=False))

    def report(self) -> str:
        """Return what happened, in lines."""
        ends = rows(
            self.project,
            "SELECT json_extract(facts, '$.cause'), count(*) FROM events WHERE event = 'ended' GROUP BY 1 ORDER BY 2 DESC",
        )
        return "\n".join(
            [
                f"{sum(self.faults.values())} faults: {dict(self.faults.most_common())}",
                f"{self.looks} looks at the processes, {self.answers} answers of the status",
                f"ends: {dict(ends)}",
                f"{len(self.site.log)} requests, {rows(self.project, 'SELECT count(*) FROM runs')[0][0]} runs",
            ]
        )


def main() -> None:
    """Storm, by hand."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="storm-") as folder, running() as site:
        storm = Storm(Path(folder), site, given.seed)
        try:
            storm.run(given.minutes * 60, talk=True)
            print(storm.report())
        except BaseException:
            print(storm.project.output()[-20000:])
            raise
        finally:
            storm.project.end()


if __name__ == "__main__":
    main()
