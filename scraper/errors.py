"""The error tree, the names of failures and the exit codes.

An exception here is a failure of ours, or of the user's set-up. A failure of one URL is a value: ``Failure``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum


class BowerbirdError(Exception):
    """Something that a person can mend; its text is one line: place, fault, remedy."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault in the configuration: where it is, and what to do about it."""

    place: str
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


class BadConfig(BowerbirdError):
    """The configuration cannot be used. Carries every problem that was found, not only the first."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in problems))


class NotFound(BowerbirdError):
    """There is no row, source or file of that name."""


class Conflict(BowerbirdError):
    """The request contradicts what is there already."""


class Outdated(Conflict):
    """What the request is about was changed since the caller looked."""


class Unavailable(BowerbirdError):
    """The database cannot be used just now; it is worth trying again."""


class Unusable(BowerbirdError):
    """The database or the state directory cannot be used at all until a person mends it."""


class Failure(StrEnum):
    """Why a URL did not end as a stored page."""

    DNS = "dns"
    CONNECT = "connect"
    TLS = "tls"
    TIMEOUT = "timeout"
    PROTOCOL = "protocol"
    INCOMPLETE_BODY = "incomplete_body"
    HEADER_TOO_LARGE = "header_too_large"
    BODY_TOO_LARGE = "body_too_large"
    DECODED_TOO_LARGE = "decoded_too_large"
    DECODE = "decode"
    TOO_MANY_REDIRECTS = "too_many_redirects"
    BAD_REDIRECT = "bad_redirect"
    INVALID_URL = "invalid_url"
    BLOCKED_SCHEME = "blocked_scheme"
    BLOCKED_ADDRESS = "blocked_address"
    ROBOTS_DENIED = "robots_denied"
    ROBOTS_UNREACHABLE = "robots_unreachable"
    HTTP_4XX = "http_4xx"
    HTTP_5XX = "http_5xx"
    RATE_LIMITED = "rate_limited"
    NO_CONTENT = "no_content"
    CONTENT_TYPE = "content_type"
    NOINDEX = "noindex"
    PARSE_LIMIT = "parse_limit"
    CRAWL_LIMIT = "crawl_limit"
    EXTRACT = "extract"
    STORE = "store"
    POISON = "poison"
    CANCELLED = "cancelled"


class VisitFailed(Exception):
    """One URL failed. Raised inside a visit only, and turned into a value at its top."""

    def __init__(
        self, failure: Failure, message: str, *, retry_after_s: float | None = None, answered: bool = False
    ) -> None:
        """answered: the host had begun to answer, so it is not down."""
        super().__init__(message)
        self.answered = answered
        self.failure = failure
        self.message = message
        self.retry_after_s = retry_after_s
        self.wire_bytes = 0  # what came before it failed


class PutOff(VisitFailed):
    """One URL cannot be visited just now, and that is no fault of it: it is tried again, as if it had not been tried."""

    def __init__(self, failure: Failure, message: str, wait_s: float) -> None:
        """wait_s: seconds until it is worth another try."""
        super().__init__(failure, message, answered=True)
        self.wait_s = wait_s


class Exit(IntEnum):
    """How our processes end. 70, 75 and 78 are those of sysexits.h."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NOT_RUNNING = 3
    PARENT_LOST = 70
    RECYCLE = 75
    BAD_CONFIG = 78
