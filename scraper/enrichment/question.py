"""The vector of a question: by the model whose vectors are searched, in a process of its own while there are questions."""

from collections.abc import Mapping
from pathlib import Path

from scraper.config.settings import Settings
from scraper.crawl.fetcher import Fetcher
from scraper.enrichment import embedder
from scraper.enrichment.model import NoRecord
from scraper.enrichment.work import remote_vectors
from scraper.errors import BowerbirdError, VisitFailed
from scraper.offload.callers import Callers, Died, Late, Raised

EMBED = "scraper.enrichment.embedder:embed_here"
PATIENCE_S = 30.0
CACHE_MOST = 512


class NoVector(BowerbirdError):
    """No vector can be made of a question now; the text says why."""


class Questions:
    """Makes vectors of questions. For one event loop."""

    def __init__(self, settings: Settings, base: Path, variables: Mapping[str, str]) -> None:
        """base: the directory of the configuration."""
        self._settings, self._base, self._variables = settings, base, variables
        self._fetcher = Fetcher()
        self._callers = Callers(settings.limits, base)
        self._kept: dict[str, bytes] = {}

    @property
    def model(self) -> str:
        """The model's name."""
        return embedder.name_of(self._settings.embed)

    async def vector(self, text: str) -> bytes:
        """Return the vector of a question. Raises NoVector."""
        if text in self._kept:
            return self._kept[text]
        await self._callers.prune()
        try:
            (made,) = await self._made(text)
        except (NoRecord, embedder.Lacking, Late, Died, VisitFailed) as error:
            raise NoVector(str(error)) from None
        except Raised as error:
            raise NoVector(error.said) from None
        while len(self._kept) >= CACHE_MOST:
            del self._kept[next(iter(self._kept))]
        self._kept[text] = made
        return made

    async def _made(self, text: str) -> list[bytes]:
        embed = self._settings.embed
        if embed.base_url:
            return await remote_vectors(self._fetcher, embed, self._settings.http, self._variables, [text])
        found: list[bytes] = await self._callers.call(EMBED, embed, str(self._base), [text], timeout_s=PATIENCE_S)
        return found

    async def close(self) -> None:
        """End what was started."""
        await self._callers.close()
        await self._fetcher.close()
