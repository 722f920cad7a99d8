"""robots.txt (RFC 9309): from what was answered to rules. Pure."""

from dataclasses import dataclass
from functools import lru_cache

from protego import Protego

MAX_BYTES = 500 * 1024  # RFC 9309 section 2.5: at least 500 KiB must be read
CACHE_S = 24 * 3600.0  # section 2.4
RETRY_S = 300.0  # how soon an unreachable one is asked for again
MAX_CRAWL_DELAY_S = 60.0


@dataclass(frozen=True, slots=True)
class Robots:
    """The answer of one origin to /robots.txt. status 0: it could not be reached."""

    status: int
    text: str


class Rules:
    """What one robots.txt lets us do."""

    def __init__(self, robots: Robots) -> None:
        # Section 2.3.1.3 and 2.3.1.4: 4xx allows all, 5xx and unreachable deny all; 429 asks us to wait.
        status = robots.status
        self.unreachable = status == 0 or status >= 500 or status == 429
        self._rules = Protego.parse(robots.text) if 200 <= status < 300 and robots.text.strip() else None
        self._delays: dict[str, float] = {}

    def allows(self, url: str, agent: str) -> bool:
        """Say whether the agent (a product token) may ask for a URL."""
        if self.unreachable:
            return False
        return self._rules is None or bool(self._rules.can_fetch(url, agent))

    def crawl_delay(self, agent: str) -> float:
        """Return the seconds that the site wants between two requests, at most a minute."""
        if self._rules is None:
            return 0.0
        if agent not in self._delays:
            self._delays[agent] = min(float(self._rules.crawl_delay(agent) or 0.0), MAX_CRAWL_DELAY_S)
        return self._delays[agent]


def decoded(body: bytes) -> str:
    """Return the text of a robots.txt: UTF-8, without byte order mark, at most 500 KiB."""
    return body[:MAX_BYTES].decode("utf-8-sig", "replace").replace("\x00", "")


@lru_cache(maxsize=64)
def agent_token(user_agent: str) -> str:
    """Return the product token of a User-Agent: what a robots.txt calls us (RFC 9309 section 2.2.1)."""
    return user_agent.strip().partition("/")[0].partition(" ")[0]
