"""What a record has to look like: a pydantic model, named or written in the configuration."""

import datetime
import importlib
import json
import re
import warnings
from collections.abc import Mapping
from functools import lru_cache
from types import GenericAlias
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from scraper.config.settings import Enrich
from scraper.errors import BadConfig, Problem

PLAIN: dict[str, Any] = {"str": str, "int": int, "float": float, "bool": bool, "date": datetime.date}
LIST = re.compile(r"list\[(\w+)\]")
FAULTS_MOST = 8
DEEP_MOST = 5


class Invalid(ValueError):
    """A text is no record of this shape; it says why, and not what the text was."""


class Strict(BaseModel):
    """A record: nothing is missing, nothing is there that was not asked for, and nothing is bent to fit."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Shape:
    """A shape of records, and the texts that hold one."""

    def __init__(self, model: type[BaseModel]) -> None:
        self.model = model

    @property
    def json_schema(self) -> dict[str, Any]:
        """The shape as JSON Schema, for those who can be held to one."""
        return self.model.model_json_schema()

    def read(self, text: str) -> dict[str, Any]:
        """Return the record that a text is. Raises Invalid."""
        try:
            made = self.model.model_validate_json(text, strict=True)
        except ValidationError as error:
            raise Invalid(_said(error)) from None
        done: dict[str, Any] = json.loads(made.model_dump_json())
        return done


def _said(error: ValidationError) -> str:
    faults = error.errors(include_url=False, include_input=False, include_context=False)
    told = [f"{'.'.join(map(str, fault['loc'])) or 'the answer'}: {fault['msg']}" for fault in faults[:FAULTS_MOST]]
    return "; ".join(told) + (f"; and {len(faults) - FAULTS_MOST} more" if len(faults) > FAULTS_MOST else "")


def of_task(task: Enrich) -> Shape:
    """Return the shape of a task's answers: that of its schema, or one text; of a list of them if it makes many. Raises BadConfig."""
    return _made(json.dumps(task.schema, sort_keys=True) if task.schema is not None else "", task.task, task.many)


@lru_cache(maxsize=64)
def _made(schema: str, name: str, many: bool) -> Shape:
    given = json.loads(schema) if schema else {"text": "str"}
    model = _imported(given, name) if isinstance(given, str) else _built(given, name, ())
    if many:
        listed = Field(min_length=1, max_length=100)
        model = create_model("Records", __base__=Strict, records=(list[model], listed))  # type: ignore[valid-type]
    return Shape(model)


def _imported(path: str, task: str) -> type[BaseModel]:
    module, _, name = path.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise BadConfig([Problem(f"enrich {task!r}", f"schema {path!r} cannot be loaded: {error}")]) from None
    if not (isinstance(found, type) and issubclass(found, BaseModel)):
        raise BadConfig([Problem(f"enrich {task!r}", f"schema {path!r} is no pydantic model")])
    return found


def _built(fields: Mapping[str, Any], task: str, at: tuple[str, ...]) -> type[BaseModel]:
    if not fields or len(at) > DEEP_MOST:
        fault = "is empty; name its fields" if not fields else f"is nested more than {DEEP_MOST} levels deep"
        raise BadConfig([Problem(f"enrich {task!r}", f"schema {'.'.join(at)} {fault}".replace("  ", " "))])
    made: dict[str, Any] = {}
    for name, said in fields.items():
        if not name.isidentifier() or name.startswith(("_", "model_")):
            raise BadConfig([Problem(f"enrich {task!r}", f"schema: {name!r} cannot be the name of a field")])
        made[name] = (_type(said, task, (*at, name)), ...)
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # of fields that are called like methods
        return create_model("".join(part.title() for part in at) or "Record", __base__=Strict, **made)


def _type(said: object, task: str, at: tuple[str, ...]) -> Any:
    if isinstance(said, str):
        if said in PLAIN:
            return PLAIN[said]
        if (match := LIST.fullmatch(said)) and match[1] in PLAIN:
            return GenericAlias(list, (PLAIN[match[1]],))
    if isinstance(said, list) and said and all(isinstance(choice, str | int) for choice in said):
        return Literal[tuple(said)]
    if isinstance(said, Mapping):
        return _built(said, task, at)
    kinds = ", ".join(PLAIN)
    message = f"schema.{'.'.join(at)}: {said!r} is no type; write one of {kinds}, list[...] of one, a list of choices, or a table"
    raise BadConfig([Problem(f"enrich {task!r}", message)])
