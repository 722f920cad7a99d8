"""What Alembic runs: the steps, inside the transaction of whoever asked for them."""

from alembic import context

from scraper.database.models import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
context.run_migrations()
