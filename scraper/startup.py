"""Before anything starts: the configuration read and checked, the database opened and brought up to date."""

import ast
import difflib
import importlib.util
import logging
import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from scraper import jmes, statedir
from scraper.config import masking, secrets
from scraper.config.load import Loaded, dotted, load
from scraper.config.settings import Enrich, Settings, Source, secrets_of
from scraper.config.shape import Fault, build
from scraper.config.zones import local
from scraper.crawl.schedule import cron_fault, next_due
from scraper.database import Db, postgres, schema, sources, sqlite, tasks
from scraper.database.connection import now, resolved_url, sqlite_file
from scraper.errors import BadConfig, Problem, Unavailable, Unusable
from scraper.extract.items import faults

log = logging.getLogger(__name__)


def settings_of(path: Path | None = None) -> Loaded:
    """Return the settings in force, everything in them checked. Raises BadConfig with all problems."""
    loaded = load(path, review=review)
    _review_notify(loaded)
    if loaded.settings.enrich:
        _review_enrich(loaded)
    database = loaded.settings.database
    try:
        url = resolved_url(database.url, loaded.base)
    except ValueError as error:
        variables = secrets.environment(loaded.base)
        named = [name for name in ("BOWERBIRD_DATABASE__URL", "DATABASE_URL") if variables.get(name) == database.url]
        place = named[0] if named else f"{loaded.path}: [database] url"
        said = f"is no address: {error}; write sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST:PORT/NAME"
        raise BadConfig([Problem(place, said)]) from None
    return replace(loaded, settings=replace(loaded.settings, database=replace(database, url=url)))


def _review_notify(loaded: Loaded) -> None:
    if not loaded.settings.notify:
        return
    from scraper import template  # noqa: PLC0415  as the next
    from scraper.notify.send import NEEDS_APPRISE, WEBHOOK  # noqa: PLC0415

    variables = secrets.environment(loaded.base)
    faults: list[tuple[str, str, str]] = []
    for rule in loaded.settings.notify:
        found = [("where", jmes.fault(rule.where)), ("template", template.fault(rule.template))]
        for key, value in (("url", rule.url), ("secret", rule.secret)):
            found += [(key, f"names the variable {n}, which is not set") for n in secrets.missing(value, variables)]
        if not rule.url.lower().startswith((*WEBHOOK, "${")) and not _found("apprise"):
            found.append(("url", NEEDS_APPRISE))
        faults += [(rule.name, key, fault) for key, fault in found if fault is not None]
    if faults:
        place = str(loaded.path or "settings")
        raise BadConfig([Problem(place, f"[[notify]] {name}: {key} {fault}") for name, key, fault in faults])


def _review_enrich(loaded: Loaded) -> None:
    problems: list[Problem] = []
    for task in loaded.settings.enrich:
        try:
            checked_task(task, loaded.base)
        except BadConfig as error:
            place = str(loaded.path or "settings")
            problems += [Problem(place, f"[[enrich]] {task.task}: {problem}") for problem in error.problems]
    if problems:
        raise BadConfig(problems)


def checked_task(task: Enrich, base: Path) -> None:
    """Check what only the rooms that use them can say of a task's values. Raises BadConfig with all problems."""
    from scraper import template  # noqa: PLC0415  as the next
    from scraper.enrichment import shape  # noqa: PLC0415  pydantic: 0.1 s that only those pay who have tasks

    found = [("prompt", template.fault(task.prompt)), ("system", template.fault(task.system))]
    found.append(("where", jmes.fault(task.where)))
    if task.when not in (tasks.ASKED, tasks.STORED):
        fault = cron_fault(task.when, local(now()))
        found.append(("when", fault and f"{fault}; write asked, stored, or a cron expression"))
    for key, path in (("function", task.function), ("schema", task.schema)):
        if isinstance(path, str) and (fault := _lacking(base, path)) is not None:
            found.append((key, f"{path!r}: {fault}"))
    problems = [Problem(key, fault) for key, fault in found if fault]
    if not isinstance(task.schema, str):
        try:
            shape.of_task(task)
        except BadConfig as error:
            problems += error.problems
    if problems:
        raise BadConfig(problems)


def _lacking(base: Path, path: str) -> str | None:
    """Say what "module:name" names that is not there, None if nothing is to be seen. Nothing of the module is run."""
    sys.path.append(str(base))
    try:
        if not _found(path):
            return f"there is no such module in {base} or among what is installed"
        module, _, name = path.partition(":")
        file = base / f"{module}.py"
        if not file.is_file():
            return None
        if (other := _origin(module)) not in (None, str(file.resolve())):
            return f"{file.name} has the name of another module, {other}, which is found first: rename it"
        return _not_in(file, name)
    finally:
        sys.path.remove(str(base))


