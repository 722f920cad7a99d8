"""The guide tells what is there, and nothing else."""

import re
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import get_type_hints

import typer.main

from api.app import create_app
from scraper.cli.table import app
from scraper.config.load import PLAIN_NAMES
from scraper.config.settings import Enrich, Settings, Source
from scraper.enrichment.model import Trouble
from scraper.errors import Failure
from scraper.states import State
from scraper.supervisor.policy import Cause

ROOT = Path(__file__).parents[1]


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_every_setting_is_documented_and_no_other() -> None:
    guide = text("docs/settings.md") + text("docs/enrichment.md")
    told = set()
    for row in re.findall(r"^\| `\[(\w+)\] ([^|]*)\|", guide, re.MULTILINE):
        told |= {(row[0], name) for name in re.findall(r"\w+", row[1])}
    hints = get_type_hints(Settings)
    there = {(table, field.name) for table, hint in hints.items() if is_dataclass(hint) for field in fields(hint)}
    assert told == there
    for field in fields(Source):
        assert f"`{field.name}`" in guide or field.name == "item"
    for field in fields(Enrich):
        assert f"`{field.name}`" in guide
    for name in PLAIN_NAMES:
        assert f"`{name}`" in guide


def test_every_command_is_documented() -> None:
    guide = text("docs/commands.md")
    group = typer.main.get_command(app())
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        assert re.search(rf"`(bowerbird )?{name}\b", guide), name
        for inner in getattr(command, "commands", {}):
            assert re.search(rf"`(bowerbird {name} )?{inner}\b", guide), (name, inner)


def test_every_route_is_documented() -> None:
    guide = text("docs/api.md")
    for path in create_app().openapi()["paths"]:
        known = path.replace("/api/scraper/{verb}", "/api/scraper/start")
        assert re.sub(r"{\w+}", "{id}", known).replace("{id}", "") in re.sub(r"{\w+}", "", guide), path


def test_every_metric_is_documented_and_no_other() -> None:
    told = set(re.findall(r"`(bowerbird_\w+)`", text("docs/running.md")))
    made = text("api/routes/metrics.py")
    there = set(re.findall(r'"(bowerbird_\w+)"', made))
    there |= {f"bowerbird_task_{name}_total" for name in re.findall(r'^        "(\w+)": "', made, re.MULTILINE)}
    assert told == there


def test_every_state_reason_and_failure_is_documented() -> None:
    guide = text("docs/running.md")
    for word in (*State, *Cause, *Failure):
        assert f"`{word}`" in guide, word


def test_every_trouble_of_enrichment_is_documented() -> None:
    guide = text("docs/enrichment.md")
    for word in Trouble:
        assert f"`{word}`" in guide, word


def test_links_between_documents_lead_somewhere() -> None:
    for file in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("systemd/*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", file.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (file.parent / target).exists(), f"{file.name}: {target}"


def test_the_readme_names_the_two_commands() -> None:
    readme = text("README.md")
    assert "make run" in readme
    assert "make test" in readme


def test_every_event_is_documented() -> None:
    guide = text("docs/running.md")
    told = set()
    for file in (ROOT / "scraper").rglob("*.py"):
        source = file.read_text(encoding="utf-8")
        told |= set(re.findall(r"\btell\(\s*\"([^\"]+)\"", source)) | set(re.findall(r"_tell\(\s*\"([^\"]+)\"", source))
        told |= set(re.findall(r"Event\([^\n]*?, \"[\w ]+\", \"[\w ]+\", \"([\w ]+)\"", source))
    assert {"moved", "ended", "owns the scraper", "replaced", "lost events"} <= told
    for event in told:
        assert f"`{event}`" in guide, event
