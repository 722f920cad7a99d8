"""The command table."""

from importlib.metadata import version

import typer

from scraper.cli import admin, control, data, database, enrich, intake, mcp, scrape, serve, sources, token

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
    ("search", data.search),
    ("enrich", enrich.enrich),
    ("mcp", mcp.mcp),
    ("import", intake.bring),
    ("doctor", admin.doctor),
):
    app.command(name)(command)
app.add_typer(sources.sources, name="sources")
app.add_typer(token.token, name="token")
app.add_typer(data.failures, name="failures")
app.add_typer(database.db, name="db")


@app.callback(invoke_without_command=True)
def _general(show_version: bool = typer.Option(False, "--version", help="Show the version and end.")) -> None:
    if show_version:
        typer.echo(f"bowerbird {version('bowerbird')}")
        raise typer.Exit
