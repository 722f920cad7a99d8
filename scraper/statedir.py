"""The state directory: the owner's kernel lock, status.json, the operator's wish."""

import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from scraper.errors import Unusable
from scraper.kernel import FileLock

Verb = Literal["start", "stop", "restart", "pause", "resume"]


@dataclass(frozen=True, slots=True)
class Wish:
    """What the operator wants. restart counts how often a restart was asked for."""

    running: bool = True
    paused: bool = False
    restart: int = 0

    def after(self, verb: Verb) -> "Wish":
        """Return the wish after a verb; the same one if it is so already."""
        if verb == "restart":
            return replace(self, running=True, restart=self.restart + 1)
        if verb in ("start", "stop"):
            return replace(self, running=verb == "start")
        return replace(self, paused=verb == "pause")


def path_of(configured: str, base: Path) -> Path:
    """Return where the state directory is: as configured, else $STATE_DIRECTORY, else .bowerbird beside the config."""
    given = configured or os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    return (base / Path(given).expanduser()).absolute() if given else base.absolute() / ".bowerbird"


class StateDir:
    """The files that API workers and the owner of the scraper share. Every write replaces a file whole."""

    def __init__(self, path: Path, database: Path | None) -> None:
        """database: the SQLite file, which one service at a time may scrape into; None for another database.

        Raises Unusable if the directory cannot be made or written.
        """
        self.path = path
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
        locks = [path / "owner.lock"]
        if database is not None:
            locks.append(database.with_name(database.name + "-owner"))
        self._locks = [FileLock(lock) for lock in locks]

    def own(self) -> bool:
        """Try to become the owner of the scraper; true too if we are. Raises OSError."""
        note = json.dumps({"pid": os.getpid(), "state_dir": str(self.path)})
        for lock in self._locks:
            if not lock.acquire(note):
                self.disown()
                return False
        return True

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
        """Return what the operator wants."""
        kept = self._read(self.path / "wish.json")
        try:
            return Wish(**kept) if kept else Wish()
        except TypeError:
            return Wish()

    def wish_for(self, verb: Verb) -> bool:
        """Keep a wish; it survives restarts. Returns whether it changes anything. Raises Unusable."""
        now = self.wish()
        wish = now.after(verb)
        if wish == now:
            return False
        try:
            self._replace("wish.json", asdict(wish))
        except OSError as error:
            raise Unusable(f"{self.path}: the wish cannot be kept: {error.strerror}") from None
        return True

    def _replace(self, name: str, content: dict[str, Any]) -> None:
        draft = self.path / f".{name}.{os.getpid()}"
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
