"""The command table. An error of the user's becomes one line on stderr."""

import os
import sys
from collections.abc import Sequence
from importlib.metadata import version

import typer
from typer.exceptions import TyperException

from scraper.cli import admin, control, data, scrape, serve
from scraper.errors import BadConfig, BowerbirdError, Exit

app = typer.Typer(
    name="bowerbird",
    help="A supervised scraper daemon.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for name, command in (
    ("init", admin.init),
    ("serve", serve.serve),
    ("demo", serve.demo),
    ("scrape", scrape.scrape),
    ("status", control.status),
    ("start", control.start),
    ("stop", control.stop),
    ("restart", control.restart),
    ("pause", control.pause),
    ("resume", control.resume),
    ("export", data.export),
    ("doctor", admin.doctor),
):
    app.command(name)(command)
app.add_typer(scrape.sources, name="sources")
app.add_typer(data.failures, name="failures")
app.add_typer(admin.db, name="db")


@app.callback(invoke_without_command=True)
def _general(show_version: bool = typer.Option(False, "--version", help="Show the version and end.")) -> None:
    if show_version:
        typer.echo(f"bowerbird {version('bowerbird')}")
        raise typer.Exit


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command. Returns the exit code: 0 done, 1 failed, 2 bad usage or config, 3 not running, 130 on Ctrl-C."""
    try:
        code = app(list(argv) if argv is not None else None, standalone_mode=False)
        return int(code or 0)
    except BowerbirdError as error:
        print(error if isinstance(error, BadConfig) else f"bowerbird: {error}", file=sys.stderr)
        return Exit.USAGE if isinstance(error, BadConfig) else getattr(error, "exit_code", Exit.FAILED)
    except TyperException as error:
        print(f"bowerbird: {error.format_message()}", file=sys.stderr)
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


if __name__ == "__main__":
    sys.exit(main())
