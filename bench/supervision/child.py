"""What the peers supervise: a scraper such as people write. Its first line notes the time."""

import os
import time

with open(os.environ["PROBE_LOG"], "a") as log:  # noqa: PTH123
    log.write(f"{time.monotonic()} {os.getpid()}\n")

import threading
from typing import Any

URL = os.environ["SITE_URL"]


def scrape() -> None:
    """Load what a scraper needs, and fetch one page after the other."""
    import httpx
    import sqlalchemy  # noqa: F401
    from bs4 import BeautifulSoup

    number = 0
    with httpx.Client(trust_env=False) as client:
        while True:
            page = client.get(f"{URL}/{number}")
            number += len(BeautifulSoup(page.text, "html.parser").find_all("a")) // 2
            time.sleep(0.02)


async def app(scope: Any, receive: Any, send: Any) -> None:
    """An application for those who supervise web workers."""
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return


def wsgi(environ: Any, start: Any) -> list[bytes]:
    """The same for gunicorn."""
    start("200 OK", [])
    return [b""]


if __name__ == "__main__":
    scrape()
else:
    threading.Thread(target=scrape, daemon=True).start()