def _origin(module: str) -> str | None:
    """Where a module is from, as far as that is known."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None:
        return None
    return "a part of Python" if spec.origin in ("built-in", "frozen") else str(Path(spec.origin).resolve())


def _not_in(file: Path, name: str) -> str | None:
    try:
        tree = ast.parse(file.read_bytes(), str(file))
    except (OSError, SyntaxError, ValueError) as error:
        return f"{file} cannot be read: {error}"
    nodes = list(ast.walk(tree))
    names = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)}
    bound = {node.id for node in nodes if isinstance(node, ast.Name)}
    taken = {
        (one.asname or one.name)
        for node in nodes
        if isinstance(node, ast.Import | ast.ImportFrom)
        for one in node.names
    }
    if name in names | bound | taken or "*" in taken or "__getattr__" in names or "globals" in bound:
        return None
    near = difflib.get_close_matches(name, names, 1)
    return f"{file} has no {name}" + (f"; did you mean {near[0]!r}?" if near else "")


def review(source: Source) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Yield what only the rooms that use them can say of a source's values, as (path in the source, message)."""
    yield from faults(source)
    for text in source.start if source.render else ():
        if re.search("#[/!]", text):
            yield (
                ("start",),
                f"{text!r}: pages are told apart by what is before #; give an address that has the page before it",
            )
    if source.cron is not None and (fault := cron_fault(source.cron, local(now()))):
        yield ("cron",), fault


# What decides whom this machine asks is the operator's, not a caller's.
OPERATORS = {"allow_networks", "proxy"}
STARTS_MOST = 10_000
AT_START_S = 5.0  # for how long a service that begins waits for who holds the lock of its database


def checked_source(
    given: Mapping[str, Any], settings: Settings, variables: Mapping[str, str], *, trusted: bool
) -> Source:
    """Return a source that somebody wrote, everything in it checked.

    trusted: by whom may write the configuration; others may not say whom this machine asks, what code it runs, and which
    variables of the environment leave it. Raises BadConfig with all problems.
    """
    faults: list[Fault] = []
    if not trusted and (crowd := [key for key in ("start", "sitemaps") if _length(given.get(key)) > STARTS_MOST]):
        raise BadConfig([Problem(key, f"has more than {STARTS_MOST} addresses; give a sitemap") for key in crowd])
    made = build(Source, given, (), faults)
    if made is not None:
        faults += review(made)
        faults += [(where, fault) for where, value in secrets_of(made) for fault in _unfit(value, variables, trusted)]
        if not trusted:
            faults += [
                (("http", key), "may only be set in the configuration file") for key in OPERATORS & set(made.http)
            ]
            if made.parser and made.parser not in {source.parser for source in settings.source}:
                faults.append((("parser",), "may only be one that a source of the configuration file uses"))
    if made is None or faults:
        raise BadConfig([Problem(dotted(path) or "source", message) for path, message in faults])
    return made


def _length(value: object) -> int:
    return len(value) if isinstance(value, list) else 0


def _unfit(value: str, variables: Mapping[str, str], trusted: bool) -> Iterator[str]:
    if value == masking.HIDDEN:
        yield "is hidden: give the value itself"
    for name in secrets.named(value):
        if not trusted and not name.startswith(secrets.PREFIX):
            yield f"names the variable {name}; from here only those that begin with {secrets.PREFIX} may be named"
        elif not variables.get(name):
            yield f"names the variable {name}, which is not set; set it in the environment or in .env"


def due(source: Source, last: datetime | None, at: datetime | None = None) -> datetime | None:
    """Return when a source is due, whose last run began at an instant. at: this instant, by the database's clock."""
    return next_due(source.every, source.cron, last, local(at or now(), source.zone))


def review_parsers(loaded: Loaded) -> None:
    """Check that the functions of parsers can be found. Raises BadConfig."""
    problems = [
        Problem(str(loaded.path), f'source "{source.name}": parser {source.parser!r}: {fault}')
        for source in loaded.settings.source
        if source.parser and (fault := _lacking(loaded.base, source.parser)) is not None
    ]
    if problems:
        raise BadConfig(problems)


def _found(parser: str) -> bool:
    """Say whether the top-level module of a parser is there. What is inside is not run here."""
    try:
        return importlib.util.find_spec(parser.partition(":")[0].partition(".")[0]) is not None
    except (ImportError, ValueError):
        return False


