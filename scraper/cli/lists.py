"""What commands that list have in common."""

from datetime import datetime

import typer


def listed_by_default(context: typer.Context) -> bool:
    """Whether a group of commands was named alone, so that it lists. Raises BadParameter for options before a command of it."""
    if context.invoked_subcommand is None:
        return True
    for name in context.params:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise typer.BadParameter(f"--{name.removeprefix('as_')} comes after {context.invoked_subcommand}")
    return False


def shown(at: datetime | None, otherwise: str) -> str:
    """Return a time as people read it, to the second; otherwise: what to say where there is none."""
    return at.isoformat(timespec="seconds").replace("+00:00", "Z") if at is not None else otherwise
