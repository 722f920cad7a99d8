"""import: sources and items from other programs."""

import json
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer

from scraper import intake
from scraper.cli.bar import Bar
from scraper.cli.options import ConfigFile
from scraper.config.load import Loaded
from scraper.config.secrets import environment
from scraper.config.settings import Source
from scraper.config.units import duration
from scraper.database import Db, imports, sources
from scraper.database.connection import now
from scraper.errors import BadConfig, BowerbirdError, Conflict
from scraper.intake import Form, Unreadable, chroma
from scraper.records import Item
from scraper.startup import checked_source, due, preflight, settings_of
from scraper.urls import canonical

BATCH = 500
Definition = dict[str, Any]
Read = intake.Entry | str  # an item, or what is wrong with a record


def bring(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="The file, or the folder of ChromaDB; - for standard input.")
    ],
    form: Annotated[Form | None, typer.Option("--format", help="What it is; if not said, by how it begins.")] = None,
    every: Annotated[
        str | None, typer.Option(help="How often to look at sources of which the file does not say.")
    ] = None,
    source: Annotated[str | None, typer.Option(help="Of which source the items are.")] = None,
    kind: Annotated[str, typer.Option("--item", help="Of which kind the items are.")] = "item",
    key: Annotated[list[str] | None, typer.Option(help="A field by which items are known; may be given again.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be stored, and store nothing.")] = False,
    config: ConfigFile = None,
) -> None:
    """Bring in sources (lists of URLs, OPML, changedetection.io), or items (of Scrapy, of a folder of ChromaDB)."""
    loaded = settings_of(config)
    if chroma.is_folder(file):
        with preflight(loaded, brings=True) as db:
            try:
                bad = _items(db, _of_chroma(file), _named(source), dry_run=dry_run)
            except Unreadable as error:
                raise Unreadable(f"{file}: {error}") from None
        if bad:
            raise typer.Exit(1)
        return
    with _opened(file) as opened, preflight(loaded, brings=True) as db:
        try:
            form = form or intake.guess(opened)
            if form is Form.SCRAPY:
                read = _of_file(opened, intake.Entries(kind, key or ()))
                bad = _items(db, read, _named(source), dry_run=dry_run)
            elif source is not None:
                raise typer.BadParameter(f"--source is for items, and this is a list of sources ({form})")
            else:
                bad = _sources(db, loaded, opened, form, _seconds(every), dry_run=dry_run)
        except Unreadable as error:
            raise Unreadable(f"{file}: {error}") from None
    if bad:
        raise typer.Exit(1)


def _named(source: str | None) -> str:
    if source is None:
        raise typer.BadParameter("these are items; say with --source of which source they are")
    return source


def _seconds(every: str | None) -> float | None:
    try:
        return duration(every) if every is not None else None
    except ValueError as error:
        raise typer.BadParameter(f"--every: {error}") from None


@contextmanager
def _opened(file: Path) -> Iterator[BinaryIO]:
    """The file, such as can be read twice."""
    try:
        opened = _kept(sys.stdin.buffer) if str(file) == "-" else file.open("rb")
    except OSError as error:
        raise BowerbirdError(f"{file}: cannot be read: {error.strerror or error}") from None
    with opened:
        yield opened


def _kept(stream: BinaryIO) -> BinaryIO:
    """All of a stream, in a file that is gone when it is closed."""
    kept = tempfile.TemporaryFile()  # noqa: SIM115  who gets it closes it
    shutil.copyfileobj(stream, kept)
    kept.seek(0)
    return kept


def _sources(db: Db, loaded: Loaded, opened: BinaryIO, form: Form, every: float | None, *, dry_run: bool) -> int:
    """Store what a file lists as sources. Returns how many entries could not be used."""
    known = db.read(sources.definitions)
    found = intake.SOURCES[form](opened, intake.Names(known))
    there = {_place(definition) for definition in known.values()}
    new = [definition for definition in found.definitions if _place(definition) not in there]
    for definition in new:
        if every is not None:
            definition.setdefault("every", every)
    for note in found.notes:
        print(note, file=sys.stderr)
    entered, faults = enter(db, loaded, new, dry_run=dry_run)
    for definition in entered:
        print(json.dumps(definition, ensure_ascii=False) if dry_run else definition["name"])
    for fault in faults:
        print(fault, file=sys.stderr)
    bad = found.bad + len(new) - len(entered)
    _sum_up(len(entered), "source", len(found.definitions) - len(new), bad, dry_run=dry_run)
    asked = sum("every" not in definition for definition in entered)
    if asked:
        print(f"{asked} of them run only when asked; --every 1h has them run each hour", file=sys.stderr)
    return bad


