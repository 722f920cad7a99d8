"""Who calls: bearer tokens, the login cookie, and how often somebody guessed wrong."""

import hashlib
import hmac
import time
from dataclasses import dataclass
from functools import partial
from typing import Any

from anyio import to_thread

from scraper.database import Connection, Db, tokens
from scraper.database.connection import now
from scraper.database.tokens import SCOPES, Scope
from scraper.errors import BowerbirdError

COOKIE = "bowerbird"
SESSION_S = 30 * 86400
FRESH_S = 2.0  # a token that is revoked works no longer than that
STALE_S = 3600.0  # while the database is away, who was let in before still is
USED_EACH_S = 60.0
REMEMBERED = 1000
WRONG_MOST, WRONG_S = 20, 60.0
SERVER = "server"  # the holder of the configuration's token


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who may call. key: the number of the token, or SERVER."""

    name: str
    scope: Scope
    key: str
    by_cookie: bool = False

    def may(self, scope: Scope) -> bool:
        """Say whether that is within what this caller may."""
        return SCOPES.index(self.scope) >= SCOPES.index(scope)


ANYBODY = Caller("anybody on this machine", "admin", SERVER)


class Keys:
    """The keys of one service. All on the event loop; the database is asked in a thread."""

    def __init__(self, db: Db, server_token: str) -> None:
        self._db = db
        self._token = server_token
        self._signing = hashlib.sha256(b"bowerbird session\0" + server_token.encode()).digest()
        self._known: dict[str, tuple[float, Any]] = {}
        self._wrong: dict[str, tuple[float, set[str]]] = {}

    @property
    def needed(self) -> bool:
        """Whether callers have to show who they are."""
        return bool(self._token)

    async def of_token(self, token: str) -> Caller | None:
        """Return who has a token, or None. Raises Unavailable, Unusable."""
        if hmac.compare_digest(token.encode(), self._token.encode()):
            return Caller("the configuration's token", "admin", SERVER)
        if not token.startswith(tokens.PREFIX):
            return None
        return await self._found(digest=tokens.digest_of(token))

    async def of_cookie(self, cookie: str) -> Caller | None:
        """Return whose session a cookie is, or None. Raises Unavailable, Unusable."""
        key, _, rest = cookie.partition(".")
        until, _, mac = rest.partition(".")
        if not hmac.compare_digest(mac.encode(), self._mac(key, until).encode()) or not until.isdecimal():
            return None
        if int(until) < time.time():
            return None
        if key == SERVER:
            return Caller("the configuration's token", "admin", SERVER, by_cookie=True)
        return await self._found(token_id=int(key), by_cookie=True)

    async def holds(self, caller: Caller) -> bool:
        """Whether a caller who was let in still would be; while nobody can tell, he is."""
        if caller.key == SERVER:
            return True
        try:
            return await self._found(token_id=int(caller.key)) is not None
        except BowerbirdError:
            return True

    def session(self, caller: Caller) -> str:
        """Return the cookie for a caller, good for SESSION_S seconds; of no use when the configuration's token is another."""
        until = str(int(time.time()) + SESSION_S)
        return f"{caller.key}.{until}.{self._mac(caller.key, until)}"

    def _mac(self, key: str, until: str) -> str:
        return hmac.new(self._signing, f"{key}.{until}".encode(), hashlib.sha256).hexdigest()

    async def _found(self, *, by_cookie: bool = False, **which: Any) -> Caller | None:
        name = _named(which)
        at, row = self._known.get(name, (float("-inf"), None))
        age = time.monotonic() - at
        if age > FRESH_S:
            try:
                row = await to_thread.run_sync(partial(self._look, which))
            except BowerbirdError:
                if row is None or age > STALE_S:
                    raise
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            self._known[name] = time.monotonic(), row
        return Caller(row.name, row.scope, str(row.id), by_cookie) if row is not None else None

    def _look(self, which: dict[str, Any]) -> Any:
        at = now()
        row = self._db.read(lambda c: tokens.find(c, at, **which))
        if row is not None and (row.used_at is None or (at - row.used_at).total_seconds() > USED_EACH_S):
            self._note(row.id)
        return row

    def _note(self, token_id: int) -> None:
        def unit(c: Connection) -> None:
            tokens.used(c, token_id, now())

        try:
            self._db.write(unit)
        except BowerbirdError:  # a full disk keeps nobody out
            return

    def knows(self, token: str) -> bool:
        """Whether a token of the database was let in lately. It is too long to be guessed, so it never has to wait."""
        kept = self._known.get(_named({"digest": tokens.digest_of(token)}))
        return kept is not None and kept[1] is not None

    def guessed_wrong(self, client: str, key: str) -> None:
        """Note that somebody came with a key that is none. The same one once more is an old program, and no guess."""
        if len(self._wrong) >= REMEMBERED:
            self._wrong.clear()
        since, guesses = self._wrong.get(client, (time.monotonic(), set[str]()))
        if time.monotonic() - since > WRONG_S:
            since, guesses = time.monotonic(), set[str]()
        guesses.add(tokens.digest_of(key))
        self._wrong[client] = since, guesses

    def wait_s(self, client: str) -> int:
        """Return for how many seconds nobody listens to a client that guessed wrong too often; 0: he may try."""
        since, guesses = self._wrong.get(client, (0.0, set[str]()))
        left = WRONG_S - (time.monotonic() - since)
        return int(left) + 1 if len(guesses) >= WRONG_MOST and left > 0 else 0


def _named(which: dict[str, Any]) -> str:
    return str(which)
