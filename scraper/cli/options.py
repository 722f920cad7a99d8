"""What several commands take."""

from pathlib import Path
from typing import Annotated

import typer

ConfigFile = Annotated[Path | None, typer.Option("--config", "-c", help="The configuration file.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON, for programs.")]
OfSource = Annotated[str | None, typer.Option("--source", help="Of which source.")]
OfTask = Annotated[
    str | None, typer.Option("--task", help="What this enrichment task failed to make, instead of URLs.")
]