def _place(definition: Definition) -> tuple[tuple[str, ...], ...]:
    """What a source looks at: who looks at the same is the same."""
    return tuple(
        tuple(sorted(canonical(url) or url for url in definition.get(key, ()))) for key in ("start", "sitemaps")
    )


def enter(
    db: Db, loaded: Loaded, definitions: Iterable[Definition], *, dry_run: bool = False
) -> tuple[list[Definition], list[str]]:
    """Store definitions as sources of the database. Returns those that were sound, and what is wrong with the others.

    They are somebody else's words: no code of ours runs for them, and no variable of ours leaves with them.
    """
    sound: list[Definition] = []
    made: list[Source] = []
    told: list[str] = []
    for definition in definitions:
        try:
            made.append(checked_source(definition, loaded.settings, environment(loaded.base), trusted=False))
            sound.append(definition)
        except BadConfig as error:
            told += [f"{definition.get('name')}: {problem}" for problem in error.problems]

    def unit(connection: Any) -> None:
        for source in made:
            sources.add(connection, source, due)

    if made and not dry_run:
        db.write(unit)
    return sound, told


def _items(db: Db, read: Iterator[Read], source: str, *, dry_run: bool) -> int:
    """Store items. Returns how many records could not be used."""
    start = db.read(lambda c: sources.definition(c, source))
    home = next(
        (url for text in (*start.get("start", ()), *start.get("sitemaps", ())) if (url := canonical(text))), None
    )
    if home is None:
        raise Conflict(f"the source {source!r} has no address")
    under = None if dry_run else db.write(lambda c: imports.begin(c, source, now()))
    bad = count = 0
    for batch, faults in _batches(read):
        for fault in faults:
            print(fault, file=sys.stderr)
        bad, count = bad + len(faults), count + len(batch)
        if under is not None and batch:
            db.write(partial(imports.put, under=under, entries=batch, home=home, at=now()))
    done = db.write(lambda c: imports.end(c, under, now())) if under is not None else {}
    same = count - sum(done.values()) if under is not None else 0
    changed = ", ".join(f"{number} {change}" for change, number in done.items())
    print(f"{count} items read{': ' + changed if changed else ''}{f', {same} as they were' if same > 0 else ''}")
    if bad:
        print(f"{bad} records could not be used", file=sys.stderr)
    return bad


def _of_file(opened: BinaryIO, entries: intake.Entries) -> Iterator[Read]:
    """The items of a file, with a bar over its bytes."""
    of = opened.seek(0, 2)
    opened.seek(0)
    with Bar("bytes") as bar:
        for count, (place, record) in enumerate(intake.records(opened), 1):
            try:
                if isinstance(record, intake.Unfit):
                    raise record
                yield entries.entry(record)
            except intake.Unfit as error:
                yield f"{place}: {error}"
            if count % BATCH == 0:
                bar.show(min(opened.tell(), of), of)
        bar.show(of, of)


def _of_chroma(folder: Path) -> Iterator[Read]:
    """The items of a folder of ChromaDB; each collection is a kind of its own."""
    known: dict[str, intake.Entries] = {}
    names = intake.Names()
    for collection, record in chroma.read(folder):
        if collection not in known:
            known[collection] = intake.Entries(names.name(collection), ("id",))
        try:
            yield known[collection].entry(record)
        except intake.Unfit as error:
            yield f"{collection} {record['id']}: {error}"


def _batches(read: Iterator[Read]) -> Iterator[tuple[list[tuple[str | None, Item]], list[str]]]:
    """Some items at a time, each with the URL of its page if it says one, and what is wrong with the records among them."""
    batch: list[tuple[str | None, Item]] = []
    faults: list[str] = []
    for one in read:
        if isinstance(one, str):
            faults.append(one)
        else:
            batch.append((one.url, one.item))
        if len(batch) + len(faults) >= BATCH:
            yield batch, faults
            batch, faults = [], []
    yield batch, faults


def _sum_up(entered: int, unit: str, there: int, bad: int, *, dry_run: bool) -> None:
    said = [f"{entered} {unit}{'' if entered == 1 else 's'} {'would be stored' if dry_run else 'stored'}"]
    said += [f"{there} there already"] if there else []
    said += [f"{bad} could not be used"] if bad else []
    print(", ".join(said), file=sys.stderr)