def preflight(loaded: Loaded, *, brings: bool = False, waits: bool = False) -> Db:
    """Open the database, and bring its tables up to date. Returns it.

    brings: the sources and tasks of the file are entered, unless a service has this database: it has those of its own start,
    and takes others when it is restarted. waits: whoever asks goes on without the database, and is not to be kept waiting here.

    Raises Unusable if a person has to mend something. A database that is merely away, or locked by another program, is only told: it is waited for.
    Raises Unavailable for a file that cannot be used just now, its disk being full for example, unless somebody waits for it.
    """
    review_parsers(loaded)
    db = Db(loaded.settings.database, role="api")
    if waits:
        db.patience_s = db.read_patience_s = min(AT_START_S, db.settings.timeout)
    log.info("connecting to the database", extra={"database": db.shown})
    for advice in advice_on(db):
        log.log(logging.INFO if db.is_sqlite else logging.WARNING, "the database: %s", advice)
    try:
        # What follows would wait for it again and again.
        if not db.is_sqlite and postgres.is_silent(db.settings, db.url):
            raise Unavailable(f"{db.shown}: takes connections, and does not answer")
        found = schema.upgrade(db)
        log.info("the tables are there", extra={"version": schema.HEAD, "before": found or "none"})
        if not db.is_sqlite and (crowded := crowding_of(db, loaded)):
            log.warning("the database: %s", crowded)
        if brings and not _is_served(loaded):
            db.write(lambda c: sources.sync(c, loaded.settings.source, partial(due, at=db.now())))
            db.write(lambda c: tasks.sync(c, loaded.settings.enrich))
        for said in strangers(db, loaded.settings):
            log.warning(said)
    except Unavailable as error:
        if db.file is not None and "locked" not in str(error) and (not waits or _is_for_a_person(db.file.path)):
            raise
        log.warning("the database is away, waiting for it", extra={"reason": str(error)})
    db.patience_s = db.read_patience_s = db.settings.timeout
    return db


def _is_for_a_person(file: Path) -> bool:
    """Say whether a file will not be usable by itself: it, or its directory, is not there, or not ours to write."""
    folder = file.parent
    if not folder.is_dir():
        return True
    if os.statvfs(folder).f_flag & os.ST_RDONLY:
        return not file.exists()  # one that is there was written once
    return not os.access(folder, os.R_OK | os.W_OK | os.X_OK) or (
        file.exists() and not os.access(file, os.R_OK | os.W_OK)
    )


def _is_served(loaded: Loaded) -> bool:
    """Say whether the sources that are there are not ours to change: a service has them, or there is no file that could name any."""
    settings = loaded.settings
    if loaded.path is None and not settings.source:
        return True
    place = statedir.path_of(settings.service.state_dir, loaded.base)
    return statedir.is_owned(place, sqlite_file(settings.database.url))


def existing(loaded: Loaded) -> Db:
    """Open the database as preflight() does: for who only asks what was stored, and is to make no database. Raises Unusable too if there is none."""
    file = sqlite_file(loaded.settings.database.url)
    if file is not None and not file.exists():
        raise Unusable(
            f"{file}: there is no such database, so nothing was stored; `bowerbird serve` or `bowerbird scrape` makes it"
        )
    return preflight(loaded)


def advice_on(db: Db) -> Iterator[str]:
    """Yield what a person should know of the database before anybody connects."""
    if db.file is not None:
        if not sqlite.is_sound(db.file.library.sqlite_version_info):
            yield f"SQLite {sqlite.said_of(db.file.library)}"
    else:
        yield from postgres.advice(db.settings, db.url)


def strangers(db: Db, settings: Settings) -> list[str]:
    """Say which sources are named that are not there; they may come, by a command or the API. Raises Unavailable, Unusable."""
    named = [(f"[[notify]] {rule.name}", name) for rule in settings.notify for name in rule.source]
    named += [(f"[[enrich]] {task.task}", task.source) for task in settings.enrich if task.source is not None]
    known = {*db.read(sources.definitions), *(source.name for source in settings.source)} if named else set()
    return [f"{where} names the source {name!r}, which is not there" for where, name in named if name not in known]


def crowding_of(db: Db, loaded: Loaded) -> str | None:
    """Say if a server takes fewer connections than our processes may open. Raises Unavailable, Unusable."""
    processes = loaded.settings.supervisor.processes + max(
        (max(1, t.workers) for t in loaded.settings.enrich), default=0
    )
    return db.read(lambda c: postgres.seats(c, db.settings, processes, api_workers()))


def api_workers() -> int:
    """Return how many processes answer the API of this service."""
    told = os.environ.get("WEB_CONCURRENCY", "")
    return max(int(told), 1) if told.isdigit() else 1
