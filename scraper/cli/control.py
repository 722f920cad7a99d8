"""status, start, stop, restart, pause, resume: ask a running service, over its API."""

import json
import os
import sys
import time
from typing import Annotated, Any

import typer

from scraper.cli.options import ConfigFile
from scraper.config.load import server_of
from scraper.errors import BowerbirdError, Exit
from scraper.statedir import Verb
from scraper.states import State

TIMEOUT_S = 10.0
SETTLE_S = 3.0


class NotRunning(BowerbirdError):
    """No service answers."""

    exit_code = Exit.NOT_RUNNING


def call(method: str, path: str, config: ConfigFile = None) -> dict[str, Any]:
    """Ask the service. BOWERBIRD_URL names another one than that of the configuration.

    Raises NotRunning, and BowerbirdError with the words of a problem document.
    """
    import httpx  # noqa: PLC0415  0.04 s that other commands need not pay

    server = server_of(config)
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(server.host, server.host)
    host = f"[{host}]" if ":" in host else host
    base = os.environ.get("BOWERBIRD_URL") or f"http://{host}:{server.port}"
    token = os.environ.get("BOWERBIRD_TOKEN") or server.token
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        answer = httpx.request(method, base + path, headers=headers, timeout=TIMEOUT_S, trust_env=False)
        body = answer.json()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise NotRunning(f"{base}: no service answers ({error}); `bowerbird serve` starts one") from None
    except ValueError:
        raise NotRunning(f"{base}: something answers, but it is no Bowerbird") from None
    if answer.status_code >= 400:
        raise BowerbirdError(str(body.get("detail", answer.reason_phrase)))
    found: dict[str, Any] = body
    return found


def _print(found: dict[str, Any]) -> None:
    print(
        f"{found['state']}{'' if found['running'] or found['state'] == State.FAILED else ' (not wanted to run)'}",
        end="",
    )
    print(f", last check {found['last_check'] or 'never'}, {found['restarts']} restarts")
    for process in found["processes"]:
        rss = process["rss_bytes"]
        facts = [
            f"{process['name']}: {process['state']}",
            f"pid {process['pid']}" if process["pid"] else "no process",
            f"heartbeat {process['heartbeat_age_s']} s ago" if process["heartbeat_age_s"] is not None else "",
            f"{rss / 2**20:.0f} MiB" if rss else "",
            f"at {', '.join(process['sources'])}" if process["sources"] else "",
        ]
        print("  " + ", ".join(fact for fact in facts if fact))
        if last := process["last_exit"]:
            at = f", at {last['url']}" if last["url"] else ""
            print(f"  last exit: pid {last['pid']}, {last['reason']}{at}, {last['at']} {last['message']}".rstrip())
        for told in (process["trouble"], process["note"]):
            if told:
                print(f"  {told}")
    if found.get("message"):
        print(found["message"], file=sys.stderr)


def status(
    config: ConfigFile = None, as_json: Annotated[bool, typer.Option("--json", help="As the API says it.")] = False
) -> None:
    """Show what a running service is doing."""
    found = call("GET", "/api/scraper-status", config)
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        _print(found)


def _ask(verb: Verb, config: ConfigFile) -> None:
    found = call("POST", f"/api/scraper/{verb}", config)
    deadline = time.monotonic() + SETTLE_S
    while not _settled(verb, found) and time.monotonic() < deadline:
        time.sleep(0.05)
        found = call("GET", "/api/scraper-status", config)
    _print(found)


def _settled(verb: Verb, found: dict[str, Any]) -> bool:
    """Say whether a status shows what was asked for."""
    state = str(found["state"])
    if verb == "stop":
        return state == "stopped"
    if verb == "pause":
        return state in ("paused", "stopped", "failed")
    return state in ("idle", "scraping", "failed") or (verb != "resume" and state == "paused")


def start(config: ConfigFile = None) -> None:
    """Start the scraper of a running service."""
    _ask("start", config)


def stop(config: ConfigFile = None) -> None:
    """Stop the scraper of a running service; it stays stopped until it is started."""
    _ask("stop", config)


def restart(config: ConfigFile = None) -> None:
    """Read the configuration again and restart the scraper."""
    _ask("restart", config)


def pause(config: ConfigFile = None) -> None:
    """Start no more visits; the process stays."""
    _ask("pause", config)


def resume(config: ConfigFile = None) -> None:
    """Go on after a pause."""
    _ask("resume", config)
