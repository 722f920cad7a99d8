"""The first tables."""

import sqlalchemy as sa
from alembic import op

from scraper.database.models import Id, Instant, Json, full_text

revision = "0001"
down_revision = None


def _partial(where: str, name: str, table: str, columns: list[str]) -> None:
    condition = sa.text(where)
    op.create_index(name, table, columns, sqlite_where=condition, postgresql_where=condition)


def upgrade() -> None:  # noqa: PLR0915  a list of tables
    """Make the tables so."""
    op.create_table(
        "activity",
        sa.Column("minute", sa.BigInteger(), nullable=False),
        sa.Column("worker", sa.Text(), nullable=False),
        sa.Column("pages", sa.Integer(), nullable=False),
        sa.Column("failures", Json(), nullable=False),
        sa.Column("latency", Json(), nullable=False),
        sa.Column("depth", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("minute", "worker", name="pk_activity"),
    )
    op.create_table(
        "alarms",
        sa.Column("id", Id, nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("at", Instant(), nullable=False),
        sa.Column("last_at", Instant(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("accepted_at", Instant(), nullable=True),
        sa.Column("resolved_at", Instant(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_alarms"),
    )
    op.create_index("ix_alarms_source", "alarms", ["source"])
    op.create_table(
        "answers",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("at", Instant(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("headers", Json(), nullable=True),
        sa.Column("body", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("key", name="pk_answers"),
    )
    op.create_index("ix_answers_at", "answers", ["at"])
    op.create_table(
        "changes",
        sa.Column("id", Id, nullable=False),
        sa.Column("at", Instant(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("of", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=True),
        sa.Column("change", sa.Text(), nullable=False),
        sa.Column("item_id", Id, nullable=True),
        sa.Column("page_id", Id, nullable=True),
        sa.Column("fields", Json(), nullable=False),
        sa.Column("read_at", Instant(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_changes"),
        sqlite_autoincrement=True,
    )
    _partial("change != 'created'", "changes_news", "changes", ["id"])
    _partial("change != 'created'", "changes_news_of_source", "changes", ["source", "id"])
    _partial("change != 'created' AND read_at IS NULL", "changes_unread", "changes", ["id"])
    _partial("item_id IS NOT NULL", "changes_of_item", "changes", ["item_id", "id"])
    _partial("page_id IS NOT NULL", "changes_of_page", "changes", ["page_id", "id"])
    op.create_index("changes_of_source", "changes", ["source", "id"])
    op.create_table(
        "counters",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("value", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("name", "source", "label", name="pk_counters"),
    )
    op.create_table(
        "deliveries",
        sa.Column("id", Id, nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("payload", Json(), nullable=False),
        sa.Column("made_at", Instant(), nullable=False),
        sa.Column("due_at", Instant(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("answer", sa.Text(), nullable=True),
        sa.Column("sent_at", Instant(), nullable=True),
        sa.Column("claimed_until", Instant(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_deliveries"),
    )
    _partial("state = 'queued'", "deliveries_due", "deliveries", ["due_at"])
    op.create_index("ix_deliveries_rule", "deliveries", ["rule"])
    op.create_table(
        "documents",
        sa.Column("id", Id, nullable=False),
        sa.Column("of", sa.Text(), nullable=False),
        sa.Column("subject_id", Id, nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=True),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("at", Instant(), nullable=False),
        sa.Column("version", Id, server_default="0", nullable=False),
        sa.Column("until", Instant(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_documents"),
        sa.UniqueConstraint("subject_id", "of", "version", name="uq_documents_subject_id_of_version"),
    )
    op.create_index(
        "documents_by_version",
        "documents",
        ["version"],
        sqlite_where=sa.text("version > 0"),
        postgresql_where=sa.text("version > 0"),
    )
    op.create_index("ix_documents_source", "documents", ["source"])
    op.create_table(
        "events",
        sa.Column("id", Id, nullable=False),
        sa.Column("at", Instant(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("level", sa.Text(), nullable=False),
        sa.Column("facts", Json(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_events"),
        sqlite_autoincrement=True,
    )
    op.create_index("events_by_level", "events", ["level", "id"])
    op.create_table(
        "failures",
        sa.Column("id", Id, nullable=False),
        sa.Column("url_id", Id, nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("first_at", Instant(), nullable=False),
        sa.Column("last_at", Instant(), nullable=False),
        sa.Column("resolved_at", Instant(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_failures"),
        sa.UniqueConstraint("url_id", name="uq_failures_url_id"),
    )
    owners = "'extract', 'parse_limit', 'poison', 'store'"
    _partial(f"resolved_at IS NULL AND reason IN ({owners})", "failures_of_owners", "failures", ["source"])
    _partial("resolved_at IS NULL", "failures_open", "failures", ["source", "reason", "id"])
    op.create_index("ix_failures_source", "failures", ["source"])
    op.create_table(
        "hosts",
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("lease_owner", sa.Text(), nullable=True),
        sa.Column("lease_until", Instant(), nullable=True),
        sa.Column("next_at", Instant(), nullable=True),
        sa.Column("delay_s", sa.Float(), nullable=False),
        sa.Column("crawl_delay_s", sa.Float(), server_default="0", nullable=False),
        sa.Column("penalty_s", sa.Float(), server_default="0", nullable=False),
        sa.Column("latency_s", sa.Float(), server_default="0", nullable=False),
        sa.Column("strikes", sa.Integer(), server_default="0", nullable=False),
        sa.Column("trips", sa.Integer(), server_default="0", nullable=False),
        sa.Column("why", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("host", name="pk_hosts"),
    )
    op.create_table(
        "meta",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_meta"),
    )
    op.create_table(
        "notify_rules",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("change_id", Id, nullable=False),
        sa.Column("event_id", Id, nullable=False),
        sa.Column("told", Json(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_notify_rules"),
    )
    op.create_table(
        "pages",
        sa.Column("id", Id, nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(length=16), nullable=False),
        sa.Column("run_id", Id, nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("final_url", sa.Text(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("content_type", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=True),
        sa.Column("depth", sa.Integer(), nullable=False),
        sa.Column("content_hash", sa.Text(), nullable=False),
        sa.Column("bytes", sa.Integer(), nullable=False),
        sa.Column("headers", Json(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("stored_bytes", sa.Integer(), nullable=False),
        sa.Column("rules", sa.Text(), server_default="", nullable=False),
        sa.Column("links", sa.LargeBinary(), nullable=True),
        sa.Column("item_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("simhash", sa.BigInteger(), nullable=True),
        sa.Column("canonical_url", sa.Text(), nullable=True),
        sa.Column("duplicate_of", Id, nullable=True),
        sa.Column("fetched_at", Instant(), nullable=False),
        sa.Column("changed_at", Instant(), nullable=False),
        sa.Column("gone_at", Instant(), nullable=True),
        sa.Column("elapsed_s", sa.Float(), nullable=True),
        sa.Column("check_every_s", sa.Float(), nullable=True),
        sa.Column("check_after", Instant(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_pages"),
        sa.UniqueConstraint("fingerprint", "source", name="uq_pages_fingerprint_source"),
    )
    op.create_index("ix_pages_source", "pages", ["source"])
    op.create_index("pages_by_content", "pages", ["content_hash", "source"])
    _partial("duplicate_of IS NOT NULL", "pages_copies", "pages", ["duplicate_of"])
    _partial("url != final_url", "pages_elsewhere", "pages", ["final_url"])
    _partial("gone_at IS NOT NULL", "pages_gone", "pages", ["source", "gone_at"])
    _partial("url != final_url", "pages_redirected", "pages", ["url", "source"])
    op.create_table(
        "robots",
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("fetched_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("origin", name="pk_robots"),
    )
    op.create_table(
        "also_on",
        sa.Column("page_id", Id, nullable=False),
        sa.Column("item_id", Id, nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("data", Json(), nullable=False),
        sa.Column("quiet", Json(), nullable=False),
        sa.PrimaryKeyConstraint("page_id", "item_id", name="pk_also_on"),
    )
    op.create_index("ix_also_on_item_id", "also_on", ["item_id"])
    op.create_index("ix_also_on_source", "also_on", ["source"])
    op.create_table(
        "run_fields",
        sa.Column("run_id", Id, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("field", sa.Text(), nullable=False),
        sa.Column("filled", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "kind", "field", name="pk_run_fields"),
    )
    op.create_table(
        "runs",
        sa.Column("id", Id, nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), server_default="crawl", nullable=False),
        sa.Column("queued_at", Instant(), nullable=False),
        sa.Column("started_at", Instant(), nullable=True),
        sa.Column("finished_at", Instant(), nullable=True),
        sa.Column("max_pages", sa.Integer(), nullable=False),
        sa.Column("known", sa.Integer(), nullable=False),
        sa.Column("pages", sa.Integer(), nullable=False),
        sa.Column("items", sa.Integer(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("changes", sa.Integer(), server_default="0", nullable=False),
        sa.Column("message", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_runs"),
    )
    op.create_index("ix_runs_state", "runs", ["state"])
    op.create_index("runs_of_source", "runs", ["source", "id"])
    _partial("finished_at IS NOT NULL", "runs_ended", "runs", ["source", "id", "state"])
    op.create_table(
        "sources",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("definition", Json(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("last_run_at", Instant(), nullable=True),
        sa.Column("checked_at", Instant(), nullable=True),
        sa.Column("next_at", Instant(), nullable=True),
        sa.Column("paused_at", Instant(), nullable=True),
        sa.Column("run_id", Id, nullable=True),
        sa.Column("tags", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_sources"),
    )
    op.create_table(
        "tokens",
        sa.Column("id", Id, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("expires_at", Instant(), nullable=True),
        sa.Column("used_at", Instant(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_tokens"),
        sa.UniqueConstraint("digest", name="uq_tokens_digest"),
        sa.UniqueConstraint("name", name="uq_tokens_name"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "urls",
        sa.Column("id", Id, nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(length=16), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("rank", sa.Integer(), server_default="0", nullable=False),
        sa.Column("depth", sa.Integer(), nullable=False),
        sa.Column("run_id", Id, nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("crashes", sa.Integer(), nullable=False),
        sa.Column("not_before", Instant(), nullable=True),
        sa.Column("claimed_by", sa.Text(), nullable=True),
        sa.Column("modified_at", Instant(), nullable=True),
        sa.Column("last_look", sa.Integer(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_urls"),
        sa.UniqueConstraint("fingerprint", "source", name="uq_urls_fingerprint_source"),
    )
    op.create_index("urls_seen", "urls", ["source", "last_look", "run_id"])
    _partial("claimed_by IS NOT NULL", "urls_claimed", "urls", ["claimed_by", "run_id", "kind"])
    _partial("state = 'failed'", "urls_failed", "urls", ["run_id"])
    _partial("state = 'queued'", "urls_to_visit", "urls", ["run_id", "host", "rank", "depth", "id"])
    _partial("not_before IS NOT NULL", "urls_waiting", "urls", ["not_before"])
    op.create_table(
        "usage",
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("day", sa.Text(), nullable=False),
        sa.Column("pages", sa.Integer(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("changes", sa.Integer(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("source", "day", name="pk_usage"),
    )
    op.create_table(
        "workers",
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("seen_at", Instant(), nullable=False),
        sa.Column("due", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("owner", name="pk_workers"),
    )
    op.create_table(
        "items",
        sa.Column("id", Id, nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("page_id", Id, nullable=False),
        sa.Column("run_id", Id, nullable=False),
        sa.Column("data", Json(), nullable=False),
        sa.Column("first_seen", Instant(), nullable=False),
        sa.Column("last_seen", Instant(), nullable=False),
        sa.Column("changed_at", Instant(), nullable=False),
        sa.Column("removed_at", Instant(), nullable=True),
        sa.ForeignKeyConstraint(["page_id"], ["pages.id"], name="fk_items_page_id_pages"),
        sa.PrimaryKeyConstraint("id", name="pk_items"),
        sa.UniqueConstraint("key", "source", "kind", name="uq_items_key_source_kind"),
    )
    op.create_index("items_by_kind", "items", ["source", "kind", "id"])
    op.create_index("items_of_kind", "items", ["kind", "id"])
    op.create_index("items_of_source", "items", ["source", "id"])
    _partial("removed_at IS NOT NULL", "items_removed", "items", ["source", "removed_at"])
    op.create_index("ix_items_page_id", "items", ["page_id"])
    op.create_table(
        "page_versions",
        sa.Column("id", Id, nullable=False),
        sa.Column("page_id", Id, nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("at", Instant(), nullable=False),
        sa.Column("until", Instant(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("title", sa.Text(), nullable=True),
        sa.Column("content_hash", sa.Text(), nullable=False),
        sa.Column("bytes", sa.Integer(), nullable=False),
        sa.Column("headers", Json(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("stored_bytes", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["page_id"], ["pages.id"], name="fk_page_versions_page_id_pages"),
        sa.PrimaryKeyConstraint("id", name="pk_page_versions"),
    )
    op.create_index("ix_page_versions_page_id", "page_versions", ["page_id"])
    op.create_index("ix_page_versions_source", "page_versions", ["source"])
    op.create_table(
        "item_versions",
        sa.Column("id", Id, nullable=False),
        sa.Column("item_id", Id, nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("at", Instant(), nullable=False),
        sa.Column("until", Instant(), nullable=False),
        sa.Column("data", Json(), nullable=False),
        sa.ForeignKeyConstraint(["item_id"], ["items.id"], name="fk_item_versions_item_id_items"),
        sa.PrimaryKeyConstraint("id", name="pk_item_versions"),
    )
    op.create_index("ix_item_versions_item_id", "item_versions", ["item_id"])
    op.create_index("ix_item_versions_source", "item_versions", ["source"])
    op.create_table(
        "tasks",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("definition", Json(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("next_at", Instant(), nullable=True),
        sa.Column("asked", Json(), nullable=True),
        sa.Column("laid_out", sa.Text(), server_default="", nullable=False),
        sa.Column("change_id", Id, server_default="0", nullable=False),
        sa.Column("calls", sa.Integer(), server_default="0", nullable=False),
        sa.Column("tokens_in", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("tokens_out", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("cost", sa.Float(), server_default="0", nullable=False),
        sa.Column("busy_s", sa.Float(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_tasks"),
    )
    op.create_table(
        "jobs",
        sa.Column("id", Id, nullable=False),
        sa.Column("task", sa.Text(), nullable=False),
        sa.Column("of", sa.Text(), nullable=False),
        sa.Column("subject_id", Id, nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("input_hash", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("crashes", sa.Integer(), server_default="0", nullable=False),
        sa.Column("anew", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("not_before", Instant(), nullable=True),
        sa.Column("claimed_by", sa.Text(), nullable=True),
        sa.Column("lease_until", Instant(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_jobs"),
        sa.UniqueConstraint("subject_id", "task", "of", "kind", name="uq_jobs_subject_id_task_of_kind"),
    )
    _partial("claimed_by IS NOT NULL", "jobs_claimed", "jobs", ["claimed_by"])
    op.create_index("jobs_of_task", "jobs", ["task", "state", "source"])
    _partial("state = 'queued'", "jobs_to_do", "jobs", ["task", "id"])
    op.create_table(
        "attempts",
        sa.Column("id", Id, nullable=False),
        sa.Column("job_id", Id, nullable=False),
        sa.Column("at", Instant(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("tokens_in", sa.Integer(), server_default="0", nullable=False),
        sa.Column("tokens_out", sa.Integer(), server_default="0", nullable=False),
        sa.Column("elapsed_s", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_attempts"),
    )
    op.create_index("ix_attempts_job_id", "attempts", ["job_id"])
    op.create_table(
        "enrichments",
        sa.Column("id", Id, nullable=False),
        sa.Column("task", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("of", sa.Text(), nullable=False),
        sa.Column("subject_id", Id, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("input_hash", sa.Text(), nullable=False),
        sa.Column("data", Json(), nullable=False),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_enrichments"),
        sa.UniqueConstraint(
            "subject_id", "task", "of", "kind", "number", name="uq_enrichments_subject_id_task_of_kind_number"
        ),
    )
    op.create_index("enrichments_of_source", "enrichments", ["source", "id"])
    op.create_index("enrichments_of_task", "enrichments", ["task", "id"])
    op.create_table(
        "answers_kept",
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_answers_kept"),
    )
    op.create_index("ix_answers_kept_at", "answers_kept", ["at"])
    op.create_table(
        "chunks",
        sa.Column("id", Id, nullable=False),
        sa.Column("of", sa.Text(), nullable=False),
        sa.Column("subject_id", Id, nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=True),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_chunks"),
        sa.UniqueConstraint("subject_id", "of", "number", name="uq_chunks_subject_id_of_number"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_chunks_source", "chunks", ["source"])
    op.create_table(
        "vectors",
        sa.Column("id", Id, nullable=False),
        sa.Column("chunk_id", Id, nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("vector", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["chunk_id"], ["chunks.id"], name="fk_vectors_chunk_id_chunks", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_vectors"),
        sa.UniqueConstraint("chunk_id", "model", name="uq_vectors_chunk_id_model"),
        sqlite_autoincrement=True,
    )
    op.create_index("vectors_of_model", "vectors", ["model", "id"])
    op.create_table(
        "notes",
        sa.Column("id", Id, nullable=False),
        sa.Column("about", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("vector", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_notes"),
        sa.UniqueConstraint("about", "digest", name="uq_notes_about_digest"),
    )
    op.create_table(
        "notes_wanted",
        sa.Column("id", Id, nullable=False),
        sa.Column("about", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("not_before", Instant(), nullable=False),
        sa.Column("claimed_at", Instant(), nullable=True),
        sa.Column("created_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_notes_wanted"),
    )
    op.create_index("ix_notes_wanted_not_before", "notes_wanted", ["not_before"])
    for statement in full_text(op.get_bind().dialect.name):
        op.execute(sa.text(statement))
