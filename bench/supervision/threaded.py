"""The service that people write first: FastAPI, and a thread that scrapes."""

import sys
import threading
from collections import deque
from urllib.parse import urljoin

import httpx
import uvicorn
from bs4 import BeautifulSoup
from fastapi import FastAPI
from parsel import Selector

app = FastAPI()
state = {"running": False, "pages": 0}


def links(text: str, base: str, parser: str) -> list[str]:
    """Return the links of a page."""
    if parser == "lxml":
        found = Selector(text).xpath("//a/@href").getall()
    else:
        found = [str(a["href"]) for a in BeautifulSoup(text, "html.parser").find_all("a", href=True)]
    return [urljoin(base, link) for link in found]


def scrape(start: str, parser: str) -> None:
    """Crawl the site again and again."""
    with httpx.Client(trust_env=False) as client:
        while True:
            waiting, seen = deque([start]), {start}
            while waiting:
                url = waiting.popleft()
                new = [link for link in links(client.get(url).raise_for_status().text, url, parser) if link not in seen]
                seen.update(new)
                waiting.extend(new)
                state["pages"] += 1


@app.get("/status")
async def status() -> dict[str, int]:
    """What it is at."""
    return state


@app.get("/begin")
async def begin() -> dict[str, int]:
    """Scrape from now on."""
    state["running"] = True
    threading.Thread(target=scrape, args=(sys.argv[2], sys.argv[3]), daemon=True).start()
    return state


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), log_level="warning")
