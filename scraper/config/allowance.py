"""How much of a source may be visited now: its page limit, its hours, its daily budgets. Pure: the clock is an argument."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, time, timedelta

from scraper.config.settings import Source
from scraper.config.zones import zone_of
from scraper.records import RunCount


def hours(window: str) -> tuple[time, time]:
    """Return the ends of a window such as "22:00-06:00". Raises ValueError."""
    begin, _, end = window.partition("-")
    return _moment(begin), _moment(end)


def _moment(text: str) -> time:
    hour, colon, minute = text.strip().partition(":")
    if not colon or not (hour.isdigit() and minute.isdigit() and len(minute) == 2):
        raise ValueError(text)
    return time(0) if (hour, minute) == ("24", "00") else time(int(hour), int(minute))


def opens_at(source: Source, at: datetime) -> datetime | None:
    """Return when the source may be visited next, or None if it may be now."""
    if not source.window:
        return None
    local = at.astimezone(zone_of(source.zone))
    clock = local.time().replace(tzinfo=None)
    begins: list[datetime] = []
    for begin, end in map(hours, source.window):
        if begin == end or (begin <= clock < end if begin < end else clock >= begin or clock < end):
            return None
        for day in (local.date(), local.date() + timedelta(days=1)):
            begins += _instants(datetime.combine(day, begin, local.tzinfo))
    return min((moment for moment in begins if moment > at), default=None)


def quiet_until(windows: Sequence[str], zone: str, at: datetime) -> datetime | None:
    """Return when the quiet hours end in which an instant lies, or None if it lies in none."""
    until = at
    for _ in range(len(windows) + 1):  # one may end in another
        local = until.astimezone(zone_of(zone))
        clock = local.time().replace(tzinfo=None)
        ends = [
            end
            for begin, end in map(hours, windows)
            if (begin <= clock < end if begin < end else clock >= begin or clock < end)
        ]
        if not ends:
            break
        days = (local.date(), local.date() + timedelta(days=1))
        found = [
            moment for end in ends for day in days for moment in _instants(datetime.combine(day, end, local.tzinfo))
        ]
        until = min((moment for moment in found if moment > until), default=until)
    return until if until > at else None


def _instants(local: datetime) -> list[datetime]:
    """When a clock shows a time: once; twice when it is put back; when it is put forward over it, at the end of the gap."""
    early, late = (local.replace(fold=fold).astimezone(UTC) for fold in (0, 1))
    if early <= late:
        return [early, late]
    before = late.astimezone(local.tzinfo).utcoffset()
    while late.astimezone(local.tzinfo).utcoffset() == before and late < early:
        late += timedelta(minutes=1)
    return [late]


def midnight(at: datetime) -> datetime:
    """Return when the day of an instant ends, in UTC."""
    return datetime.combine(at.astimezone(UTC).date() + timedelta(days=1), time(0), UTC)


def spent(source: Source, used: tuple[int, int]) -> str | None:
    """Say which daily budget is used up, or None. used: pages and bytes of this day (UTC)."""
    if source.pages_per_day and used[0] >= source.pages_per_day:
        return f"pages_per_day = {source.pages_per_day} is used up; it goes on at midnight UTC"
    if _is_full(source, used):
        return f"bytes_per_day = {source.bytes_per_day} is used up; it goes on at midnight UTC"
    return None


def full(sources: Mapping[str, Source], used: Mapping[str, tuple[int, int]]) -> frozenset[str]:
    """Return the sources whose bytes of the day are used up. used: pages and bytes of each on this day (UTC)."""
    return frozenset(name for name, today in used.items() if name in sources and _is_full(sources[name], today))


def _is_full(source: Source, used: tuple[int, int]) -> bool:
    return 0 < source.bytes_per_day <= used[1]


def budgets(
    counts: Iterable[RunCount],
    sources: Mapping[str, Source],
    claimed: Mapping[int, int],
    used: Mapping[str, tuple[int, int]],
    at: datetime,
) -> dict[int, int]:
    """Return how many more pages each run may visit now, nothing for runs of sources that are not ours.

    claimed: pages of each run that are being visited. used: pages and bytes of each source on this day.
    """
    found: dict[int, int] = {}
    for run in counts:
        source = sources.get(run.source)
        if source is None:
            continue
        under_way = claimed.get(run.id, 0)
        left = run.max_pages - run.pages - under_way
        today = used.get(run.source, (0, 0))
        if opens_at(source, at) is not None or spent(source, today) is not None:
            left = 0
        elif source.pages_per_day:
            left = min(left, source.pages_per_day - today[0] - under_way)
        found[run.id] = max(0, left)
    return found
