"""What a call of the API and a button of the dashboard do alike."""

from collections.abc import Collection, Sequence
from typing import Any, Literal
from urllib.parse import urlsplit

from scraper.config.settings import Enrich, Notify
from scraper.config.shape import build
from scraper.database import Connection, events, health, jobs, listing, notices, runs, sources, tasks, visits
from scraper.database.connection import now
from scraper.enrichment.layout import kinds_of
from scraper.errors import BadConfig, Problem
from scraper.records import Event

Action = Literal["pause", "resume", "run", "remove"]
AT_ONCE = 10_000


def chosen(c: Connection, action: Action, wanted: health.Wanted, names: Collection[str]) -> list[str]:
    """Return the names of the sources that are meant: those of these names, or all that a filter lets through.

    Of several that are to be run, those that are paused are not meant.
    """
    found = [one.name for one in health.chosen(health.summaries(c, wanted), wanted)[0]]
    found = [name for name in found if name in set(names)] if names else found
    held = sources.paused(c) if action == "run" else ()
    return [name for name in found if name not in held] or found


def act(c: Connection, action: Action, names: Sequence[str]) -> list[str]:
    """Do something to sources. Returns the names of those for which that is new. Raises Conflict for those of the file, or paused ones."""
    if action in ("pause", "resume"):
        return sources.pause(c, names, now() if action == "pause" else None)
    for name in names:
        if action == "run":
            sources.runnable(c, name)
            runs.request(c, name, now())
        else:
            sources.remove(c, name)
    return list(names)


def end_run(c: Connection, run_id: int) -> dict[str, Any]:
    """End a run before it is done, and tell so. Returns the run. Raises NotFound."""
    stopped = runs.stop(c, run_id, now())
    run = runs.one(c, run_id, now())
    if stopped:
        facts = {"run": run_id, "pages": run["pages"], "items": run["items"]}
        events.add(c, [Event(now(), "run", run["source"], "stopped", "info", facts)])
    return run


def retry_all(c: Connection, ids: Sequence[int], filters: dict[str, Any], *, dry_run: bool) -> dict[str, Any]:
    """Visit URLs again, at most AT_ONCE at once: by their failures' numbers, or all that filters let through."""
    wanted = list(ids)
    if filters:
        found = listing.rows(c, "failures", {**filters, "unresolved": True}, None, AT_ONCE)
        wanted += [row["id"] for row in found]
    asked = visits.retry(c, wanted, now()) if wanted and not dry_run else {}
    return {"failures": len(wanted), "runs": asked, "dry_run": dry_run}


def rules_with_counts(c: Connection, rules: Sequence[Notify]) -> list[dict[str, Any]]:
    """Return the rules for notifications; of an address, which may hold a secret, only the kind and the host."""
    found = notices.counts(c)
    return [
        {
            "name": rule.name,
            "to": shown(rule.url),
            "on": list(rule.on),
            "source": list(rule.source),
            "where": rule.where,
        }
        | {"deliveries": found.get(rule.name, {})}
        for rule in rules
    ]


def shown(url: str) -> str:
    """An address without what may be secret in it."""
    try:
        parts = urlsplit(url)
        return f"{parts.scheme}://{parts.hostname}/…" if parts.scheme in ("http", "https") else f"{parts.scheme}://…"
    except ValueError:
        return "…"


def tasks_told(c: Connection) -> list[dict[str, Any]]:
    """Return all tasks as the API tells them."""
    found = jobs.counts(c)
    return [_task(c, row, found) for row in tasks.every(c)]


def task_told(c: Connection, row: Any) -> dict[str, Any]:
    """Return a task as the API tells it."""
    return _task(c, row, jobs.counts(c, row.name))


def _task(c: Connection, row: Any, found: dict[str, dict[str, int]]) -> dict[str, Any]:
    settings = build(Enrich, row.definition, (), [])
    spent = tasks.spent(row)
    return {
        "task": row.name,
        "origin": row.origin,
        "definition": row.definition,
        "kinds": list(kinds_of(settings)) if settings is not None else [],
        "counts": found.get(row.name, {"queued": 0, "done": 0, "failed": 0}),
        "reasons": jobs.reasons(c, row.name),
        "calls": spent.calls,
        "tokens_in": spent.tokens_in,
        "tokens_out": spent.tokens_out,
        "cost": round(spent.cost, 6),
        "busy_s": round(spent.busy_s, 3),
        "next_at": row.next_at,
        "asked": row.asked,
    }


def run_part(c: Connection, name: str, part: dict[str, Any]) -> dict[str, Any]:
    """Have a task, or a part of it (source, kind, limit, redo), be done now. Returns the task. Raises NotFound, BadConfig."""
    settings = build(Enrich, tasks.one(c, name).definition, (), [])
    if part.get("source") is not None:
        sources.definition(c, part["source"])
    if part.get("kind") is not None and settings is not None and part["kind"] not in kinds_of(settings):
        raise BadConfig([Problem("kind", f"the task {name!r} makes: {', '.join(kinds_of(settings))}")])
    tasks.ask(c, name, part)
    return task_told(c, tasks.one(c, name))
