"""The variables of a .env file: beside the configuration, for what is in no file that others see."""

from pathlib import Path

from dotenv.parser import parse_stream

from scraper.errors import BadConfig, Problem


def checked(base: Path) -> dict[str, str]:
    """Return the variables of the .env of a directory. Raises BadConfig: a line that is left out may be the one with the token."""
    found, problems = read(base)
    if problems:
        raise BadConfig(problems)
    return found


def read(base: Path) -> tuple[dict[str, str], list[Problem]]:
    """Return the variables of the .env of a directory, none if it is not there, and what is wrong with it."""
    file = base / ".env"
    if not file.is_file():
        return {}, []
    found: dict[str, str] = {}
    problems: list[Problem] = []
    try:
        with file.open(encoding="utf-8-sig") as stream:
            for binding in parse_stream(stream):
                whole = binding.original.string
                blank = whole[: len(whole) - len(whole.lstrip())].count("\n")  # lines before it that belong to it
                place = f"{file}:{binding.original.line + blank}"
                if binding.error:
                    problems.append(Problem(place, "cannot be understood; write NAME=value, and close what is quoted"))
                elif binding.key is not None and binding.value is None:
                    problems.append(Problem(place, f"{binding.key} has no value; write {binding.key}=value"))
                elif binding.key is not None:
                    found[binding.key] = binding.value or ""
    except (OSError, UnicodeDecodeError) as error:
        problems.append(Problem(str(file), f"cannot be read: {error}"))
    return found, problems
