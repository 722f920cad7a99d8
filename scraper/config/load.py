"""From bowerbird.toml, .env and the environment to Settings, or to every problem with file, line and remedy."""

import copy
import difflib
import json
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from scraper.config import dotenv, secrets, shape
from scraper.config.settings import Server, Settings, Source, secrets_of
from scraper.errors import BadConfig, Problem

FILE_NAME = "bowerbird.toml"
PREFIX = "BOWERBIRD_"
# Variables of ours that are no settings.
RESERVED = {"BOWERBIRD_CONFIG", "BOWERBIRD_URL", "BOWERBIRD_TOKEN"}
PLAIN_NAMES = {
    "DATABASE_URL": ("database", "url"),
    "POOL_SIZE": ("database", "pool_size"),
    "MAX_OVERFLOW": ("database", "max_overflow"),
    "SQLITE_TIMEOUT": ("database", "timeout"),
    "MAX_WORKERS": ("max_workers",),
    "ENVIRONMENT": ("environment",),
}
Review = Callable[[Source], Iterable[tuple[tuple[str | int, ...], str]]]


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings, and the file that they came from (None: there was none, all is default and environment)."""

    settings: Settings
    path: Path | None
    base: Path


def load(
    path: Path | None = None, *, review: Review = lambda _: (), environ: Mapping[str, str] | None = None
) -> Loaded:
    """Return the settings that are in force in this directory.

    path: the file that was asked for; otherwise BOWERBIRD_CONFIG, otherwise bowerbird.toml here if there is one.
    review: what else to check of each source, as (path in the source, message).
    Raises BadConfig with all problems together.
    """
    env = dict(os.environ if environ is None else environ)
    asked = path or (Path(env["BOWERBIRD_CONFIG"]) if env.get("BOWERBIRD_CONFIG") else None)
    file = asked or (Path(FILE_NAME) if Path(FILE_NAME).exists() else None)
    document, lines = _read(file) if file else ({}, {})
    base = file.absolute().parent if file else Path.cwd()  # a link may lead elsewhere when it is read again
    env = {**dotenv.checked(base), **env}

    problems: list[Problem] = []
    merged, from_env = _overlay(document, env, problems)
    faults: list[shape.Fault] = []
    settings = shape.build(Settings, merged, (), faults)
    for index, raw in enumerate(_tables(merged.get("source"))):
        source = _sound(raw)
        if source is not None:
            faults.extend((("source", index, *where), message) for where, message in review(source))
            faults.extend((("source", index, *where), message) for where, message in _unset(secrets_of(source), env))
    if settings is not None:
        faults.extend(_unset([(("http", "proxy"), settings.http.proxy)], env))
    told = {path: (path, message) for path, message in reversed(faults)}  # one fault a key, the first
    problems.extend(_problem(fault, file, lines, from_env) for fault in reversed(told.values()))
    if problems or settings is None:
        raise BadConfig(problems)
    return Loaded(_with_proxy(settings, env), file.absolute() if file else None, base)


def _with_proxy(settings: Settings, env: Mapping[str, str]) -> Settings:
    """Settings whose proxy has its password."""
    return replace(settings, http=replace(settings.http, proxy=secrets.filled(settings.http.proxy, env)))


def _unset(
    values: Iterable[tuple[tuple[str, ...], str]], env: Mapping[str, str]
) -> Iterator[tuple[tuple[str, ...], str]]:
    for where, value in values:
        for name in secrets.missing(value, env):
            yield where, f"names the variable {name}, which is not set; set it in the environment or in .env"


def server_of(path: Path | None = None) -> Server:
    """Return where a running service listens, whatever else is wrong with the configuration by now.

    Raises BadConfig where that itself cannot be told: another service would be asked.
    """
    env = dict(os.environ)
    if env.get("BOWERBIRD_URL"):
        return Server()
    asked = path or (Path(env["BOWERBIRD_CONFIG"]) if env.get("BOWERBIRD_CONFIG") else None)
    file = asked or Path(FILE_NAME)
    document, lines = _read(file) if asked or file.exists() else ({}, {})
    merged, from_env = _overlay(document, {**dotenv.checked(file.absolute().parent), **env}, [])
    faults: list[shape.Fault] = []
    server = shape.build(Server, merged.get("server", {}), ("server",), faults)
    if server is None or faults:
        raise BadConfig([_problem(fault, file, lines, from_env) for fault in faults])
    return server


def _read(file: Path) -> tuple[dict[str, Any], dict[shape.Path, int]]:
    try:
        text = file.read_text(encoding="utf-8-sig")
        return tomllib.loads(text), line_numbers(text)
    except FileNotFoundError:
        message = "there is no such file; `bowerbird init` writes one"
    except UnicodeDecodeError:
        message = "is not UTF-8 text; save it as UTF-8"
    except OSError as error:
        message = f"cannot be read: {error.strerror}"
    except tomllib.TOMLDecodeError as error:
        match = re.search(r"at line (\d+)", str(error))
        place = f"{file}:{match[1]}" if match else str(file)
        raise BadConfig([Problem(place, f"is not valid TOML: {error}")]) from None
    except (ValueError, RecursionError) as error:
        message = f"is not valid TOML: {type(error).__name__}: {error}"
    raise BadConfig([Problem(str(file), message)]) from None


def _sound(raw: object) -> Source | None:
    """Return a source without what is wrong with it, so that the rest can be looked at, or None if too little is left."""
    faults: list[shape.Fault] = []
    source = shape.build(Source, raw, (), faults)
    if source is not None or not isinstance(raw, dict):
        return source
    rest = copy.deepcopy(raw)
    for path, _ in faults:
        place: Any = rest
        for part in path[:-1]:
            try:
                place = place[part]
            except (KeyError, IndexError, TypeError):
                break
        else:
            if isinstance(place, dict) and path:
                place.pop(path[-1], None)
    return shape.build(Source, rest, (), [])


def _tables(value: object) -> list[object]:
    return list(value) if isinstance(value, list | tuple) else []


def _overlay(
    document: dict[str, Any], env: Mapping[str, str], problems: list[Problem]
) -> tuple[dict[str, Any], dict[shape.Path, str]]:
    """Put the variables on top of the file's values; say which paths came from which variable."""
    merged: dict[str, Any] = {k: dict(v) if isinstance(v, dict) else v for k, v in document.items()}
    origin: dict[shape.Path, str] = {}
    named = [(name, path) for name, path in PLAIN_NAMES.items() if env.get(name)]
    for name in sorted(env):
        if name.startswith(PREFIX) and not _is_ours(name) and env[name] != "":
            named.append((name, tuple(name[len(PREFIX) :].lower().split("__"))))
    for name, path in named:
        hint = _hint(path)
        if hint is None:
            near = difflib.get_close_matches(name, _variables(), n=1)
            remedy = f"did you mean {near[0]}?" if near else "it is the table and the key: BOWERBIRD_HTTP__DELAY"
            problems.append(Problem(name, f"names no setting; {remedy}"))
            continue
        table = merged.setdefault(path[0], {}) if len(path) == 2 else merged
        if isinstance(table, dict):
            table[path[-1]] = _from_text(hint, env[name])
            origin[path] = name
    return merged, origin


