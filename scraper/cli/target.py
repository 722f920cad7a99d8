"""Where an export goes: standard output, the end of a file, or a file that is replaced once all is there."""

import contextlib
import csv
import gzip
import io
import os
import signal
import stat
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

import typer

from scraper.config.units import duration
from scraper.database.connection import now
from scraper.errors import BowerbirdError
from scraper.export import FORMATS, Format, Style, Unfit

LINE_MOST = 2**20


def moment(said: str) -> datetime:
    """Return the time that was meant: an ISO 8601 date or time (UTC, if it names no zone), or how long ago."""
    try:
        at = datetime.fromisoformat(said)
        return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        pass
    try:
        return now() - timedelta(seconds=duration(said))
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            f"{said!r} is no time; write for example 2026-01-31, 2026-01-31T10:00Z or 7d"
        ) from None


@dataclass(frozen=True, slots=True)
class Target:
    """A place for an export, and the format that it is to have there. path: None for standard output."""

    path: Path | None
    form: Format
    append: bool
    gz: bool

    @classmethod
    def of(cls, path: Path | None, form: Format | None, *, append: bool, gz: bool) -> "Target":
        """Return the place, its format by the ending of the file unless it is said. Raises Unfit."""
        if path is None or str(path) == "-":
            return cls(None, form or Format.JSONL, append=False, gz=gz)._checked()
        name = path.name.lower()
        inner = name.removesuffix(".gz")
        if form is None:
            form = next((form for form, spec in FORMATS.items() if inner.endswith(spec.endings)), None)
        if form is None:
            raise Unfit(f"{path}: its ending tells no format; name one with --format: {', '.join(FORMATS)}")
        return cls(path, form, append=append, gz=gz or name.endswith(".gz"))._checked()

    def _checked(self) -> "Target":
        spec = FORMATS[self.form]
        if self.path is None and (spec.binary or self.gz) and sys.stdout.isatty():
            raise Unfit(f"{self.form} is nothing for a terminal; name a file with -O")
        if self.append and not spec.grows and _size(self.path):
            raise Unfit(f"{self.path}: is there already, and {self.form} cannot be appended to; -O writes it anew")
        if self.append and self.path is not None and _size(self.path) and _is_gz(self.path) is not self.gz:
            how = "is not compressed, and what is appended would be" if self.gz else "is compressed: append with --gz"
            raise Unfit(f"{self.path}: {how}; -O writes it anew")
        return self

    def style(self, *, guard: bool, bom: bool) -> Style:
        """Return how it is to be written there. Raises Unfit, BowerbirdError."""
        style = Style(gz=self.gz, guard=guard, bom=bom)
        if self.path is None or self.form is not Format.CSV or not self.append or not _size(self.path):
            return style
        return replace(style, columns=_header(self.path, gz=self.gz))

    def fill(self, pieces: Iterable[bytes]) -> None:
        """Write it. What was there before stays if that fails. Raises BowerbirdError."""
        if self.path is None:
            _print(pieces)
            return
        try:
            with _ended_by(signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
                if self.append or not _is_plain(self.path):
                    self._lengthen(self.path, pieces)
                else:
                    _replace(self.path.resolve(), pieces)
        except Unfit as error:
            raise Unfit(f"{self.path}: {error}") from None
        except OSError as error:
            raise BowerbirdError(f"{self.path}: cannot be written: {error.strerror or error}") from None

    def _lengthen(self, path: Path, pieces: Iterable[bytes]) -> None:
        there = path.exists()
        with path.open("ab") as file:
            before = file.tell() if _is_plain(path) else None
            try:
                if before and not self.gz:
                    file.write(_line_end(path, self.form))
                file.writelines(pieces)
                file.flush()
            except BaseException:
                if before is not None:
                    _shorten(file, before)
                    if not there:
                        path.unlink()
                raise


@contextlib.contextmanager
def _ended_by(*signals: signal.Signals) -> Iterator[None]:
    """Have signals end the command as Ctrl-C does: not before what was begun is taken back. What is ignored (nohup) stays so."""

    def end(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    heard = [each for each in dict.fromkeys(signals) if signal.getsignal(each) is not signal.SIG_IGN]
    before = [(each, signal.signal(each, end)) for each in heard]
    try:
        yield
    finally:
        for each, handler in before:
            signal.signal(each, handler)


def _print(pieces: Iterable[bytes]) -> None:
    try:
        sys.stdout.buffer.writelines(pieces)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has seen enough; what is left in the buffer goes nowhere, without a word
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _shorten(file: BinaryIO, size: int) -> None:
    """Bring a file back to its size; what waits to be written is written first, and cut off with the rest."""
    try:
        file.flush()
    finally:
        os.ftruncate(file.fileno(), size)


def _line_end(path: Path, form: Format) -> bytes:
    """What the last line of a file lacks: whoever wrote it may have been cut off."""
    if form not in (Format.JSONL, Format.CSV):
        return b""
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return b"" if file.read(1) == b"\n" else b"\n"


def _replace(path: Path, pieces: Iterable[bytes]) -> None:
    made = path.with_name(f".{path.name[:200]}.{os.getpid()}.part")
    try:
        with made.open("wb") as file:
            file.writelines(pieces)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            made.chmod(stat.S_IMODE(path.stat().st_mode))
        made.replace(path)
    finally:
        made.unlink(missing_ok=True)


def _is_plain(path: Path) -> bool:
    """Say whether there is a file, or nothing: a device or a pipe is neither replaced nor made shorter."""
    return path.is_file() or not path.exists()


def _is_gz(path: Path) -> bool:
    """Raises BowerbirdError."""
    try:
        with path.open("rb") as file:
            return file.read(2) == b"\x1f\x8b"  # RFC 1952, 2.3.1
    except OSError as error:
        raise BowerbirdError(f"{path}: cannot be read: {error.strerror or error}") from None


def _size(path: Path | None) -> int:
    try:
        return path.stat().st_size if path is not None else 0
    except OSError:
        return 0


def _header(path: Path, *, gz: bool) -> tuple[str, ...] | None:
    """The columns of a CSV file, or None if it is empty. Raises Unfit, BowerbirdError."""
    try:
        with gzip.open(path, "rb") if gz else path.open("rb") as file:
            head = file.read(LINE_MOST).decode("utf-8-sig", "replace")
        return tuple(next(csv.reader(io.StringIO(head, newline="")), ())) or None
    except (gzip.BadGzipFile, EOFError, csv.Error):
        raise Unfit(f"{path}: is no CSV file that could be appended to") from None
    except OSError as error:
        raise BowerbirdError(f"{path}: cannot be read: {error.strerror or error}") from None
