"""What a person types, as what is looked for. Pure.

Words, all of which have to be there; "phrases"; beginnings (bird*); -not; this OR that; and fields: source:, kind:, of:, since:, versions:.
"""

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from unicodedata import category

from scraper.unspaced import SEPARATOR, apart

TERMS_MOST = 32
QUERY_MOST = 1000
FIELDS = ("source", "kind", "of", "since", "versions")
_PART = re.compile(r'(?P<not>-)?(?:(?P<field>[a-z]+):)?(?:"(?P<phrase>[^"]*)"?|(?P<word>\S+))')
_AGO = re.compile(r"(\d{1,5})(h|d|w)")


class BadQuery(ValueError):
    """A query that cannot be understood; the text says why."""


@dataclass(frozen=True, slots=True)
class Term:
    """Words that stand one after the other; the last one may be the beginning of one."""

    words: tuple[str, ...]
    begins: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """What is looked for: of each of `all`, one; nothing of `none`; and the fields. ever: also as it was before."""

    all: tuple[tuple[Term, ...], ...] = ()
    none: tuple[Term, ...] = ()
    fields: dict[str, str] = field(default_factory=dict)
    since: datetime | None = None
    ever: bool = False


def parse(text: str, now: datetime) -> Query:
    """Return what a text asks for. now: what "since:7d" counts from. Raises BadQuery."""
    if len(text) > QUERY_MOST:
        raise BadQuery(f"a query has at most {QUERY_MOST} characters")
    found = _Found()
    for match in _PART.finditer(text):
        found.take(match)
    if not found.all:
        raise BadQuery("say at least one word that is to be there")
    fields = found.fields
    since = _since(fields.pop("since"), now) if "since" in fields else None
    if fields.get("of") not in (None, "page", "item"):
        raise BadQuery('of: is "page" or "item"')
    versions = fields.pop("versions", "current")
    if versions not in ("all", "current"):
        raise BadQuery('versions: is "all" or "current"')
    return Query(tuple(found.all), tuple(found.none), fields, since, versions == "all")


@dataclass(slots=True)
class _Found:
    """A query while it is read from left to right."""

    all: list[tuple[Term, ...]] = field(default_factory=list)
    none: list[Term] = field(default_factory=list)
    fields: dict[str, str] = field(default_factory=dict)
    either: bool = False

    def take(self, match: "re.Match[str]") -> None:
        name, value = match["field"], match["phrase"] if match["phrase"] is not None else match["word"]
        if match["word"] in ("OR", "|") and name is None and not match["not"]:
            self.either = bool(self.all)
            return
        if name in FIELDS:
            if match["not"] or name in self.fields:
                fault = "is asked for only as it is, not as what it is not" if match["not"] else "is there twice"
                raise BadQuery(f"{name}: {fault}; leave it out")
            self.fields[name] = value
            return
        whole = f"{name}:{value}" if name else value
        term = _term(whole, begins=match["phrase"] is None and whole.endswith("*"))
        if term is None:
            return
        if match["not"]:
            self.none.append(term)
        elif self.either:
            self.all[-1] = (*self.all[-1], term)
        else:
            self.all.append((term,))
        self.either = False
        if sum(map(len, self.all)) + len(self.none) > TERMS_MOST:
            raise BadQuery(f"a query has at most {TERMS_MOST} words")


def _term(text: str, *, begins: bool) -> Term | None:
    words = tuple(word for found in _words(text) for word in apart(found).split(SEPARATOR))
    return Term(words, begins) if words else None


def _words(text: str) -> list[str]:
    """What stands between what is part of no word; a sign that belongs to a letter (of Thai, of Hindi) is part of it."""
    return "".join(c if c.isalnum() or c == "_" or category(c)[0] == "M" else " " for c in text).split()


def _since(text: str, now: datetime) -> datetime:
    if ago := _AGO.fullmatch(text):
        return now - int(ago[1]) * {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}[ago[2]]
    try:
        at = datetime.fromisoformat(text)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise BadQuery(f'since: {text!r} is no date; write for example "2026-01-31" or "7d"') from None


def for_sqlite(query: Query) -> str:
    """Return a query in the words of FTS5; every word in quotes, so that none of them means anything (sqlite.org/fts5.html)."""
    wanted = " AND ".join(f"({' OR '.join(map(_fts5, terms))})" for terms in query.all)
    return f"({wanted})" + "".join(f" NOT {_fts5(term)}" for term in query.none)


def _fts5(term: Term) -> str:
    return f'"{" ".join(term.words)}"' + (" *" if term.begins else "")


def for_postgres(query: Query) -> str:
    """Return a query in the words of to_tsquery; every word in quotes."""
    wanted = " & ".join(f"({' | '.join(map(_tsquery, terms))})" for terms in query.all)
    return wanted + "".join(f" & !({_tsquery(term)})" for term in query.none)


def _tsquery(term: Term) -> str:
    *first, last = [f"'{word}'" for word in term.words]
    return " <-> ".join([*first, last + (":*" if term.begins else "")])
