"""The tables."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    event,
    false,
    literal_column,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import CreateIndex
from sqlalchemy.types import TypeEngine

from scraper.errors import Failure
from scraper.states import JobState, UrlState

# Names by which a later step can take hold of a constraint, on both databases.
metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(column_0_label)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    }
)

Id = BigInteger().with_variant(Integer, "sqlite")


class Instant(TypeDecorator[datetime]):
    """An aware instant, kept as UTC. SQLite has no time zones of its own."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None or dialect.name != "sqlite":
            return value
        return value.astimezone(UTC).replace(tzinfo=None)

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[str | None], datetime | None] | None:
        """Of SQLite in one step: a list has hundreds of them."""
        return _utc if dialect.name == "sqlite" else None


@lru_cache(maxsize=4096)
def _utc(text: str | None) -> datetime | None:
    return datetime.fromisoformat(f"{text}+00:00") if text is not None else None


class Json(TypeDecorator[Any]):
    """A JSON document; JSONB on PostgreSQL."""

    impl = JSON
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "postgresql":
            from sqlalchemy.dialects.postgresql import JSONB  # noqa: PLC0415  0.02 s that SQLite need not pay

            return dialect.type_descriptor(JSONB())
        return dialect.type_descriptor(JSON())


class Blob(LargeBinary):
    """Bytes, which our drivers take and give as they are: SQLAlchemy would wrap and copy each value."""

    def bind_processor(self, dialect: Dialect) -> None:
        return None

    def result_processor(self, dialect: Dialect, coltype: object) -> None:
        return None


def _partial(name: str, *columns: Any, where: Any) -> Index:
    """A partial index: small, for it holds only the rows that are looked for.

    Not by the dialects' own options: to say `postgresql_where` loads that dialect, 0.06 s of each start.
    """
    return Index(name, *columns, info={"where": where})


@compiles(CreateIndex)
def _create_index(element: CreateIndex, compiler: Any, **options: Any) -> str:
    text: str = compiler.visit_create_index(element, **options)
    where = element.element.info.get("where")
    if where is None:
        return text
    return f"{text} WHERE {compiler.sql_compiler.process(where, include_table=False, literal_binds=True)}"


meta = Table("meta", metadata, Column("name", Text, primary_key=True), Column("value", Text, nullable=False))

sources = Table(
    "sources",
    metadata,
    Column("name", Text, primary_key=True),
    Column("definition", Json, nullable=False),
    Column("origin", Text, nullable=False),
    Column("enabled", Boolean, nullable=False, default=True),
    Column("last_run_at", Instant),
    Column("checked_at", Instant),
    Column("next_at", Instant),
    Column("paused_at", Instant),  # by a person, wherever the source is written down
    Column("run_id", Id),  # the last run that was opened
    Column("tags", Text, nullable=False, default="", server_default=""),  # with a space on either side of each
)

hosts = Table(
    "hosts",
    metadata,
    Column("host", Text, primary_key=True),
    Column("lease_owner", Text),
    Column("lease_until", Instant),
    Column("next_at", Instant),
    Column("delay_s", Float, nullable=False, default=0.0),
    Column("crawl_delay_s", Float, nullable=False, default=0.0, server_default="0"),
    Column("penalty_s", Float, nullable=False, default=0.0, server_default="0"),
    Column("latency_s", Float, nullable=False, default=0.0, server_default="0"),
    Column("strikes", Integer, nullable=False, default=0, server_default="0"),
    Column("trips", Integer, nullable=False, default=0, server_default="0"),
    Column("why", Text),
)

workers = Table(
    "workers",
    metadata,
    Column("owner", Text, primary_key=True),
    Column("seen_at", Instant, nullable=False),
    Column("due", Integer, nullable=False),
)

