"""What Alembic runs: on the connection that it was handed, in the transaction that is open there."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=context.config.attributes["metadata"],
    # SQLite can't alter most of a table: Alembic makes it anew and copies.
    render_as_batch=True,
)
context.run_migrations()
