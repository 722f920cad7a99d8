"""Words for quantities: "10 MiB", "1h", "90s". Pure."""

import re

_DURATIONS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_SIZES = {
    "": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
    "k": 2**10, "m": 2**20, "g": 2**30, "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40,
}  # fmt: skip


def duration(value: object) -> float:
    """Return seconds from a number of seconds or words such as "90s", "1h 30m". Raises ValueError."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
    else:
        text = str(value).strip().lower()
        parts = re.findall(r"([0-9]+(?:\.[0-9]+)?)\s*([a-z]+)", text)
        left = re.sub(r"[0-9]+(?:\.[0-9]+)?\s*[a-z]+\s*", "", text)
        if not isinstance(value, str) or not parts or left or any(unit not in _DURATIONS for _, unit in parts):
            raise ValueError(f'{value!r} is no duration; write for example "30s", "15m", "1h 30m" or "7d"')
        seconds = sum(float(number) * _DURATIONS[unit] for number, unit in parts)
    if not 0 <= seconds < 9e9:  # a little more is too much for the waits of the system
        raise ValueError(f"{value!r} is out of range; a duration is between 0 and 280 years")
    return seconds


def size(value: object) -> int:
    """Return bytes from a number of bytes or words such as "10 MiB". Raises ValueError."""
    if isinstance(value, int) and not isinstance(value, bool):
        number = float(value)
    else:
        match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([a-z]*)\s*", str(value).lower())
        if not isinstance(value, str) or match is None or match[2] not in _SIZES:
            raise ValueError(f'{value!r} is no size; write for example "500 KiB", "10 MiB" or "1 GiB"')
        number = float(match[1]) * _SIZES[match[2]]
    if not 0 <= number < 2**60:
        raise ValueError(f"{value!r} is out of range for a size")
    return int(number)
