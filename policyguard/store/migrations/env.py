"""How Alembic runs here: on the connection and in the transaction of the store, never on an address of its own."""

from __future__ import annotations

from alembic import context

from policyguard.store.db.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table="policyguard_alembic_version",
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
