"""robots.txt (RFC 9309): from what was answered to rules. Pure."""

import contextlib
import math
import re
from dataclasses import dataclass
from functools import lru_cache

from protego import Protego

MAX_BYTES = 500 * 1024  # RFC 9309 section 2.5: at least 500 KiB must be read
CACHE_S = 24 * 3600.0  # section 2.4
RETRY_S = (2.0, 5.0, 300.0)  # how soon an unreachable one is asked for again: it may have been for a moment
MAX_CRAWL_DELAY_S = 24 * 3600.0
MAX_RULES = 50_000  # what 500 KiB can hold
MAX_PATTERNS = 5000  # those with a star, each of which takes far longer to compare
RULES = ("allow", "disallow", "crawl-delay", "request-rate")
# How people write it, and are understood by the robots of search engines.
MEANT = dict.fromkeys(("dissallow", "dissalow", "disalow", "diasllow", "disallaw"), "disallow") | {
    "crawl delay": "crawl-delay",
    "crawldelay": "crawl-delay",
    "useragent": "user-agent",
    "user agent": "user-agent",
}
_TOKEN = re.compile(r"[^\s/*,;()]+")
_NO_COLON = re.compile(
    rf"\s*({'|'.join(sorted((*RULES, 'user-agent', *MEANT), key=len, reverse=True))})[ \t]+(\S.*)", re.IGNORECASE
)


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
        self._text = robots.text if 200 <= status < 300 else ""
        self._parsed: dict[str, tuple[Protego | None, float]] = {}

    def _for(self, agent: str) -> tuple[Protego | None, float]:
        if agent not in self._parsed:
            rules = group_for(self._text, agent)
            parsed = Protego.parse("User-agent: *\n" + "\n".join(rules)) if rules else None
            self._parsed[agent] = parsed, min(_delay_s(rules, parsed), MAX_CRAWL_DELAY_S) if parsed else 0.0
        return self._parsed[agent]

    def allows(self, url: str, agent: str) -> bool:
        """Say whether the agent (a product token) may ask for a URL."""
        if self.unreachable:
            return False
        parsed, _ = self._for(agent)
        return parsed is None or bool(parsed.can_fetch(url, "*"))

    def crawl_delay(self, agent: str) -> float:
        """Return the seconds that the site wants between two requests, at most a day."""
        return 0.0 if self.unreachable else self._for(agent)[1]


def group_for(text: str, agent: str, names: tuple[str, ...] = RULES) -> list[str]:
    """Return the rules that are for an agent: those of all groups that name it, or else of those for everybody.

    names: of the lines that are meant.

    Section 2.2.1: the whole token, in any case. Only these are parsed: files of many groups and rules would otherwise
    cost their product.
    """
    groups: dict[str, list[str]] = {agent.lower(): [], "*": []}
    stars = dict.fromkeys(groups, 0)
    named: set[str] = set()
    seen: set[str] = set()
    in_rules = False
    for line in text.splitlines():
        name, value = _said(line.partition("#")[0])
        if name == "user-agent":
            if in_rules:
                named, in_rules = set(), False
            if (token := _token(value)) in groups:  # of others there may be as many as there are lines
                named.add(token)
                seen.add(token)
        elif name in RULES or name in names:
            in_rules = in_rules or name in RULES
            for group in named if name in names else ():
                stars[group] += "*" in value
                meant = value if stars[group] <= MAX_PATTERNS else _without_star(name, value)
                if meant is not None and len(groups[group]) < MAX_RULES:
                    groups[group].append(f"{name}: {meant}")
    return groups[agent.lower() if agent.lower() in seen else "*"]


def _token(value: str) -> str:
    """Whom a line means: the name that it begins with (RFC 9309 section 2.2.1), whatever version or remark follows; or everybody."""
    if value[:1] == "*" and not value[1:2].strip():
        return "*"
    found = _TOKEN.match(value)
    return found[0].lower() if found else ""


def _said(line: str) -> tuple[str, str]:
    """The name and the value of a line; the colon between them may be missing."""
    name, colon, value = line.partition(":")
    name = " ".join(name.lower().split())
    if not colon or " " in name and name not in MEANT:
        found = _NO_COLON.match(line)
        if found is None:
            return (name if colon else ""), value.strip()
        name, value = " ".join(found[1].lower().split()), found[2]
    return MEANT.get(name, name), value.strip()


def _delay_s(rules: list[str], parsed: Protego) -> float:
    """The seconds between two requests that rules want, by the longest Crawl-delay or their Request-rate."""
    rate = parsed.request_rate("*")
    wanted = [rate.seconds / rate.requests if rate is not None and rate.requests else 0.0]
    for rule in rules:
        if rule.startswith("crawl-delay:"):
            with contextlib.suppress(ValueError):
                wanted.append(float(rule.partition(":")[2]))
    return max(seconds for seconds in wanted if math.isfinite(seconds))


def _without_star(name: str, value: str) -> str | None:
    """A rule with no star: it denies more than it says, never less. None: one that allows is left out."""
    start, star, _ = value.partition("*")
    if not star:
        return value
    return start or "/" if name == "disallow" else None


def signals(text: str, agent: str) -> dict[str, bool]:
    """Return what a robots.txt says may be made of what is read: search, ai-input, ai-train (https://contentsignals.org/).

    What it does not say is not in there. Of several words on one matter, a no counts.
    """
    found: dict[str, bool] = {}
    for line in group_for(text, agent, ("content-signal",)):
        for part in line.partition(":")[2].split(","):
            name, equals, value = part.strip().lower().partition("=")
            words = name.split()
            if equals and words and value.strip() in ("yes", "no"):
                found[words[-1]] = found.get(words[-1], True) and value.strip() == "yes"
    return found


def decoded(body: bytes) -> str:
    """Return the text of a robots.txt: UTF-8, without byte order mark, at most 500 KiB."""
    if len(body) > MAX_BYTES:  # half a line would be another rule
        body = body[:MAX_BYTES]
        body = body[: max(body.rfind(b"\n"), body.rfind(b"\r")) + 1]
    return body.decode("utf-8-sig", "replace").replace("\x00", "")


@lru_cache(maxsize=64)
def agent_token(user_agent: str) -> str:
    """Return the product token of a User-Agent: what a robots.txt calls us (RFC 9309 section 2.2.1)."""
    return user_agent.strip().partition("/")[0].partition(" ")[0]
