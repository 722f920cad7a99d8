"""The second pass over a shop that has not changed."""

from pathlib import Path
from typing import Any

from bench.crawl import bowerbird
from bench.crawl.counting import counted
from bench.crawl.measured import measure
from bench.crawl.race import Crawl, figures
from bench.crawl.shop import Shop
from bench.crawl.site import ONE_HOST, Asked, asked, served
from bench.support import free_port, table

PASSES = ("first", "second")


def run(shop: Shop, root: Path, place: Path) -> dict[str, Any]:
    """Crawl the shop, and crawl it again with the same database."""
    folder, port = place / "again", free_port()
    folder.mkdir()
    found: dict[str, Any] = {"pages": shop.pages}
    for name in PASSES:
        with served(root, folder / f"nginx-{name}", port) as site:
            bowerbird.prepared(folder, shop, site)
            cost = measure(bowerbird.SCRAPE, folder)
        seen, kept = asked(site.log), bowerbird.kept(folder)
        count = counted(shop, ONE_HOST, seen, kept.pages, kept.rows)
        found[name] = figures(shop.pages, [Crawl(cost, count, seen.bytes)]) | _answers(seen, cost.wall_s)
    first, second = (found[name] for name in PASSES)
    found["bytes_share"] = round(second["body_bytes"] / first["body_bytes"], 4)
    found["bytes_share_with_heads"] = round(second["sent_bytes"] / first["sent_bytes"], 4)
    found["times_faster"] = round(first["wall_s"] / second["wall_s"], 2)
    return found


def _answers(seen: Asked, wall_s: float) -> dict[str, Any]:
    sent = {
        "sent_bytes": seen.bytes,
        "body_bytes": seen.body_bytes,
        "answered_200": seen.pages.total(),
        "answered_304": seen.unchanged,
    }
    return {**sent, "wall_s": round(wall_s, 2)}


def show(found: dict[str, Any]) -> None:
    """Print it."""
    names = [
        "wall_s",
        "pages_per_s",
        "cpu_s_per_1000",
        "body_bytes",
        "sent_bytes",
        "answered_200",
        "answered_304",
        "lost",
        "doubled",
    ]
    table(
        f"{found['pages']:,} pages that have not changed: the second pass takes {100 * found['bytes_share']:.2f} % of the "
        f"bytes ({100 * found['bytes_share_with_heads']:.2f} % with the heads of all answers), and is {found['times_faster']} times as fast",
        ["pass", "s", "pages/s", "CPU s/1,000", "bytes", "with heads", "200", "304", "lost", "doubled"],
        [[name, *(found[name][key] for key in names)] for name in PASSES],
    )