def _is_ours(name: str) -> bool:
    """A variable of ours that is no setting."""
    return name in RESERVED or name.startswith(secrets.PREFIX)


def _hint(path: tuple[str, ...]) -> Any:
    hint: Any = Settings
    for name in path:
        hint = get_type_hints(hint, include_extras=True).get(name) if is_dataclass(hint) else None
    return None if hint is None or is_dataclass(hint) or len(path) > 2 else hint


def _variables() -> list[str]:
    hints = get_type_hints(Settings)
    return [
        f"{PREFIX}{table.upper()}__{field.name.upper()}"
        for table, hint in hints.items()
        if is_dataclass(hint)
        for field in fields(hint)
    ]


def _from_text(hint: Any, text: str) -> Any:
    if get_origin(hint) is tuple:
        try:
            return json.loads(text) if text.lstrip().startswith("[") else [part.strip() for part in text.split(",")]
        except ValueError:
            return text
    inner = get_args(hint)[0] if hasattr(hint, "__metadata__") else hint
    if inner is bool and text.lower() in ("true", "false", "1", "0", "yes", "no", "on", "off"):
        return text.lower() in ("true", "1", "yes", "on")
    if inner is not str:
        for read in (int, float):
            try:
                return read(text)
            except ValueError:
                continue
    return text


def _problem(
    fault: shape.Fault, file: Path | None, lines: Mapping[shape.Path, int], from_env: Mapping[shape.Path, str]
) -> Problem:
    path, message = fault
    if path in from_env:
        return Problem(from_env[path], message)
    known = next((path[:end] for end in range(len(path), 0, -1) if path[:end] in lines), None)
    place = str(file or "settings") + (f":{lines[known]}" if known else "")
    return Problem(place, f"{dotted(path)} {message}".strip())


def dotted(path: shape.Path) -> str:
    """Return a path as people write it: ``source[2].http.delay``."""
    text = ""
    for part in path:
        text += f"[{part + 1}]" if isinstance(part, int) else f".{part}" if text else part
    return text


_HEADER = re.compile(r"^\s*(\[\[?)\s*([^\]]+?)\s*\]")
_KEY = re.compile(r"""^\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*=""")


def line_numbers(text: str) -> dict[shape.Path, int]:
    """Return the line of each table and key of a TOML text. Best effort: tomllib keeps none."""
    found: dict[shape.Path, int] = {}
    counts: dict[shape.Path, int] = {}
    table: shape.Path = ()
    in_string: str | None = None
    for number, line in enumerate(text.splitlines(), 1):
        if in_string is None and (header := _HEADER.match(line)):
            table = _resolve(_parts(header[2]), counts, new=header[1] == "[[")
            found.setdefault(table, number)
            found.setdefault(table[:1], number)
        elif in_string is None and (key := _KEY.match(line)):
            path = (*table, *_parts(key[1]))
            for end in range(len(table) + 1, len(path) + 1):
                found.setdefault(path[:end], number)
        for quotes in ('"""', "'''"):
            if line.count(quotes) % 2:
                in_string = None if in_string == quotes else in_string or quotes
    return found


def _parts(dotted_key: str) -> list[str]:
    return [part.strip().strip("\"'") for part in dotted_key.split(".")]


def _resolve(names: list[str], counts: dict[shape.Path, int], *, new: bool) -> shape.Path:
    path: shape.Path = ()
    for position, name in enumerate(names):
        path = (*path, name)
        if new and position == len(names) - 1:
            counts[path] = counts.get(path, -1) + 1
        if path in counts:
            path = (*path, counts[path])
    return path
