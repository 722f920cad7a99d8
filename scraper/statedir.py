"""The state directory: the owner's kernel lock, status.json, the operator's wish."""

import hashlib
import json
import logging
import os
import secrets
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from scraper.errors import Unusable
from scraper.kernel import FileLock

Verb = Literal["start", "stop", "restart", "pause", "resume"]
log = logging.getLogger(__name__)

WISH_S = 2.0
_wishing = threading.Lock()


@dataclass(frozen=True, slots=True)
class Wish:
    """What the operator wants. restart and retry count how often that was asked for."""

    running: bool = True
    paused: bool = False
    restart: int = 0
    retry: int = 0

    def after(self, verb: Verb, *, down: bool) -> "Wish":
        """Return the wish after a verb; the same one if it is so already. down: it is wanted, and does not run."""
        if verb == "restart":
            return replace(self, running=True, restart=self.restart + 1)
        if verb == "start" and self.running and down:
            return replace(self, retry=self.retry + 1)
        if verb in ("start", "stop"):
            return replace(self, running=verb == "start")
        return replace(self, paused=verb == "pause")


def path_of(configured: str, base: Path) -> Path:
    """Return where the state directory is: as configured, else $STATE_DIRECTORY, else .bowerbird beside the config."""
    given = configured or os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    return (base / Path(given).expanduser()).absolute() if given else base.absolute() / ".bowerbird"


def _locks(path: Path, database: Path | None) -> list[FileLock]:
    locks = [path / "owner.lock"]
    if database is not None:
        real = Path(os.path.realpath(database))
        locks.append(real.with_name(real.name + "-owner"))
    return [FileLock(lock) for lock in locks]


def is_owned(path: Path, database: Path | None) -> bool:
    """Say whether a process is the owner of a state directory, or of a SQLite file; nothing is made for that."""
    return any(lock.taken() for lock in _locks(path, database))


