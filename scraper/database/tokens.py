"""tokens: who may call beside the holder of the configuration's token. Only a digest of each is kept."""

import hashlib
import re
import secrets
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Connection, Row, delete, insert, or_, select, update

from scraper.database.models import tokens
from scraper.errors import BadConfig, Conflict, NotFound, Problem

Scope = Literal["read", "write", "admin"]
SCOPES: tuple[Scope, ...] = ("read", "write", "admin")  # each may what the one before it may
PREFIX = "bb_"
NAME = r"[A-Za-z0-9_][A-Za-z0-9_ .@-]{0,99}"  # it stands in an address, whole
RANDOM_BYTES = 32
DAYS_MOST = 36_500


def digest_of(token: str) -> str:
    """Return what is kept of a token. It is random and long, so one round of SHA-256 is enough."""
    return hashlib.sha256(token.encode()).hexdigest()


def make(
    connection: Connection, name: str, scope: Scope, at: datetime, expires_at: datetime | None
) -> tuple[dict[str, Any], str]:
    """Make a token. Returns its row, and the token itself, which nobody can be told again.

    Raises Conflict for a name in use, BadConfig for one that is none.
    """
    if not re.fullmatch(NAME, name):
        raise BadConfig([Problem("name", f"{name!r} is no name: letters, digits, _ . @ - and blanks, at most 100")])
    if connection.scalar(select(tokens.c.id).where(tokens.c.name == name)) is not None:
        raise Conflict(f"there is a token {name!r} already; revoke that one, or choose another name")
    token = PREFIX + secrets.token_urlsafe(RANDOM_BYTES)
    values = {"name": name, "digest": digest_of(token), "scope": scope, "created_at": at, "expires_at": expires_at}
    connection.execute(insert(tokens).values(**values))
    row = connection.execute(select(tokens).where(tokens.c.name == name)).one()
    return public(row), token


def find(connection: Connection, at: datetime, *, digest: str | None = None, token_id: int | None = None) -> Any:
    """Return the row of a token that is valid, by its digest or its number, or None."""
    valid = or_(tokens.c.expires_at.is_(None), tokens.c.expires_at > at)
    wanted = tokens.c.digest == digest if digest is not None else tokens.c.id == token_id
    return connection.execute(select(tokens).where(wanted, valid)).first()


def used(connection: Connection, token_id: int, at: datetime) -> None:
    """Note that a token was used."""
    connection.execute(update(tokens).where(tokens.c.id == token_id).values(used_at=at))


def listed(connection: Connection) -> list[dict[str, Any]]:
    """Return all tokens, without the tokens themselves."""
    return [public(row) for row in connection.execute(select(tokens).order_by(tokens.c.name))]


def revoke(connection: Connection, name: str) -> None:
    """Have a token be valid no more. Raises NotFound."""
    if not connection.execute(delete(tokens).where(tokens.c.name == name)).rowcount:
        raise NotFound(f"there is no token {name!r}; `bowerbird token list` names them")


def public(row: Row[Any]) -> dict[str, Any]:
    """Return a token as the API tells it."""
    return {name: getattr(row, name) for name in ("id", "name", "scope", "created_at", "expires_at", "used_at")}
