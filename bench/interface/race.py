"""One database, round after round: pages and lists, the status, the streams."""

import base64
import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

from bench.crawl.shop import build
from bench.crawl.site import served
from bench.interface import asked, streams
from bench.interface.place import Place
from bench.interface.service import Running, running
from bench.support import free_port, table

HOSTS = tuple(f"127.0.0.{n}" for n in range(1, 9))
LARGE = "shop-0000"


@dataclass(frozen=True)
class Job:
    """How much is asked. shop: pages of each host that is scraped meanwhile; seconds: for which streams are open."""

    folder: Path
    sizes: dict[str, int]
    shop: int
    rounds: int
    times: int
    status_times: int
    seconds: float
    pairs: int


def run(place: Place, job: Job) -> dict[str, Any]:
    """Measure it all, so many times, each time over a database as it was filled."""
    root = job.folder / f"site-{job.shop}"
    if not root.exists():
        root.mkdir()
        build(job.shop, root)
    rounds = []
    for number in range(job.rounds):
        print(f"{place.name}, round {number + 1} of {job.rounds} ...", flush=True)
        began = time.monotonic()
        url = place.full()
        print(f"  full after {time.monotonic() - began:.0f} s", flush=True)
        work = Path(tempfile.mkdtemp(prefix="round-", dir=job.folder))
        work.chmod(0o755)  # the web server may be another user
        with (
            served(root, work / "nginx", free_port(), HOSTS) as site,
            running(work / "service", url, site, HOSTS) as one,
        ):
            rounds.append(_once(one, job))
        place.drop()
        shutil.rmtree(work)
    return {"database": place.name, "rounds": job.rounds} | _middle(rounds)


def _once(one: Running, job: Job) -> dict[str, Any]:
    sizes = {row["name"]: row["rows"] for row in one.answer("/system.json")["tables"]}
    sizes["sources"] = len(one.answer("/api/sources?limit=500")["items"])
    named, began, before = _named(one), time.monotonic(), one.scraped()
    found = asked.pages(one, named, job.times)
    rate = (one.scraped() - before) / (time.monotonic() - began)
    if rate < 1:
        raise RuntimeError("the scraper did nothing meanwhile")
    status = asked.status(one, job.status_times)
    busy = asked.beside(one, "/items", lambda: asked.status(one, job.status_times))
    return {
        "sizes": sizes,
        "load": os.getloadavg()[0],
        "scraped_per_s": round(rate, 1),
        "pages": {name: took.figures() for name, took in found.items()},
        "status": status.figures(),
        "status_beside_a_page": busy.figures(),
        "streams": streams.cost(one, job.seconds, job.pairs),
    }


def _named(one: Running) -> dict[str, str]:
    """What stands for the words in braces of the paths."""
    newest = one.answer("/api/items?limit=1")["items"][0]["id"]
    deep = base64.urlsafe_b64encode(str(max(newest - asked.DEEP * 50, newest // 2)).encode()).decode()
    item = one.answer(f"/api/changes?source={LARGE}&change=removed&limit=1")["items"][0]["item_id"]
    page = one.answer(f"/api/pages?source={LARGE}&limit=1")["items"][0]["final_url"]
    lately = quote((datetime.now(UTC) - timedelta(hours=1)).isoformat())
    return {"large": LARGE, "deep": deep, "item": str(item), "page": quote(page, safe=""), "lately": lately}


def _middle(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Of each figure the median of the rounds."""
    last = rounds[-1]
    return {
        "sizes": last["sizes"],
        "load": [round(one["load"], 1) for one in rounds],
        "scraped_per_s": asked.middle([{"rate": one["scraped_per_s"]} for one in rounds])["rate"],
        "pages": {name: asked.middle([one["pages"][name] for one in rounds]) for name in last["pages"]},
        "status": asked.middle([one["status"] for one in rounds]),
        "status_beside_a_page": asked.middle([one["status_beside_a_page"] for one in rounds]),
        "streams": min(
            (one["streams"] for one in rounds), key=lambda found: abs(found["cpu_of_streams"] - _streams(rounds))
        ),
    }


def _streams(rounds: list[dict[str, Any]]) -> float:
    costs: list[float] = sorted(one["streams"]["cpu_of_streams"] for one in rounds)
    return costs[len(costs) // 2]


def show(found: Mapping[str, Any]) -> None:
    """Print it."""
    title = (
        f"{found['database']}: the scraper stores {found['scraped_per_s']:.0f} pages/s meanwhile, load {found['load']}"
    )
    status = {"api: status": found["status"], "api: status, beside /items": found["status_beside_a_page"]}
    asked.show(title, {**found["pages"], **status})
    cost = found["streams"]
    table(
        f"{found['database']}: {cost['streams']} live streams, shares of a core of the answering process",
        ["without", "with", "the streams", "told to each, a second"],
        [[cost["cpu_without"], cost["cpu_with"], cost["cpu_of_streams"], cost["told_per_stream_and_s"]]],
    )
