"""The way in. An error of the user's becomes one line on stderr."""

import errno
import gc
import os
import signal
import sys
from collections.abc import Sequence

from scraper.errors import BadConfig, BowerbirdError, Exit

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command. Returns the exit code: 0 done, 1 failed, 2 bad usage or config, 3 not running, 130 on Ctrl-C."""
    try:
        return _run(argv)
    except BowerbirdError as error:
        print(error if isinstance(error, BadConfig) else f"bowerbird: {error}", file=sys.stderr)
        return Exit.USAGE if isinstance(error, BadConfig) else getattr(error, "exit_code", Exit.FAILED)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output has seen enough
        _say_no_more()
        return 0
    except OSError as error:
        if error.errno not in NO_ROOM or error.filename is not None:
            raise
        _say_no_more()
        print(f"bowerbird: standard output: cannot be written: {error.strerror}", file=sys.stderr)
        return Exit.FAILED


def _say_no_more() -> None:
    """What waits to be written goes nowhere, without a word."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(argv: Sequence[str] | None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    # Loading takes a moment, in which Ctrl-C must count too: Python may lose a KeyboardInterrupt in its import machinery.
    hears = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if hears:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    gc.disable()  # what is loaded stays: to look for what may go among it takes a seventh of the time
    import typer  # noqa: PLC0415
    from typer.exceptions import TyperException  # noqa: PLC0415

    from scraper.cli.table import app  # noqa: PLC0415

    commands = app(words[0] if words else "")
    gc.freeze()
    gc.enable()
    if hears:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        code = int(commands(words, standalone_mode=False) or 0)
        sys.stdout.flush()
        return code
    except TyperException as error:
        said = error.format_message()
        print(said if said.startswith("Usage:") else f"bowerbird: {said}", file=sys.stderr)
        return error.exit_code
    except typer.Abort:
        return 130


if __name__ == "__main__":
    sys.exit(main())
