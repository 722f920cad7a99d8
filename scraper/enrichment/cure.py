"""What becomes of a job that ended without a record: a table from its trouble. Pure."""

from dataclasses import dataclass

from scraper.enrichment.model import Trouble

FIRST_WAIT_S = 2.0
WAIT_MOST_S = 300.0


@dataclass(frozen=True, slots=True)
class Cure:
    """again: it is tried again, as often as the task allows. free: a try does not count. away: nobody can do anything now."""

    again: bool = False
    free: bool = False
    away: bool = False


CURES: dict[Trouble, Cure] = {
    Trouble.TRANSPORT: Cure(again=True),
    Trouble.AWAY: Cure(again=True, free=True, away=True),
    Trouble.RATE: Cure(again=True, free=True),
    Trouble.TRUNCATED: Cure(),
    Trouble.INVALID: Cure(),
    Trouble.REFUSED: Cure(),
    Trouble.KEY: Cure(again=True, free=True, away=True),
    Trouble.BUDGET: Cure(again=True, free=True),
    Trouble.PROMPT: Cure(),
    Trouble.TIMEOUT: Cure(again=True),
    Trouble.FUNCTION: Cure(again=True),
    Trouble.UNREADABLE: Cure(again=True),  # who read it may have been killed from outside
    Trouble.SIGNAL: Cure(),
    Trouble.LACKING: Cure(again=True, free=True, away=True),
    Trouble.POISON: Cure(),
}


def wait_s(trouble: Trouble, attempts: int, most: int, asked_s: float | None, jitter: float) -> float | None:
    """Return in how many seconds a job is tried again, or None if it has failed.

    attempts: how often it was tried, this time too. most: how often it may be. asked_s: what the endpoint asks for.
    jitter: a random number from 0 to 1.
    """
    cure = CURES[trouble]
    if not cure.again or (not cure.free and attempts >= most):
        return None
    wait: float = min(FIRST_WAIT_S * 2 ** min(max(attempts - 1, 0), 20), WAIT_MOST_S) * (0.5 + jitter)
    return max(asked_s or 0.0, wait)