class StateDir:
    """The files that API workers and the owner of the scraper share. Every write replaces a file whole."""

    def __init__(self, path: Path, database: Path | None) -> None:
        """database: the SQLite file, which one service at a time may scrape into; None for another database.

        Raises Unusable if the directory cannot be made or written.
        """
        self.path = path
        self._identity: str | None = None
        self._wished = Wish()
        self._unkept: Wish | None = None
        try:
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
            probe = path / f".probe-{os.getpid()}"
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise Unusable(
                f"{path}: the state directory cannot be written: {error.strerror}; "
                "make it writable, or name another one in [service] state_dir"
            ) from None
        self._locks = _locks(path, database)

    def identity(self) -> str:
        """Return what tells this state directory from all others, of other machines and copies too: part of it is kept in it.

        Where it cannot be, it is another one after the next start.
        """
        if self._identity is None:
            made = self._kept_mark() or secrets.token_hex(8)
            place = f"{made} {os.path.realpath(self.path)}"
            self._identity = hashlib.blake2b(place.encode("utf-8", "surrogateescape"), digest_size=4).hexdigest()
        return self._identity

    def _kept_mark(self) -> str | None:
        kept, draft = self.path / "identity", self.path / f".identity.json.{secrets.token_hex(4)}"
        with suppress(OSError, ValueError):
            if found := kept.read_text().strip():
                return found
        with suppress(OSError, ValueError):
            draft.write_text(secrets.token_hex(8))
            if kept.exists():  # of no use: nothing is in it
                kept.unlink()
            with suppress(FileExistsError):
                os.link(draft, kept)
            draft.unlink()
            return kept.read_text().strip() or None
        return None

    def own(self) -> bool:
        """Try to become the owner of the scraper; true too if we are. Raises OSError."""
        try:
            mine = all(lock.acquire(self._note()) for lock in self._locks)
        except OSError:
            self.disown()
            raise
        if not mine:
            self.disown()
        return mine

    @property
    def owns(self) -> bool:
        """Whether we are the owner."""
        return all(lock.held for lock in self._locks)

    def keep(self) -> bool:
        """Make the directory and the locks anew if somebody took them away.

        Returns whether we are the owner still: a lock file that is made anew may be taken first by another. Raises OSError.
        """
        for lock in self._locks:
            if lock.lost():
                lock.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                if not lock.renew(self._note()):
                    return False
        return True

    def sweep(self) -> None:
        """Remove what writers left that were killed."""
        for draft in self.path.glob(".*.json.*"):
            with suppress(OSError):
                draft.unlink()

    def _note(self) -> str:
        return json.dumps({"pid": os.getpid(), "state_dir": str(self.path)})

    def disown(self) -> None:
        """Stop being the owner."""
        for lock in self._locks:
            lock.release()

    def owner(self) -> dict[str, Any]:
        """Return what the owner wrote into the lock: its pid and its state directory."""
        for lock in reversed(self._locks):
            try:
                note = json.loads(lock.note())
            except ValueError:
                continue
            if isinstance(note, dict):
                return note
        return {}

    def publish(self, status: dict[str, Any]) -> None:
        """Replace status.json. Raises OSError."""
        self._replace("status.json", status)

    def published(self, path: Path | None = None) -> dict[str, Any] | None:
        """Return status.json, of another state directory if one is named, or None if there is none."""
        return self._read((path or self.path) / "status.json")

    def wish(self) -> Wish:
        """Return what the operator wants; what was wanted last if that cannot be read just now."""
        if self._unkept is not None:
            with suppress(OSError):
                self._replace("wish.json", asdict(self._unkept))
                self._unkept = None
            return self._wished
        kept = _wish(self._read(self.path / "wish.json"))
        if kept is None and self.owns and self._wished != Wish():  # somebody took it away
            self._unkept = self._wished
        self._wished = kept or self._wished
        return self._wished

    def remember(self, told: dict[str, Any]) -> None:
        """Take what the owner says is wished, for the day when the file is not there."""
        self._wished = _wish(told) or self._wished

    def wish_for(self, verb: Verb, *, down: bool) -> tuple[bool, Wish]:
        """Keep a wish; it survives restarts. down: it is wanted, and does not run.

        The owner keeps it in memory where the disk takes nothing, until it does. Returns whether it changes anything, and
        the wish that holds now. Raises Unusable.
        """
        lock = FileLock(self.path / "wish.lock")
        try:
            with _wishing:
                self._await(lock)
                now = self.wish()
                wish = now.after(verb, down=down)
                if wish != now:
                    self._keep_wish(wish)
                return wish != now, wish
        except OSError as error:
            raise Unusable(
                f"{self.path}: the wish cannot be kept: {error.strerror}; make the directory writable"
            ) from None
        finally:
            lock.release()

    def _await(self, lock: FileLock) -> None:
        """Wait until no other process keeps a wish; the owner does not need a lock that cannot be had. Raises OSError."""
        deadline = time.monotonic() + WISH_S
        try:
            while not lock.acquire(str(os.getpid())) and time.monotonic() < deadline:
                time.sleep(0.005)
        except OSError:
            if not self.owns:
                raise

    def _keep_wish(self, wish: Wish) -> None:
        try:
            self._replace("wish.json", asdict(wish))
            self._unkept = None
        except OSError:
            if not self.owns:
                raise
            log.warning(
                "what was asked for holds in memory only, until the state directory takes it",
                extra={"path": str(self.path)},
            )
            self._unkept = wish
        self._wished = wish

    def _replace(self, name: str, content: dict[str, Any]) -> None:
        draft = self.path / f".{name}.{os.getpid()}.{secrets.token_hex(4)}"
        try:
            draft.write_text(json.dumps(content, default=str))
            draft.replace(self.path / name)
        except OSError:
            draft.unlink(missing_ok=True)
            raise

    @staticmethod
    def _read(path: Path) -> dict[str, Any] | None:
        try:
            kept = json.loads(path.read_text())
        except (OSError, ValueError):
            return None
        return kept if isinstance(kept, dict) else None


def _wish(kept: dict[str, Any] | None) -> Wish | None:
    """Return a wish that was kept, None for anything else."""
    if kept is None or set(kept) - set(asdict(Wish())):
        return None
    wish = Wish(**kept)
    flags = isinstance(wish.running, bool) and isinstance(wish.paused, bool)
    return wish if flags and isinstance(wish.restart, int) and isinstance(wish.retry, int) else None
