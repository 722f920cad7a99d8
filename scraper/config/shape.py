"""From plain mappings to frozen dataclasses, with every fault reported at once.

The types of the fields are the rules: an unknown key, a wrong type or a value that a rule refuses becomes a Problem
that names its path and the nearest valid name.
"""

import difflib
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")
Path = tuple[str | int, ...]
Fault = tuple[Path, str]

NAME_SHOWN = 100
_WORDS = {str: "a text", int: "a whole number", float: "a number", bool: "true or false", dict: "a table"}


class Refused(ValueError):
    """A value does not fit; the text says what would."""


def build(cls: type[T], given: object, at: Path, faults: list[Fault]) -> T | None:
    """Return the dataclass from what was given, or None after adding to faults what is wrong with it."""
    if not isinstance(given, Mapping):
        faults.append((at, f"wants a table, not {given!r}"))
        return None
    hints = _hints(cls)  # type: ignore[arg-type]  # classes are hashable
    before = len(faults)
    values: dict[str, Any] = {}
    for key, value in given.items():
        if key not in hints:
            shown = str(key).encode(errors="replace").decode()[:NAME_SHOWN]
            faults.append(((*at, shown), _unknown(shown, list(hints))))
            continue
        mine: list[Fault] = []
        made = _convert(hints[key], value, (*at, key), mine)
        faults.extend(mine)
        if isinstance(made, tuple):
            values[key] = tuple(member for member in made if member is not None)
        elif not mine:
            values[key] = made
    lacking = [f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING]  # type: ignore[arg-type]
    faults.extend((at, f'"{name}" is missing') for name in lacking if name not in given)
    if any(name not in values for name in lacking):
        return None
    whole = cls(**values)
    check: Callable[[], Iterable[tuple[str, str]]] | None = getattr(whole, "check", None)
    if check is not None:  # what is faulty stands at its default, so that all faults are told at once
        faulty = {path[len(at)] for path, _ in faults[before:] if len(path) > len(at)}
        faults.extend(((*at, key) if key else at, message) for key, message in check() if key not in faulty)
    return whole if len(faults) == before else None


@cache
def _hints(cls: type[Any]) -> dict[str, Any]:
    return get_type_hints(cls, include_extras=True)


def _unknown(key: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(key, names, n=1, cutoff=0.5)
    return f'there is no "{key}"; ' + (f'did you mean "{near[0]}"?' if near else f"there are: {', '.join(names)}")


def _convert(hint: Any, value: Any, at: Path, faults: list[Fault]) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    try:
        sound(value)
        if origin is Annotated:
            for rule in args[1:]:
                value = rule(value)
            return value
        if origin is Literal:
            return _choice(value, args)
        if origin in (Union, types.UnionType):
            return _first_that_fits([a for a in args if a is not type(None)], value, at, faults)
        if origin is tuple:
            return _list(args[0], value, at, faults)
        if origin is dict:
            return _table(args[1], value, at, faults)
        if is_dataclass(hint):
            return build(hint, value, at, faults)  # type: ignore[arg-type]
        return _plain(hint, value)
    except ValueError as error:
        faults.append((at, str(error)))
        return None


def _choice(value: Any, choices: tuple[Any, ...]) -> Any:
    if value not in choices:
        near = difflib.get_close_matches(str(value), [str(c) for c in choices], n=1)
        hint = f'; did you mean "{near[0]}"?' if near else ""
        raise Refused(f"{value!r} is none of {', '.join(map(str, choices))}{hint}")
    return value


def _first_that_fits(hints: list[Any], value: Any, at: Path, faults: list[Fault]) -> Any:
    if value is None:
        return None
    tried: list[Fault] = []
    for hint in hints:
        mine: list[Fault] = []
        made = _convert(hint, value, at, mine)
        if not mine:
            return made
        tried = tried if tried and len(tried[0][0]) >= len(mine[0][0]) else mine
    faults.extend(tried)
    return None


def _list(hint: Any, value: Any, at: Path, faults: list[Fault]) -> Any:
    if isinstance(value, str | Mapping) or not isinstance(value, Sequence):
        if isinstance(value, Mapping):
            raise Refused("wants a list of tables: write its name in double brackets, as in [[source]]")
        raise Refused(f"wants a list, not {value!r}; write [{value!r}]" if isinstance(value, str) else "wants a list")
    return tuple(_convert(hint, member, (*at, index), faults) for index, member in enumerate(value))


def _table(hint: Any, value: Any, at: Path, faults: list[Fault]) -> Any:
    if not isinstance(value, Mapping):
        raise Refused(f"wants a table, not {value!r}")
    for name in value:
        sound(name)
    return {name: _convert(hint, member, (*at, name), faults) for name, member in value.items()}


def _plain(hint: Any, value: Any) -> Any:
    if hint in (Any, object):
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise Refused(f"wants {_WORDS.get(hint, hint.__name__)}, not {value!r}")
    return value


def sound(value: Any) -> Any:
    """A value that every database and every answer can hold. Raises Refused for a text or a number that is none."""
    if isinstance(value, str):
        if "\x00" in value:
            raise Refused("has a NUL character")
        if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
            raise Refused("has half a character: a lone surrogate")
    elif isinstance(value, float) and not abs(value) < 1e300:
        raise Refused(f"wants a finite number, not {value!r}")
    elif isinstance(value, int) and not abs(value) < 2**63:
        raise Refused("is too big")
    return value
