"""serve, demo: hand "fastapi_app:app" to uvicorn by name."""

import contextlib
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from scraper import kernel, logs
from scraper.cli.model import LanguageModel
from scraper.cli.options import ConfigFile
from scraper.cli.shop import Shop
from scraper.config.settings import Server
from scraper.errors import Conflict
from scraper.service import Service
from scraper.startup import preflight, settings_of

DEMO_PREFIX = "bowerbird-demo-"
GRACE_S = 8
BACKLOG = 128
PING_S = 0.5
HEALTHCHECK_S = 30

DEMO = """\
# A small shop that changes its prices and its stock, and a source that watches it.
[database]
url = "sqlite:///demo.db"

[http]
allow_networks = ["127.0.0.0/8"]    # the shop is on this machine
delay = 0.15

[[source]]
name = "shop"
start = ["{shop}/"]
every = "5s"
follow = ["nav a", "article a"]

[[source.item]]
kind = "product"
select = "article.product"
key = ["sku"]
[source.item.fields]
title = "h1::text"
sku = "::attr(data-sku)"
price = {{ css = "p.price::text", type = "decimal" }}
stock = {{ css = "p.stock::text", type = "int", default = 0 }}
"""

ENRICH = """
[llm]
base_url = "{url}"
model = "{name}"

[[enrich]]
task = "note"
over = "items"
source = "shop"
kind = "llm"
prompt = "{{{{ item.title }}}} costs {{{{ item.price }}}}. Say what it is, and whether it is cheap (below 10), fair or dear (above 25)."
when = "stored"
[enrich.schema]
what = "str"
price = ["cheap", "fair", "dear"]
"""


def serve(
    config: ConfigFile = None,
    host: Annotated[str | None, typer.Option(help="The address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="The port; 0 for any free one.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="API processes; one of them owns the scraper.")] = 1,
) -> None:
    """Serve API and dashboard, with the scraper under supervision."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # until the server hears it, there is nothing to clean up
    kernel.see_deaths()
    kernel.use_all_files()
    if config is not None:
        os.environ["BOWERBIRD_CONFIG"] = str(config.absolute())
    if host is not None:
        os.environ["BOWERBIRD_SERVER__HOST"] = host
    if port is not None:
        os.environ["BOWERBIRD_SERVER__PORT"] = str(port)
    loaded = settings_of()
    settings = loaded.settings
    logs.set_up(production=settings.production)
    end = bound(settings.server)
    preflight(loaded, brings=True, waits=True).close()
    if not settings.source:
        where = loaded.path or f"{Path.cwd()}: there is no bowerbird.toml"
        print(f"{where}: nothing to watch yet; `bowerbird init` writes an example", file=sys.stderr)
    Service(loaded)  # says now if the state directory cannot be used
    shown = end.getsockname()
    host = f"[{settings.server.host}]" if ":" in settings.server.host else settings.server.host
    print(f"Bowerbird is at http://{host}:{shown[1]}/  (Ctrl-C ends it)", file=sys.stderr, flush=True)
    os.environ["WEB_CONCURRENCY"] = str(workers)  # so that each of them knows how many there are
    import uvicorn  # noqa: PLC0415  0.04 s that other commands need not pay

    if workers > 1:
        _see_dead_workers()
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.run(
            "fastapi_app:app",
            fd=end.fileno(),
            workers=workers,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=GRACE_S,
            timeout_worker_healthcheck=HEALTHCHECK_S,
        )


def _see_dead_workers() -> None:
    """Have the main process see at once that a worker died while it was being asked how it is: it would wait for an answer, deaf to signals."""
    from uvicorn.supervisors import multiprocess  # noqa: PLC0415  as uvicorn

    def is_alive(worker: multiprocess.Process, timeout: float = HEALTHCHECK_S) -> bool:
        until = time.monotonic() + timeout
        while worker.process.is_alive() and time.monotonic() < until:
            if worker.ping(PING_S):
                return True
        return False

    # In place, and no class of ours: the worker itself is sent to its process.
    multiprocess.Process.is_alive = is_alive  # type: ignore[method-assign, assignment]


def bound(server: Server) -> socket.socket:
    """Return a socket that listens where it should. Raises Conflict with the remedy."""
    family = socket.AF_INET6 if ":" in server.host else socket.AF_INET
    end = socket.socket(family, socket.SOCK_STREAM)
    # Connections inherit it. Without it an answer of two writes waits 40 ms for the other side's delayed ACK.
    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if os.name == "posix":
        end.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        end.bind((server.host, server.port))
        end.listen(BACKLOG)  # who asks before the server is up waits, and is not turned away
    except OSError as error:
        end.close()
        raise Conflict(
            f"{server.host}:{server.port}: {error.strerror or error}; end what listens there, or choose another --port"
        ) from None
    end.set_inheritable(True)
    return end


def demo(
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="The port of the dashboard.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="API processes.")] = 1,
    enrich: Annotated[
        bool,
        typer.Option(
            "--enrich", help="With a small language model on this machine that says something of each product."
        ),
    ] = False,
) -> None:
    """Serve with a small shop of its own, which changes its prices every few seconds. Leaves nothing behind."""
    for number in (signal.SIGTERM, signal.SIGINT):  # so that all is cleared away
        signal.signal(number, lambda number, frame: sys.exit(128 + number))
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(kernel.temporary(DEMO_PREFIX))
        shop = Shop()
        stack.callback(shop.stop)
        config = folder / "bowerbird.toml"
        config.write_text(DEMO.format(shop=shop.start()))
        if enrich:
            print("Starting a small language model ...", file=sys.stderr)
            model = LanguageModel()
            stack.callback(model.stop)
            model.start()
            with config.open("a") as file:
                file.write(ENRICH.format(url=model.url, name=model.name))
        print(f"The shop is at {shop.url}/ , its configuration is {config}", file=sys.stderr)
        print("Try: kill -9 the pid that the page shows, and watch it come back.", file=sys.stderr)
        for name in ("DATABASE_URL", "BOWERBIRD_DATABASE__URL", "BOWERBIRD_SERVICE__STATE_DIR", "STATE_DIRECTORY"):
            os.environ.pop(name, None)
        serve(config=config, host=None, port=port, workers=workers)
