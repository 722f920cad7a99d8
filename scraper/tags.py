"""Tags that are longer than any should be. Pure."""

LONG = 8192
_BLOCK = LONG // 2


def may_be_long(body: bytes) -> bool:
    """Say whether a tag of LONG bytes may be in a body. So many bytes without a ">" hold a whole block without one."""
    return any(body.find(b">", start, start + _BLOCK) < 0 for start in range(0, len(body) - _BLOCK + 1, _BLOCK))
