"""What becomes of a URL after a failure: one table. Pure."""

from enum import StrEnum

from scraper.errors import Failure
from scraper.value import value

RETRY_BASE_S = 1.0
RETRY_MAX_S = 300.0
RETRY_AFTER_MAX_S = 24 * 3600.0  # then it is asked again, whatever it said
MISTAKEN_S = 366 * RETRY_AFTER_MAX_S  # no host means to be left alone until the year 9999


class Cure(StrEnum):
    """What to do about a failure."""

    RETRY = "retry"  # it may pass: try again, later and later
    WAIT = "wait"  # the host asks us to wait: the whole host pauses
    GIVE_UP = "give up"  # trying again in this run would change nothing


OUTCOMES: dict[Failure, Cure] = {
    Failure.DNS: Cure.RETRY,
    Failure.CONNECT: Cure.RETRY,
    Failure.TLS: Cure.GIVE_UP,
    Failure.TIMEOUT: Cure.RETRY,
    Failure.PROTOCOL: Cure.RETRY,
    Failure.INCOMPLETE_BODY: Cure.RETRY,
    Failure.HEADER_TOO_LARGE: Cure.GIVE_UP,
    Failure.BODY_TOO_LARGE: Cure.GIVE_UP,
    Failure.DECODED_TOO_LARGE: Cure.GIVE_UP,
    Failure.DECODE: Cure.GIVE_UP,
    Failure.TOO_MANY_REDIRECTS: Cure.GIVE_UP,
    Failure.BAD_REDIRECT: Cure.GIVE_UP,
    Failure.INVALID_URL: Cure.GIVE_UP,
    Failure.BLOCKED_SCHEME: Cure.GIVE_UP,
    Failure.BLOCKED_ADDRESS: Cure.GIVE_UP,
    Failure.ROBOTS_DENIED: Cure.GIVE_UP,
    Failure.ROBOTS_UNREACHABLE: Cure.RETRY,
    Failure.HTTP_4XX: Cure.GIVE_UP,
    Failure.HTTP_5XX: Cure.RETRY,
    Failure.RATE_LIMITED: Cure.WAIT,
    Failure.NO_CONTENT: Cure.GIVE_UP,
    Failure.CONTENT_TYPE: Cure.GIVE_UP,
    Failure.NOINDEX: Cure.GIVE_UP,
    Failure.PARSE_LIMIT: Cure.GIVE_UP,
    Failure.CRAWL_LIMIT: Cure.GIVE_UP,
    Failure.EXTRACT: Cure.GIVE_UP,
    Failure.STORE: Cure.RETRY,
    Failure.POISON: Cure.GIVE_UP,
    Failure.CANCELLED: Cure.RETRY,
}


@value
class Verdict:
    """Whether a URL is tried again, after how many seconds, and for how long its host is left alone."""

    retry_in_s: float | None
    host_pause_s: float = 0.0


def obeyed_s(retry_after_s: float | None) -> float | None:
    """Return for how many seconds a host that asked for so many is left alone, None for what must be a mistake."""
    if retry_after_s is None or retry_after_s > MISTAKEN_S:
        return None
    return min(retry_after_s, RETRY_AFTER_MAX_S)


def verdict(failure: Failure, attempts: int, retries: int, retry_after_s: float | None, jitter: float) -> Verdict:
    """Say what becomes of a URL that failed.

    attempts: how often it was tried, this time included; retries: how often it may be tried again.
    retry_after_s: what the host asked for (RFC 9110 section 10.2.3). jitter: a random number from 0 to 1; the wait
    doubles with each attempt and is spread over its upper half.
    """
    cure = OUTCOMES[failure]
    asked = obeyed_s(retry_after_s)
    backoff = min(RETRY_BASE_S * 2 ** min(attempts, 20), RETRY_MAX_S) * (0.5 + 0.5 * jitter)
    wait = max(asked or 0.0, backoff if asked is None or cure is Cure.RETRY else 0.0)
    pause = wait if cure is Cure.WAIT else asked or 0.0
    if cure is Cure.GIVE_UP or attempts > retries:
        return Verdict(None, pause)
    return Verdict(wait, pause)
