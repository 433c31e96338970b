"""Alembic's entry: runs the migrations on the connection it is handed.

Reads no settings of its own.
"""

from alembic import context

from dorabatch.fairshare.store import share_tables
from dorabatch.queue import tables as queue_tables

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=[queue_tables.METADATA, share_tables.SHARES.metadata],
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
