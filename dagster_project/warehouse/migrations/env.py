"""Where Alembic starts: it gets an open connection from ``warehouse.migrate`` and keeps its version in ``bindery``."""

from __future__ import annotations

from alembic import context

connection = context.config.attributes["connection"]
context.configure(connection=connection, version_table="alembic_version", version_table_schema="bindery")
with context.begin_transaction():
    context.run_migrations()
connection.commit()
