"""The tables' version: made when there are none, brought up to date when they are older, refused when they are newer."""

import logging
import threading
from pathlib import Path

from sqlalchemy import Column, Connection, MetaData, Table, Text, insert, inspect, select

from scraper.database.bulk import TABLES, in_turn
from scraper.database.connection import Db
from scraper.database.models import metadata
from scraper.errors import Unusable

HEAD = "0001"
SCRIPTS = Path(__file__).parent / "migrations"

log = logging.getLogger(__name__)

_alembic_version = Table("alembic_version", MetaData(), Column("version_num", Text, primary_key=True))
_one_at_a_time = threading.Lock()  # Alembic keeps what is being done in its modules


def current(connection: Connection) -> str | None:
    """Return the version of the tables, or None if there are none yet. Raises Unusable for those before the first version."""
    tables = inspect(connection).get_table_names()
    if _alembic_version.name in tables:
        return connection.scalar(select(_alembic_version.c.version_num))
    if "meta" in tables:
        raise Unusable(
            "the tables were made by a version before the first release, which this one does not know; start with an empty database"
        )
    return None


def is_newer(found: str | None) -> bool:
    """Say whether tables are of a version that this one cannot know: versions are numbers of four digits."""
    return found is not None and found > HEAD


def upgrade(db: Db, head: str = HEAD, scripts: Path = SCRIPTS) -> str | None:
    """Bring the tables to this version, in one transaction; safe when several processes do so at once.

    SQLite: what was there is first copied beside it, as NAME.before-VERSION. Returns the version before, None for an empty
    database. Raises Unusable for a database of a newer version, Unavailable while there is none.
    """
    if db.file is not None and not db.file.path.parent.is_dir():
        raise Unusable(
            f"{db.file.path.parent}: there is no such directory for the database; make it or change [database] url"
        )
    if db.file is not None:
        db.file.create = True
    try:
        found = db.write(_make, deadline=False)
    finally:
        if db.file is not None:
            db.file.create = False
    if found not in (None, head):
        with _one_at_a_time:
            _bring(db, str(found), head, scripts)
    return found


def _make(connection: Connection) -> str | None:
    """Make the tables if there are none: what they are now needs no way from what they were."""
    in_turn(connection, TABLES)
    found = current(connection)
    if found is None:
        if strange := sorted(set(metadata.tables) & set(inspect(connection).get_table_names())):
            raise Unusable(f"another program has a table {strange[0]} in this database; give Bowerbird one of its own")
        metadata.create_all(connection)
        _alembic_version.create(connection)
        connection.execute(insert(_alembic_version).values(version_num=HEAD))
    return found


def _bring(db: Db, found: str, head: str, scripts: Path) -> None:
    from alembic import command  # noqa: PLC0415  0.2 s that only a change of version needs
    from alembic.config import Config  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(scripts).replace("%", "%%"))
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found not in known:
        raise Unusable(
            f"{db.shown}: was made by a newer version (tables {found}, this one knows {head}); install that version again"
        )

    def change(connection: Connection) -> None:
        in_turn(connection, TABLES)
        if current(connection) == head:
            return
        if db.file is not None:  # by another connection: as it is committed, and nobody writes now but we
            _keep(db, db.file.path.with_name(f"{db.file.path.name}.before-{head}"))
        config.attributes["connection"] = connection
        command.upgrade(config, head)
        if db.file is not None and (broken := connection.exec_driver_sql("PRAGMA foreign_key_check").first()):
            raise Unusable(f"{db.shown}: table {broken[0]}, row {broken[1]} would point to nothing in {broken[2]}")

    with db.without_foreign_keys():
        db.write(change, deadline=False)
    log.info("the tables were brought up to date", extra={"from": found, "to": head})


def _keep(db: Db, copy: Path) -> None:
    """Copy the database before it is changed. What an earlier try left is older than that."""
    copy.unlink(missing_ok=True)
    db.copy_file(copy)
    log.info("the database was copied before its tables change", extra={"copy": str(copy)})
