"""Time zones: by their names, and that of this machine."""

from datetime import datetime, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import tzlocal


def zone_of(name: str) -> tzinfo:
    """Return a time zone by its IANA name; without one that of this machine, with its changes between summer and winter.

    `astimezone()` alone gives the offset of that moment, which is another one after the next change.
    """
    if name:
        return ZoneInfo(name)
    try:
        return tzlocal.get_localzone()
    except (ZoneInfoNotFoundError, ValueError, OSError):  # a TZ that has no name of its own
        here = datetime.now().astimezone().tzinfo
        assert here is not None
        return here


def local(at: datetime, zone: str = "") -> datetime:
    """Return an instant by the clock on the wall of a time zone; here, if none is named."""
    return at.astimezone(zone_of(zone))
