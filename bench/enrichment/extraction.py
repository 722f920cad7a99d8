"""Is what is kept as a page's text the page's text? The Python documentation marks its own: the truth is what stands in there.

Beside trafilatura as it is called by itself, and beside all that a person sees on the page.
"""

import random
import statistics
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lxml import html

from bench.enrichment.recall import DOCS
from scraper.config.settings import Noise
from scraper.enrichment import maintext
from scraper.extract.page import Page
from scraper.extract.visible import blocks

LONGEST = 300_000  # bytes of a page
FOLDERS = ("reference", "tutorial", "howto", "faq", "library", "extending", "installing", "using", "whatsnew")
HEADERS = {"content-type": "text/html; charset=utf-8"}
_ASIDE = ".//a[contains(@class, 'headerlink')] | .//script | .//style"


def files(most: int) -> list[Path]:
    """Return pages of the documentation, the same each time."""
    found = sorted(path for name in FOLDERS for path in (DOCS / name).glob("*.html") if path.stat().st_size < LONGEST)
    random.Random(7).shuffle(found)
    return found[:most]


def truth(body: bytes) -> str | None:
    """Return the text of what a page marks as its main part, or None if it marks none."""
    marked = html.document_fromstring(body, parser=html.HTMLParser(encoding="utf-8")).find(".//div[@role='main']")
    if marked is None:
        return None
    asides: Any = marked.xpath(_ASIDE)
    for aside in asides:
        aside.drop_tree()
    return " ".join(map(str, marked.itertext()))


def f1(found: str, wanted: str) -> float:
    """Return the harmonic mean of precision and recall of words, each as often as it stands there. Pure."""
    ours, theirs = Counter(found.split()), Counter(wanted.split())
    both = (ours & theirs).total()
    return 2 * both / max(1, ours.total() + theirs.total())


def measured(most: int) -> dict[str, Any]:
    """Return the mean F1 of the text that is kept, of trafilatura's own, and of all that is seen."""
    import trafilatura

    scores: dict[str, list[float]] = {"kept": [], "trafilatura": [], "seen": []}
    for path in files(most):
        body = path.read_bytes()
        wanted = truth(body)
        if wanted is None:
            continue
        url = f"http://docs.test/{path.relative_to(DOCS)}"
        page = Page(url, 200, HEADERS, body)
        texts: dict[str, str | None] = {
            "kept": maintext.read(url, HEADERS, body)["text"],
            "trafilatura": trafilatura.extract(page.text, url=url, include_comments=False),
            "seen": "\n".join(blocks(page, Noise())),
        }
        for name, text in texts.items():
            scores[name].append(f1(text or "", wanted))
    return {"pages": len(scores["kept"])} | {name: _mean(found) for name, found in scores.items()}


def _mean(found: Iterable[float]) -> float:
    return round(statistics.mean(found), 4)
