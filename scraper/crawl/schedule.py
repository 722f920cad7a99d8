"""When a source is due. Pure: the clock is an argument."""

from datetime import datetime, timedelta

from cronsim import CronSim, CronSimError


def next_due(every_s: float | None, cron: str | None, last: datetime | None, now: datetime) -> datetime | None:
    """Return when a source is due next, or None if only when asked.

    last: when its last run started; never, or later than now by a clock that was ahead: an interval is due now, a cron
    expression at its next match. A cron expression is read in the time zone of now. All instants are aware.
    """
    last = None if last is not None and last > now else last
    if every_s is not None:
        return now if last is None else last + timedelta(seconds=every_s)
    if cron is not None:
        after = now if last is None else last.astimezone(now.tzinfo)
        try:
            return next(CronSim(cron, after))
        except (CronSimError, StopIteration):
            return None
    return None


FASTER, SLOWER = 0.5, 1.5


def next_check(before_s: float | None, soonest_s: float, latest_s: float, *, changed: bool) -> float:
    """Return how often it is worth to look at a page from now on, in seconds.

    before_s: how often it was until now. One that changes is looked at sooner, one that does not later: so its own pace
    is found and followed (Cho and Garcia-Molina, "The evolution of the web and implications for an incremental crawler", 2000).
    """
    if before_s is None:
        return soonest_s
    return min(latest_s, max(soonest_s, before_s * (FASTER if changed else SLOWER)))


def cron_fault(cron: str, now: datetime) -> str | None:
    """Say what is wrong with a cron expression, or None."""
    try:
        next(CronSim(cron, now))
    except CronSimError as error:
        return f'{cron!r} is no cron expression: {error}; five fields, for example "*/15 * * * *"'
    except StopIteration:
        return f"{cron!r} never comes due"
    return None
