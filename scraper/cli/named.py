"""Which sources a command is for."""

from scraper.config.settings import Source
from scraper.config.shape import build
from scraper.database import Db, sources
from scraper.errors import BowerbirdError


class Unknown(BowerbirdError):
    """A source that was named is not there."""

    exit_code = 2


def named(db: Db, names: list[str]) -> list[Source]:
    """Return the sources of these names, of the file or of the database; all that are enabled, if none is named.

    Raises Unknown.
    """
    made = db.read(sources.definitions)
    paused = db.read(sources.paused)
    known = {name: source for name, given in made.items() if (source := build(Source, given, (), [])) is not None}
    for name in names:
        if name not in known:
            there = ", ".join(known) or "none; add a [[source]] to bowerbird.toml, or `bowerbird sources add URL`"
            raise Unknown(f"there is no source {name!r}; there are: {there}")
    return (
        [known[name] for name in names] if names else [s for s in known.values() if s.enabled and s.name not in paused]
    )
