"""Runs the migrations for Alembic, on the connection and in the transaction of the caller."""

from alembic import context

connection = context.config.attributes["connection"]
context.configure(connection=connection, transaction_per_migration=False, render_as_batch=True)
context.run_migrations()