# What was taken from a site on one day, for the budgets.
usage = Table(
    "usage",
    metadata,
    Column("source", Text, primary_key=True),
    Column("day", Text, primary_key=True),
    Column("pages", Integer, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("changes", Integer, nullable=False, default=0, server_default="0"),
)

# What a worker did in one minute, for the charts. latency: how many answers took how long; depth: URLs that waited.
activity = Table(
    "activity",
    metadata,
    Column("minute", BigInteger, primary_key=True),  # of the Unix time
    Column("worker", Text, primary_key=True),
    Column("pages", Integer, nullable=False),
    Column("failures", Json, nullable=False),
    Column("latency", Json, nullable=False),
    Column("depth", Integer, nullable=False),
)

# What only grows, over restarts and for all workers together, for Prometheus.
counters = Table(
    "counters",
    metadata,
    Column("name", Text, primary_key=True),
    Column("source", Text, primary_key=True),
    Column("label", Text, primary_key=True),
    Column("value", Float, nullable=False),
)

robots = Table(
    "robots",
    metadata,
    Column("origin", Text, primary_key=True),
    Column("status", Integer, nullable=False),
    Column("text", Text, nullable=False),
    Column("fetched_at", Instant, nullable=False),
)

runs = Table(
    "runs",
    metadata,
    Column("id", Id, primary_key=True),
    Column("source", Text, nullable=False),
    Column("state", Text, nullable=False, index=True),
    Column("kind", Text, nullable=False, default="crawl", server_default="crawl"),
    Column("queued_at", Instant, nullable=False),
    Column("started_at", Instant),
    Column("finished_at", Instant),
    Column("max_pages", Integer, nullable=False, default=0),
    Column("known", Integer, nullable=False, default=0),
    Column("pages", Integer, nullable=False, default=0),
    Column("items", Integer, nullable=False, default=0),
    Column("bytes", BigInteger, nullable=False, default=0),
    Column("failures", Integer, nullable=False, default=0),
    Column("changes", Integer, nullable=False, default=0, server_default="0"),
    Column("message", Text),
    Index("runs_of_source", "source", "id"),
)
# How the last run of a source ended is asked of all sources at once.
_partial("runs_ended", runs.c.source, runs.c.id, runs.c.state, where=runs.c.finished_at.is_not(None))

# In how many items of a run each field was filled; the field "" counts the items.
run_fields = Table(
    "run_fields",
    metadata,
    Column("run_id", Id, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("field", Text, primary_key=True),
    Column("filled", Integer, nullable=False),
)

# Items that a page lists, though another is their home: what is there on a page that is as it was, is there.
# data: what the page shows of it; quiet: fields of it whose change is no news.
also_on = Table(
    "also_on",
    metadata,
    Column("page_id", Id, primary_key=True),
    Column("item_id", Id, primary_key=True, index=True),
    Column("source", Text, nullable=False, index=True),
    Column("data", Json, nullable=False),
    Column("quiet", Json, nullable=False),
)

# What is wrong with what a source yields, until it is right again or somebody accepts it.
alarms = Table(
    "alarms",
    metadata,
    Column("id", Id, primary_key=True),
    Column("source", Text, nullable=False, index=True),
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("at", Instant, nullable=False),
    Column("last_at", Instant, nullable=False),
    Column("message", Text, nullable=False),
    Column("accepted_at", Instant),
    Column("resolved_at", Instant),
)

urls = Table(
    "urls",
    metadata,
    Column("id", Id, primary_key=True),
    Column("source", Text, nullable=False),
    Column("fingerprint", Blob(16), nullable=False),
    Column("url", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("rank", Integer, nullable=False, default=0, server_default="0"),
    Column("depth", Integer, nullable=False),
    Column("run_id", Id, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("crashes", Integer, nullable=False, default=0),
    Column("not_before", Instant),
    Column("claimed_by", Text),
    Column("modified_at", Instant),  # when a sitemap says that it changed last
    Column("last_look", Integer, nullable=False, default=0, server_default="0"),
    UniqueConstraint("fingerprint", "source"),  # in this order: many are looked up at once, of several sources
    Index("urls_seen", "source", "last_look", "run_id"),
)


def in_state(state: UrlState) -> ColumnElement[bool]:
    """Return what holds of URLs in a state. In words, not as a parameter: only so a partial index is seen to do."""
    return urls.c.state == literal_column(f"'{state}'", Text)


# Of each URL one entry, as long as it waits.
_partial(
    "urls_to_visit", urls.c.run_id, urls.c.host, urls.c.rank, urls.c.depth, urls.c.id, where=in_state(UrlState.QUEUED)
)
_partial("urls_failed", urls.c.run_id, where=in_state(UrlState.FAILED))
_partial("urls_claimed", urls.c.claimed_by, urls.c.run_id, urls.c.kind, where=urls.c.claimed_by.is_not(None))
_partial("urls_waiting", urls.c.not_before, where=urls.c.not_before.is_not(None))

# The mark of no rules: whoever sees such a page reads it, though it be as it is stored.
UNREAD = ""

pages = Table(
    "pages",
    metadata,
    Column("id", Id, primary_key=True),
    Column("source", Text, nullable=False, index=True),
    Column("fingerprint", Blob(16), nullable=False),
    Column("run_id", Id, nullable=False),
    Column("url", Text, nullable=False),
    Column("final_url", Text, nullable=False),
    Column("status", Integer, nullable=False),
    Column("content_type", Text, nullable=False),
    Column("title", Text),
    Column("depth", Integer, nullable=False),
    Column("content_hash", Text, nullable=False),
    Column("bytes", Integer, nullable=False),
    Column("headers", Json, nullable=False),
    Column("body", Blob, nullable=False),
    Column("stored_bytes", Integer, nullable=False),  # of the body as it is kept; 0: it is kept no more
    Column("rules", Text, nullable=False, default="", server_default=""),
    Column("links", Blob),
    Column("item_count", Integer, nullable=False, default=0, server_default="0"),
    Column("simhash", BigInteger),
    Column("canonical_url", Text),
    Column("duplicate_of", Id),
    Column("fetched_at", Instant, nullable=False),
    Column("changed_at", Instant, nullable=False),
    Column("gone_at", Instant),
    Column("elapsed_s", Float),
    Column("check_every_s", Float),  # how often it is worth to look, where the source asks for that
    Column("check_after", Instant),
    UniqueConstraint("fingerprint", "source"),
    Index("pages_by_content", "content_hash", "source"),
)
_partial("pages_redirected", pages.c.url, pages.c.source, where=pages.c.url != pages.c.final_url)
_partial("pages_elsewhere", pages.c.final_url, where=pages.c.url != pages.c.final_url)
_partial("pages_copies", pages.c.duplicate_of, where=pages.c.duplicate_of.is_not(None))
_partial("pages_gone", pages.c.source, pages.c.gone_at, where=pages.c.gone_at.is_not(None))

# What pages were before they changed; what they are is in pages.
page_versions = Table(
    "page_versions",
    metadata,
    Column("id", Id, primary_key=True),
    Column("page_id", Id, ForeignKey("pages.id"), nullable=False, index=True),
    Column("source", Text, nullable=False, index=True),
    Column("at", Instant, nullable=False),
    Column("until", Instant, nullable=False),
    Column("status", Integer, nullable=False),
    Column("title", Text),
    Column("content_hash", Text, nullable=False),
    Column("bytes", Integer, nullable=False),
    Column("headers", Json, nullable=False),
    Column("body", Blob, nullable=False),
    Column("stored_bytes", Integer, nullable=False),
)

items = Table(
    "items",
    metadata,
    Column("id", Id, primary_key=True),
    Column("source", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("page_id", Id, ForeignKey("pages.id"), nullable=False, index=True),
    Column("run_id", Id, nullable=False),
    Column("data", Json, nullable=False),
    Column("first_seen", Instant, nullable=False),
    Column("last_seen", Instant, nullable=False),
    Column("changed_at", Instant, nullable=False),
    Column("removed_at", Instant),
    UniqueConstraint("key", "source", "kind"),
    # Each for a list, the newest first: without it, few rows among many others are looked for through all of them.
    Index("items_of_source", "source", "id"),
    Index("items_of_kind", "kind", "id"),
    Index("items_by_kind", "source", "kind", "id"),
)

_partial("items_removed", items.c.source, items.c.removed_at, where=items.c.removed_at.is_not(None))

# What items were before they changed; what they are is in items.
item_versions = Table(
    "item_versions",
    metadata,
    Column("id", Id, primary_key=True),
    Column("item_id", Id, ForeignKey("items.id"), nullable=False, index=True),
    Column("source", Text, nullable=False, index=True),
    Column("at", Instant, nullable=False),
    Column("until", Instant, nullable=False),
    Column("data", Json, nullable=False),
)

changes = Table(
    "changes",
    metadata,
    Column("id", Id, primary_key=True),
    Column("at", Instant, nullable=False),
    Column("source", Text, nullable=False),
    Column("of", Text, nullable=False),
    Column("kind", Text),
    Column("change", Text, nullable=False),
    Column("item_id", Id),
    Column("page_id", Id),
    Column("fields", Json, nullable=False),
    Column("read_at", Instant),  # when a person saw it
    Index("changes_of_source", "source", "id"),
    sqlite_autoincrement=True,  # no number twice, though the newest row be taken back
)
# In words, not as a parameter, as in in_state(). These are few, beside what is created once and for all.
is_news = changes.c.change != literal_column("'created'", Text)
_partial("changes_news", changes.c.id, where=is_news)
is_unread = is_news & changes.c.read_at.is_(None)
_partial("changes_unread", changes.c.id, where=is_unread)
_partial("changes_news_of_source", changes.c.source, changes.c.id, where=is_news)
# With what was created too: who asks for all changes of one item gets them without a look at those of all others.
_partial("changes_of_item", changes.c.item_id, changes.c.id, where=changes.c.item_id.is_not(None))
_partial("changes_of_page", changes.c.page_id, changes.c.id, where=changes.c.page_id.is_not(None))

failures = Table(
    "failures",
    metadata,
    Column("id", Id, primary_key=True),
    Column("url_id", Id, nullable=False, unique=True),
    Column("source", Text, nullable=False, index=True),
    Column("url", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("first_at", Instant, nullable=False),
    Column("last_at", Instant, nullable=False),
    Column("resolved_at", Instant),
)

# What fails for reasons of ours, or of the user's own parser, and not of the site. In words, as in in_state().
OWNERS = (Failure.EXTRACT, Failure.PARSE_LIMIT, Failure.POISON, Failure.STORE)
is_owners = failures.c.resolved_at.is_(None) & failures.c.reason.in_([literal_column(f"'{o}'", Text) for o in OWNERS])
_partial("failures_of_owners", failures.c.source, where=is_owners)
_partial("failures_open", failures.c.source, failures.c.reason, failures.c.id, where=failures.c.resolved_at.is_(None))

events = Table(
    "events",
    metadata,
    Column("id", Id, primary_key=True),
    Column("at", Instant, nullable=False),
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("event", Text, nullable=False),
    Column("level", Text, nullable=False),
    Column("facts", Json, nullable=False),
    Index("events_by_level", "level", "id"),
    sqlite_autoincrement=True,
)

# Who may call beside the holder of the configuration's token. Of a token only its SHA-256 is kept.
tokens = Table(
    "tokens",
    metadata,
    Column("id", Id, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("digest", Text, nullable=False, unique=True),
    Column("scope", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant),
    Column("used_at", Instant),
    sqlite_autoincrement=True,  # a session goes by the number: it must not become that of another token
)

# What was answered to calls that carried an Idempotency-Key.
answers = Table(
    "answers",
    metadata,
    Column("key", Text, primary_key=True),
    Column("digest", Text, nullable=False),
    Column("at", Instant, nullable=False, index=True),
    Column("status", Integer),  # none yet: it is being worked on
    Column("headers", Json),  # those that are part of the answer: api/idempotency.py
    Column("body", Blob),
)

# How far each rule for notifications has looked, and what it has told and not yet seen mended.
notify_rules = Table(
    "notify_rules",
    metadata,
    Column("name", Text, primary_key=True),
    Column("change_id", Id, nullable=False),
    Column("event_id", Id, nullable=False),
    Column("told", Json, nullable=False),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", Id, primary_key=True),
    Column("rule", Text, nullable=False, index=True),
    Column("state", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("payload", Json, nullable=False),
    Column("made_at", Instant, nullable=False),
    Column("due_at", Instant, nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("answer", Text),
    Column("sent_at", Instant),
    Column("claimed_until", Instant),
)
_partial("deliveries_due", deliveries.c.due_at, where=deliveries.c.state == literal_column("'queued'", Text))

# What is made of pages and items: the tasks of the file and those added later, and what each has spent.
tasks = Table(
    "tasks",
    metadata,
    Column("name", Text, primary_key=True),
    Column("definition", Json, nullable=False),
    Column("origin", Text, nullable=False),
    Column("next_at", Instant),
    Column("asked", Json),  # a run that somebody asked for and that nobody has laid out yet
    Column("laid_out", Text, nullable=False, default="", server_default=""),  # the mark by which all was looked at last
    Column("change_id", Id, nullable=False, default=0, server_default="0"),  # how far it has followed the changes
    Column("calls", Integer, nullable=False, default=0, server_default="0"),
    Column("tokens_in", BigInteger, nullable=False, default=0, server_default="0"),
    Column("tokens_out", BigInteger, nullable=False, default=0, server_default="0"),
    Column("cost", Float, nullable=False, default=0.0, server_default="0"),
    Column("busy_s", Float, nullable=False, default=0.0, server_default="0"),
)

# One thing to be made of one page or item: by which input, how far it is, who has it in hand.
jobs = Table(
    "jobs",
    metadata,
    Column("id", Id, primary_key=True),
    Column("task", Text, nullable=False),
    Column("of", Text, nullable=False),
    Column("subject_id", Id, nullable=False),
    Column("source", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("input_hash", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False, default=0, server_default="0"),
    Column("crashes", Integer, nullable=False, default=0, server_default="0"),
    Column(
        "anew", Boolean, nullable=False, default=False, server_default=false()
    ),  # what was answered before does not count
    Column("not_before", Instant),
    Column("claimed_by", Text),
    Column("lease_until", Instant),
    Column("reason", Text),
    Column("message", Text),
    Column("at", Instant, nullable=False),
    UniqueConstraint("subject_id", "task", "of", "kind"),
    Index("jobs_of_task", "task", "state", "source"),
)


def job_in(state: JobState) -> ColumnElement[bool]:
    """Return what holds of jobs in a state. In words, as in in_state()."""
    return jobs.c.state == literal_column(f"'{state}'", Text)


_partial("jobs_to_do", jobs.c.task, jobs.c.id, where=job_in(JobState.QUEUED))
_partial("jobs_claimed", jobs.c.claimed_by, where=jobs.c.claimed_by.is_not(None))

# Each try at a job that asked a model, or failed: what it cost, and how it went.
attempts = Table(
    "attempts",
    metadata,
    Column("id", Id, primary_key=True),
    Column("job_id", Id, nullable=False, index=True),
    Column("at", Instant, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("message", Text),
    Column("model", Text),
    Column("tokens_in", Integer, nullable=False, default=0, server_default="0"),
    Column("tokens_out", Integer, nullable=False, default=0, server_default="0"),
    Column("elapsed_s", Float, nullable=False),
)

enrichments = Table(
    "enrichments",
    metadata,
    Column("id", Id, primary_key=True),
    Column("task", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("of", Text, nullable=False),
    Column("subject_id", Id, nullable=False),
    Column("number", Integer, nullable=False),
    Column("input_hash", Text, nullable=False),
    Column("data", Json, nullable=False),
    Column("model", Text),
    Column("attempts", Integer, nullable=False),
    Column("created_at", Instant, nullable=False),
    UniqueConstraint("subject_id", "task", "of", "kind", "number"),
    Index("enrichments_of_task", "task", "id"),
    Index("enrichments_of_source", "source", "id"),
)

# What a model answered to a prompt before: the same prompt is not paid for twice.
answers_kept = Table(
    "answers_kept",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("text", Text, nullable=False),
    Column("at", Instant, nullable=False, index=True),
)

# Passages of texts, and their vectors, by each model that was asked for some.
chunks = Table(
    "chunks",
    metadata,
    Column("id", Id, primary_key=True),
    Column("of", Text, nullable=False),
    Column("subject_id", Id, nullable=False),
    Column("source", Text, nullable=False, index=True),
    Column("kind", Text),
    Column("number", Integer, nullable=False),
    Column("url", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("at", Instant, nullable=False),
    UniqueConstraint("subject_id", "of", "number"),
    sqlite_autoincrement=True,
)

vectors = Table(
    "vectors",
    metadata,
    Column("id", Id, primary_key=True),
    Column("chunk_id", Id, ForeignKey("chunks.id", ondelete="CASCADE"), nullable=False),
    Column("model", Text, nullable=False),
    Column("vector", Blob, nullable=False),  # 32-bit floats, of length one
    UniqueConstraint("chunk_id", "model"),
    Index("vectors_of_model", "model", "id"),
    sqlite_autoincrement=True,  # who follows the numbers must not meet an old one again
)

# Short notes on a page, or for a person: the same note, in the same words or in others, is there once.
notes = Table(
    "notes",
    metadata,
    Column("id", Id, primary_key=True),
    Column("about", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("model", Text),
    Column("vector", Blob),
    Column("created_at", Instant, nullable=False),
    UniqueConstraint("about", "digest"),
)
# Texts that notes are to be made of, until they are made.
notes_wanted = Table(
    "notes_wanted",
    metadata,
    Column("id", Id, primary_key=True),
    Column("about", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("not_before", Instant, nullable=False, index=True),
    Column("claimed_at", Instant),
    Column("created_at", Instant, nullable=False),
)

# What can be searched: the text of each page and of each item, as it is now (version 0, and no `until`) and as it was: then
# `version` is the number in page_versions or item_versions. Its words are in what a database has for that.
documents = Table(
    "documents",
    metadata,
    Column("id", Id, primary_key=True),
    Column("of", Text, nullable=False),
    Column("subject_id", Id, nullable=False),
    Column("source", Text, nullable=False, index=True),
    Column("kind", Text),
    Column("url", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("at", Instant, nullable=False),
    Column("version", Id, nullable=False, server_default="0"),
    Column("until", Instant),
    UniqueConstraint("subject_id", "of", "version"),
)
_partial("documents_by_version", documents.c.version, where=documents.c.version > 0)
WORDS = "documents_words"


def full_text(dialect: str) -> list[str]:
    """Return the statements that make words of documents be found, in the words of a database.

    SQLite: FTS5 beside the table, which triggers keep the same. PostgreSQL: a column that the server keeps, and its index.
    """
    if dialect == "sqlite":
        forget = f"INSERT INTO {WORDS}({WORDS}, rowid, title, text) VALUES ('delete', old.id, old.title, old.text);"
        enter = f"INSERT INTO {WORDS}(rowid, title, text) VALUES (new.id, new.title, new.text);"
        options = "content='documents', content_rowid='id', tokenize='unicode61 remove_diacritics 2', prefix='2 3'"
        return [
            f"CREATE VIRTUAL TABLE {WORDS} USING fts5(title, text, {options})",
            f"CREATE TRIGGER {WORDS}_added AFTER INSERT ON documents BEGIN {enter} END",
            f"CREATE TRIGGER {WORDS}_dropped AFTER DELETE ON documents BEGIN {forget} END",
            f"CREATE TRIGGER {WORDS}_altered AFTER UPDATE ON documents BEGIN {forget} {enter} END",
        ]
    weighed = "setweight(to_tsvector('simple', title), 'A') || setweight(to_tsvector('simple', text), 'B')"
    return [
        f"ALTER TABLE documents ADD COLUMN words tsvector GENERATED ALWAYS AS ({weighed}) STORED",
        f"CREATE INDEX {WORDS} ON documents USING gin (words)",
    ]


@event.listens_for(documents, "after_create")
def _with_words(table: Table, connection: Connection, **_: Any) -> None:
    for statement in full_text(connection.dialect.name):
        connection.exec_driver_sql(statement)
