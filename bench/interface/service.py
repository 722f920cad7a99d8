"""The service over a full database, and the scraper at full speed beside it."""

import contextlib
import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from bench.crawl.shop import START
from bench.crawl.site import Site
from bench.support import family, free_port, kill_all, until

ROOT = Path(__file__).parents[2]
IN_FLIGHT = 32
WARM_S = 3.0

_CONFIG = """[server]
port = {port}
[database]
url = "{url}"
[http]
allow_networks = ["127.0.0.0/8"]
delay = 0
concurrency = {in_flight}
per_host = {in_flight}
auto_throttle = false
"""
_SOURCE = """[[source]]
name = "live-{n}"
start = ["{start}"]
follow = true
every = "1s"
max_pages = 1000000
[[source.item]]
kind = "product"
select = "article.product"
key = ["sku"]
[source.item.fields]
title = "h1::text"
price = ".amount::text"
sku = ".sku::text"
stock = ".product__stock::text"
brand = ".brand::text"
"""


@dataclass(frozen=True)
class Running:
    """A service that runs. api: the one process that answers."""

    port: int
    api: psutil.Process

    def answer(self, path: str) -> dict[str, Any]:
        """Return what a path answers, nothing while it does not."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", path, headers={"Accept": "application/json"})
            found: dict[str, Any] = json.loads(connection.getresponse().read())
            return found
        except OSError:
            return {}
        finally:
            connection.close()

    def scraped(self) -> int:
        """Return how many pages the scraper has visited so far."""
        rows = [row for n in range(10) for row in self.answer(f"/api/runs?source=live-{n}&limit=500").get("items", ())]
        return sum(row["pages"] for row in rows)

    def precise_cpu_s(self) -> float:
        """Return the same to the microsecond, of the threads that are there: https://docs.kernel.org/scheduler/sched-stats.html."""
        total = 0
        for file in Path(f"/proc/{self.api.pid}/task").glob("*/schedstat"):
            with contextlib.suppress(OSError):  # that thread has just ended
                total += int(file.read_text().split()[0])
        return total / 1e9

    def cpu_s(self) -> float:
        """Return the seconds of a processor that the answering process took."""
        used = self.api.cpu_times()
        return float(used.user + used.system)


@contextlib.contextmanager
def running(folder: Path, url: str, site: Site, hosts: tuple[str, ...]) -> Iterator[Running]:
    """Serve a database, with a source of each host, until this ends."""
    folder.mkdir()
    port = free_port()
    sources = [_SOURCE.format(n=n, start=site.url(START, host)) for n, host in enumerate(hosts)]
    text = _CONFIG.format(port=port, url=url, in_flight=IN_FLIGHT)
    (folder / "bowerbird.toml").write_text(text + "".join(sources))
    with (folder / "out.log").open("ab") as log:
        command = [sys.executable, "-m", "scraper", "serve"]
        env = os.environ | {"PYTHONPATH": str(ROOT)}
        head = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env=env, start_new_session=True)
    try:
        found = Running(port, psutil.Process(head.pid))
        until(lambda: found.answer("/api/scraper-status").get("state") == "scraping", "it scrapes", 60)
        until(lambda: found.scraped() > IN_FLIGHT, "it has scraped something", 60)
        time.sleep(WARM_S)
        yield found
    finally:
        kill_all(family(head.pid))
        head.wait()
