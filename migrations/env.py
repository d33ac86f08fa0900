"""Alembic's door: runs the migrations on the connection that syncd hands over, in the transaction it has begun."""

from alembic import context

connection = context.config.attributes["connection"]
context.configure(connection=connection, transaction_per_migration=False, render_as_batch=True)
context.run_migrations()
